"""Begin budgets with what the ledger says was spent before: neither a restart nor a new budget gives anything back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from openai_relay.core.budgets import Budget, Budgets, Cost
from openai_relay.core.periods import Period, PeriodName
from openai_relay.core.policy import PolicyBook
from openai_relay.ledger.reading import LedgerReader, Stretch, Totals

_PERIODS: Final[tuple[PeriodName, ...]] = get_args(PeriodName)


@dataclass(frozen=True, slots=True)
class Spent:
    """What one client has spent in a period under way."""

    client: str
    period: PeriodName
    cost: Cost


def read_spent(period: Callable[[Budget], Period], database: Path) -> list[Spent]:
    """
    What each client has spent in the periods under way; nothing, where there is no ledger yet.

    :param period: tells the one under way, as `Budgets.period` does.
    :raises LedgerError: it cannot be read.
    """
    if not database.exists():
        return []
    reader = LedgerReader(database)
    try:
        return [
            Spent(group.key, name, _cost(group.totals))
            for name in _PERIODS
            for under_way in [period(Budget(name, hard=1))]
            for group in reader.by("client", Stretch(under_way.starts * 1_000, under_way.ends * 1_000))
        ]
    finally:
        reader.close()


def begin_budgets(budgets: Budgets, policies: PolicyBook, spent: Iterable[Spent]) -> None:
    """Begin the budgets that nothing has been counted in yet with what was spent; the others know better."""
    for one in spent:
        for budget in policies.policy(one.client).budgets:
            if budget.period == one.period and not budgets.counts(one.client, budget):
                budgets.begin(one.client, budget, budget.part_of(one.cost))


def _cost(totals: Totals) -> Cost:
    return Cost(totals.usage.input_tokens + totals.usage.output_tokens, totals.cost_micro_usd)
