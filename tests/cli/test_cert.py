"""Revoking and showing certificates."""

from __future__ import annotations

from typing import get_args

from openai_relay.authority.profile import Validity, certificate_pem, key_pem, leaf_certificate, new_key
from openai_relay.authority.reading import read_key, read_revocation_list
from openai_relay.authority.reasons import Reason
from tests.cli.commands import CommandCase

FIELDS = {
    *("kind", "name", "serial", "fingerprint", "state", "not_before", "not_after", "days_left", "names", "revoked_at"),
    *("reason", "expires_soon"),
}


class PrintedTests(CommandCase):
    def test_strange_name(self) -> None:
        """A name that our key signed elsewhere is printed without what moves the cursor."""
        signer = self.authority._signer()
        validity = Validity(self.authority.certificate.not_valid_before_utc, self.authority.not_after)
        self.file("x.pem").write_bytes(
            certificate_pem(leaf_certificate(signer, "client", new_key().public_key(), "a\x1b[2J\nb", [], validity))
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
        self.assertIn("takes it up within a second", said)
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

    def test_encrypted_key(self) -> None:
        """A key with a passphrase signs the list when it is given that, and nothing is revoked when it is not."""
        path = self.file("ca.key")
        key = read_key(path, "")
        path.write_bytes(key_pem(key, b"secret"))
        self.assertIn("ca.key: there is no terminal", self.fail_with(1, "cert", "revoke", "alice"))
        self.file("pass").write_text("wrong")
        source = f"file:{self.file('pass')}"
        said = self.fail_with(1, "cert", "revoke", "alice", "--ca-passphrase-from", source)
        self.assertIn("The passphrase is not this key's", said)
        self.assertEqual(self.authority.issued(), [self.issued])
        self.file("pass").write_text("secret\n")
        self.succeed("cert", "revoke", "alice", "--ca-passphrase-from", source)
        self.assertIsNotNone(self.authority.issued()[0].revoked_at)

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
