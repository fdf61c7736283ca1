"""
What an answer cost, as the upstream tells it: tokens by kind, out of a body or of the events that carry them.

Only the members that are counted are decoded, and none of them has to be
there: what is absent, or is no number, counts as nothing.  Where nothing is
told at all there is an estimate from what was seen, marked as one.
"""

from __future__ import annotations

from typing import Final

import msgspec

from openai_relay.core.sse import EventReader

#: Bytes of a body that are looked at whole; of a longer one only as many, the last.
LONGEST_BODY: Final = 1 << 16
#: What a token is taken to be where nobody counts: about right for English prose, and for JSON a little much.
BYTES_PER_TOKEN: Final = 4
#: Pieces that are longer on average are of several tokens: a word with its space is often one, and rarely so long.
_LONG_TOKEN: Final = 9


class Usage(msgspec.Struct, frozen=True, gc=False):
    """
    Tokens of one or more answers; a struct, as one is made for each exchange and a frozen dataclass is slow to make.

    ``cached_tokens`` and ``input_audio_tokens`` are part of ``input_tokens``;
    ``reasoning_tokens`` and ``output_audio_tokens`` are part of ``output_tokens``.
    ``seconds`` is audio that is paid by its length, with no tokens.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    input_audio_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    seconds: float = 0.0
    estimated: bool = False  #: any part of it was not told but guessed

    def __add__(self, other: Usage) -> Usage:
        """Both together."""
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.input_audio_tokens + other.input_audio_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.output_audio_tokens + other.output_audio_tokens,
            self.seconds + other.seconds,
            self.estimated or other.estimated,
        )


#: Some upstreams write a count as ``12.0``.
_Number = int | float | None


class _Details(msgspec.Struct, gc=False):
    cached_tokens: _Number = None
    audio_tokens: _Number = None
    reasoning_tokens: _Number = None


class _Tokens(msgspec.Struct, gc=False):
    """Every API's names: chat's, then those of responses, embeddings, images and audio; realtime's details."""

    prompt_tokens: _Number = None
    completion_tokens: _Number = None
    total_tokens: _Number = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens: _Number = None
    output_tokens: _Number = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    input_token_details: _Details | None = None
    output_token_details: _Details | None = None
    seconds: _Number = None


class _Response(msgspec.Struct, gc=False):
    usage: _Tokens | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    usage: _Tokens | None = None
    response: _Response | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


