"""What is known of a certificate in a file."""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.directory import Authority
from openai_relay.authority.profile import certificate_pem
from openai_relay.cli.certificate_file import describe
from tests.authority.directories import SetClock, new_directory
from tests.authority.test_profile import START


class DescribeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self)
        self.clock = SetClock()
        self.authority = Authority.create(self.directory / "ca", clock=self.clock)
        self.file = self.authority.issue_client("alice", days=10).certificate

    def test_ours(self) -> None:
        """The authority that has issued it knows whether it was revoked."""
        shown = describe(self.file, self.authority.directory, self.clock)
        self.assertEqual((shown.kind, shown.issued_here, shown.state, shown.days_left), ("client", True, "valid", 9))
        self.assertEqual(shown.subject, "CN=alice")
        self.assertTrue(shown.issuer.startswith("CN=openai-relay CA "))
        self.authority.revoke("alice")
        self.assertEqual(describe(self.file, self.authority.directory, self.clock).state, "revoked")

    def test_no_authority_here(self) -> None:
        """Without an authority only the certificate itself is told, and whether it has expired."""
        shown = describe(self.file, self.directory / "no", self.clock)
        self.assertEqual((shown.issued_here, shown.state), (None, "valid"))
        self.clock.advance(days=11)
        self.assertEqual(describe(self.file, self.directory / "no", self.clock).state, "expired")

    def test_of_another_authority(self) -> None:
        """Another authority's certificate is not taken for ours."""
        other = Authority.create(self.directory / "other", clock=self.clock)
        self.assertFalse(describe(self.file, other.directory, self.clock).issued_here)

    def test_authority_itself(self) -> None:
        """An authority's own certificate is called that."""
        shown = describe(self.authority.certificate_path, self.authority.directory, self.clock)
        self.assertEqual((shown.kind, shown.names), ("authority", ()))

    def test_other_keys(self) -> None:
        """A key of a kind that we never make is named as well."""
        key = ed25519.Ed25519PrivateKey.generate()
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
        end = START + timedelta(days=1)
        certificate = x509.CertificateBuilder(subject, subject, key.public_key(), 1, START, end).sign(key, None)
        self.file.write_bytes(certificate_pem(certificate))
        shown = describe(self.file, self.authority.directory, self.clock)
        self.assertEqual((shown.key, shown.issued_here), ("Ed25519", False))
