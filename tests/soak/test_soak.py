"""A soak of some seconds: what holds at every length, so that the long one can be trusted when it fails."""

from __future__ import annotations

import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.soak.kinds import KINDS
from tests.soak.run import Plan, Soak
from tests.soak.verdict import SHORTEST, findings
from tests.soak.watching import AccessLines, Announcement, OwnLog

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 10.0


class SoakTests(SynchronousTestCase):
    def test_short_soak(self) -> None:
        """Every exchange comes as it must, clients, log and metrics count alike, and nothing is left open."""
        self.assertLess(SECONDS, SHORTEST)  # what memory does in so short a time says nothing, and is not judged
        said: list[str] = []
        soak = Soak(Plan(SECONDS, processes=2, threads=3), said.append)
        seen = soak.run()
        self.assertEqual(findings(seen), [], "\n".join([*said, *soak.tail()]))
        self.assertGreater(len(seen.kinds), len(KINDS) / 2)

    def test_stopped_soak(self) -> None:
        """A soak that is stopped before its time is judged by what it has seen, and its counts agree all the same."""
        soak = Soak(Plan(600.0, processes=1, threads=2), lambda line: None)
        timer = threading.Timer(2.0, soak.stop.set)
        timer.start()
        self.addCleanup(timer.cancel)
        seen = soak.run()
        self.assertEqual(findings(seen), [])
        self.assertLess(seen.seconds, 300.0)


class WatchingTests(SynchronousTestCase):
    def test_access_lines(self) -> None:
        """Lines are counted by how exchanges ended; one that is no line of a log is counted as such."""
        lines = AccessLines()
        for line in (b'{"end":"done","relay_request_id":"rly_1"}\n', b'{"end":"bug","relay_request_id":"rly_2"}\n'):
            lines(line)
        lines(b"half a li")
        self.assertEqual((dict(lines.ends), lines.unreadable), ({"done": 1, "bug": 1}, 1))

    def test_own_log(self) -> None:
        """What the relay says of itself is searched for complaints, of which few are kept, however many there are."""
        port = Announcement(r"serving on (\d+)")
        log = OwnLog(port)
        log(b"serving on 8443\n")
        for number in range(1_000):
            log(b"Unhandled error %d\n" % number)
        self.assertEqual(port.wait(), "8443")
        self.assertEqual((log.complained, log.complaints[0], len(log.complaints)), (1_000, "Unhandled error 0", 5))
        self.assertEqual(len(list(log.tail())), 40)
