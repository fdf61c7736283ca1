"""The revocation list, from the command line."""

from __future__ import annotations

from datetime import timedelta

from openai_relay.authority.directory import Authority, utc_now
from tests.authority.directories import SetClock, contents
from tests.cli.commands import CommandCase

FIELDS = {"file", "number", "this_update", "next_update", "days_left", "revoked", "due", "written"}


class CrlTests(CommandCase):
    def test_writes_anew(self) -> None:
        """A new list is later, has a larger number, and is good for as long as asked."""
        before = self.authority.crl()
        document = self.document("crl", "--days", 5)
        after = self.authority.crl()
        self.assertGreater(after.number, before.number)
        self.assertGreater(after.this_update, before.this_update)
        self.assertEqual(set(document), FIELDS)
        self.assertEqual((document["number"], document["days_left"]), (after.number, 4))
        self.assertTrue(document["written"])

    def test_for_people(self) -> None:
        """People see how many are revoked and until when the list is good."""
        self.authority.issue_client("alice")
        self.authority.revoke("alice")
        said = self.succeed("crl")
        self.assertIn(f"{self.file('crl.pem')}: 1 certificate revoked; good until ", said)
        self.assertIn("(29 days left)", said)

    def test_show(self) -> None:
        """Showing changes nothing."""
        before = contents(self.directory)
        document = self.document("crl", "--show")
        self.assertEqual(document["number"], self.authority.crl().number)
        self.assertFalse(document["written"])
        self.assertEqual(contents(self.directory), before)

    def test_not_due(self) -> None:
        """A list with time left is left alone, which is no failure; not even the key is needed for that."""
        before = contents(self.directory)
        self.assertIn("Not due before ", self.succeed("crl", "--if-due"))
        document = self.document("crl", "--if-due")
        self.assertEqual((document["written"], set(document)), (False, FIELDS))
        self.assertEqual(contents(self.directory), before)
        self.file("ca.key").unlink()
        self.succeed("crl", "--if-due")

    def test_due(self) -> None:
        """A list of which two thirds have gone is written anew, good for as long as asked; so is one that is lost."""
        past = Authority.create(self.file("past"), clock=SetClock(utc_now() - timedelta(days=21)))
        self.directory = past.directory
        self.assertIn("It was due and is written anew.", self.succeed("crl", "--if-due", "--days", 7))
        self.assertEqual((past.crl().next_update - utc_now()).days, 6)
        self.file("crl.pem").unlink()
        self.assertTrue(self.document("crl", "--if-due")["written"])

    def test_encrypted_key(self) -> None:
        """The passphrase of the key is asked for when a list is due, and found where it is said to be."""
        clock = SetClock(utc_now() - timedelta(days=21))
        self.directory = Authority.create(self.file("x"), clock=clock, passphrase=lambda: b"secret").directory
        self.assertIn("--ca-passphrase-from", self.fail_with(1, "crl", "--if-due"))
        (self.directory / "pass").write_text("secret\n")
        source = f"file:{self.directory / 'pass'}"
        self.assertTrue(self.document("crl", "--if-due", "--ca-passphrase-from", source)["written"])

    def test_bad_input(self) -> None:
        """A duration for a list that is only shown makes no sense; a list that is not there is said to be so."""
        self.assertIn("leave out --show", self.fail_with(2, "crl", "--show", "--days", 3))
        self.assertIn("leave out --show", self.fail_with(2, "crl", "--show", "--if-due"))
        self.file("crl.pem").unlink()
        self.assertIn(
            "crl.pem: There is no such file. Make it with `openai-relay crl`", self.fail_with(1, "crl", "--show")
        )
        self.succeed("crl")
