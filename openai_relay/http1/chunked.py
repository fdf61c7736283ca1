"""
The chunked transfer coding (RFC 9112 §7.1), read strictly and written anew.

Own code, where llhttp has a decoder too: llhttp reads on into a pipelined
message behind the last chunk without telling where that began, takes chunk
extensions of any length, and calls back once per chunk instead of once per block.
"""

from __future__ import annotations

import re
from typing import Final

from openai_relay.http1.fields import Pair
from openai_relay.http1.message import MAX_FIELDS, parse_trailers, write_fields

#: A size and an extension, which is dropped (§7.1.1); bounded, so that a line never grows.
_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]{0,1024})?\r\n")
_LINE_START: Final = re.compile(rb"(?:[0-9A-Fa-f]{1,15}(?:;[\t\x20-\x7e\x80-\xff]{0,1024})?\r?)?")
_MAX_TRAILERS: Final = 16_384

#: What the decoder reads next.
_SIZE_LINE, _DATA, _DATA_END, _TRAILERS = range(4)

LAST_CHUNK: Final = b"0\r\n\r\n"


class MalformedChunks(ValueError):
    """
    The coding is malformed.

    :ivar payload: what stood in the block before the fault: as good as what the blocks before it had.
    """

    def __init__(self, reason: str, payload: bytes) -> None:
        super().__init__(reason)
        self.payload = payload


class ChunkDecoder:
    """
    Takes blocks cut anywhere, gives the payload of each.

    :param max_fields: of the trailer section.
    :ivar done: the last chunk and its trailers have been read.
    :ivar rest: what stood behind them.
    :ivar trailers: the trailer fields.
    """

    __slots__ = ("_held", "_left", "_max_fields", "_stage", "done", "rest", "trailers")

    def __init__(self, max_fields: int = MAX_FIELDS) -> None:
        self._max_fields = max_fields
        self._stage = _SIZE_LINE
        self._left = 0  # bytes of the current chunk still to come
        self._held = b""  # the start of a line that is not complete
        self.done = False
        self.rest = b""
        self.trailers: list[Pair] = []

    def feed(self, block: bytes) -> bytes:
        """
        The payload in this block; empty if there is none.

        :raises MalformedChunks: nothing after that can be read; it has the payload that came before.
        """
        if self._held:
            block, self._held = self._held + block, b""
        elif self._stage == _SIZE_LINE:
            # What a streaming API sends: one whole chunk.
            line = _LINE.match(block)
            if line is not None:
                start = line.end()
                size = int(line[1], 16)
                if size and len(block) == start + size + 2 and block.endswith(b"\r\n"):
                    return block[start:-2]
        return self._feed(block)

    def _feed(self, block: bytes) -> bytes:
        payload: list[bytes] = []
        at: int | None = 0
        try:
            while at is not None and not self.done:
                if self._stage == _DATA:
                    at = self._data(block, at, payload)
                elif self._stage == _DATA_END:
                    at = self._data_end(block, at)
                elif self._stage == _SIZE_LINE:
                    at = self._size_line(block, at)
                else:
                    at = self._trailers(block, at)
        except ValueError as error:
            raise MalformedChunks(str(error), b"".join(payload)) from None
        return payload[0] if len(payload) == 1 else b"".join(payload)

    # Each of these reads one thing and returns where the next begins, or None where the block ends first.

    def _data(self, block: bytes, at: int, payload: list[bytes]) -> int | None:
        part = block[at : at + self._left]
        if part:
            payload.append(part)
            self._left -= len(part)
        if self._left:
            return None
        self._stage = _DATA_END
        return at + len(part)

    def _data_end(self, block: bytes, at: int) -> int | None:
        if block.startswith(b"\r\n", at):
            self._stage = _SIZE_LINE
            return at + 2
        if block[at:] not in (b"", b"\r"):
            raise ValueError("a chunk is longer than its size")
        self._held = block[at:]
        return None

    def _size_line(self, block: bytes, at: int) -> int | None:
        line = _LINE.match(block, at)
        if line is None:
            if _LINE_START.fullmatch(block, at) is None:
                raise ValueError("malformed chunk size")
            self._held = block[at:]
            return None
        self._left = int(line[1], 16)
        self._stage = _DATA if self._left else _TRAILERS
        return line.end()

    def _trailers(self, block: bytes, at: int) -> int | None:
        if block.startswith(b"\r\n", at):
            end = at + 2
        else:
            found = block.find(b"\r\n\r\n", at)
            end = found + 4 if found >= 0 else 0  # 0: not there yet
        if (end or len(block)) - at > _MAX_TRAILERS:
            raise ValueError("the trailer section is too long")
        if not end:
            held = self._held = block[at:]
            # The bare line ends that cannot become good: all that can be told before the section is complete.
            lines = held.count(b"\r\n")
            if held.count(b"\n") != lines or held.count(b"\r") - held.endswith(b"\r") != lines:
                raise ValueError("malformed trailer section")
            return None
        self.trailers = parse_trailers(block[at:end], self._max_fields)
        self.rest = block[end:]
        self.done = True
        return end


def encode_chunk(payload: bytes) -> bytes:
    """One chunk; the payload must not be empty, as an empty chunk is the last."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def encode_end(trailers: list[Pair]) -> bytes:
    """The last chunk, with its trailers."""
    return LAST_CHUNK if not trailers else b"0\r\n%b\r\n" % write_fields(trailers)
