"""
What an answer cost, as the upstream tells it: tokens by kind, out of the events that carry them.

Only the members that are counted are decoded, and none of them has to be
there: what is absent, or is no number, counts as nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec


@dataclass(frozen=True, slots=True)
class Usage:
    """
    Tokens of one or more answers.

    ``cached_tokens`` and ``input_audio_tokens`` are part of ``input_tokens``;
    ``reasoning_tokens`` and ``output_audio_tokens`` are part of ``output_tokens``.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    input_audio_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Both together."""
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.input_audio_tokens + other.input_audio_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.output_audio_tokens + other.output_audio_tokens,
        )


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = 0
    audio_tokens: int | None = 0


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = 0
    audio_tokens: int | None = 0


class _Tokens(msgspec.Struct, gc=False):
    """The Responses API's names, and, with ``_details`` spelled otherwise, the Realtime API's."""

    input_tokens: int | None = 0
    input_tokens_details: _InputDetails | None = None
    input_token_details: _InputDetails | None = None
    output_tokens: int | None = 0
    output_tokens_details: _OutputDetails | None = None
    output_token_details: _OutputDetails | None = None


class _Response(msgspec.Struct, gc=False):
    usage: _Tokens | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    response: _Response | None = None


#: The events that end a response and carry what all of it cost.
_TERMINAL: Final = frozenset(
    {"response.done", "response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
_decode: Final = msgspec.json.Decoder(_Event).decode


def usage_of_event(text: bytes) -> Usage | None:
    """
    What an event of the Responses or Realtime API says a response cost.

    :param text: one event as JSON, such as a text message of a WebSocket.
    :returns: ``None`` when it is no such event, tells no usage, or is not JSON.
    """
    if b'"usage"' not in text:
        return None
    try:
        event = _decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):  # not UTF-8, or nested without measure
        return None
    if event.type not in _TERMINAL or event.response is None or event.response.usage is None:
        return None
    tokens = event.response.usage
    entering = tokens.input_tokens_details or tokens.input_token_details or _InputDetails()
    leaving = tokens.output_tokens_details or tokens.output_token_details or _OutputDetails()
    return Usage(
        _count(tokens.input_tokens),
        _count(entering.cached_tokens),
        _count(entering.audio_tokens),
        _count(tokens.output_tokens),
        _count(leaving.reasoning_tokens),
        _count(leaving.audio_tokens),
    )


def _count(number: int | None) -> int:
    return max(number or 0, 0)
