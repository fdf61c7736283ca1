"""Renewing certificates."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import pkcs12

from openai_relay.authority.names import AlternativeNames
from openai_relay.authority.profile import new_key
from openai_relay.authority.reading import read_certificate
from tests.authority.csrs import csr
from tests.authority.directories import contents
from tests.cli.commands import CommandCase, typed


class RenewTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.old = self.authority.issue_client("alice", alternative=AlternativeNames(("laptop",))).issued

    def test_for_people(self) -> None:
        """The new one is told with what to paste, and so is how long the old one stays good and how to end it."""
        said = self.succeed("cert", "renew", "alice")
        self.assertIn("Issued to alice, good until ", said)
        self.assertIn("  names        DNS:laptop\n", said)
        self.assertIn(f"It replaces {self.old.serial}, which stays good until ", said)
        self.assertIn(f"openai-relay cert revoke {self.old.serial} --reason superseded\n", said)
        self.assertIn("\ncurl -N --cacert ", said)
        self.assertEqual({each.revoked_at for each in self.authority.issued()}, {None})

    def test_json(self) -> None:
        """Programs get both certificates."""
        document = self.document("cert", "renew", self.old.serial, "--days", 10)
        self.assertEqual((document["certificate"]["days_left"], document["certificate"]["names"]), (9, ["DNS:laptop"]))
        self.assertEqual((document["renewed"]["serial"], document["renewed"]["state"]), (self.old.serial, "valid"))
        self.assertEqual(document["key_file"], str(self.file("clients/alice.key")))

    def test_elsewhere(self) -> None:
        """The new files go where they are wanted, and the old ones stay."""
        before = self.file("clients/alice.pem").read_bytes()
        self.succeed("cert", "renew", "alice", "--out", self.file("new"), "--rsa")
        self.assertEqual(self.file("clients/alice.pem").read_bytes(), before)
        self.assertEqual(self.document("cert", "show", self.file("new/alice.pem"))["key"], "RSA 3072")

    def test_request(self) -> None:
        """A request's key is certified anew; where another key lies beside the certificate, that is in the way."""
        key = new_key()
        self.file("x.csr").write_bytes(csr("mallory", key=key))
        before = contents(self.directory)
        said = self.fail_with(1, "cert", "renew", "alice", "--csr", self.file("x.csr"))
        self.assertIn("This key is not the one that the request was made with", said)
        self.assertEqual(contents(self.directory), before)
        self.file("clients/alice.key").unlink()
        document = self.document("cert", "renew", "alice", "--csr", self.file("x.csr"))
        self.assertEqual((document["certificate"]["name"], document["key_file"]), ("alice", None))
        self.assertEqual(read_certificate(self.file("clients/alice.pem"), "").public_key(), key.public_key())

    def test_bundle(self) -> None:
        """A .p12 file is made anew when it is asked for; one that holds the old certificate is mentioned."""
        words = ("cert", "renew", "alice", "--dir", self.directory)
        environment = {"P12": "hunter2"}
        typed(*words, "--p12", "--p12-password-from", "env:P12", environment=environment)
        (_, new) = self.authority.issued()
        found = pkcs12.load_pkcs12(self.file("clients/alice.p12").read_bytes(), b"hunter2").cert
        assert found is not None
        self.assertEqual(f"{found.certificate.serial_number:x}", new.serial)
        self.assertIn("alice.p12 still holds the old one", typed(*words).stderr)

    def test_server(self) -> None:
        """A server's certificate is renewed by its name, with the next step and without lines for clients."""
        self.succeed("cert", "issue", "localhost", "--server", "--ip", "::1")
        said = self.succeed("cert", "renew", "localhost")
        self.assertIn("  names        DNS:localhost, IP:::1\n", said)
        self.assertIn("takes it up within a second", said)
        self.assertNotIn("curl", said)
        self.assertIn("are for clients", self.fail_with(2, "cert", "renew", "localhost", "--p12"))

    def test_bad_input(self) -> None:
        """What is unknown or revoked is refused, and options that exclude each other are a usage error."""
        self.assertIn("'bob': No certificate has this name", self.fail_with(1, "cert", "renew", "bob"))
        self.assertIn("no key is made", self.fail_with(2, "cert", "renew", "alice", "--csr", "x", "--rsa"))
        self.authority.revoke("alice")
        self.assertIn("was revoked on ", self.fail_with(1, "cert", "renew", "alice"))
        self.assertEqual(len(self.authority.issued()), 1)
