"""
The document in which a client reads who it is, what it may do and what it has used: the answer of ``/relay/v1/me``.

The names of its members are documented in ``docs/me.md`` and stay.  Nothing of
the upstream's account is in it: no key, nor the name of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Final, Literal

import msgspec

from openai_relay.core import budgets, limits
from openai_relay.core.identity import Identity
from openai_relay.core.periods import Period, period_at
from openai_relay.core.policy import Policy
from openai_relay.core.usage import Usage

_MICRO: Final = 1_000_000
_NO_LEDGER: Final = "This relay keeps no ledger."


@dataclass(frozen=True, slots=True)
class Sums:
    """What a client's exchanges of one period came to."""

    requests: int = 0
    errors: int = 0  #: that did not end well, or with a status of 400 and above
    estimated: int = 0  #: whose usage the upstream did not tell
    cost_micro_usd: int = 0
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class OwnUsage:
    """What a client has used; where that cannot be told, why, in words for it to read."""

    today: Sums | None = None
    this_month: Sums | None = None
    unavailable: str | None = None


@dataclass(frozen=True, slots=True)
class Stretches:
    """The day and the month under way."""

    today: Period
    this_month: Period

    @classmethod
    def at(cls, now: float, zone: tzinfo) -> Stretches:
        """Those of a moment (seconds since the epoch) in a time zone."""
        return cls(period_at(now, "day", zone), period_at(now, "month", zone))


#: What a client is told where there is no ledger.
UNKNOWN: Final = OwnUsage(unavailable=_NO_LEDGER)


class _Rate(msgspec.Struct, frozen=True, gc=False):
    limit: int
    per_minute: float
    left: int
    resets_in_seconds: float


class _Concurrent(msgspec.Struct, frozen=True, gc=False):
    limit: int | None
    in_use: int


class _Limits(msgspec.Struct, frozen=True):
    requests: _Rate | None
    tokens: _Rate | None
    concurrent: _Concurrent


class _ModelLimits(msgspec.Struct, frozen=True):
    models: str
    requests: _Rate | None
    tokens: _Rate | None
    concurrent: _Concurrent


class _OwnLimits(_Limits, frozen=True):
    by_model: tuple[_ModelLimits, ...]
    shadow: bool


class _Budget(msgspec.Struct, frozen=True, gc=False):
    period: str
    counts: Literal["usd", "tokens"]
    limit: float | None
    warn: float | None
    spent: float
    reserved: float
    left: float | None
    resets_at: str


class _Used(msgspec.Struct, frozen=True, gc=False):
    since: str
    requests: int
    errors: int
    estimated: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: float


class _Usage(msgspec.Struct, frozen=True):
    today: _Used | None
    this_month: _Used | None


class _Document(msgspec.Struct, frozen=True):
    """The members, in their order."""

    client: str
    fingerprint: str
    certificate_expires_at: str
    access_ends_at: str
    tier: str | None
    limits: _OwnLimits
    budgets: tuple[_Budget, ...]
    usage: _Usage
    usage_unavailable: str | None
    time_zone: str
    models: tuple[str, ...] | None
    paths: tuple[str, ...] | None
    methods: tuple[str, ...] | None


_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Findings:
    """Where a client stands at the moment of its question."""

    limits: Sequence[limits.Levels]  #: its own first, then those of groups of models
    budgets: Sequence[budgets.Standing]
    stretches: Stretches
    usage: OwnUsage


def document(identity: Identity, policy: Policy, found: Findings, zone: tzinfo) -> bytes:
    """
    The document, as JSON with a line end.

    :param zone: in which days begin, and in which times are told.
    """
    own, *groups = found.limits
    ends = identity.not_after if policy.not_after is None else min(identity.not_after, policy.not_after)
    told = _Document(
        client=identity.name,
        fingerprint=identity.fingerprint,
        certificate_expires_at=_time(identity.not_after, zone),
        access_ends_at=_time(ends, zone),
        tier=policy.tier,
        limits=_OwnLimits(
            *_levels(own),
            by_model=tuple(_ModelLimits(group.pattern or "", *_levels(group)) for group in groups),
            shadow=policy.limits.shadow,
        ),
        budgets=tuple(_budget(standing, zone) for standing in found.budgets),
        usage=_Usage(
            _used(found.usage.today, found.stretches.today, zone),
            _used(found.usage.this_month, found.stretches.this_month, zone),
        ),
        usage_unavailable=found.usage.unavailable,
        time_zone=str(zone),
        models=None if policy.models is None else policy.models.patterns,
        paths=None if policy.paths is None else policy.paths.allowed,
        methods=policy.methods,
    )
    return _encode(told) + b"\n"


def _levels(levels: limits.Levels) -> tuple[_Rate | None, _Rate | None, _Concurrent]:
    return _rate(levels.requests), _rate(levels.tokens), _Concurrent(levels.concurrent, levels.open)


def _rate(level: limits.Level | None) -> _Rate | None:
    if level is None:
        return None
    # Rounded up, so that waiting as long as is told is enough.
    return _Rate(
        level.rate.burst, _number(float(level.rate.per_minute)), level.left, -(-level.full_in // 1_000_000) / 1_000
    )


def _budget(standing: budgets.Standing, zone: tzinfo) -> _Budget:
    budget = standing.budget
    scale = _MICRO if budget.money else 1

    def amount(count: int) -> float:
        return _number(count / scale)

    left = None if budget.hard is None else amount(max(budget.hard - standing.spent - standing.reserved, 0))
    return _Budget(
        period=budget.period,
        counts="usd" if budget.money else "tokens",
        limit=None if budget.hard is None else amount(budget.hard),
        warn=None if budget.soft is None else amount(budget.soft),
        spent=amount(standing.spent),
        reserved=amount(standing.reserved),
        left=left,
        resets_at=_time(standing.period.ends, zone),
    )


def _used(sums: Sums | None, period: Period, zone: tzinfo) -> _Used | None:
    if sums is None:
        return None
    usage = sums.usage
    return _Used(
        since=_time(period.starts, zone),
        requests=sums.requests,
        errors=sums.errors,
        estimated=sums.estimated,
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_usd=sums.cost_micro_usd / _MICRO,
    )


def _number(value: float) -> float:
    """A whole number without a point behind it."""
    return int(value) if value.is_integer() else value


def _time(seconds: float, zone: tzinfo) -> str:
    """
    A moment as ISO 8601 in a time zone, without fractions of a second.

    What lies beyond the calendar (a certificate may say 9999-12-31) is the last moment of it in UTC.
    """
    try:
        return datetime.fromtimestamp(seconds // 1, UTC).astimezone(zone).isoformat()
    except (OverflowError, ValueError, OSError):
        return "9999-12-31T23:59:59+00:00"
