"""Budgets that begin where the ledger ended."""

from __future__ import annotations

from datetime import UTC

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.accounting.begin import begin_budgets, read_spent
from openai_relay.core.budgets import Budget, Budgets
from openai_relay.core.policy import ClientRules, PolicyBook, Rules
from openai_relay.ledger.database import Database
from openai_relay.ledger.errors import LedgerError
from tests.authority.directories import new_directory
from tests.ledger.rows import DAY_MS, NOW_MS, row

DAY, MONTH = Budget("day", hard=1_000, money=False), Budget("month", hard=5_000_000)


class BeginTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = new_directory(self) / "ledger.sqlite3"
        self.budgets = Budgets(UTC, lambda: NOW_MS / 1_000)
        self.policies = PolicyBook(Rules(budgets=(DAY,)), {}, {"bob": ClientRules(Rules(budgets=(DAY, MONTH)))})

    def begin(self) -> None:
        begin_budgets(self.budgets, self.policies, read_spent(self.budgets.period, self.path))

    def spent(self, name: str) -> list[int]:
        return [each.spent for each in self.budgets.standing(name, self.policies.policy(name).budgets)]

    def test_each_period(self) -> None:
        """Each budget begins with what its client used in its period: tokens, or money."""
        database = Database(self.path)
        database.append(
            [
                row(1, client="bob"),
                row(2, client="bob", ended_ms=NOW_MS - DAY_MS),
                row(3, client="bob", ended_ms=NOW_MS - 40 * DAY_MS),
                row(4, client="alice"),
            ]
        )
        database.close()
        self.begin()
        self.assertEqual(self.spent("bob"), [150, 2_000])
        self.assertEqual(self.spent("alice"), [150])
        self.assertEqual(self.spent("carol"), [0])

    def test_no_ledger_yet(self) -> None:
        """Before the first ledger nothing was spent, and none is made by asking."""
        self.begin()
        self.assertEqual(self.spent("bob"), [0, 0])
        self.assertFalse(self.path.exists())

    def test_unreadable(self) -> None:
        """A ledger that cannot be read is told of, and touches no budget."""
        self.path.write_bytes(b"nothing that SQLite knows" * 100)
        self.assertRaises(LedgerError, self.begin)
        self.assertEqual(self.spent("bob"), [0, 0])

    def test_what_is_counted_already(self) -> None:
        """A budget in which something was counted knows better than the ledger, which comes behind."""
        database = Database(self.path)
        database.append([row(1, client="bob")])
        database.close()
        self.budgets.begin("bob", DAY, 7)
        self.begin()
        self.begin()
        self.assertEqual(self.spent("bob"), [7, 1_000])
