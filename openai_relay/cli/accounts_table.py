"""Who may do what, as a table that a person reads: the rules of every client after tiers and defaults are applied."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

from openai_relay.cli.output import printable, table

if TYPE_CHECKING:
    from openai_relay.core.buckets import Rate
    from openai_relay.core.budgets import Budget
    from openai_relay.core.policy import Policy, PolicyBook
    from openai_relay.core.settings import Settings

_TITLES: Final = ("CLIENT", "TIER", "REQUESTS/MIN", "TOKENS/MIN", "OPEN", "MODELS", "BUDGETS", "")
#: More clients, and more models of one, are only counted.
_MOST_CLIENTS: Final = 30
_MOST_MODELS: Final = 2


def policies(settings: Settings) -> PolicyBook:
    """What holds for whom."""
    from openai_relay.core.policy import PolicyBook, defaults_of

    return PolicyBook(defaults_of(settings.limits), settings.tiers, settings.clients, settings.identity.default_tier)


def accounts_table(settings: Settings, now: float | None = None) -> list[str]:
    """A line for each client that has rules of its own, and one for everybody else."""
    book, now = policies(settings), time.time() if now is None else now
    names = sorted(book.names)
    rows = [_row(name, book.policy(name), settings, now) for name in names[:_MOST_CLIENTS]]
    rows.append(_row("(any other)" if names else "(everybody)", book.policy(""), settings, now))
    lines = table(_TITLES, rows)
    if len(names) > _MOST_CLIENTS:
        lines.insert(-1, f"... and {len(names) - _MOST_CLIENTS} more")
    return lines


def _row(name: str, policy: Policy, settings: Settings, now: float) -> tuple[str, ...]:
    limits = policy.limits
    patterns = ("any",) if policy.models is None else policy.models.patterns
    models = ", ".join(patterns[:_MOST_MODELS]) + (
        f" +{len(patterns) - _MOST_MODELS}" if len(patterns) > _MOST_MODELS else ""
    )
    cells = (
        name,
        policy.tier or "-",
        _rate(limits.own.requests),
        _rate(limits.own.tokens),
        "-" if limits.own.concurrent is None else str(limits.own.concurrent),
        models,
        ", ".join(_budget(budget) for budget in policy.budgets) or "-",
        ", ".join(_remarks(policy, settings, now)),
    )
    return tuple(printable(cell) for cell in cells)


def _rate(rate: Rate | None) -> str:
    return "-" if rate is None else f"{rate.per_minute} ({rate.burst} at once)"


def _budget(budget: Budget) -> str:
    if budget.hard is None:
        assert budget.soft is not None
        return f"warns at {budget.shown(budget.soft)}/{budget.period}"
    return f"{budget.shown(budget.hard)}/{budget.period}"


def _remarks(policy: Policy, settings: Settings, now: float) -> list[str]:
    said = []
    if policy.disabled:
        said.append("disabled")
    if policy.not_after is not None:
        end = datetime.fromtimestamp(policy.not_after, settings.accounting.time_zone)
        said.append(f"{'ended' if policy.not_after <= now else 'ends'} {end:%Y-%m-%d %H:%M}")
    if policy.limits.shadow:
        said.append("shadow")
    if policy.limits.models:
        said.append(f"own limits for {', '.join(policy.limits.models.patterns)}")
    if policy.upstream_key is not None:
        said.append(f"key {policy.upstream_key}")
    return said
