"""
Decide whether one more exchange of a client may begin and, if not, when to ask again.

Two limits for each key: requests (a token bucket) and open exchanges (leases).
They are taken together or not at all, so that a refusal costs nothing.  Time
is integer nanoseconds of the caller's monotonic clock; nothing is rounded but
what is shown.  Keys that hold nothing are forgotten in passing: each admission
looks at two others, so the table is bounded without a timer or a long pause.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from openai_relay.core.errors import Pair, RateLimited, TooManyConcurrent
from openai_relay.core.settings import LimitSettings

_MINUTE_NS: Final = 60_000_000_000
_MS_NS: Final = 1_000_000
#: Nobody knows when an open exchange ends; a second is soon enough to ask again.
_CONCURRENT_WAIT_NS: Final = 1_000_000_000


class Lease(Protocol):
    """What an admitted exchange holds until it is over."""

    def fields(self) -> list[Pair]:
        """The ``x-ratelimit-*`` fields of the answer; empty when requests are unlimited."""

    def release(self) -> None:
        """The exchange is over; only the first call counts."""


class Limits(Protocol):
    """What the course of an exchange asks; ``Limiter`` answers for one process."""

    def admit(self, key: str) -> Lease:
        """
        Let one more exchange of this key begin.

        :raises RateLimited: or its subclass; nothing was taken.
        """


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
        full_at = (now if now > self._full_at else self._full_at) + tokens * self.interval
        wait = full_at - now - self.burst * self.interval
        if wait > 0:
            return wait
        self._full_at = full_at
        return 0

    def level(self) -> tuple[int, int]:
        """How many tokens could be taken now, and the ns until the bucket is full."""
        full_in = max(self._full_at - self.monotonic_ns(), 0)
        return self.burst - -(-full_in // self.interval), full_in

    def is_full(self) -> bool:
        """Whether it is as good as new."""
        return self._full_at <= self.monotonic_ns()


@dataclass(slots=True)
class _Account:
    """What one key has taken."""

    bucket: TokenBucket | None
    open: int = 0


class HeldLease:
    """The ``Lease`` of ``Limiter``."""

    __slots__ = ("_account", "_limiter")

    def __init__(self, limiter: Limiter, account: _Account) -> None:
        self._limiter = limiter
        self._account: _Account | None = account

    def fields(self) -> list[Pair]:
        """Where the key stands at this moment; nothing once the lease is released."""
        account = self._account
        return [] if account is None else self._limiter.fields_of(account.bucket)

    def release(self) -> None:
        """Give the place back; a second call does nothing, so that a ``finally`` may always call."""
        account, self._account = self._account, None
        if account is not None:
            account.open -= 1


class Limiter:
    """
    The limits of all keys in this process; called once for each exchange.

    :raises ValueError: when a setting can never let anything pass.
    """

    __slots__ = ("_accounts", "_burst", "_concurrent", "_interval", "_monotonic_ns", "_rate")

    def __init__(self, settings: LimitSettings, monotonic_ns: Callable[[], int]) -> None:
        self._monotonic_ns = monotonic_ns
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._concurrent = settings.concurrent
        if settings.concurrent is not None and settings.concurrent < 1:
            raise ValueError(f"concurrent must be at least 1, not {settings.concurrent}")
        self._rate: str | None = None
        self._interval = self._burst = 1
        if settings.requests_per_minute is not None:
            self._rate = _plain(settings.requests_per_minute)
            self._interval, self._burst = _bucket_of(settings.requests_per_minute, settings.burst)

    def admit(self, key: str) -> HeldLease:
        """
        Let one more exchange of this key begin.

        :raises TooManyConcurrent: asked first, so that it takes no token.
        :raises RateLimited: with the wait after which one request passes if no other takes it.
        """
        accounts = self._accounts
        account = accounts.get(key)
        if account is None:
            account = accounts[key] = _Account(self._new_bucket())
        if self._concurrent is not None and account.open >= self._concurrent:
            raise self._too_many_concurrent(account)
        if account.bucket is not None and (wait_ns := account.bucket.take()):
            raise self._rate_limited(account, wait_ns)
        account.open += 1
        if len(accounts) > 1:
            self._forget_idle()
        return HeldLease(self, account)

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._accounts)

    def fields_of(self, bucket: TokenBucket | None) -> list[Pair]:
        """A bucket's state as OpenAI's ``x-ratelimit-*`` fields; ``limit`` is what passes at once."""
        if bucket is None:
            return []
        remaining, full_in = bucket.level()
        return [
            (b"x-ratelimit-limit-requests", b"%d" % self._burst),
            (b"x-ratelimit-remaining-requests", b"%d" % remaining),
            (b"x-ratelimit-reset-requests", go_duration(full_in).encode()),
        ]

    def _new_bucket(self) -> TokenBucket | None:
        return None if self._rate is None else TokenBucket(self._interval, self._burst, self._monotonic_ns)

    def _forget_idle(self) -> None:
        # Two at a time: the table grows by at most one for each admission, so
        # what is idle is met and dropped before the table has doubled.
        accounts = self._accounts
        for _ in (1, 2):
            key = next(iter(accounts))
            account = accounts[key]
            if account.open or not (account.bucket is None or account.bucket.is_full()):
                accounts.move_to_end(key)
            else:
                del accounts[key]

    def _too_many_concurrent(self, account: _Account) -> TooManyConcurrent:
        told = (
            f"Concurrency limit reached: {self._concurrent} open at once for this client. "
            f"Please try again in {go_duration(_CONCURRENT_WAIT_NS)}, or when one of them has ended."
        )
        return TooManyConcurrent(_CONCURRENT_WAIT_NS, told, self.fields_of(account.bucket))

    def _rate_limited(self, account: _Account, wait_ns: int) -> RateLimited:
        told = (
            f"Rate limit reached for requests: {self._rate} per minute for this client. "
            f"Please try again in {go_duration(wait_ns)}."
        )
        return RateLimited(wait_ns, told, self.fields_of(account.bucket))


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


def _bucket_of(requests_per_minute: float, burst: int | None) -> tuple[int, int]:
    """Interval (ns, rounded up: never faster than set) and burst."""
    if not 0 < requests_per_minute < float("inf"):
        raise ValueError(f"requests_per_minute must be a number above 0, not {requests_per_minute}")
    if burst is not None and burst < 1:
        raise ValueError(f"burst must be at least 1, not {burst}")
    numerator, denominator = requests_per_minute.as_integer_ratio()
    return -(-_MINUTE_NS * denominator // numerator), burst or -(-numerator // denominator)


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)
