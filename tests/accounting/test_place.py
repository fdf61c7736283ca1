"""Where the state is kept."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.accounting.place import BadState, check_directory, make_directory
from tests.authority.directories import new_directory


class PlaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self)

    def complaint(self, directory: Path) -> str:
        return str(self.assertRaises(BadState, check_directory, directory)).replace(str(self.directory), "DIRECTORY")

    def test_checked_and_not_made(self) -> None:
        """A directory that can be made, or is there, will do; asking makes nothing."""
        check_directory(self.directory)
        check_directory(self.directory / "deep" / "state")
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_a_file_in_its_place(self) -> None:
        """A file where the directory, or one above it, should be is named."""
        (self.directory / "state").write_text("")
        told = "DIRECTORY/state is not a directory: choose another one"
        self.assertEqual(self.complaint(self.directory / "state"), told)
        self.assertEqual(self.complaint(self.directory / "state" / "below"), told)

    def test_not_writable(self) -> None:
        """So is a directory that the relay's account may not write; root meets only what nobody may."""
        place = self.directory if os.getuid() else Path("/proc")
        if os.getuid():
            place.chmod(0o500)
            self.addCleanup(place.chmod, 0o700)
            self.assertIn("may not be written: give it to the account that runs the relay", self.complaint(place / "x"))
        else:
            self.assertRaises(BadState, make_directory, place / "state")

    def test_made_for_its_owner(self) -> None:
        """What is made is for its owner alone; what is there is left as it is."""
        make_directory(self.directory / "deep" / "state")
        self.assertEqual((self.directory / "deep" / "state").stat().st_mode & 0o777, 0o700)
        self.directory.chmod(0o755)
        make_directory(self.directory)
        self.assertEqual(self.directory.stat().st_mode & 0o777, 0o755)

    def test_cannot_be_made(self) -> None:
        """Where it cannot be made, the reason is said."""
        (self.directory / "state").write_text("")
        told = str(self.assertRaises(BadState, make_directory, self.directory / "state"))
        self.assertTrue(told.endswith("/state cannot be made: File exists"), told)
