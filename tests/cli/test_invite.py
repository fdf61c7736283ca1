"""Inviting devices."""

from __future__ import annotations

import re
from datetime import timedelta

from cryptography.hazmat.primitives.serialization import Encoding

from openai_relay.authority.invitations import Invitations
from openai_relay.authority.reading import read_certificate
from openai_relay.core.enrolment_code import read_code
from openai_relay.enrolling.device import pin_of
from tests.cli.commands import CommandCase


class InviteTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority.issue_server(["relay.example"], stem="server")

    def code(self, *words: object) -> str:
        found = re.search(r"^  openai-relay enrol \S+ ([a-z2-7]+)$", self.succeed("invite", "phone", *words), re.M)
        assert found is not None
        return found[1]

    def test_for_people(self) -> None:
        """What to type on the device is told, for our command and for others, with a code that is good."""
        said = self.succeed("invite", "phone")
        self.assertIn("Invited phone, once, until ", said)
        self.assertRegex(said, r"openai-relay enrol https://relay\.example:8444 [a-z2-7]+\n")
        self.assertIn("https://relay.example:8444/.well-known/est/simpleenroll", said)
        code = read_code(self.code())
        taken = Invitations(self.directory).take(code.secret, self.authority.clock()).invitation
        self.assertEqual((taken.name, taken.days), ("phone", 365))

    def test_pin(self) -> None:
        """The code holds the digest of the server's key, unless it is not to."""
        shown = read_certificate(self.file("server.pem"), "").public_bytes(Encoding.DER)
        self.assertEqual(read_code(self.code()).pin, pin_of(shown))
        self.assertIsNone(read_code(self.code("--no-pin")).pin)
        self.file("server.pem").unlink()
        self.assertIn("--server-certificate", self.fail_with(1, "invite", "phone"))
        self.assertEqual(len(Invitations(self.directory).open(self.authority.clock())), 2)

    def test_options(self) -> None:
        """Address, how long the code is good, and the life of the certificate are as they are given."""
        said = self.succeed("invite", "phone", "--url", "https://other:1/", "--valid", "30m", "--days", 7)
        self.assertIn("openai-relay enrol https://other:1 ", said)
        (invitation,) = Invitations(self.directory).open(self.authority.clock())
        self.assertEqual(invitation.days, 7)
        left = invitation.ends - self.authority.clock()
        self.assertTrue(timedelta(minutes=29) < left <= timedelta(minutes=30), left)

    def test_list_and_withdraw(self) -> None:
        """Who is invited can be listed, without codes, and taken back."""
        code = self.code()
        said = self.succeed("invite", "--list")
        self.assertRegex(said, r"^phone  until [0-9-]+ [0-9:]+")
        self.assertNotIn(code, said)
        self.assertEqual(self.succeed("invite", "phone", "--withdraw"), "Withdrawn: 1 invitation of phone.\n")
        self.assertEqual(self.succeed("invite", "--list"), "")
        self.assertIn("phone is not invited", self.fail_with(1, "invite", "phone", "--withdraw"))

    def test_bad_input(self) -> None:
        """No name, durations that are none, and names that no certificate has are refused."""
        self.assertIn("Missing argument 'NAME'", self.fail_with(2, "invite"))
        for valid in ("1", "h", "1w", "x h", "0m", "31d", "-1h", "1.5h"):
            self.fail_with(2, "invite", "phone", "--valid", valid)
        self.fail_with(1, "invite", "a" * 65)
        self.fail_with(1, "invite", "")
        self.assertEqual(Invitations(self.directory).open(self.authority.clock()), [])
