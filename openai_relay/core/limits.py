"""
Decide whether one more exchange of a client may begin and, if not, when to ask again.

Three limits for each key: requests and tokens (token buckets) and open
exchanges (leases), and three more for each group of models that has its own.
They are taken together or not at all, so that a refusal costs nothing.  Time
is integer nanoseconds of the caller's monotonic clock; nothing is rounded but
what is shown.  Keys that hold nothing are forgotten in passing: each admission
looks at two others for each account it asks, so the table is bounded without a
timer or a long pause.

Tokens are reserved at admission and settled once when the exchange is over:
what was not used is given back, what was used beyond the reservation is a debt.
A debt delays who comes later and takes nothing from who is already admitted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from openai_relay.core.buckets import BucketState, Rate, Snapshot, TokenBucket, go_duration
from openai_relay.core.errors import Pair, RateLimited, TokensLimited, TooManyConcurrent
from openai_relay.core.limit_rules import KeyLimits, LimitSettings, Quota

__all__ = ["Blocked", "HeldLease", "Lease", "Limiter", "Limits", "TokenBucket", "go_duration"]

#: Nobody knows when an open exchange ends; a second is soon enough to ask again.
CONCURRENT_WAIT_NS: Final = 1_000_000_000
_REQUESTS: Final = "requests"
_TOKENS: Final = "tokens"


class Lease(Protocol):
    """What an admitted exchange holds until it is over."""

    def fields(self) -> list[Pair]:
        """The ``x-ratelimit-*`` fields of the answer; empty when neither requests nor tokens are limited."""

    def settle(self, tokens: int) -> None:
        """The exchange used so many tokens; only the first call counts."""

    def release(self) -> None:
        """The exchange is over; only the first call counts."""


class Limits(Protocol):
    """What the course of an exchange asks; ``Limiter`` answers for one process."""

    def admit(self, key: str, *, model: str | None = None, tokens: int = 0, limits: KeyLimits | None = None) -> Lease:
        """
        Let one more exchange of this key begin.

        :param model: what it asks for; ``None``: its path knows no model.
        :param tokens: what it may use at most, to be reserved; 0: it uses none, and waits for no debt.
        :param limits: of this key; ``None``: those that hold for everyone.
        :raises RateLimited: or its subclass; nothing was taken.
        """


@dataclass(slots=True, eq=False)
class _Account:
    """What one key, or one key within a group of models, has taken."""

    pattern: str | None
    quota: Quota
    requests: TokenBucket | None
    tokens: TokenBucket | None
    open: int = 0

    def is_idle(self) -> bool:
        """Whether it is as good as new."""
        return not (
            self.open
            or (self.requests is not None and not self.requests.is_full())
            or (self.tokens is not None and not self.tokens.is_full())
        )

    def take(self, tokens: int, now: int) -> None:
        """One exchange more."""
        self.open += 1
        if self.requests is not None:
            self.requests.charge(1, now)
        if tokens and self.tokens is not None:
            self.tokens.charge(tokens, now)


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why an exchange may not begin now."""

    refusal: RateLimited
    pattern: str | None  #: the group of models whose limit it was; ``None``: the key's own
    wait_ns: int | None  #: ``None``: until another exchange ends, which nobody can tell
    look_ns: int | None  #: until the key's own limits no longer block, even if the model's still do


@dataclass(frozen=True, slots=True)
class Level:
    """Where one bucket stands at a moment."""

    rate: Rate
    left: int  #: how many would pass now
    full_in: int  #: ns


@dataclass(frozen=True, slots=True)
class Levels:
    """Where a key, or a key within a group of models, stands at a moment; ``None`` is unlimited."""

    pattern: str | None
    requests: Level | None
    tokens: Level | None
    concurrent: int | None
    open: int


class HeldLease:
    """
    The ``Lease`` of ``Limiter``.

    :ivar overlooked: the refusal that shadow mode kept from the client; such a lease holds nothing.
    """

    __slots__ = ("_accounts", "_buckets", "_monotonic_ns", "_reserved", "_settled", "overlooked")

    def __init__(
        self,
        accounts: tuple[_Account, ...],
        reserved: int,
        monotonic_ns: Callable[[], int],
        overlooked: RateLimited | None = None,
    ) -> None:
        self._accounts = accounts
        # Those that were charged, which a reload may since have taken from their account, or given it.
        self._buckets = tuple(account.tokens for account in accounts if account.tokens is not None)
        self._reserved = reserved
        self._settled = False
        self._monotonic_ns = monotonic_ns
        self.overlooked = overlooked

    def fields(self) -> list[Pair]:
        """Where the key stands at this moment; nothing once the lease is released."""
        return _fields_of(self._accounts)

    def settle(self, tokens: int) -> None:
        """
        Correct the reservation to what was used: the rest is given back, an excess becomes a debt.

        Only the first call counts, and none after ``release``.
        """
        if self._settled:
            return
        self._settled = True
        excess = max(tokens, 0) - self._reserved
        if excess:
            now = self._monotonic_ns()
            for bucket in self._buckets:
                bucket.charge(excess, now)

    def release(self) -> None:
        """
        Give the place back; a second call does nothing, so that a ``finally`` may always call.

        An exchange that was not settled is taken to have used what it reserved.
        """
        self._settled = True
        accounts, self._accounts = self._accounts, ()
        for account in accounts:
            account.open -= 1


