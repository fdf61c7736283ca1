"""
Decide what one client may do: its own rules over those of its tier, and these over those for everyone.

The rules are resolved once, when the settings are read; a request then asks
for its client's policy by name, which is one look into a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Final, Literal

from openai_relay.core.budgets import Budget
from openai_relay.core.errors import (
    CertificateExpired,
    ClientDisabled,
    MethodRefused,
    ModelHidden,
    ModelNotAllowed,
)
from openai_relay.core.globs import GlobTable
from openai_relay.core.limit_rules import KeyLimits, LimitSettings, Quota
from openai_relay.core.paths import PathPolicy

Unlimited = Literal["unlimited"]

#: How many allowed models a refusal names, and how much of the one that was asked for.
_MOST_NAMED: Final = 20
_LONGEST_SHOWN: Final = 64
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class QuotaRules:
    """Limits as one table sets them; ``None`` leaves it to the next, ``"unlimited"`` lifts what that says."""

    requests_per_minute: float | Unlimited | None = None
    burst: int | None = None
    tokens_per_minute: float | Unlimited | None = None
    token_burst: int | None = None
    concurrent: int | Unlimited | None = None

    def over(self, base: QuotaRules) -> QuotaRules:
        """These, and the base's where these say nothing; a burst belongs to its rate and goes with it."""
        requests, tokens = self.requests_per_minute is None, self.tokens_per_minute is None
        return QuotaRules(
            base.requests_per_minute if requests else self.requests_per_minute,
            base.burst if requests and self.burst is None else self.burst,
            base.tokens_per_minute if tokens else self.tokens_per_minute,
            base.token_burst if tokens and self.token_burst is None else self.token_burst,
            base.concurrent if self.concurrent is None else self.concurrent,
        )

    def quota(self) -> Quota:
        """
        What holds in the end.

        :raises ValueError: when nothing could ever pass, or a burst has no rate; the text names the setting.
        """
        requests, tokens, concurrent = (
            None if value == "unlimited" else value
            for value in (self.requests_per_minute, self.tokens_per_minute, self.concurrent)
        )
        for name, rate, burst in (
            ("burst", self.requests_per_minute, self.burst),
            ("token_burst", self.tokens_per_minute, self.token_burst),
        ):
            if burst is not None and rate is None:
                raise ValueError(f"{name} needs a rate to be a burst of")
        assert concurrent is None or isinstance(concurrent, int)
        return Quota.of(
            requests_per_minute=requests,
            burst=None if requests is None else self.burst,
            tokens_per_minute=tokens,
            token_burst=None if tokens is None else self.token_burst,
            concurrent=concurrent,
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """
    What ``[clients.NAME]``, ``[tiers.NAME]`` or the defaults say; ``None`` leaves it to the next.

    :raises ValueError: for two budgets of one period and kind.
    """

    models: tuple[str, ...] | None = None  #: names and globs
    paths: tuple[str, ...] | None = None  #: each for itself and all beneath it; narrows what the relay forwards
    methods: tuple[str, ...] | None = None
    upstream_key: str | None = None  #: the name of one of the upstream's keys, never a key
    organization: str | None = None
    project: str | None = None
    limits: QuotaRules = QuotaRules()
    model_limits: tuple[tuple[str, QuotaRules], ...] = ()  #: by name or glob, merged one by one
    shadow: bool | None = None
    max_wait: float | None = None  #: seconds
    max_queue: int | None = None
    budgets: tuple[Budget, ...] = ()  #: each replaces the next's of the same period and kind
    not_after: float | None = None  #: seconds since the epoch
    disabled: bool | None = None

    def __post_init__(self) -> None:
        kinds = [(budget.period, budget.money) for budget in self.budgets]
        if len(set(kinds)) < len(kinds):
            raise ValueError("two budgets count the same over the same period; keep one of them")


@dataclass(frozen=True, slots=True)
class ClientRules:
    """``[clients.NAME]``: rules, and the tier whose rules stand behind them."""

    rules: Rules = Rules()
    tier: str | None = None


class BadPolicy(ValueError):
    """A rule cannot be used; the text says what is wrong with it, and ``table`` and ``key`` say where it stands."""

    def __init__(self, table: str, key: str, told: str) -> None:
        super().__init__(f"{table}.{key}: {told}")
        self.table = table
        self.key = key
        self.told = told


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """What holds for one client in the end."""

    tier: str | None = None
    limits: KeyLimits = field(default_factory=KeyLimits)
    budgets: tuple[Budget, ...] = ()
    upstream_key: str | None = None
    organization: str | None = None
    project: str | None = None
    not_after: float | None = None
    disabled: bool = False
    models: GlobTable[None] | None = None  #: ``None``: any
    paths: PathPolicy | None = None
    methods: tuple[str, ...] | None = None

    @property
    def has_model_rule(self) -> bool:
        """Whether it matters which model a request asks for."""
        return self.models is not None or bool(self.limits.models)

    def check_client(self, now: float) -> None:
        """
        Whether the client may do anything at all.

        :param now: seconds since the epoch.
        :raises ClientDisabled: by name.
        :raises CertificateExpired: its rules end its access before its certificate does.
        """
        if self.disabled:
            raise ClientDisabled()
        if self.not_after is not None and now >= self.not_after:
            raise CertificateExpired(told="The relay's operator has ended this client's access.")

    def check_path(self, target: bytes, method: bytes) -> None:
        """
        Whether the client may ask for this; the relay's own rules have let it pass already.

        :raises MethodRefused:
        :raises PathNotAllowed: or ``BadRequest``, as ``PathPolicy.check`` does.
        """
        if self.methods is not None and method.decode("latin-1") not in self.methods:
            allowed = ", ".join(self.methods) or "(none)"
            raise MethodRefused(told=f"The relay does not allow this method for this client. It allows: {allowed}.")
        if self.paths is not None:
            self.paths.check(target, method)

    def check_model(self, model: str | None) -> None:
        """
        Whether the client may use a model; to be asked where the endpoint takes one.

        :param model: ``None`` when the request does not show it.
        :raises ModelHidden: a rule applies and cannot be asked.
        :raises ModelNotAllowed:
        """
        if model is None:
            if self.has_model_rule:
                raise ModelHidden()
        elif self.models is not None and self.models.find(model) is None:
            raise ModelNotAllowed(told=_not_allowed(model, self.models.patterns))


def _not_allowed(model: str, allowed: tuple[str, ...]) -> str:
    named = ", ".join(allowed[:_MOST_NAMED]) or "(none)"
    more = f" and {len(allowed) - _MOST_NAMED} more" if len(allowed) > _MOST_NAMED else ""
    # A stranger's text: made plain, so that it can stand in any answer and any log.
    shown = ascii(model[:_LONGEST_SHOWN])[1:-1] + ("..." if len(model) > _LONGEST_SHOWN else "")
    return f'The relay does not allow the model "{shown}" for this client. It allows: {named}{more}.'


class PolicyBook:
    """
    The policies of all clients, by name.

    :param defaults: what holds where neither client nor tier says otherwise.
    :param default_tier: of every client that is in none by its own rules.
    :raises BadPolicy: for the first rule that cannot be used.
    """

    __slots__ = ("_default", "_policies")

    def __init__(
        self,
        defaults: Rules | None = None,
        tiers: Mapping[str, Rules] | None = None,
        clients: Mapping[str, ClientRules] | None = None,
        default_tier: str | None = None,
    ) -> None:
        defaults, tiers = defaults or Rules(), tiers or {}
        everyone = _policy("limits", defaults, None)
        for name, rules in tiers.items():  # those that nobody is in are checked, too
            _policy(f"tiers.{name}", _over(rules, defaults), name)
        if default_tier is None:
            self._default = everyone
        else:
            self._default = _policy("identity", _over(_tier(tiers, default_tier, "identity"), defaults), default_tier)
        self._policies: dict[str, Policy] = {}
        for name, client in (clients or {}).items():
            table, base = f"clients.{name}", defaults
            tier = client.tier or default_tier
            if tier is not None:
                base = _over(_tier(tiers, tier, table), defaults)
            self._policies[name] = _policy(table, _over(client.rules, base), tier)

    def policy(self, name: str) -> Policy:
        """What holds for a client; for one without rules of its own, the defaults."""
        return self._policies.get(name, self._default)

    @property
    def names(self) -> tuple[str, ...]:
        """The clients that have rules of their own."""
        return tuple(self._policies)


def defaults_of(settings: LimitSettings) -> Rules:
    """What ``[limits]`` says, as the rules behind everybody's own."""
    return Rules(
        limits=QuotaRules(
            settings.requests_per_minute,
            settings.burst,
            settings.tokens_per_minute,
            settings.token_burst,
            settings.concurrent,
        ),
        shadow=settings.shadow,
        max_wait=settings.max_wait,
        max_queue=settings.max_queue,
    )


def _tier(tiers: Mapping[str, Rules], name: str, table: str) -> Rules:
    if name not in tiers:
        key = "default_tier" if table == "identity" else "tier"
        there = ", ".join(sorted(tiers)) or "none"
        raise BadPolicy(table, key, f"there is no [tiers.{name}]; there are: {there}")
    return tiers[name]


def _over(rules: Rules, base: Rules) -> Rules:
    """The rules, and the base's where they say nothing."""
    merged = {
        part.name: getattr(base if getattr(rules, part.name) is None else rules, part.name) for part in fields(Rules)
    }
    model_limits = dict(base.model_limits)
    for pattern, limits in rules.model_limits:
        model_limits[pattern] = limits.over(model_limits.get(pattern, QuotaRules()))
    budgets = {(budget.period, budget.money): budget for budget in (*base.budgets, *rules.budgets)}
    merged |= {
        "limits": rules.limits.over(base.limits),
        "model_limits": tuple(model_limits.items()),
        "budgets": tuple(budgets.values()),
    }
    return Rules(**merged)


def _policy(table: str, rules: Rules, tier: str | None) -> Policy:
    key = "limits"
    try:
        own = rules.limits.quota()
        key = "model_limits"
        quotas = GlobTable((pattern, limits.quota()) for pattern, limits in rules.model_limits)
        key = "models"
        models = None if rules.models is None else GlobTable((pattern, None) for pattern in rules.models)
        key = "paths"
        paths = None if rules.paths is None else PathPolicy(rules.paths, ())
        key = "methods"
        methods = None if rules.methods is None else _methods(rules.methods)
        key = "max_wait"
        wait = _wait(rules)
    except ValueError as error:
        raise BadPolicy(table, key, str(error)) from None
    return Policy(
        tier=tier,
        limits=KeyLimits(own, quotas, bool(rules.shadow), wait, rules.max_queue or 0),
        budgets=rules.budgets,
        upstream_key=rules.upstream_key,
        organization=rules.organization,
        project=rules.project,
        not_after=rules.not_after,
        disabled=bool(rules.disabled),
        models=models,
        paths=paths,
        methods=methods,
    )


def _methods(names: Iterable[str]) -> tuple[str, ...]:
    for name in names:
        if not (name.isascii() and name.isalpha() and name.isupper()):
            raise ValueError(f"{name!r} is no method; write it in capitals, such as POST")
    return tuple(names)


def _wait(rules: Rules) -> int:
    wait, queue = rules.max_wait or 0, rules.max_queue or 0
    if not 0 <= wait < float("inf") or queue < 0:
        raise ValueError("max_wait and max_queue must not be below 0, nor endless")
    if bool(wait) != bool(queue):
        raise ValueError("max_wait and max_queue go together; set both, or neither")
    return int(wait * _NS)
