"""The ledger's thread: rows wait, are tried again, and are lost only when there is no room, which is said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.ledger_row import LedgerRow
from openai_relay.ledger.database import Database
from openai_relay.ledger.errors import BadRow, Damaged, Unavailable
from openai_relay.ledger.writer import LedgerWriter, State
from tests.authority.directories import new_directory
from tests.ledger.rows import DAY_MS, NOW_MS, row, stored

#: Seconds that a thread gets to end; a bound that nothing comes near, not an expectation.
PLENTY = 60.0


class MemoryStore:
    """A ledger in memory that fails as it is told to."""

    def __init__(self) -> None:
        self.rows: list[LedgerRow] = []
        self.batches: list[int] = []
        self.trouble: Exception | None = None
        self.bad: set[str] = set()
        self.opened = 0
        self.closed = 0
        self.old = 0  # rows that are to be pruned
        self.pruned: list[tuple[int, int, int]] = []

    def open(self, _path: Path) -> MemoryStore:
        self.opened += 1
        return self

    def append(self, rows: Sequence[LedgerRow]) -> None:
        if self.trouble is not None:
            raise self.trouble
        for each in rows:
            if each.relay_request_id in self.bad:
                raise BadRow(f"{each.relay_request_id} is bad")
        self.batches.append(len(rows))
        self.rows += rows

    def prune(self, rows_before_ms: int, totals_before_ms: int, limit: int) -> bool:
        self.pruned.append((rows_before_ms, totals_before_ms, limit))
        self.old -= limit
        return self.old > 0

    def close(self) -> None:
        self.closed += 1

    @property
    def ids(self) -> list[str]:
        return [each.relay_request_id for each in self.rows]


class WriterCase(SynchronousTestCase):
    """A writer whose thread does not run: the test does its work."""

    def setUp(self) -> None:
        self.path = new_directory(self) / "ledger.sqlite3"
        self.store = MemoryStore()
        self.told: list[str] = []
        self.now = 100.0

    def writer(self, *, queue_rows: int = 10, retention_days: int | None = None) -> LedgerWriter:
        return LedgerWriter(
            self.path,
            self.told.append,
            retention_days=retention_days,
            queue_rows=queue_rows,
            open_store=self.store.open,
            wall_ns=lambda: NOW_MS * 1_000_000,
            monotonic=lambda: self.now,
        )


class WorkTests(WriterCase):
    def test_rows_are_written_in_batches(self) -> None:
        """All that waits is written, in its order, in batches of a bounded size."""
        writer = self.writer(queue_rows=5_000)
        for number in range(2_500):
            writer.append(row(number))
        self.assertEqual(writer.work(), 0)
        self.assertEqual(self.store.ids, [f"rly_{number}" for number in range(2_500)])
        self.assertEqual(self.store.batches, [1_000, 1_000, 500])
        self.assertEqual((writer.state, str(writer.state), self.told), (State(), "ok", []))

    def test_bad_row(self) -> None:
        """A row that can never be stored costs only itself, and is told."""
        writer = self.writer()
        self.store.bad = {"rly_1"}
        for number in range(3):
            writer.append(row(number))
        self.assertEqual(writer.work(), 0)
        self.assertEqual(self.store.ids, ["rly_0", "rly_2"])
        self.assertEqual(writer.lost, 1)
        self.assertEqual(self.told, ["rows of the ledger lost: 1; rly_1 is bad"])
        self.assertEqual(writer.state.kind, "ok")

    def test_queue_that_overflows(self) -> None:
        """Rows that come faster than they can be written are lost where the queue is full, and told."""
        writer = self.writer()
        for number in range(15):
            writer.append(row(number))
        self.assertEqual((writer.written, writer.waiting), (0, 10))
        self.assertEqual(writer.lost, 5)
        self.assertIn("losing: 5 lost, 10 rows waiting, they come faster", str(writer.state))
        writer.work()
        self.assertEqual(self.told, ["rows of the ledger lost: 5; they come faster than the disk takes them"])
        self.assertEqual((writer.written, writer.waiting), (10, 0))
        writer.append(row(99))
        writer.work()
        self.assertEqual(len(self.store.ids), 11)
        self.assertEqual((writer.state.kind, len(self.told)), ("ok", 1))


class FaultTests(WriterCase):
    def test_fault_of_our_own(self) -> None:
        """A fault that nobody foresaw is said as one, and costs no row: the thread goes on and tries again."""
        writer = self.writer()
        self.store.trouble = MemoryError("of all things")
        writer.append(row(1))
        self.assertGreater(writer.work(), 0)
        self.assertIn("a fault of the relay's own, please report it: MemoryError", str(writer.state))
        self.store.trouble = None
        writer.work()
        self.assertEqual((writer.written, writer.lost, writer.state.kind), (1, 0, "ok"))


class TroubleTests(WriterCase):
    def setUp(self) -> None:
        super().setUp()
        self.store.trouble = Unavailable("l: the disk is full")

    def test_rows_wait(self) -> None:
        """Where nothing can be written rows wait, in their order, and are written when it can be again."""
        writer = self.writer()
        for number in range(4):
            writer.append(row(number))
        self.assertGreater(writer.work(), 0)
        self.assertEqual(str(writer.state), "waiting: 4 rows, l: the disk is full")
        writer.append(row(4))
        self.store.trouble = None
        self.assertEqual(writer.work(), 0)
        self.assertEqual(self.store.ids, [f"rly_{number}" for number in range(5)])
        self.assertEqual((writer.state, writer.lost), (State(), 0))
        self.assertEqual((self.store.opened, self.store.closed), (2, 1))

    def test_pauses_grow(self) -> None:
        """The pause between two tries doubles up to half a minute, and is short again after a success."""
        writer = self.writer()
        writer.append(row())
        self.assertEqual([writer.work() for _ in range(9)], [0.5, 1, 2, 4, 8, 16, 30, 30, 30])
        self.store.trouble = None
        writer.work()
        self.store.trouble = Unavailable("again")
        writer.append(row(1))
        self.assertEqual(writer.work(), 0.5)

    def test_losing(self) -> None:
        """When no row fits any more, the newest are lost and counted, and the state says so until it is over."""
        writer = self.writer()
        for number in range(13):
            writer.append(row(number))
            writer.work()
        self.assertEqual(str(writer.state), "losing: 3 lost, 10 rows waiting, l: the disk is full")
        self.store.trouble = None
        writer.work()
        self.assertEqual(self.store.ids, [f"rly_{number}" for number in range(10)])
        self.assertEqual(writer.state, State(lost=3))

    def test_told_once_a_minute(self) -> None:
        """The reason is told at once, losses once a minute as they go on, and the end of it."""
        writer = self.writer(queue_rows=2)
        for number in range(5):
            writer.append(row(number))
            writer.work()
        self.assertEqual(len(self.told), 1)
        self.assertIn("cannot be written: l: the disk is full; rows waiting: 1 (room for 2), lost: 0", self.told[0])
        self.now += 61
        writer.work()
        self.assertIn("rows waiting: 2 (room for 2), lost: 3", self.told[1])
        self.now += 61
        writer.work()  # nothing more was lost: nothing more is told
        self.store.trouble = None
        writer.work()
        self.assertEqual(self.told[2:], ["the ledger is written again; rows lost: 3"])

    def test_on_and_off(self) -> None:
        """A file that fails every other time does not fill the log."""
        writer = self.writer()
        for number in range(20):
            self.store.trouble = Unavailable("locked") if number % 2 else None
            writer.append(row(number))
            writer.work()
        self.assertEqual(len(self.told), 2)
        self.assertEqual(writer.lost, 0)

    def test_cannot_be_opened(self) -> None:
        """A file that cannot even be opened makes rows wait in the same way, and is known before one comes."""
        writer = LedgerWriter(self.path / "missing" / "l", self.told.append)
        self.assertGreater(writer.work(), 0)
        self.assertEqual(writer.state.kind, "waiting")
        self.assertEqual(len(self.told), 1)

    def test_damaged(self) -> None:
        """A damaged file is set aside under a name that is told loudly, and the rows go to a new one."""
        self.path.write_bytes(b"rubbish")
        self.store.trouble = Damaged(f"{self.path} is damaged: malformed")
        writer = self.writer()
        writer.append(row(1))
        self.assertGreater(writer.work(), 0)
        aside = self.path.with_name("ledger.sqlite3.damaged-20261123T182805Z")
        self.assertEqual(aside.read_bytes(), b"rubbish")
        self.assertFalse(self.path.exists())
        self.assertEqual(len(self.told), 1)
        self.assertIn(f"THE LEDGER WAS DAMAGED: {self.path} is damaged: malformed. It is now {aside}", self.told[0])
        self.store.trouble = None
        writer.work()
        self.assertEqual(self.store.ids, ["rly_1"])


class RetentionTests(WriterCase):
    def test_days(self) -> None:
        """Rows go after their days, totals after 400 or the same if that is longer, in small batches."""
        self.store.old = 1_200
        self.writer(retention_days=30).work()
        self.assertEqual(self.store.pruned, [(NOW_MS - 30 * DAY_MS, NOW_MS - 400 * DAY_MS, 500)] * 3)
        self.store.pruned.clear()
        self.writer(retention_days=500).work()
        self.assertEqual(self.store.pruned[0][:2], (NOW_MS - 500 * DAY_MS,) * 2)

    def test_for_ever(self) -> None:
        """Without a setting nothing is ever deleted."""
        self.writer().work()
        self.assertEqual(self.store.pruned, [])

    def test_now_and_then(self) -> None:
        """It is looked for old rows every ten minutes, not with every batch."""
        writer = self.writer(retention_days=30)
        for _ in range(3):
            writer.work()
        self.assertEqual(len(self.store.pruned), 1)
        self.now += 601
        writer.work()
        self.assertEqual(len(self.store.pruned), 2)


class ThreadTests(WriterCase):
    def test_rows_arrive(self) -> None:
        """Rows of before and after the start are in the file when it has stopped."""
        writer = LedgerWriter(self.path, self.told.append)
        for number in range(100):
            writer.append(row(number))
        writer.start()
        for number in range(100, 3_000):
            writer.append(row(number))
        writer.stop(PLENTY)
        self.assertEqual(stored(self.path), [f"rly_{number}" for number in range(3_000)])
        self.assertEqual((writer.lost, self.told), (0, []))
        self.assertFalse(self.path.with_name("ledger.sqlite3-wal").exists())

    def test_stop_where_nothing_can_be_written(self) -> None:
        """Stopping does not wait for a file to get better: what is left is lost, and told."""
        self.store.trouble = Unavailable("l: the disk is full")
        writer = self.writer()
        writer.start()
        for number in range(3):
            writer.append(row(number))
        writer.stop(PLENTY)
        self.assertEqual(writer.lost, 3)
        self.assertEqual(self.told[-1], "the ledger ends; rows that could not be written: 3; l: the disk is full")
        writer.append(row(4))
        self.assertEqual(writer.lost, 4)

    def test_stop_without_a_start(self) -> None:
        """A writer that was never started has lost what it was given."""
        writer = self.writer()
        writer.append(row())
        writer.stop()
        self.assertEqual(writer.lost, 1)

    def test_moved_file(self) -> None:
        """After the file was moved away a new one is begun, and no row is lost."""
        writer = LedgerWriter(self.path, self.told.append)
        writer.append(row(1))
        writer.work()
        moved = self.path.rename(self.path.with_name("moved"))
        writer.append(row(2))
        writer.work()
        self.assertIn("was moved or deleted", self.told[0])
        writer.work()
        self.assertEqual(stored(self.path), ["rly_2"])
        self.assertEqual(stored(moved, "PRAGMA integrity_check"), ["ok"])
        writer.stop()

    def test_real_damage(self) -> None:
        """A file that is damaged while it is written is set aside, and the rows in hand are in the new one."""
        database = Database(self.path)
        database.append([row(number) for number in range(500)])
        database.close()
        with self.path.open("r+b") as file:
            file.seek(4_096)
            file.write(b"\xa5" * (self.path.stat().st_size - 4_096))
        writer = LedgerWriter(self.path, self.told.append)
        writer.append(row(1_000))
        writer.work()
        self.assertIn("THE LEDGER WAS DAMAGED", self.told[0])
        writer.work()
        self.assertEqual(stored(self.path), ["rly_1000"])
        self.assertEqual(writer.lost, 0)
