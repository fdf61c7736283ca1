"""The ledger's file: opened or refused, appended to, pruned, set aside."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from openai_relay.ledger.database import Database, check_place, set_aside
from openai_relay.ledger.errors import BadRow, Damaged, Unavailable, Unusable
from openai_relay.ledger.schema import APPLICATION_ID
from tests.authority.directories import contents, new_directory
from tests.ledger.rows import DAY_MS, NOW_MS, row, stored


class DatabaseCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self)
        self.path = self.directory / "ledger.sqlite3"

    def opened(self) -> Database:
        database = Database(self.path, busy=0)
        self.addCleanup(database.close)
        return database

    def damage(self) -> None:
        """Overwrite the middle of a ledger that holds some rows."""
        database = Database(self.path)
        database.append([row(number) for number in range(200)])
        database.close()
        with self.path.open("r+b") as file:
            file.seek(4_096)
            file.write(b"\xa5" * (self.path.stat().st_size - 4_096))


class PlaceTests(DatabaseCase):
    def refused(self, path: Path) -> str:
        """What is said at the start, without a trace left behind."""
        before = contents(self.directory)
        with self.assertRaises(Unusable) as raised:
            check_place(path)
        self.assertEqual(contents(self.directory), before)
        return str(raised.exception)

    def test_good_places(self) -> None:
        """A new file, an empty one and a ledger will do, and none is made or changed by asking."""
        check_place(self.path)
        self.assertEqual(contents(self.directory), {})
        self.path.touch()
        check_place(self.path)
        self.assertEqual(contents(self.directory), {"ledger.sqlite3": b""})
        self.opened().append([row()])
        check_place(self.path)

    def test_missing_directory(self) -> None:
        """A directory that is missing is named, with what to do; so is one that is none."""
        said = self.refused(self.directory / "no" / "ledger.sqlite3")
        self.assertIn(f"the directory {self.directory / 'no'} does not exist: make it", said)
        self.path.touch()
        self.assertIn("ledger.sqlite3 is not a directory", self.refused(self.path / "l"))
        self.assertIn("is a directory: give the path of a file", self.refused(self.directory))

    def test_permissions(self) -> None:
        """What may not be written is said at the start."""
        if os.geteuid() == 0:
            raise SkipTest("root may write everything")
        self.path.touch(0o400)
        self.assertIn("may not be read and written", self.refused(self.path))
        self.directory.chmod(0o500)
        self.addCleanup(self.directory.chmod, 0o700)
        self.assertIn("may not be written: SQLite keeps its log", self.refused(self.path))

    def test_somebody_else_s_file(self) -> None:
        """A text and another program's database are refused, and never set aside as damaged."""
        self.path.write_text('[listen]\naddress = "127.0.0.1:8443"\n')
        self.assertIn("is no ledger, but some other file", self.refused(self.path))
        self.assertRaises(Unusable, Database, self.path)
        self.path.unlink()
        connection = sqlite3.connect(self.path)
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
        connection.close()
        self.assertIn("another program's database", self.refused(self.path))
        self.assertRaises(Unusable, Database, self.path)

    def test_newer(self) -> None:
        """A newer relay's ledger stops the start with a clear message."""
        connection = sqlite3.connect(self.path)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 999")
        connection.close()
        self.assertIn("is a ledger of version 999", self.refused(self.path))

    def test_what_passes(self) -> None:
        """A locked ledger and a damaged one are no reason not to start: the one passes, the other is mended."""
        database = self.opened()
        database.connection.execute("BEGIN EXCLUSIVE")
        check_place(self.path)
        database.close()
        self.path.write_bytes(b"SQLite format 3\0" + b"\xa5" * 5_000)
        check_place(self.path)


