"""
Meter a WebSocket by the messages that come down: what they tell of usage, and what came since nobody told.

A Realtime session, or one of Responses, tells what each response cost when it
is done.  A client that leaves before has had its text all the same.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from openai_relay.core.sse import pieces_of
from openai_relay.core.usage import Usage, estimate, usage_of_event

#: Base64 of sound that a token stands for, about: 50 ms of 24 kHz in 16 bits.
_SOUND_PER_TOKEN: Final = 3_200


class SocketMeter:
    """Meters one WebSocket."""

    __slots__ = ("_pieces", "_sound", "_text_bytes", "_told")

    def __init__(self) -> None:
        self._told: Usage | None = None
        self._pieces = self._text_bytes = self._sound = 0  # since it was told last

    def look(self, text: bytes) -> None:
        """Read a text message."""
        usage = usage_of_event(text)
        if usage is not None:
            self._told = usage if self._told is None else self._told + usage
            self._pieces = self._text_bytes = self._sound = 0
            return
        size = sum(map(len, pieces_of(text)))
        if size and b'audio.delta"' in text:
            self._sound += size
        elif size:
            self._pieces += 1
            self._text_bytes += size

    def usage(self, *, whole: bool) -> Usage | None:
        """
        What it has cost; ``None``: nothing that anybody knows.

        :param whole: whether every message could be read.
        """
        told = self._told
        if self._pieces or self._sound:
            rest = estimate(0, self._pieces, self._text_bytes)
            rest = replace(rest, output_tokens=rest.output_tokens + -(-self._sound // _SOUND_PER_TOKEN))
            told = rest if told is None else told + rest
        return told if told is None or whole else replace(told, estimated=True)
