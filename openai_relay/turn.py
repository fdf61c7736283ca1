"""
What is written in one turn of the reactor: the first goes out at once, the rest together when the turn ends.

A lone block never waits.  When many are on their way in the same turn, sending
them back to back spares the kernel a wake-up of the reader for each, and blocks
for the same reader share a packet.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Flushed(Protocol):
    """What can be told that the turn is over."""

    def turn_over(self) -> None:
        """Send what was gathered."""


class Turn:
    """Tells the first writer of a turn from the others, and the others when it ends."""

    __slots__ = ("_call", "_clock", "_waiting")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._call: IDelayedCall | None = None
        self._waiting: dict[Flushed, None] = {}

    def gathers(self, writer: Flushed) -> bool:
        """Whether this writer is to wait, and will be told when the turn is over; the first one need not."""
        if self._call is None:
            # Runs when all that is ready now has been handled, and before the reactor looks for more.
            self._call = self._clock.callLater(0, self._end)
            return False
        self._waiting[writer] = None
        return True

    def _end(self) -> None:
        self._call = None
        waiting, self._waiting = self._waiting, {}
        for writer in waiting:
            writer.turn_over()