class Limiter:
    """
    The limits of all keys in this process; called once for each exchange.

    :param settings: what holds for every key that comes without limits of its own.
    :ivar overlooked: how many exchanges shadow mode let pass that would have been refused.
    :raises ValueError: when a setting can never let anything pass.
    """

    __slots__ = ("_accounts", "_limits", "_monotonic_ns", "overlooked")

    def __init__(self, settings: LimitSettings | KeyLimits, monotonic_ns: Callable[[], int]) -> None:
        self._monotonic_ns = monotonic_ns
        self._accounts: OrderedDict[tuple[str, str | None], _Account] = OrderedDict()
        self._limits = settings if isinstance(settings, KeyLimits) else KeyLimits.of(settings)
        self.overlooked = 0

    def admit(
        self, key: str, *, model: str | None = None, tokens: int = 0, limits: KeyLimits | None = None
    ) -> HeldLease:
        """
        Let one more exchange of this key begin.

        :raises TooManyConcurrent: asked first, so that it takes no token.
        :raises RateLimited: with the wait after which it passes if no other is first.
        """
        answer = self.decide(key, model=model, tokens=tokens, limits=limits)
        if isinstance(answer, Blocked):
            raise answer.refusal
        return answer

    def decide(
        self, key: str, *, model: str | None = None, tokens: int = 0, limits: KeyLimits | None = None
    ) -> HeldLease | Blocked:
        """As ``admit``, with the refusal as an answer."""
        limits = limits or self._limits
        now = self._monotonic_ns()
        group = limits.for_model(model)
        own = self._account(key, None, limits.own, now)
        asked = (own,) if group is None else (own, self._account(key, group[0], group[1], now))
        blocked = _blocked(asked, tokens, now)
        if len(self._accounts) > 1:
            self._forget_idle(2 * len(asked), asked)
        if blocked is None:
            for account in asked:
                account.take(tokens, now)
            return HeldLease(asked, tokens, self._monotonic_ns)
        if not limits.shadow:
            return blocked
        self.overlooked += 1
        return HeldLease((), 0, self._monotonic_ns, blocked.refusal)

    def default_limits(self) -> KeyLimits:
        """What holds for a key that comes without limits of its own."""
        return self._limits

    def standing(self, key: str, limits: KeyLimits | None = None) -> list[Levels]:
        """Where a key stands, and then where with each group of models, for those who ask; nothing is remembered."""
        limits = limits or self._limits
        now = self._monotonic_ns()
        levels = []
        for pattern, quota in ((None, limits.own), *limits.models.items()):
            known = (key, pattern) in self._accounts
            account = self._account(key, pattern, quota, now)
            if not known:
                del self._accounts[key, pattern]
            requests, tokens = _level(quota.requests, account.requests), _level(quota.tokens, account.tokens)
            levels.append(Levels(pattern, requests, tokens, quota.concurrent, account.open))
        return levels

    @property
    def open(self) -> int:
        """How many leases are out, of all keys."""
        return sum(account.open for (_, pattern), account in self._accounts.items() if pattern is None)

    def __len__(self) -> int:
        """How many accounts are remembered."""
        return len(self._accounts)

    def snapshot(self, wall_ns: int) -> Snapshot:
        """
        What is missing from every bucket, for the next process.

        What open exchanges have reserved counts as used: nobody will settle it.
        """
        now = self._monotonic_ns()
        states = []
        for (key, pattern), account in self._accounts.items():
            for counts, bucket in ((_REQUESTS, account.requests), (_TOKENS, account.tokens)):
                if bucket is not None and (full_in := bucket.full_in(now)):
                    states.append(BucketState(key, pattern, counts, bucket.interval, full_in))
        return Snapshot(wall_ns, tuple(states))

    def restore(self, snapshot: Snapshot, wall_ns: int) -> None:
        """
        Begin where another process ended; to be called before the first admission.

        Each bucket has gained what the time between is worth and no more, and a
        debt is still owed.  What is no bucket's state is passed over.
        """
        now, elapsed = self._monotonic_ns(), snapshot.elapsed(wall_ns)
        for state in snapshot.buckets:
            missing = state.full_in - elapsed
            if state.interval < 1 or missing <= 0 or state.counts not in (_REQUESTS, _TOKENS):
                continue
            where = (state.key, state.pattern)
            account = self._accounts.get(where)
            if account is None:
                account = self._accounts[where] = _Account(state.pattern, Quota(), None, None)
            # Its rate is unknown until the key comes; see ``follow``.
            bucket = TokenBucket(state.interval, 1, self._monotonic_ns, now + missing)
            if state.counts == _REQUESTS:
                account.requests = bucket
            else:
                account.tokens = bucket

    def _account(self, key: str, pattern: str | None, quota: Quota, now: int) -> _Account:
        account = self._accounts.get((key, pattern))
        if account is None:
            requests, tokens = self._bucket(quota.requests, None, now), self._bucket(quota.tokens, None, now)
            account = self._accounts[key, pattern] = _Account(pattern, quota, requests, tokens)
        elif account.quota is not quota:  # a reload, or a restored account: what was taken stays taken
            account.requests = self._bucket(quota.requests, account.requests, now)
            account.tokens = self._bucket(quota.tokens, account.tokens, now)
            account.quota = quota
        return account

    def _bucket(self, rate: Rate | None, before: TokenBucket | None, now: int) -> TokenBucket | None:
        if rate is None:
            return None
        bucket = before or TokenBucket(rate.interval, rate.burst, self._monotonic_ns)
        bucket.follow(rate, now)
        return bucket

    def _forget_idle(self, count: int, asked: tuple[_Account, ...]) -> None:
        # Two for each that was asked: the table grows by no more than was asked,
        # so what is idle is met and dropped before the table has doubled.
        accounts = self._accounts
        for _ in range(count):
            where = next(iter(accounts))
            account = accounts[where]
            if account in asked or not account.is_idle():
                accounts.move_to_end(where)
            else:
                del accounts[where]


