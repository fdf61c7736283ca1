"""All that counts, wired: where it is kept, what it begins with and what it leaves."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.logger import eventAsText
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.accounting.account import Accounting
from openai_relay.accounting.limits_file import LIMITS
from openai_relay.accounting.place import BadState
from openai_relay.core.budgets import Budget, Cost
from openai_relay.core.policy import ClientRules, Rules
from openai_relay.core.readiness import Check
from openai_relay.core.settings import LedgerSettings, LimitSettings, Settings, StateSettings
from openai_relay.core.usage import Usage
from tests import certificates
from tests.accounting.threads import HandedReactor
from tests.authority.directories import new_directory
from tests.core.exchanges import ALICE, done
from tests.doubles import observe
from tests.ledger.rows import stored

LEDGER = "ledger.sqlite3"
BUDGET = Budget("month", hard=1_000_000, soft=100, money=False)


class AccountingCase(SynchronousTestCase):
    """Keeps all in a directory that does not exist yet; alice has a budget."""

    def setUp(self) -> None:
        self.directory = new_directory(self) / "state"
        self.events = observe(self)
        self.reactor = HandedReactor()
        self.settings = Settings(
            certificates.listen_settings(self.directory.parent),
            limits=LimitSettings(60, burst=5),
            clients={"alice": ClientRules(Rules(budgets=(BUDGET,)))},
            state=StateSettings(self.directory),
            ledger=LedgerSettings(database=self.directory / LEDGER),
        )

    def accounting(self, **changed: Any) -> Accounting:
        return Accounting(self.reactor, replace(self.settings, **changed))

    def running(self, **changed: Any) -> Accounting:
        accounting = self.accounting(**changed)
        accounting.start()
        return accounting

    def told(self) -> list[str]:
        self.reactor.settle()
        return [
            eventAsText(event, includeSystem=False, includeTimestamp=False).replace(
                str(self.directory.parent), "DIRECTORY"
            )
            for event in self.events
        ]


class PlaceTests(AccountingCase):
    def complaint(self, **changed: Any) -> str:
        told = str(self.assertRaises(BadState, self.accounting, **changed))
        return told.replace(str(self.directory.parent), "DIRECTORY")

    def test_nothing_is_made_before_it_starts(self) -> None:
        """Building makes no directory and no file, and opens nothing."""
        self.assertEqual(self.accounting().database, self.directory / LEDGER)
        self.assertFalse(self.directory.exists())

    def test_made_at_the_start(self) -> None:
        """The start makes the directory, the end leaves ledger and limits in it."""
        self.running().stop()
        self.assertEqual(
            sorted(path.name for path in self.directory.iterdir() if path.suffix in (".json", ".sqlite3")),
            [LEDGER, LIMITS],
        )

    def test_not_usable(self) -> None:
        """A place that will not do is refused with its key before anything starts."""
        self.directory.write_text("")
        self.assertEqual(self.complaint(), "state.directory: DIRECTORY/state is not a directory: choose another one")
        elsewhere = LedgerSettings(database=Path(self.directory.parent / "no" / "ledger.db"))
        told = self.complaint(ledger=elsewhere, state=StateSettings(None))
        self.assertTrue(
            told.startswith("ledger.database: DIRECTORY/no/ledger.db: the directory DIRECTORY/no does"), told
        )

    def test_database_of_somebody_else(self) -> None:
        """A ledger that is there and is none is refused, too."""
        self.directory.mkdir()
        (self.directory / LEDGER).write_text("dear diary\n" * 100)
        self.assertTrue(self.complaint().startswith("ledger.database: DIRECTORY/state/ledger.sqlite3"))

    def test_none(self) -> None:
        """Without a directory nothing is kept and nothing is written, which is no error."""
        accounting = self.running(state=StateSettings(None), ledger=LedgerSettings())
        accounting.record(done())
        self.assertEqual((accounting.database, accounting.ledger, accounting.checks()), (None, None, []))
        accounting.stop()
        self.assertEqual(self.told(), [])

    def test_ledger_alone(self) -> None:
        """A ledger can be kept elsewhere, with or without a directory for the rest; or not at all."""
        path = self.directory.parent / "own.db"
        self.running(ledger=LedgerSettings(database=path), state=StateSettings(None)).stop()
        self.assertTrue(path.exists())
        self.running(ledger=LedgerSettings(False, self.directory / LEDGER)).stop()
        self.assertFalse((self.directory / LEDGER).exists())


class KeptTests(AccountingCase):
    def exchange(self, tokens: int) -> Any:
        exchange = done(ALICE)
        exchange.usage = Usage(tokens)
        return exchange

    def test_row(self) -> None:
        """Each exchange that is over is in the ledger when the relay has stopped."""
        accounting = self.running()
        accounting.record(self.exchange(10))
        accounting.stop()
        self.assertEqual(stored(self.directory / LEDGER, "SELECT client, input_tokens FROM exchanges"), [("alice", 10)])

    def test_budget_goes_on(self) -> None:
        """The next process begins with what the one before has written."""
        accounting = self.running()
        accounting.record(self.exchange(150))
        accounting.stop()
        following = self.running()
        self.assertEqual([each.spent for each in following.budgets.standing("alice", (BUDGET,))], [150])
        following.stop()

    def test_damaged_ledger(self) -> None:
        """A ledger that turns out damaged lets budgets begin at zero, sets it aside, and says both."""
        self.running().stop()
        path = self.directory / LEDGER
        path.write_bytes(path.read_bytes()[:4_096] + b"\xff" * 20_000)
        accounting = self.running()
        accounting.stop()
        told = "\n".join(self.told())
        self.assertIn("budgets begin at zero, since the ledger cannot be read: ", told)
        self.assertIn("THE LEDGER WAS DAMAGED", told)

    def test_state_of_the_ledger(self) -> None:
        """How the ledger is can be read, and never makes the relay unready."""
        accounting = self.running()
        self.assertEqual(accounting.checks(), [Check("ledger", True, "ok")])
        accounting.stop()

    def test_never_started(self) -> None:
        """What never started leaves nothing when it is stopped."""
        self.accounting().stop()
        self.assertFalse(self.directory.exists())


class WarningTests(AccountingCase):
    def test_soft_budget(self) -> None:
        """A soft budget that is reached is logged once, with who, how much, of what."""
        accounting = self.running()
        admitted = accounting.admission
        for _ in range(2):
            reservation = accounting.budgets.reserve("alice", (BUDGET,), Cost(60, 0))
            for warned in reservation.settle(Cost(60, 0)):
                admitted._warn(warned)
        accounting.stop()
        month = time.strftime("%Y-%m", time.gmtime())
        self.assertEqual(
            self.told(),
            [
                f"alice has used 120 tokens in {month}, above the 100 tokens to be warned at; "
                "it is refused at 1000000 tokens"
            ],
        )
