"""``Intake``: takes a request's body as it comes, into whatever its endpoint wants, and stalls when asked to."""

from __future__ import annotations

from typing import Final, Protocol

from openai_relay.http1.server import Request
from openai_relay.standin.counters import Counters
from openai_relay.standin.problems import Problem

#: The longest JSON body.
LONGEST_WHOLE: Final = 64 << 20


class Sink(Protocol):
    """Where the blocks of a body go."""

    def feed(self, block: bytes) -> None:
        """The next block; raises `Problem` when the body is wrong."""


class Whole:
    """Keeps a body whole, up to a limit."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._length = 0

    def feed(self, block: bytes) -> None:
        """
        The next block.

        :raises Problem: 413 when the body is too long.
        """
        self._length += len(block)
        if self._length > LONGEST_WHOLE:
            self._blocks.clear()
            raise Problem(413, f"The body is longer than {LONGEST_WHOLE} bytes.", code="request_too_large")
        self._blocks.append(block)

    def body(self) -> bytes:
        """All of it."""
        return b"".join(self._blocks)


class Intake:
    """The consumer of one request's body."""

    def __init__(self, request: Request, sink: Sink, counters: Counters, stall_after: int | None) -> None:
        self._request = request
        self._sink = sink
        self._counters = counters
        self._stall_after = stall_after
        self._length = 0
        self._problem: Problem | None = None

    async def take(self) -> None:
        """
        Take the whole body; one that is wrong is still read to its end, so that the connection can be kept.

        :raises Problem: the body is wrong.
        """
        request = self._request
        if request.expects_continue:
            request.send_interim(100, b"Continue", [])
        if self._stall_after == 0:
            request.pauseProducing()
        await request.startProducing(self)
        if self._problem is not None:
            raise self._problem

    def write(self, data: bytes) -> None:
        """A block of the body."""
        self._counters.bytes_received += len(data)
        self._length += len(data)
        if self._problem is None:
            try:
                self._sink.feed(data)
            except Problem as problem:
                self._problem = problem
        if self._stall_after is not None and self._length >= self._stall_after:
            self._request.pauseProducing()
