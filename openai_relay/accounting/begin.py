"""Begin budgets with what the ledger says was spent before this process: a restart gives nothing back."""

from __future__ import annotations

from pathlib import Path
from typing import Final, get_args

from openai_relay.core.budgets import Budget, Budgets, Cost
from openai_relay.core.periods import PeriodName
from openai_relay.core.policy import PolicyBook
from openai_relay.ledger.reading import LedgerReader, Stretch, Totals

_PERIODS: Final[tuple[PeriodName, ...]] = get_args(PeriodName)


def begin_budgets(budgets: Budgets, policies: PolicyBook, database: Path) -> None:
    """
    Take over what each client has spent in the periods under way.

    A ledger that does not exist yet has nothing to take over.

    :raises LedgerError: it cannot be read; no budget was touched.
    """
    if not database.exists():
        return
    reader = LedgerReader(database)
    try:
        spent = []
        for period in _PERIODS:
            under_way = budgets.period(Budget(period, hard=1))
            for group in reader.by("client", Stretch(under_way.starts * 1_000)):
                spent.append((period, group.key, _cost(group.totals)))
    finally:
        reader.close()
    for period, name, cost in spent:
        for budget in policies.policy(name).budgets:
            if budget.period == period:
                budgets.begin(name, budget, budget.part_of(cost))


def _cost(totals: Totals) -> Cost:
    return Cost(totals.usage.input_tokens + totals.usage.output_tokens, totals.cost_micro_usd)
