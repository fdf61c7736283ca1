"""Who was seen when."""

from __future__ import annotations

from openai_relay.ledger.errors import Damaged
from openai_relay.ledger.last_seen import LastSeen, Seen, SightingReader
from tests.ledger.rows import NOW_MS, row
from tests.ledger.test_reading import ReadingCase

ALICE, BOB = "ab" * 32, "cd" * 32


class LastSeenTests(ReadingCase):
    def seen(self, *fingerprints: str, newest_rows: int = 1_000) -> LastSeen:
        reader = SightingReader(self.path)
        self.addCleanup(reader.close)
        return reader.last_seen(fingerprints, newest_rows)

    def fill(self) -> None:
        self.database.append(
            [
                row(1, fingerprint=BOB, ended_ms=NOW_MS - 30),
                row(2, fingerprint=None, ended_ms=NOW_MS - 20),
                row(3, fingerprint=ALICE, ended_ms=NOW_MS),
                row(4, fingerprint=ALICE, ended_ms=NOW_MS - 10),
            ]
        )

    def index(self) -> None:
        self.database.connection.execute("CREATE INDEX by_fingerprint ON exchanges (fingerprint, ended_ms)")

    def test_empty(self) -> None:
        """Where nothing stands, nobody was seen."""
        self.assertEqual(self.seen(ALICE), LastSeen((), None))
        self.index()
        self.assertEqual(self.seen(ALICE), LastSeen((), None))

    def test_last_exchange(self) -> None:
        """The last exchange of each counts, by when it ended; who is not asked for is not told."""
        self.fill()
        expected = LastSeen((Seen(ALICE, NOW_MS),), NOW_MS - 30)
        self.assertEqual(self.seen(ALICE, "ef" * 32), expected)
        self.index()
        self.assertEqual(self.seen(ALICE, "ef" * 32), expected)

    def test_bounded(self) -> None:
        """Without an index only the newest rows are looked at, and the answer says how far back that is."""
        self.fill()
        self.assertEqual(self.seen(ALICE, BOB, newest_rows=2), LastSeen((Seen(ALICE, NOW_MS),), NOW_MS - 10))

    def test_with_an_index(self) -> None:
        """With an index that begins with the fingerprint the answer is whole, however long the ledger."""
        self.fill()
        self.index()
        found = self.seen(ALICE, BOB, newest_rows=2)
        self.assertEqual(found, LastSeen((Seen(ALICE, NOW_MS), Seen(BOB, NOW_MS - 30)), NOW_MS - 30))

    def test_damaged(self) -> None:
        """A ledger that is damaged while it is read is said to be so."""
        self.fill()
        self.database.close()
        content = self.path.read_bytes()
        reader = SightingReader(self.path)
        self.addCleanup(reader.close)
        # The first page holds the tables' places, and is what makes it a ledger; what they hold is gone.
        self.path.write_bytes(content[:4_096] + b"\xff" * (len(content) - 4_096))
        self.assertRaises(Damaged, reader.last_seen, (ALICE,))