class AppendTests(DatabaseCase):
    def test_rows_are_stored(self) -> None:
        """Rows are in the file when they were appended, every column under its own name."""
        self.opened().append([row(1), row(2, model=None)])
        (first, second) = stored(
            self.path,
            "SELECT ended_ms, client, model, endpoint, ending, input_tokens, cost_micro_usd, duration_ms "
            "FROM exchanges",
        )
        self.assertEqual(first, (NOW_MS, "alice", "gpt-5", "chat/completions", "done", 100, 1_000, 1_250.0))
        self.assertIsNone(second[2])

    def test_write_ahead_log(self) -> None:
        """The file is in WAL mode and gives pages back; it is not for everybody to read."""
        self.opened()
        self.assertEqual(stored(self.path, "PRAGMA journal_mode"), ["wal"])
        self.assertEqual(stored(self.path, "PRAGMA auto_vacuum"), [2])
        self.assertEqual(self.path.stat().st_mode & 0o007, 0)

    def test_duplicates(self) -> None:
        """A row that is there already changes nothing, in the same batch or a later one."""
        database = self.opened()
        database.append([row(1), row(1), row(2)])
        database.append([row(2), row(3)])
        self.assertEqual(stored(self.path), ["rly_1", "rly_2", "rly_3"])
        self.assertEqual(stored(self.path, "SELECT sum(requests) FROM totals"), [3])

    def test_many(self) -> None:
        """Any number of rows is stored in their order, each once, also beside some that are there already."""
        database, begun = self.opened(), 0
        for count in (31, 32, 33, 100):
            database.append([row(number) for number in range(max(begun - 7, 0), begun + count)])
            begun += count
        self.assertEqual(stored(self.path), [f"rly_{number}" for number in range(begun)])
        self.assertEqual(stored(self.path, "SELECT sum(requests) FROM totals"), [begun])

    def test_all_or_nothing(self) -> None:
        """A row that cannot be stored takes back its batch, and leaves the ledger fit for the next."""
        database = self.opened()
        with self.assertRaises(BadRow):
            database.append([row(1), row(2, status=2**70)])
        with self.assertRaises(BadRow):
            database.append([row(1), row(2, client="\ud800")])
        self.assertEqual(stored(self.path), [])
        database.append([row(3)])
        self.assertEqual(stored(self.path), ["rly_3"])

    def test_locked(self) -> None:
        """While somebody else holds the file, it is unavailable, and then it is not."""
        database = self.opened()
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        with self.assertRaisesRegex(Unavailable, "another process keeps it locked"):
            database.append([row(1)])
        other.execute("ROLLBACK")
        database.append([row(1)])
        self.assertEqual(stored(self.path), ["rly_1"])

    def test_full(self) -> None:
        """A file that may not grow any more is unavailable, and goes on where it was once it may."""
        database = self.opened()
        (pages,) = database.connection.execute("PRAGMA page_count").fetchone()
        database.connection.execute(f"PRAGMA max_page_count = {pages}")
        many = [row(number) for number in range(1_000)]
        with self.assertRaisesRegex(Unavailable, "the disk is full"):
            database.append(many)
        self.assertEqual(stored(self.path), [])
        database.connection.execute("PRAGMA max_page_count = 1000000")
        database.append(many)
        self.assertEqual(len(stored(self.path)), 1_000)

    def test_moved(self) -> None:
        """A file that was moved or deleted is noticed, instead of written where nobody will find it."""
        database = self.opened()
        database.append([row(1)])
        self.path.rename(self.directory / "elsewhere")
        with self.assertRaisesRegex(Unavailable, "was moved or deleted"):
            database.append([row(2)])

    def test_directory_that_went_away(self) -> None:
        """Where nothing can be opened any more, that is what is said."""
        with self.assertRaises(Unavailable):
            Database(self.directory / "gone" / "ledger.sqlite3")


class PruneTests(DatabaseCase):
    def test_a_few_at_once(self) -> None:
        """The oldest rows go first, no more than asked for, and their totals stay until their own time."""
        database = self.opened()
        database.append([row(number, ended_ms=NOW_MS + number * DAY_MS) for number in range(10)])
        self.assertTrue(database.prune(NOW_MS + 5 * DAY_MS, 0, 3))
        self.assertEqual(stored(self.path), [f"rly_{number}" for number in range(3, 10)])
        self.assertFalse(database.prune(NOW_MS + 5 * DAY_MS, 0, 3))
        self.assertEqual(stored(self.path), [f"rly_{number}" for number in range(5, 10)])
        self.assertEqual(stored(self.path, "SELECT sum(requests) FROM totals"), [10])
        while database.prune(0, NOW_MS + 8 * DAY_MS, 3):
            pass
        self.assertEqual(len(stored(self.path)), 5)
        # 8: a period is older than a moment in its midst, and goes.
        self.assertEqual(stored(self.path, "SELECT sum(requests) FROM totals"), [1])

    def test_space_is_given_back(self) -> None:
        """What was deleted makes the file smaller."""
        database = self.opened()
        database.append([row(number) for number in range(5_000)])
        database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        large = self.path.stat().st_size
        while database.prune(NOW_MS + 1, 0, 500):
            pass
        database.close()
        self.assertLess(self.path.stat().st_size, large // 4)


class DamageTests(DatabaseCase):
    def test_noticed(self) -> None:
        """A damaged file is told apart from one that is only unavailable, when opened or when written."""
        self.damage()
        with self.assertRaises(Damaged):
            database = self.opened()
            database.append([row(1_000)])
        self.path.write_bytes(b"\xa5\0" * 4_000)
        self.assertRaises(Damaged, Database, self.path)

    def test_set_aside(self) -> None:
        """A damaged file keeps all its bytes under a name with the time, its log too, and is never overwritten."""
        for number in range(2):
            self.path.write_bytes(b"damaged %d" % number)
            self.path.with_name("ledger.sqlite3-wal").write_bytes(b"log %d" % number)
            aside = set_aside(self.path, NOW_MS * 1_000_000)
            self.assertEqual(aside.read_bytes(), b"damaged %d" % number)
        self.assertEqual(
            contents(self.directory),
            {
                "ledger.sqlite3.damaged-20261123T182805Z": b"damaged 0",
                "ledger.sqlite3.damaged-20261123T182805Z-wal": b"log 0",
                "ledger.sqlite3.damaged-20261123T182805Z-2": b"damaged 1",
                "ledger.sqlite3.damaged-20261123T182805Z-2-wal": b"log 1",
            },
        )
