"""
Decide how much of a rate is left: token buckets in integer nanoseconds, and how they outlive a restart.

A bucket holds one number, the moment at which it will be full.  Taking moves
that moment away and giving back moves it nearer; what was taken beyond the
burst is a debt, which the same number holds and time pays off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

_MINUTE_NS: Final = 60_000_000_000
_MS_NS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a minute, and so many at once."""

    per_minute: str  #: as it was set, for messages
    interval: int  #: ns until one more has come; rounded up: never faster than set
    burst: int

    @classmethod
    def of(cls, per_minute: float, burst: int | None, name: str, burst_name: str) -> Self:
        """
        The rate of two settings.

        :param burst: ``None`` is a minute's worth, at least 1.
        :raises ValueError: when nothing could ever pass; the text names the setting.
        """
        if not 0 < per_minute < float("inf"):
            raise ValueError(f"{name} must be a number above 0, not {per_minute}")
        if burst is not None and burst < 1:
            raise ValueError(f"{burst_name} must be at least 1, not {burst}")
        numerator, denominator = per_minute.as_integer_ratio()
        shown = str(int(per_minute)) if float(per_minute).is_integer() else str(per_minute)
        return cls(shown, -(-_MINUTE_NS * denominator // numerator), burst or -(-numerator // denominator))


@dataclass(slots=True)
class TokenBucket:
    """One key's allowance: ``burst`` at once, one more every ``interval`` (GCRA)."""

    interval: int
    burst: int
    monotonic_ns: Callable[[], int]
    _full_at: int = 0

    def take(self, tokens: int = 1) -> int:
        """Take the tokens and return 0, or take none and return the ns to wait."""
        if tokens > self.burst:
            raise ValueError(f"{tokens} tokens never fit a burst of {self.burst}")
        now = self.monotonic_ns()
        if wait := self.wait(tokens, now):
            return wait
        self.charge(tokens, now)
        return 0

    def wait(self, tokens: int, now: int) -> int:
        """
        The ns until so many can be taken; 0: now.

        More than the burst can be taken when the bucket is full, so that
        nothing waits for ever; what is beyond the burst is owed afterwards.
        """
        spare = self.burst - tokens if tokens < self.burst else 0
        wait = self._full_at - now - spare * self.interval
        return wait if wait > 0 else 0

    def charge(self, tokens: int, now: int) -> None:
        """Take the tokens, whatever is left; a negative number gives back, never beyond full."""
        self._full_at = (now if now > self._full_at else self._full_at) + tokens * self.interval

    def level(self) -> tuple[int, int]:
        """How many tokens could be taken now, and the ns until the bucket is full."""
        full_in = self.full_in(self.monotonic_ns())
        return max(self.burst - -(-full_in // self.interval), 0), full_in

    def full_in(self, now: int) -> int:
        """The ns until it is full."""
        return max(self._full_at - now, 0)

    def is_full(self) -> bool:
        """Whether it is as good as new."""
        return self._full_at <= self.monotonic_ns()

    def follow(self, rate: Rate, now: int) -> None:
        """Go on at another rate; as many tokens are missing as before, or a part of one more."""
        if rate.interval != self.interval:
            self._full_at = now + -(-self.full_in(now) * rate.interval // self.interval)
            self.interval = rate.interval
        self.burst = rate.burst


@dataclass(frozen=True, slots=True)
class BucketState:
    """One bucket that is not full, as plain values."""

    key: str
    pattern: str | None  #: of the models it is for; ``None``: the key's own
    counts: str  #: ``requests`` or ``tokens``
    interval: int
    full_in: int  #: ns, at the moment of the snapshot


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    Every bucket that is not full, and when that was.

    A monotonic clock means nothing to the next process, so the moment is one
    of the wall clock, in ns since the epoch.
    """

    taken_at: int
    buckets: tuple[BucketState, ...]

    def elapsed(self, wall_ns: int) -> int:
        """
        The ns since it was taken.

        A wall clock that was set back since tells nothing; then no time has
        passed, since too short a time refills too little and never too much.
        """
        return max(wall_ns - self.taken_at, 0)


def go_duration(ns: int) -> str:
    """
    A duration in Go's form (``0s``, ``120ms``, ``1.2s``, ``6m0s``), as OpenAI writes it.

    :param ns: not negative; rounded up to the millisecond, so that waiting it is enough.
    """
    ms = -(-ns // _MS_NS)
    if 0 < ms < 1_000:
        return f"{ms}ms"
    seconds, ms = divmod(ms, 1_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{ms:03d}".rstrip("0") if ms else ""
    if hours:
        return f"{hours}h{minutes}m{seconds}{fraction}s"
    if minutes:
        return f"{minutes}m{seconds}{fraction}s"
    return f"{seconds}{fraction}s"
