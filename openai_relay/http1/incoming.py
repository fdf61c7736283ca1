"""A request's body out of the bytes that come: its payload block by block, its end, and what stands behind it."""

from __future__ import annotations

from typing import Final

from openai_relay.http1.chunked import ChunkDecoder
from openai_relay.http1.fields import Pair
from openai_relay.http1.message import CHUNKED

#: A framing without an end: what is dropped after a fault, and what goes through a tunnel.
ALL_THAT_COMES: Final = 1 << 62


class Incoming:
    """
    One body, cut into blocks anywhere.

    :param framing: its length in bytes, or `CHUNKED`.
    :ivar done: all of it has come.
    :ivar trailers: its trailer fields, once it is done.
    """

    __slots__ = ("_decoder", "_left", "done", "trailers")

    def __init__(self, framing: int, max_fields: int) -> None:
        self._decoder = ChunkDecoder(max_fields) if framing == CHUNKED else None
        self._left = framing
        self.done = framing == 0
        self.trailers: list[Pair] = []

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """
        The payload in a block, and the bytes behind the body's end.

        :raises MalformedChunks: with the payload that came before the fault.
        """
        decoder = self._decoder
        if decoder is not None:
            payload = decoder.feed(data)
            if not decoder.done:
                return payload, b""
            self.done, self.trailers, self._decoder = True, decoder.trailers, None
            return payload, decoder.rest
        left = self._left = self._left - len(data)
        if left > 0:
            return data, b""
        self.done = True
        return (data[:left], data[left:]) if left else (data, b"")
