"""Measure how late the event loop is: what it is late by, every stream waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds between two measurements, and how many are remembered: the last minute.
INTERVAL: Final = 1.0
REMEMBERED: Final = 60


class EventLoopLag:
    """Asks to be called every second, and notes how much later it was; the service starts and stops it."""

    def __init__(self, clock: IReactorTime, monotonic_ns: Callable[[], int]) -> None:
        self._clock = clock
        self._monotonic_ns = monotonic_ns
        self._late_ns: deque[int] = deque([0], maxlen=REMEMBERED)
        self._due_ns = 0
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to measure."""
        # The reactor's own clock is the wall's, which may be set; lateness by that would be nonsense.
        self._due_ns = self._monotonic_ns() + round(INTERVAL * 1_000_000_000)
        self._call = self._clock.callLater(INTERVAL, self._measure)

    def stop(self) -> None:
        """Measure no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def seconds(self) -> float:
        """The longest that the loop was late in the last minute."""
        return max(self._late_ns) / 1_000_000_000

    def _measure(self) -> None:
        self._late_ns.append(max(0, self._monotonic_ns() - self._due_ns))
        self.start()