#: The events that end a response and carry what all of it cost.
_RESPONSE_ENDS: Final = frozenset(
    {"response.done", "response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
_ENDS: Final = _RESPONSE_ENDS | {
    "image_edit.completed",
    "image_generation.completed",
    "speech.audio.done",
    "transcript.text.done",
}
_FAILED: Final = frozenset({"error", "response.failed"})
_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_body: Final = msgspec.json.Decoder(_Response).decode
_decode_tokens: Final = msgspec.json.Decoder(_Tokens).decode


def usage_of_event(text: bytes) -> Usage | None:
    """
    What an event says a response cost: of chat, completions, responses, images, audio, or Realtime.

    :param text: one event as JSON, such as a text message of a WebSocket.
    :returns: ``None`` when it is no such event, tells no usage, or is not JSON.
    """
    if b'"usage"' not in text:
        return None
    event = _event(text)
    return None if event is None else _of_event(event)


def usage_of_body(text: bytes) -> Usage | None:
    """
    What a whole answer says that it cost.

    :param text: a JSON object.
    :returns: ``None`` when it tells no usage, as a moderation or an error, or is not JSON.
    """
    try:
        return _of_tokens(_decode_body(text).usage)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, too deep
        return None


#: How often the end of a usage is tried: it has few braces, and what a client had echoed must not cost the more.
_MOST_TRIES: Final = 64


def usage_at_end(text: bytes) -> Usage | None:
    """
    What the last bytes of a long answer or event say that it cost.

    It is the last ``"usage"`` with an object of counts, or with null: in a string
    the quotes would be escaped, and no API writes another one behind its own.
    What stands before may be repeated from the request.
    """
    end, tries = len(text), _MOST_TRIES
    while tries and (at := text.rfind(b'"usage"', 0, end)) >= 0:
        value = text[at + 7 : at + 7 + 4096].lstrip(b" \t\r\n:")
        if value.startswith(b"null"):
            return None
        # Its details are objects too, so it ends at one of the next braces.
        close = value.find(b"}") if value.startswith(b"{") else -1
        while close >= 0 and tries:
            tries -= 1
            try:
                usage = _of_tokens(_decode_tokens(value[: close + 1]))
            except (ValueError, RecursionError):
                close = value.find(b"}", close + 1)
                continue
            if usage is not None:
                return usage
            break
        end = at
    return None


def estimate(input_tokens: int, pieces: int, text_bytes: int) -> Usage:
    """
    What it may have cost where nobody says: reasoning that is not shown is not in it.

    :param input_tokens: of the request, estimated themselves.
    :param pieces: how many pieces of text came in events: of a token each, if they are as short as tokens are.
    :param text_bytes: of the answer's text.
    """
    short = text_bytes <= pieces * _LONG_TOKEN
    return Usage(input_tokens, output_tokens=pieces if short else max(pieces, _tokens(text_bytes)), estimated=True)


class StreamMeter:
    """
    Meters one stream of events, block by block.

    :ivar usage: what the upstream told last, if it did: some tell what it is so far in every event.
    :ivar ended: an event came that says the answer is over.
    :ivar failed: an event came that says that it failed.
    """

    __slots__ = ("_reader", "ended", "failed", "usage")

    def __init__(self) -> None:
        self._reader = EventReader()
        self.usage: Usage | None = None
        self.ended = False
        self.failed = False

    def feed(self, block: bytes) -> int:
        """Read the next block, and return how many events it completed."""
        count = self._reader.feed(block)
        if self._reader.told:
            for event in self._reader.told:
                self._look(event.data, event.whole)
            self._reader.told.clear()
        return count

    @property
    def events(self) -> int:
        """How many events came."""
        return self._reader.events

    @property
    def pieces(self) -> int:
        """How many pieces of the answer's text came."""
        return self._reader.pieces

    @property
    def text_bytes(self) -> int:
        """Their length."""
        return self._reader.text_bytes

    def _look(self, data: bytes, whole: bool) -> None:
        if not whole:
            usage = usage_at_end(data)
            # So long an event tells its usage when it repeats all of the answer: at the end.
            self.ended = self.ended or usage is not None
        elif data.startswith(b"[DONE]"):
            self.ended = True
            return
        else:
            event = _event(data)
            if event is None:
                return
            usage = _of_event(event)
            self.ended = self.ended or event.type in _ENDS
            self.failed = self.failed or event.type in _FAILED or bytes(event.error) != b"null"
        if usage is not None:
            self.usage = usage


class BodyMeter:
    """
    Meters an answer that is one JSON object, block by block.

    :ivar size: bytes that came.
    """

    __slots__ = ("_parts", "_stored", "size")

    #: As of a stream, which has some.
    pieces: Final = 0

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._stored = 0
        self.size = 0

    def feed(self, block: bytes) -> int:
        """Keep the next block, or the end of what came, if that is long; it completes no event."""
        self._parts.append(block)
        self.size += len(block)
        self._stored += len(block)
        if self._stored > 2 * LONGEST_BODY:
            self._parts = [b"".join(self._parts)[-LONGEST_BODY:]]
            self._stored = LONGEST_BODY
        return 0

    @property
    def usage(self) -> Usage | None:
        """What the upstream told, once all has come."""
        text = b"".join(self._parts)
        return usage_of_body(text) if self.size <= LONGEST_BODY else usage_at_end(text[-LONGEST_BODY:])

    @property
    def text_bytes(self) -> int:
        """How much came: what of it is text nobody looks for."""
        return self.size


def _event(text: bytes) -> _Event | None:
    try:
        return _decode_event(text)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, too deep
        return None


def _of_event(event: _Event) -> Usage | None:
    if event.usage is not None:
        return _of_tokens(event.usage)
    if event.type in _RESPONSE_ENDS and event.response is not None:
        return _of_tokens(event.response.usage)
    return None


def _of_tokens(told: _Tokens | None) -> Usage | None:
    if told is None:
        return None
    entering, leaving = told.input_tokens, told.output_tokens
    if entering is None:
        entering = told.prompt_tokens
    if leaving is None:
        leaving = told.completion_tokens
    if entering is None and told.total_tokens is not None:
        entering = _count(told.total_tokens) - _count(leaving)
    if entering is None and leaving is None and told.seconds is None:
        return None
    of_input = told.input_tokens_details or told.prompt_tokens_details or told.input_token_details or _NO_DETAILS
    of_output = told.output_tokens_details or told.completion_tokens_details or told.output_token_details or _NO_DETAILS
    return Usage(
        _count(entering),
        _count(of_input.cached_tokens),
        _count(of_input.audio_tokens),
        _count(leaving),
        _count(of_output.reasoning_tokens),
        _count(of_output.audio_tokens),
        0.0 if told.seconds is None else float(min(max(told.seconds, 0), _MOST)),
    )


_NO_DETAILS: Final = _Details()
#: No answer costs so much, and sums of it still fit where 64 bits are kept.
_MOST: Final = 1 << 40


def _count(number: _Number) -> int:
    if number is None:
        return 0
    if isinstance(number, int) and 0 <= number <= _MOST:
        return number
    return int(min(max(number, 0), _MOST))


def _tokens(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)
