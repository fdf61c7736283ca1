"""Migrations, whose file it is, and totals that are always the sum of the rows."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.ledger_row import LedgerRow
from openai_relay.ledger.database import Database
from openai_relay.ledger.errors import Unusable
from openai_relay.ledger.schema import APPLICATION_ID, MIGRATIONS, PERIOD_MS, identify, migrate
from tests.authority.directories import new_directory
from tests.ledger.rows import NOW_MS, row

PATH = Path("ledger.sqlite3")
ADD_A_COLUMN = ("ALTER TABLE exchanges ADD COLUMN weather TEXT",)


class MigrationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(self.connection.close)

    def columns(self) -> list[str]:
        return [each[1] for each in self.connection.execute("PRAGMA table_info(exchanges)")]

    def test_from_nothing(self) -> None:
        """An empty file becomes a ledger of the newest version, and says so in its header; again changes nothing."""
        self.assertEqual(identify(self.connection, PATH), 0)
        for _ in range(2):
            migrate(self.connection, PATH)
            self.assertEqual(identify(self.connection, PATH), len(MIGRATIONS))
        self.assertEqual(self.connection.execute("PRAGMA application_id").fetchone(), (APPLICATION_ID,))

    def test_step_by_step(self) -> None:
        """An older ledger gets only the steps it lacks, and keeps its rows."""
        migrate(self.connection, PATH)
        self.connection.execute("INSERT INTO totals SELECT 0, 'a', '', '', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0")
        migrate(self.connection, PATH, (*MIGRATIONS, ADD_A_COLUMN))
        self.assertEqual(identify(self.connection, PATH, len(MIGRATIONS) + 1), len(MIGRATIONS) + 1)
        self.assertIn("weather", self.columns())
        self.assertEqual(self.connection.execute("SELECT count(*) FROM totals").fetchone(), (1,))

    def test_a_step_that_fails(self) -> None:
        """A step is taken whole or not at all."""
        migrate(self.connection, PATH)
        with self.assertRaises(sqlite3.OperationalError):
            migrate(self.connection, PATH, (*MIGRATIONS, (*ADD_A_COLUMN, "not SQL")))
        self.assertEqual(identify(self.connection, PATH), len(MIGRATIONS))
        self.assertNotIn("weather", self.columns())
        self.assertFalse(self.connection.in_transaction)

    def test_newer(self) -> None:
        """A ledger of a newer relay is refused with both versions and what to do, and not touched."""
        migrate(self.connection, PATH, (*MIGRATIONS, ADD_A_COLUMN))
        with self.assertRaises(Unusable) as raised:
            migrate(self.connection, PATH)
        said = str(raised.exception)
        self.assertIn(f"ledger.sqlite3 is a ledger of version {len(MIGRATIONS) + 1}", said)
        self.assertIn(f"knows versions up to {len(MIGRATIONS)}", said)
        self.assertIn("move the file away", said)

    def test_somebody_else_s(self) -> None:
        """Another program's database is refused, whether it has an identity of its own or none."""
        self.connection.execute("CREATE TABLE bookmarks (url TEXT)")
        with self.assertRaisesRegex(Unusable, "another program's database"):
            migrate(self.connection, PATH)
        self.connection.execute("PRAGMA application_id = 7")
        with self.assertRaisesRegex(Unusable, "another program's database"):
            identify(self.connection, PATH)


rows = st.builds(
    row,
    st.integers(0, 5),  # often the same: a duplicate
    ended_ms=st.integers(NOW_MS, NOW_MS + 3 * PERIOD_MS),
    model=st.sampled_from([None, "a", "b"]),
    client=st.sampled_from([None, "alice", "bob"]),
    status=st.sampled_from([200, 429]),
    cost_micro_usd=st.none() | st.integers(0, 100),
    input_tokens=st.none() | st.integers(0, 100),
    estimated=st.booleans(),
)


class TotalsTests(SynchronousTestCase):
    @given(st.lists(st.lists(rows, max_size=8), max_size=4))
    def test_totals_are_the_sum(self, batches: list[list[LedgerRow]]) -> None:
        """Whatever is stored, in whatever batches and however often, the totals are the sums over the stored rows."""
        database = Database(new_directory(self) / "l")
        self.addCleanup(database.close)
        for batch in batches:
            database.append(batch)
        summed = database.connection.execute(
            f"""
            SELECT ended_ms / {PERIOD_MS} * {PERIOD_MS} AS period, coalesce(client, '') AS who,
                coalesce(model, '') AS what, endpoint, count(*), sum(status >= 400), sum(estimated),
                sum(cost_micro_usd IS NULL), sum(coalesce(input_tokens, 0)), sum(coalesce(cost_micro_usd, 0)),
                sum(output_tokens), sum(bytes_in), sum(bytes_out)
            FROM exchanges GROUP BY period, who, what, endpoint ORDER BY period, who, what
            """
        ).fetchall()
        kept = database.connection.execute(
            """
            SELECT period_ms, client, model, endpoint, requests, errors, estimated, unpriced, input_tokens,
                cost_micro_usd, output_tokens, bytes_in, bytes_out
            FROM totals ORDER BY period_ms, client, model
            """
        ).fetchall()
        self.assertEqual(kept, summed)
