"""The processes of a demo; here small programs that need no network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.cli.demo.children import START_WITHIN, ChildEnded, Children
from tests.authority.directories import new_directory

PYTHON = (sys.executable, "-c")
#: Makes the file that is its argument, then waits for the end of standard input or a signal.
SERVES = "import sys, pathlib; pathlib.Path(sys.argv[1]).touch(); sys.stdin.read()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SERVES
FAILS = "import sys; print('first', file=sys.stderr); print('no such luck', file=sys.stderr); sys.exit(78)"


class ChildrenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self)
        self.stopping = False
        self.children = Children(lambda: self.stopping, PYTHON)
        self.addCleanup(self.children.end)

    def start(self, name: str, program: str = SERVES, log: Path | None = None) -> Path:
        """Start a child; it is ready once the file that is returned is there."""
        ready = self.directory / name
        self.children.start(name, [program, str(ready)], ready.exists, log)
        return ready

    def processes(self) -> list[subprocess.Popen[bytes]]:
        return [child.process for child in self.children._children]

    def test_wait_until_ready(self) -> None:
        """The wait ends when every child serves."""
        files = [self.start("one"), self.start("two")]
        self.children.wait_until_ready()
        self.assertTrue(all(file.exists() for file in files))

    def test_end(self) -> None:
        """Afterwards none is left, in whatever state it was."""
        self.start("one")
        self.start("two", FAILS, self.directory / "log")
        processes = self.processes()
        self.children.end()
        self.assertNotIn(None, [process.poll() for process in processes])
        self.children.end()

    def test_stubborn_child(self) -> None:
        """A child that does not end when it is asked to is killed."""
        self.start("one", STUBBORN)
        self.children.wait_until_ready()
        (process,) = self.processes()
        self.children.end(within=0.0)
        self.assertEqual(process.returncode, -signal.SIGKILL)

    def test_watch_ends_when_asked(self) -> None:
        """Watching and waiting end at once when the end is asked for."""
        self.stopping = True
        self.start("one")
        self.children.wait_until_ready()
        self.children.watch()

    def test_child_fails_to_start(self) -> None:
        """A child that ends before it serves is named, with exit code and the last line of its log."""
        log = self.directory / "one.log"
        self.start("one", FAILS, log)
        error = self.assertRaises(ChildEnded, self.children.wait_until_ready)
        self.assertEqual(str(error), f"one has ended (exit code 78); {log} ends: no such luck.")

    def test_child_ends_later(self) -> None:
        """A child that ends while it is watched is named with what ended it; without a log, its output was ours."""
        self.start("one")
        self.children.wait_until_ready()
        self.processes()[0].kill()
        error = self.assertRaises(ChildEnded, self.children.watch)
        self.assertEqual(str(error), "one has ended (killed by SIGKILL); see its output above.")

    def test_child_is_silent(self) -> None:
        """A child that said nothing at all is said to have said nothing."""
        log = self.directory / "one.log"
        self.start("one", "raise SystemExit(1)", log)
        error = self.assertRaises(ChildEnded, self.children.wait_until_ready)
        self.assertEqual(str(error), f"one has ended (exit code 1); {log} is empty.")

    def test_child_never_serves(self) -> None:
        """A child that does not come up in time is named, and the wait has an end."""
        times = iter([0.0, START_WITHIN + 1])
        children = Children(lambda: False, PYTHON, lambda: next(times))
        self.addCleanup(children.end)
        children.start("one", [SERVES, str(self.directory / "one")], lambda: False)
        error = self.assertRaises(ChildEnded, children.wait_until_ready)
        self.assertEqual(str(error), "one is not ready after 30 seconds; see its output above.")

    def test_own_group(self) -> None:
        """Each child has its own process group, so that Ctrl-C reaches only us."""
        self.start("one")
        (process,) = self.processes()
        self.assertEqual(os.getpgid(process.pid), process.pid)
