"""What people hand in, and what they are told when it is something else."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority import profile
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.reading import is_issued_by, read_certificate, read_key, read_revocation_list
from tests.authority.directories import new_directory
from tests.authority.test_profile import VALIDITY, new_signer


class ReadingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = new_directory(self) / "file"
        self.signer = new_signer()

    def error(self, read: object, content: bytes) -> str:
        assert callable(read)
        self.path.write_bytes(content)
        return str(self.assertRaises(AuthorityError, read, self.path, "Do this"))

    def test_certificate(self) -> None:
        """PEM and DER are both read, and of several certificates the first."""
        certificate = self.signer.certificate
        pem = profile.certificate_pem(certificate)
        other = profile.certificate_pem(new_signer().certificate)
        for content in (pem, b"Some text\n" + pem + other, certificate.public_bytes(serialization.Encoding.DER)):
            self.path.write_bytes(content)
            self.assertEqual(read_certificate(self.path, ""), certificate)

    def test_not_a_certificate(self) -> None:
        """A key, a list, an empty file and noise are each called what they are."""
        key = profile.key_pem(profile.new_key())
        self.assertIn("This is a private key. Name the certificate", self.error(read_certificate, key))
        for content in (b"", b"noise", b"-----BEGIN CERTIFICATE-----\nxxx\n-----END CERTIFICATE-----\n"):
            self.assertIn("This is not a certificate", self.error(read_certificate, content))

    def test_malformed_extensions(self) -> None:
        """A certificate whose extensions contradict the standard is refused in words."""
        broken = x509.UnrecognizedExtension(x509.ExtendedKeyUsage.oid, b"\x04\x00")
        key = profile.new_key()
        subject = self.signer.certificate.subject
        certificate = (
            x509.CertificateBuilder(subject, subject, key.public_key(), 1, VALIDITY.not_before, VALIDITY.not_after)
            .add_extension(broken, critical=False)
            .sign(key, hashes.SHA256())
        )
        self.assertIn("malformed", self.error(read_certificate, profile.certificate_pem(certificate)))

    def test_key(self) -> None:
        """ECDSA and RSA keys are read."""
        key = profile.new_key("rsa")
        self.path.write_bytes(profile.key_pem(key))
        self.assertEqual(read_key(self.path, "").public_key(), key.public_key())

    def test_not_a_key(self) -> None:
        """An encrypted key, one of another kind, and anything else are refused with the reason."""
        encrypted = profile.new_key().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
        self.assertIn(
            "This key is encrypted. Give its passphrase with --ca-passphrase-from", self.error(read_key, encrypted)
        )
        other = ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.assertIn("neither ECDSA nor RSA. Do this.", self.error(read_key, other))
        self.assertIn("not a private key in PEM. Do this.", self.error(read_key, b"noise"))

    def test_encrypted_key(self) -> None:
        """An encrypted key is opened by its passphrase, which nobody is asked for without need."""
        key, asked = profile.new_key(), []

        def passphrase() -> bytes:
            asked.append(True)
            return b"secret"

        self.path.write_bytes(profile.key_pem(key))
        self.assertEqual(read_key(self.path, "", passphrase).public_key(), key.public_key())
        self.assertEqual(asked, [])
        self.path.write_bytes(profile.key_pem(key, b"secret"))
        self.assertEqual(read_key(self.path, "", passphrase).public_key(), key.public_key())
        self.assertEqual(asked, [True])

    def test_wrong_passphrase(self) -> None:
        """Another passphrase, an empty one included, is said to be wrong, and is not repeated."""
        self.path.write_bytes(profile.key_pem(profile.new_key(), b"secret"))
        for wrong in (b"Secret", b"", b"x" * 2_000, b"\xff"):
            error = self.assertRaises(AuthorityError, read_key, self.path, "", lambda wrong=wrong: wrong)
            self.assertIn(f"{self.path}: The passphrase is not this key's", str(error))
            self.assertNotIn("Secret", str(error))

    def test_revocation_list(self) -> None:
        """A list is read, and what is none is refused."""
        crl = profile.revocation_list(self.signer, [], VALIDITY.not_before, VALIDITY.not_after, 1)
        self.path.write_bytes(profile.crl_pem(crl))
        self.assertEqual(read_revocation_list(self.path, ""), crl)
        pem = profile.certificate_pem(self.signer.certificate)
        self.assertIn("not a revocation list in PEM. Do this.", self.error(read_revocation_list, pem))

    @given(st.binary(max_size=300))
    def test_any_bytes(self, content: bytes) -> None:
        """No bytes get past as anything but an error for people."""
        for read in (read_certificate, read_key, read_revocation_list):
            for begin in (b"", b"-----BEGIN CERTIFICATE-----\n"):
                self.assertIn(str(self.path), self.error(read, begin + content))

    def test_issuer(self) -> None:
        """Only the authority whose key has signed a certificate has issued it, whatever the names say."""
        leaf = profile.leaf_certificate(self.signer, "client", profile.new_key().public_key(), "alice", [], VALIDITY)
        self.assertTrue(is_issued_by(leaf, self.signer.certificate))
        self.assertFalse(is_issued_by(leaf, new_signer().certificate))
        self.assertFalse(is_issued_by(self.signer.certificate, leaf))
