"""The ledger where it matters: its process is killed, several processes read and write, the disk has no room."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.ledger.reading import LedgerReader
from openai_relay.ledger.writer import LedgerWriter
from tests.authority.directories import new_directory
from tests.ledger.rows import row, stored

ROOT = Path(__file__).resolve().parent.parent.parent
#: How many rows a process hands over before it is killed.
ROWS = 600
#: What may be lost: the last second.
LOST_MS = 1_000


class KilledTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = new_directory(self) / "ledger.sqlite3"

    def killed(self, prefix: str, rows: int) -> tuple[int, int]:
        """Let a process write until it has handed over some rows, and kill it; how many there were, and until when."""
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.ledger_child", str(self.path), prefix],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        bound = threading.Timer(60, child.kill)
        bound.start()
        self.addCleanup(bound.cancel)
        assert child.stdout is not None
        handed, last_ms = 0, 0
        with child.stdout as output:
            while handed < rows:
                handed, last_ms = map(int, output.readline().split())
            os.kill(child.pid, signal.SIGKILL)
            for line in output:  # what it said before the signal reached it
                handed, last_ms = map(int, line.split())
        self.assertEqual(child.wait(60), -signal.SIGKILL)
        bound.cancel()
        return handed, last_ms

    def test_at_most_the_last_second(self) -> None:
        """Killed again and again in the midst of writing, the file stays whole and lacks at most the last second."""
        for run in range(4):
            handed, last_ms = self.killed(f"run{run}", ROWS + 37 * run)
            self.assertEqual(stored(self.path, "PRAGMA integrity_check"), ["ok"])
            ids = stored(
                self.path,
                f"SELECT relay_request_id FROM exchanges WHERE relay_request_id GLOB 'run{run}[_]*' ORDER BY id",
            )
            # No gap: what is lost was handed over last.
            self.assertEqual(ids, [f"run{run}_{number}" for number in range(len(ids))])
            self.assertGreater(len(ids), 0)
            (newest_ms,) = stored(self.path, "SELECT max(ended_ms) FROM exchanges")
            self.assertGreaterEqual(newest_ms, last_ms - LOST_MS, f"{handed - len(ids)} of {handed} rows lost")
        (summed,) = stored(self.path, "SELECT sum(requests) FROM totals")
        self.assertEqual(summed, len(stored(self.path)))


class SharedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = new_directory(self) / "ledger.sqlite3"
        self.told: list[str] = []

    def test_two_writers_and_a_reader(self) -> None:
        """Two relays may write one ledger while it is read: each row is there once, and no sum is ever half of one."""
        writers = [LedgerWriter(self.path, self.told.append) for _ in range(2)]
        for writer in writers:
            writer.start()
        for number in range(2_000):
            for prefix, writer in enumerate(writers):
                writer.append(row(number * 2 + prefix))
                writer.append(row(number * 2))  # one that both have, or the same once more
        reading = threading.Event()
        wrong: list[str] = []

        def read() -> None:
            while not reading.is_set():
                if (
                    self.path.exists()
                    and stored(self.path, "SELECT count(*) FROM sqlite_master WHERE name = 'totals'")[0]
                ):
                    reader = LedgerReader(self.path)
                    totals = reader.totals(None, 0)
                    reader.close()
                    if totals.usage.input_tokens != 100 * totals.requests:
                        wrong.append(str(totals))

        thread = threading.Thread(target=read)
        thread.start()
        for writer in writers:
            writer.stop(60)
        reading.set()
        thread.join(60)
        self.assertEqual((wrong, self.told), ([], []))
        self.assertEqual(len(stored(self.path)), 4_000)
        self.assertEqual(stored(self.path, "SELECT sum(requests) FROM totals"), [4_000])

    def test_locked_for_a_while(self) -> None:
        """While another process holds the file, rows wait and traffic goes on; then all of them are written."""
        other = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self.addCleanup(other.close)
        said = threading.Event()

        def tell(line: str) -> None:
            self.told.append(line)
            said.set()

        writer = LedgerWriter(self.path, tell)
        other.execute("BEGIN EXCLUSIVE")
        writer.start()
        for number in range(100):
            writer.append(row(number))
        self.assertTrue(said.wait(60))
        self.assertIn("another process keeps it locked", self.told[0])
        self.assertEqual((writer.state.kind, writer.state.rows, writer.lost), ("waiting", 100, 0))
        other.execute("ROLLBACK")
        writer.stop(60)
        self.assertEqual(len(stored(self.path)), 100)
        self.assertEqual(writer.lost, 0)

    def test_full_disk(self) -> None:
        """On a full disk rows wait, further ones are lost and counted, and what waited is there once there is room."""
        program = (
            "import resource, signal, sys; from pathlib import Path\n"
            "from openai_relay.ledger.writer import LedgerWriter; from tests.ledger.rows import row\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "told = []; path = Path(sys.argv[1]); writer = LedgerWriter(path, told.append, queue_rows=3000)\n"
            "writer.append(row(0)); assert writer.work() == 0\n"
            "limits = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))\n"
            "for number in range(1, 5000): writer.append(row(number))\n"
            "assert writer.work() > 0; assert writer.state.kind == 'losing', writer.state\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, limits)\n"
            "assert writer.work() == 0; assert writer.lost == 1999, writer.lost\n"
            "writer._close(); print(*told, sep='\\n')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(self.path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("the ledger cannot be written", done.stdout)
        self.assertIn("the ledger is written again; rows lost: 1,999", done.stdout)
        self.assertEqual(len(stored(self.path)), 3_001)
        self.assertEqual(stored(self.path, "PRAGMA integrity_check"), ["ok"])
