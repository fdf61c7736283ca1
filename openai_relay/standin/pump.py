"""``Pump``: sends blocks at a pace, or as fast as the client takes them; never faster, and none ahead of time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

#: Without a pace, blocks of one turn go out together up to this length,
GATHERED: Final = 16_384
#: one turn of the reactor sends no more than this,
PER_TURN: Final = 1 << 20
#: and the next one comes so much later: epoll counts in milliseconds, and a fake clock must not stand still for ever.
NEXT_TURN: Final = 0.001
#: A stream that is later than this (in seconds) does not catch up.
LATEST: Final = 1.0


@implementer(IPushProducer)
class Pump:
    """Moves blocks from an iterator to a consumer; one per interval when there is one."""

    def __init__(self, clock: IReactorTime, consumer: IConsumer, blocks: Iterator[bytes], interval: float) -> None:
        self._clock = clock
        self._consumer = consumer
        self._blocks = blocks
        self._interval = interval
        self._next: bytes | None = None
        self._due = 0.0
        self._paused = False
        self._call: IDelayedCall | None = None
        self._ended: Deferred[None] = Deferred(lambda _: self.stopProducing())

    def run(self, first_after: float = 0.0) -> Deferred[None]:
        """Begin; fires when the last block has been written."""
        self._due = self._clock.seconds() + first_after
        self._consumer.registerProducer(self, True)
        if first_after:
            self._schedule()
        elif not self._paused:
            self._move()
        return self._ended

    def pauseProducing(self) -> None:
        """The client does not read."""
        self._paused = True
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def resumeProducing(self) -> None:
        """The client reads again."""
        if self._paused:
            self._paused = False
            now = self._clock.seconds()
            if self._due > now:
                self._schedule()
            else:
                self._due = now  # what was not sent in the meantime is not sent in a heap now
                self._move()

    def stopProducing(self) -> None:
        """The client has left."""
        self.pauseProducing()
        self._blocks = iter(())
        self._next = None

    def _schedule(self) -> None:
        self._call = self._clock.callLater(max(0.0, self._due - self._clock.seconds()), self._move)

    def _move(self) -> None:
        self._call = None
        try:
            more = self._one() if self._interval else self._burst()
        except Exception as error:  # noqa: BLE001 - a timer has nobody above it who would end the exchange
            self.stopProducing()
            self._ended.errback(error)
            return
        if not more:
            self._end()
        elif not self._paused:
            self._schedule()

    def _one(self) -> bool:
        """The block that is due; False when it was the last one."""
        block = self._next or next(self._blocks, None)
        if block is not None:
            self._consumer.write(block)
            self._next = next(self._blocks, None)  # so that the end does not come an interval late
        self._due = max(self._due + self._interval, self._clock.seconds() - LATEST)
        return self._next is not None

    def _burst(self) -> bool:
        """One turn's worth; False when there is nothing left."""
        sent = 0
        while not self._paused and sent < PER_TURN:
            gathered: list[bytes] = []
            length = 0
            for block in self._blocks:
                gathered.append(block)
                length += len(block)
                if length >= GATHERED:
                    break
            else:
                if gathered:
                    self._consumer.write(b"".join(gathered))
                return False
            self._consumer.write(gathered[0] if len(gathered) == 1 else b"".join(gathered))
            sent += length
        if not self._paused:
            self._due = self._clock.seconds() + NEXT_TURN
        return True

    def _end(self) -> None:
        if not self._ended.called:
            self._ended.callback(None)


def cut_short(blocks: Iterator[bytes], length: int) -> Iterator[bytes]:
    """The first bytes of a body."""
    for block in blocks:
        if len(block) >= length:
            yield block[:length]
            return
        length -= len(block)
        yield block


def compressed(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The body in gzip, each block decodable as soon as it is there."""
    gzip = zlib.compressobj(wbits=31)
    for block in blocks:
        yield gzip.compress(block) + gzip.flush(zlib.Z_SYNC_FLUSH)
    yield gzip.flush()
