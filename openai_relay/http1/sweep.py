"""
One timer for all time-outs: every connection is asked, twice a second, whether it has waited too long.

A timer per wait would cost several microseconds for each request and each
block.  A block costs nothing here: a connection compares counters that it keeps
anyway with what they were at the last sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger


class Swept(Protocol):
    """What can be asked."""

    def sweep(self, now: float) -> None:
        """Look whether a wait is over; ``now`` is in seconds and only means something to other calls."""


class Sweep:
    """Asks its members once per interval; runs only while it has members."""

    log = Logger()

    def __init__(self, clock: IReactorTime, interval: float = 0.5) -> None:
        self._clock = clock
        self._interval = interval
        self._members: dict[Swept, None] = {}
        self._call: IDelayedCall | None = None
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: Swept) -> None:
        """Ask this one too, from the next sweep on."""
        self._members[member] = None
        if self._call is None:
            self._call = self._clock.callLater(self._interval, self._run)

    def discard(self, member: Swept) -> None:
        """Ask it no more."""
        self._members.pop(member, None)
        if not self._members and self._call is not None:
            self._call.cancel()
            self._call = None

    def soon(self, call: Callable[[], None]) -> None:
        """Call in the next turn, after whatever else is waiting."""
        self._clock.callLater(0, call)

    def _run(self) -> None:
        # Counted in intervals, not read from a clock: a clock that jumps must not end anybody's wait.
        self._now += self._interval
        self._call = None
        for member in list(self._members):
            if member in self._members:
                try:
                    member.sweep(self._now)
                except Exception:  # noqa: BLE001 - one connection's bug must not end the time-outs of all others
                    self.log.failure("bug in a connection's time-outs")
        if self._members and self._call is None:
            self._call = self._clock.callLater(self._interval, self._run)


class Wait:
    """
    How long the same thing has been waited for.

    ``mark`` is whatever shows progress: a phase, or a phase with a byte count.
    """

    __slots__ = ("_mark", "_since")

    def __init__(self) -> None:
        self._mark: object = None
        self._since = 0.0

    def lasts(self, mark: object, now: float) -> float:
        """Seconds since ``mark`` last changed; 0 when it just did."""
        if mark != self._mark:
            self._mark = mark
            self._since = now
        return now - self._since
