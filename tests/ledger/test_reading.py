"""What the ledger answers, while it is written and afterwards."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.usage import Usage
from openai_relay.ledger.database import Database
from openai_relay.ledger.errors import Damaged, Unusable
from openai_relay.ledger.reading import Group, LedgerReader, Stretch, Totals
from openai_relay.ledger.schema import PERIOD_MS
from tests.authority.directories import contents, new_directory
from tests.ledger.rows import DAY_MS, NOW_MS, row

ONE = Totals(1, 0, 0, 0, 0, 1_000, 312, 4_096, Usage(100, 20, 0, 50, 10, 0))
ALL = Stretch(0)


class ReadingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = new_directory(self) / "ledger.sqlite3"
        self.database = Database(self.path)
        self.addCleanup(self.database.close)

    def reader(self) -> LedgerReader:
        reader = LedgerReader(self.path)
        self.addCleanup(reader.close)
        return reader


class TotalsTests(ReadingCase):
    def test_nothing(self) -> None:
        """Where there was nothing, everything is zero."""
        self.assertEqual(self.reader().totals("alice", 0), Totals())
        self.assertEqual(self.reader().by("client", ALL), ())

    def test_one_client(self) -> None:
        """A client's totals are of its own exchanges only, and without a client of everybody's."""
        self.database.append([row(1), row(2), row(3, client="bob"), row(4, client=None)])
        self.assertEqual(self.reader().totals("alice", 0), ONE + ONE)
        self.assertEqual(self.reader().totals(None, 0).requests, 4)

    def test_since(self) -> None:
        """What counts begins with the quarter of an hour of a moment, and ends before that of another."""
        begin = NOW_MS - NOW_MS % PERIOD_MS
        self.database.append([row(1, ended_ms=begin - 1), row(2, ended_ms=begin), row(3, ended_ms=begin + PERIOD_MS)])
        self.assertEqual(self.reader().totals(None, begin + 5_000).requests, 2)
        self.assertEqual(self.reader().totals(None, begin, begin + PERIOD_MS).requests, 1)

    def test_kinds(self) -> None:
        """Errors, estimates, fallback prices and requests without a price are each counted."""
        self.database.append(
            [
                row(1, status=429),
                row(2, ending="client_gone", estimated=True),
                row(3, fallback_price=True),
                row(4, cost_micro_usd=None),
                row(5, cost_micro_usd=None, input_tokens=None, output_tokens=None),
            ]
        )
        totals = self.reader().totals(None, 0)
        self.assertEqual((totals.requests, totals.errors), (5, 2))
        self.assertEqual((totals.estimated, totals.fallback_priced, totals.unpriced), (1, 1, 1))

    def test_while_it_is_written(self) -> None:
        """A reader sees what was committed before each question, beside a writer in a transaction."""
        reader = self.reader()
        self.database.append([row(1)])
        self.database.connection.execute("BEGIN IMMEDIATE")
        self.database.connection.execute("DELETE FROM totals")
        self.assertEqual(reader.totals(None, 0).requests, 1)
        self.database.connection.execute("ROLLBACK")
        self.database.append([row(2)])
        self.assertEqual(reader.totals(None, 0).requests, 2)


class GroupTests(ReadingCase):
    def test_by(self) -> None:
        """Each client, model and endpoint has its totals; what has none is the empty name."""
        self.database.append([row(1), row(2, client="bob", endpoint="embeddings"), row(3, client=None, model=None)])
        reader = self.reader()
        self.assertEqual(reader.by("client", ALL), (Group("", ONE), Group("alice", ONE), Group("bob", ONE)))
        self.assertEqual(reader.by("model", ALL), (Group("", ONE), Group("gpt-5", ONE + ONE)))
        self.assertEqual([each.key for each in reader.by("endpoint", ALL)], ["chat/completions", "embeddings"])
        self.assertEqual(reader.by("endpoint", Stretch(0, None, "bob")), (Group("embeddings", ONE),))

    def test_by_day(self) -> None:
        """Days begin at midnight of the zone that is asked for, those that are off by three quarters of an hour too."""
        self.database.append([row(1), row(2, ended_ms=NOW_MS + DAY_MS)])  # 18:28 UTC; past midnight in Kathmandu
        self.assertEqual(self.reader().by_day(ALL, UTC), (Group("2026-11-23", ONE), Group("2026-11-24", ONE)))
        days = self.reader().by_day(ALL, ZoneInfo("Asia/Kathmandu"))
        self.assertEqual([each.key for each in days], ["2026-11-24", "2026-11-25"])


class OpeningTests(ReadingCase):
    def refused(self, kind: type[Exception], path: Path) -> str:
        with self.assertRaises(kind) as raised:
            LedgerReader(path)
        return str(raised.exception)

    def test_leaves_no_trace(self) -> None:
        """Reading a ledger that nobody writes makes no file beside it and changes none."""
        self.database.append([row(1)])
        self.database.close()
        before = contents(self.path.parent)
        self.assertEqual(list(before), ["ledger.sqlite3"])
        reader = LedgerReader(self.path)
        self.assertEqual(reader.totals(None, 0).requests, 1)
        reader.close()
        self.assertEqual(contents(self.path.parent), before)

    def test_cannot_be_opened(self) -> None:
        """What is missing, empty, a directory, damaged or no ledger is told apart."""
        directory = self.path.parent
        self.assertIn("no does not exist: give the path", self.refused(Unusable, directory / "no"))
        self.assertIn("is not a file", self.refused(Unusable, directory))
        (directory / "empty").touch()
        self.assertIn("is empty: the relay has not yet begun", self.refused(Unusable, directory / "empty"))
        (directory / "text").write_text("not a database, and longer than the header of one" * 9)
        self.assertIn("text is damaged", self.refused(Damaged, directory / "text"))
