"""Changes of files, as they are seen from outside."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.watching import INTERVAL, FilesWatch, Looks, look


class WatchingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.file = self.directory / "crl.pem"
        self.file.write_text("one")
        self.lists = self.directory / "lists"
        self.lists.mkdir()
        self.paths = [self.file, self.lists]
        self.clock = Clock()
        self.changes: list[list[Path]] = []
        self.held: Deferred[None] | None = None
        self.watch = FilesWatch(self.clock, look(self.paths), lambda: self.paths, self.in_thread, self.changes.append)
        self.watch.startService()
        self.addCleanup(self.watch.stopService)

    def in_thread(self, see: Callable[[], Looks]) -> Deferred[Looks]:
        if self.held is None:
            return succeed(see())
        return self.held.addCallback(lambda _: see())

    def look(self, times: int = 2) -> list[list[Path]]:
        """Let it look so often; what it told of since the last time."""
        for _ in range(times):
            self.clock.advance(INTERVAL)
        told, self.changes[:] = list(self.changes), []
        return told

    def test_nothing(self) -> None:
        """As long as nothing changes, nothing is told."""
        self.assertEqual(self.look(10), [])

    def test_written(self) -> None:
        """A file that was written is told of once, however little of it is another."""
        self.file.write_text("two")
        self.assertEqual(self.look(5), [[self.file]])

    def test_replaced(self) -> None:
        """So is one that another was moved over."""
        other = self.directory / "new"
        other.write_text("one")
        other.replace(self.file)
        self.assertEqual(self.look(5), [[self.file]])

    def test_pointed_elsewhere(self) -> None:
        """So is one whose link leads elsewhere now, as certbot and Kubernetes do it."""
        (self.directory / "v2").write_text("one")
        self.file.unlink()
        self.file.symlink_to("v2")
        self.look(5)
        (self.directory / "v3").write_text("one")
        link = self.directory / "link"
        link.symlink_to("v3")
        link.replace(self.file)
        self.assertEqual(self.look(5), [[self.file]])

    def test_directory(self) -> None:
        """In a directory, a file that comes, changes or goes counts for the directory."""
        inside = self.lists / "a.crl"
        for change in (lambda: inside.write_text("a"), lambda: inside.write_text("b"), inside.unlink):
            change()
            self.assertEqual(self.look(5), [[self.lists]])

    def test_still_being_written(self) -> None:
        """While a file changes from look to look nothing is told: it is being written."""
        for length in range(2, 6):
            self.file.write_text("x" * 10 * length)
            self.assertEqual(self.look(1), [])
        self.assertEqual(self.look(1), [[self.file]])

    def test_two_together(self) -> None:
        """A certificate and its key, written one after the other, are told of together."""
        key = self.directory / "key.pem"
        key.write_text("one")
        self.paths.append(key)
        self.look()
        self.file.write_text("three")
        self.assertEqual(self.look(1), [])
        key.write_text("three")
        self.assertEqual(self.look(3), [[self.file, key]])

    def test_missing(self) -> None:
        """A file that is gone is told of, and again when it is back."""
        self.file.unlink()
        self.assertEqual(self.look(), [[self.file]])
        self.file.write_text("back")
        self.assertEqual(self.look(), [[self.file]])

    def test_read_again(self) -> None:
        """What somebody has read since is known, other files included; what has changed since then is not."""
        other = self.directory / "other"
        other.write_text("one")
        self.paths[:] = [other]
        self.file.write_text("two")
        self.watch.know(look([other]))
        self.assertEqual(self.look(5), [])
        known = look([other])
        os.utime(other, (1, 1))
        self.watch.know(known)
        self.assertEqual(self.look(5), [[other]])

    def test_slow_disk(self) -> None:
        """While a look takes its time no other begins; and what it sees after the end is nobody's concern."""
        self.held = Deferred()
        held = self.held
        self.file.write_text("two")
        self.look(5)
        self.watch.stopService()
        held.callback(None)
        self.assertEqual(self.look(3), [])
