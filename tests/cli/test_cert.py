"""Listing, revoking and showing certificates."""

from __future__ import annotations

from datetime import timedelta
from typing import get_args

from openai_relay.authority.directory import Authority, utc_now
from openai_relay.authority.profile import Validity, certificate_pem, leaf_certificate, new_key
from openai_relay.authority.reading import read_revocation_list
from openai_relay.authority.reasons import Reason
from tests.authority.directories import SetClock
from tests.cli.commands import CommandCase

FIELDS = {
    *("kind", "name", "serial", "fingerprint", "state", "not_before", "not_after", "days_left", "names", "revoked_at"),
    "reason",
}


class ListTests(CommandCase):
    def test_empty(self) -> None:
        """Where nothing was issued yet, the way to the first certificate is told; programs get an empty list."""
        self.assertIn("`openai-relay cert issue NAME`", self.succeed("cert", "list"))
        self.assertEqual(self.document("cert", "list"), {"certificates": []})

    def test_table(self) -> None:
        """People see name, kind, serial, state, end and days left, each in its column."""
        alice = self.authority.issue_client("alice", days=10).issued
        self.authority.issue_server(["relay.example.org"])
        self.authority.revoke("relay.example.org")
        titles, first, second = self.succeed("cert", "list").splitlines()
        self.assertEqual(titles.split(), ["NAME", "KIND", "SERIAL", "STATE", "EXPIRES", "DAYS", "LEFT"])
        self.assertEqual(first.split(), ["alice", "client", alice.serial, "valid", f"{alice.not_after:%Y-%m-%d}", "9"])
        self.assertEqual(second.split()[0], "relay.example.org")
        self.assertEqual((second.split()[3], second.split()[5]), ("revoked", "-"))
        self.assertEqual(titles.index("STATE"), first.index("valid"))
        self.assertNotIn("\x1b", first)

    def test_expired(self) -> None:
        """What has ended is said to be expired."""
        clock = SetClock(utc_now() - timedelta(days=500))
        past = Authority.create(self.file("past"), days=1_000, clock=clock)
        past.issue_client("old", days=10)
        self.directory = past.directory
        (document,) = self.document("cert", "list")["certificates"]
        self.assertEqual((document["state"], document["days_left"]), ("expired", -491))
        self.assertIn(" expired ", self.succeed("cert", "list"))

    def test_json(self) -> None:
        """Programs get every field of every certificate, oldest first."""
        self.authority.issue_client("alice")
        self.authority.issue_client("bob")
        certificates = self.document("cert", "list")["certificates"]
        self.assertEqual([each["name"] for each in certificates], ["alice", "bob"])
        self.assertEqual({frozenset(each) for each in certificates}, {frozenset(FIELDS)})
        self.assertIsNone(certificates[0]["revoked_at"])

    def test_damaged_index(self) -> None:
        """A damaged list is an error with the line."""
        self.file("index.jsonl").write_text("{}\n")
        self.assertIn("Line 1 of the list of issued certificates", self.fail_with(1, "cert", "list"))

    def test_strange_name(self) -> None:
        """A name that our key signed elsewhere is printed without what moves the cursor."""
        signer = self.authority._signer()
        validity = Validity(self.authority.certificate.not_valid_before_utc, self.authority.not_after)
        self.file("x.pem").write_bytes(
            certificate_pem(leaf_certificate(signer, "client", new_key(), "a\x1b[2J\nb", [], validity))
        )
        said = self.succeed("cert", "revoke", self.file("x.pem")) + self.succeed("cert", "list")
        said += self.succeed("cert", "show", self.file("x.pem"))
        self.assertIn("a\\x1b[2J", said)
        self.assertNotIn("\x1b", said)


class RevokeTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.issued = self.authority.issue_client("alice").issued

    def test_revokes(self) -> None:
        """The certificate is on the list afterwards, and the next step is told."""
        said = self.succeed("cert", "revoke", "alice", "--reason", "key-compromise")
        self.assertIn(f"alice (serial {self.issued.serial}) is revoked.\n", said)
        self.assertIn("systemctl restart openai-relay", said)
        crl = read_revocation_list(self.file("crl.pem"), "")
        self.assertIsNotNone(crl.get_revoked_certificate_by_serial_number(int(self.issued.serial, 16)))
        self.assertEqual(self.authority.issued()[0].reason, "key-compromise")

    def test_twice(self) -> None:
        """Again is no failure, and says since when."""
        self.succeed("cert", "revoke", "alice")
        self.assertIn("was revoked already on ", self.succeed("cert", "revoke", "alice"))

    def test_json(self) -> None:
        """Programs get what was revoked and where the list is."""
        document = self.document("cert", "revoke", self.issued.serial)
        self.assertEqual(document["crl_file"], str(self.file("crl.pem")))
        (certificate,) = document["certificates"]
        self.assertEqual((certificate["state"], certificate["reason"]), ("revoked", "unspecified"))
        self.assertEqual(set(certificate), FIELDS)

    def test_bad_input(self) -> None:
        """An unknown certificate is a failure, and an unknown reason a usage error that names all of them."""
        self.assertIn("'bob': No certificate has this name", self.fail_with(1, "cert", "revoke", "bob"))
        said = self.fail_with(2, "cert", "revoke", "alice", "--reason", "whim")
        for reason in get_args(Reason):
            self.assertIn(reason, said)
        self.assertEqual(self.authority.issued(), [self.issued])


class ShowTests(CommandCase):
    def test_shows(self) -> None:
        """People see who it is for, until when, and whether it still holds."""
        made = self.authority.issue_client("alice@example.org")
        said = self.succeed("cert", "show", made.certificate)
        for line in (
            "kind         client",
            "names        email:alice@example.org",
            "key          ECDSA secp256r1",
            "issued here  yes",
            "state        valid",
            f"fingerprint  {made.issued.fingerprint}",
        ):
            self.assertIn(f"{line}\n", said)

    def test_not_a_certificate(self) -> None:
        """A key, a missing file, and a directory are each refused in words."""
        made = self.authority.issue_client("alice")
        self.assertIn("This is a private key", self.fail_with(1, "cert", "show", made.key))
        self.assertIn("no.pem: There is no such file", self.fail_with(1, "cert", "show", self.file("no.pem")))
        self.fail_with(2, "cert", "show", self.directory)
