"""The revocation list, from the command line."""

from __future__ import annotations

from tests.authority.directories import contents
from tests.cli.commands import CommandCase


class CrlTests(CommandCase):
    def test_writes_anew(self) -> None:
        """A new list is later, has a larger number, and is good for as long as asked."""
        before = self.authority.crl()
        document = self.document("crl", "--days", 5)
        after = self.authority.crl()
        self.assertGreater(after.number, before.number)
        self.assertGreater(after.this_update, before.this_update)
        self.assertEqual(set(document), {"file", "number", "this_update", "next_update", "days_left", "revoked"})
        self.assertEqual((document["number"], document["days_left"]), (after.number, 4))

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
        self.assertEqual(contents(self.directory), before)

    def test_bad_input(self) -> None:
        """A duration for a list that is only shown makes no sense; a list that is not there is said to be so."""
        self.assertIn("leave out --show", self.fail_with(2, "crl", "--show", "--days", 3))
        self.file("crl.pem").unlink()
        self.assertIn(
            "crl.pem: There is no such file. Make it with `openai-relay crl`", self.fail_with(1, "crl", "--show")
        )
        self.succeed("crl")
