"""Files come whole or not at all, and commands one at a time."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.files import (
    PATIENCE,
    PRIVATE,
    PUBLIC,
    Staged,
    locked,
    make_directory,
    read_file,
    refuse_existing,
    write_file,
)
from tests.authority.directories import contents, new_directory


class WritingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self)
        self.path = self.directory / "file.pem"

    def mode(self) -> int:
        return stat.S_IMODE(self.path.stat().st_mode)

    def test_writes_with_the_mode(self) -> None:
        """A file has the mode that was asked for, whatever the umask, and nothing lies beside it."""
        before = os.umask(0o077)
        self.addCleanup(os.umask, before)
        write_file(self.path, b"public", PUBLIC)
        self.assertEqual(self.mode(), 0o644)
        os.umask(0)
        write_file(self.path, b"private", PRIVATE)
        self.assertEqual(self.mode(), 0o600)
        self.assertEqual(contents(self.directory), {"file.pem": b"private"})

    @skipUnless(os.geteuid() == 0, "only root may give files away")
    def test_owner(self) -> None:
        """What root makes belongs to whom the directory belongs to, who would otherwise be kept from it."""
        os.chown(self.directory, 65_534, 65_534)
        write_file(self.path, b"content", PRIVATE)
        make_directory(self.directory / "below")
        with locked(self.directory / ".lock"):
            pass
        owners = {path.stat().st_uid for path in self.directory.iterdir()}
        self.assertEqual((len(list(self.directory.iterdir())), owners), (3, {65_534}))

    def test_replaces_in_one_step(self) -> None:
        """Who holds the old file open goes on reading the old one, whole."""
        write_file(self.path, b"old" * 1000, PUBLIC)
        with self.path.open("rb") as reader:
            write_file(self.path, b"new", PUBLIC)
            self.assertEqual(reader.read(), b"old" * 1000)
        self.assertEqual(self.path.read_bytes(), b"new")

    def test_staged_has_no_name_yet(self) -> None:
        """A staged file is not found under its name until it is committed, and a discarded one never."""
        Staged.write(self.path, b"first", PUBLIC).discard()
        self.assertEqual(contents(self.directory), {})
        staged = Staged.write(self.path, b"second", PUBLIC)
        self.assertFalse(self.path.exists())
        staged.commit()
        staged.discard()
        self.assertEqual(contents(self.directory), {"file.pem": b"second"})

    def test_key_is_never_readable_by_others(self) -> None:
        """A private file is private from its first byte on."""
        staged = Staged.write(self.path, b"secret", PRIVATE)
        self.assertEqual(stat.S_IMODE(staged.temporary.stat().st_mode), 0o600)
        staged.discard()

    def test_missing_directory(self) -> None:
        """What cannot be written is an error with path and reason."""
        error = self.assertRaises(AuthorityError, write_file, self.directory / "no" / "file.pem", b"", PUBLIC)
        self.assertIn(f"{self.directory}/no/file.pem: Cannot write it (no such file or directory)", str(error))

    def test_target_is_a_directory(self) -> None:
        """A commit that fails leaves nothing behind and says why."""
        self.path.mkdir()
        error = self.assertRaises(AuthorityError, write_file, self.path, b"", PUBLIC)
        self.assertIn("Cannot write it (is a directory)", str(error))
        self.assertEqual([each.name for each in self.directory.iterdir()], ["file.pem"])

    def test_refuses_what_exists(self) -> None:
        """A file that is there is refused, and so is a link that leads nowhere."""
        refuse_existing(self.path, "Move it")
        self.path.symlink_to("nowhere")
        error = self.assertRaises(AuthorityError, refuse_existing, self.path, "Move it")
        self.assertEqual(str(error), f"{self.path}: This file already exists and is not overwritten. Move it.")


class ReadingTests(SynchronousTestCase):
    def test_reads(self) -> None:
        """A file's bytes come as they are."""
        path = new_directory(self) / "file"
        path.write_bytes(b"\x00\xff")
        self.assertEqual(read_file(path, "Make it"), b"\x00\xff")
        self.assertEqual(read_file(path, "Make it", 1), b"\x00")

    def test_missing(self) -> None:
        """For a file that is not there, the caller's way out is given."""
        error = self.assertRaises(AuthorityError, read_file, Path("/nowhere/file"), "Make it with `x`")
        self.assertEqual(str(error), "/nowhere/file: There is no such file. Make it with `x`.")

    def test_unreadable(self) -> None:
        """For a file that cannot be read, the reason is given."""
        error = self.assertRaises(AuthorityError, read_file, new_directory(self), "Make it")
        self.assertIn("Cannot read it (is a directory)", str(error))

    def test_directory_in_the_way(self) -> None:
        """A directory that cannot be made is an error with path and reason."""
        path = new_directory(self) / "file"
        path.write_bytes(b"")
        make_directory(path.parent / "a" / "b")
        self.assertTrue((path.parent / "a" / "b").is_dir())
        error = self.assertRaises(AuthorityError, make_directory, path / "below")
        self.assertIn(f"{path}/below: Cannot create it (not a directory)", str(error))


class LockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = new_directory(self) / ".lock"
        self.now = 0.0
        self.pauses = 0

    def test_second_waits_for_the_first(self) -> None:
        """A command that finds the lock taken goes on as soon as it is free."""
        first = locked(self.path)
        first.__enter__()

        def pause(duration: float) -> None:
            self.pauses += 1
            if self.pauses == 3:
                first.__exit__(None, None, None)

        with locked(self.path, lambda: self.now, pause):
            self.assertEqual(self.pauses, 3)

    def test_gives_up_in_the_end(self) -> None:
        """A lock that stays taken ends the wait with an error, and no sooner than promised."""

        def pause(duration: float) -> None:
            self.now += duration

        with locked(self.path):
            second = locked(self.path, lambda: self.now, pause)
            error = self.assertRaises(AuthorityError, second.__enter__)
        self.assertIn("Another command has been at work in this directory for 10 seconds", str(error))
        self.assertGreaterEqual(self.now, PATIENCE)

    def test_free_after_an_error(self) -> None:
        """An error inside frees the lock."""
        with self.assertRaises(ValueError), locked(self.path):
            raise ValueError
        with locked(self.path, lambda: self.now, lambda duration: self.fail("it was not free")):
            pass

    def test_cannot_lock(self) -> None:
        """Without the directory there is no lock, but an error that names the file."""
        error = self.assertRaises(AuthorityError, locked(self.path / "x" / ".lock").__enter__)
        self.assertIn("Cannot lock it", str(error))
