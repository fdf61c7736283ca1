"""The certificate that a relay is shown is read whole, and what cannot be used is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto

from openai_relay.connect.certificate import CertificateFiles, ClientCertificate, Unusable
from openai_relay.core.relay_words import UNVERIFIED
from tests import certificates
from tests.certificates import NOW, authority, client, intermediate
from tests.connect.files import FilesCase
from tests.doubles import handshake


def server_context(credential: certificates.Credential) -> SSL.Context:
    """A relay that asks for a certificate of the usual authority."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(credential.certificate)
    context.use_privatekey(credential.private_key)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *results: bool(results[-1]))
    store = context.get_cert_store()
    assert store is not None
    store.add_cert(crypto.X509.from_cryptography(authority().certificate))
    return context


class CertificateCase(FilesCase):
    def built(self, files: CertificateFiles | None = None) -> ClientCertificate:
        files = files or self.files()
        return files.build(files.read())

    def complaint(self, option: str, **changed: Any) -> str:
        files = self.files(**changed)
        error = self.assertRaises(Unusable, lambda: files.build(files.read()))
        self.assertEqual(error.option, option)
        return str(error)


class GoodTests(CertificateCase):
    def test_identity(self) -> None:
        """Whose it is, and until when, is read from the certificate."""
        identity = self.built().identity
        certificate = client("alice").certificate
        self.assertEqual((identity.name, identity.serial), ("alice", f"{certificate.serial_number:x}"))
        self.assertEqual(identity.not_after, certificate.not_valid_after_utc.timestamp())

    def test_without_a_name(self) -> None:
        """A certificate without a name that can be printed has none here."""
        for names in ((), ("a\nb",)):
            self.write(client("odd", common_names=names))
            self.assertEqual(self.built().identity.name, "(no name)")

    def test_shown(self) -> None:
        """A relay is shown the certificate with its intermediates, and is itself verified."""
        self.write(client("bob", intermediate()))
        relay, tool = handshake(server_context(certificates.server()), self.built().context)
        self.assertTrue(relay.handshaken and tool.handshaken)
        shown = relay.tls.get_peer_certificate(as_cryptography=True)
        self.assertEqual(shown, client("bob", intermediate()).certificate)
        self.assertEqual(tool.tls.get_alpn_proto_negotiated(), b"")

    def test_relay_of_another(self) -> None:
        """A relay that does not verify gets no request, and OpenSSL's reason is kept."""
        stranger = server_context(certificates.server(issuer=authority("Another CA")))
        relay, tool = handshake(stranger, self.built().context)
        self.assertFalse(relay.handshaken or tool.handshaken)
        self.assertEqual(str(tool.error), f"{UNVERIFIED} 20")

    def test_system_authorities(self) -> None:
        """Without a CA file it is the system's authorities that count."""
        _, tool = handshake(server_context(certificates.server()), self.built(self.files(ca=None)).context)
        self.assertIn(UNVERIFIED, str(tool.error))

    def test_key_from_elsewhere(self) -> None:
        """A key may come from the environment or a credential, as everywhere else."""
        key = client("alice").key_pem
        self.sources = type(self.sources)(
            self.directory, {"PHONE_KEY": key.decode(), "CREDENTIALS_DIRECTORY": str(self.directory)}
        )
        for where in ("env:PHONE_KEY", "credential:phone.key"):
            self.assertEqual(self.files(key=where).read().key.reveal(), key)

    def test_nothing_is_shown(self) -> None:
        """The key is in nobody's repr."""
        contents = self.files().read()
        secret = client("alice").key_pem.decode().splitlines()[1]
        self.assertNotIn(secret, repr(contents))
        self.assertNotIn(secret, repr(self.built()))


class BadTests(CertificateCase):
    def test_missing(self) -> None:
        """A file that is not there is named, with its option."""
        missing = Path("missing.pem")
        self.assertIn("missing.pem", self.complaint("--certificate", certificate=missing))
        self.assertIn("missing.pem", self.complaint("--ca", ca=missing))
        self.assertIn("missing.pem", self.complaint("--key", key="file:missing.pem"))

    def test_something_else(self) -> None:
        """A file that holds something else is told."""
        for wrong in (b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
            self.file("wrong.pem").write_bytes(wrong)
            self.assertIn("no certificate in PEM", self.complaint("--certificate", certificate=Path("wrong.pem")))
            self.assertIn("no certificate in PEM", self.complaint("--ca", ca=Path("wrong.pem")))
            self.assertIn("no private key", self.complaint("--key", key="file:wrong.pem"))

    def test_encrypted_key(self) -> None:
        """So is a key that wants a passphrase."""
        encrypted = client("alice").private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        self.file("phone.key").write_bytes(encrypted)
        self.assertIn("is encrypted", self.complaint("--key"))

    def test_other_key(self) -> None:
        """So is the key of another certificate."""
        self.file("phone.key").write_bytes(client("bob").key_pem)
        self.assertIn('does not belong to the certificate in "phone.pem"', self.complaint("--key"))

    def test_authorities_gone(self) -> None:
        """Authorities that are replaced by something else in the middle of it are told, too."""
        files = self.files()
        contents = files.read()
        self.file("ca.pem").write_bytes(b"")
        error = self.assertRaises(Unusable, files.build, contents)
        self.assertEqual((error.option, str(error)), ("--ca", "holds no certificate in PEM form any more"))

    def test_expired_is_no_fault(self) -> None:
        """An expired certificate is built, too: whoever renews it replaces it while we run."""
        self.write(client("late", not_before=-3 * certificates.DAY, not_after=-certificates.DAY))
        self.assertLess(self.built().identity.not_after, NOW.timestamp())