def _level(rate: Rate | None, bucket: TokenBucket | None) -> Level | None:
    return None if rate is None or bucket is None else Level(rate, *bucket.level())


def _blocked(asked: tuple[_Account, ...], tokens: int, now: int) -> Blocked | None:
    """What keeps an exchange from beginning: a full house first, then whatever lasts longest."""
    longest, worst, of_tokens = 0, asked[0], False
    # Whether and how long the key's own limits block: for so long no other model may overtake.
    own, own_wait = False, 0
    full: _Account | None = None
    for account in asked:
        if account.quota.concurrent is not None and account.open >= account.quota.concurrent:
            full = full or account
            own = own or account.pattern is None
        for bucket, count in ((account.requests, 1), (account.tokens, tokens)):
            if bucket is not None and count and (wait := bucket.wait(count, now)):
                if account.pattern is None:
                    own, own_wait = True, max(own_wait, wait)
                if wait > longest:
                    longest, worst, of_tokens = wait, account, bucket is account.tokens
    if full is not None:
        return Blocked(_too_many_concurrent(full, asked), None if own else full.pattern, None, own_wait or None)
    if not longest:
        return None
    refusal = _rate_limited(worst, asked, longest, tokens if of_tokens else None)
    return Blocked(refusal, None if own else worst.pattern, longest, own_wait or longest)


def _too_many_concurrent(account: _Account, asked: tuple[_Account, ...]) -> TooManyConcurrent:
    told = (
        f"Concurrency limit reached: {account.quota.concurrent} open at once for this client{_models_of(account)}. "
        f"Please try again in {go_duration(CONCURRENT_WAIT_NS)}, or when one of them has ended."
    )
    return TooManyConcurrent(CONCURRENT_WAIT_NS, told, _fields_of(asked))


def _rate_limited(account: _Account, asked: tuple[_Account, ...], wait_ns: int, tokens: int | None) -> RateLimited:
    rate = account.quota.requests if tokens is None else account.quota.tokens
    assert rate is not None
    counts = _REQUESTS if tokens is None else _TOKENS
    need = "" if tokens is None else f"This request may need {tokens}. "
    told = (
        f"Rate limit reached for {counts}: {rate.per_minute} per minute for this client{_models_of(account)}. "
        f"{need}Please try again in {go_duration(wait_ns)}."
    )
    return (RateLimited if tokens is None else TokensLimited)(wait_ns, told, _fields_of(asked))


def _models_of(account: _Account) -> str:
    return "" if account.pattern is None else f" and models {account.pattern}"


def _fields_of(accounts: tuple[_Account, ...]) -> list[Pair]:
    """
    The state of the buckets as OpenAI's ``x-ratelimit-*`` fields; ``limit`` is what passes at once.

    Where a key's own limit and a model's both apply, the one with less left is told.
    """
    fields = _fields(b"requests", [account.requests for account in accounts])
    return fields + _fields(b"tokens", [account.tokens for account in accounts])


def _fields(counts: bytes, buckets: list[TokenBucket | None]) -> list[Pair]:
    told = min(((*bucket.level(), bucket.burst) for bucket in buckets if bucket is not None), default=None)
    if told is None:
        return []
    remaining, full_in, burst = told
    return [
        (b"x-ratelimit-limit-" + counts, b"%d" % burst),
        (b"x-ratelimit-remaining-" + counts, b"%d" % remaining),
        (b"x-ratelimit-reset-" + counts, go_duration(full_in).encode()),
    ]
