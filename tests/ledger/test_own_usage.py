"""What one client is told of its usage."""

from __future__ import annotations

from datetime import UTC

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.me import OwnUsage, Stretches, Sums
from openai_relay.core.usage import Usage
from openai_relay.ledger.database import Database
from openai_relay.ledger.own_usage import own_usage
from tests.authority.directories import new_directory
from tests.ledger.rows import DAY_MS, NOW_MS, row

STRETCHES = Stretches.at(NOW_MS / 1_000, UTC)


class OwnUsageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = new_directory(self) / "ledger.sqlite3"

    def test_day_and_month(self) -> None:
        """The day under way and the month under way are summed apart, for this client only."""
        database = Database(self.path)
        self.addCleanup(database.close)
        database.append(
            [
                row(1),
                row(2, client="bob"),
                row(3, ended_ms=NOW_MS - 2 * DAY_MS, estimated=True, status=500),
                row(4, ended_ms=NOW_MS - 30 * DAY_MS),
            ]
        )
        one = Usage(100, 20, 0, 50, 10, 0)
        self.assertEqual(
            own_usage(self.path, "alice", STRETCHES),
            OwnUsage(Sums(1, 0, 0, 1_000, one), Sums(2, 1, 1, 2_000, one + one)),
        )
        self.assertEqual(own_usage(self.path, "carol", STRETCHES), OwnUsage(Sums(), Sums()))

    def test_unreadable(self) -> None:
        """A ledger that is not there, or is none, is said to be unreadable, and its path is not told."""
        for text in (None, b"no database" * 1_000):
            if text is not None:
                self.path.write_bytes(text)
            told = own_usage(self.path, "alice", STRETCHES)
            self.assertEqual(told, OwnUsage(unavailable="The relay's ledger cannot be read at the moment."))
