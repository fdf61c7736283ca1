"""The file that phones import."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import pkcs12
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority import profile
from openai_relay.authority.bundle import Bundle, bundle_bytes
from openai_relay.authority.errors import AuthorityError
from tests.authority.test_profile import VALIDITY, new_signer

#: The object identifiers of AES-256-CBC and of PBE with SHA-1 and triple DES, in DER.
AES = bytes.fromhex("060960864801650304012a")
TRIPLE_DES = bytes.fromhex("060a2a864886f70d010c0103")


class BundleTests(SynchronousTestCase):
    def test_contents(self) -> None:
        """In either form it holds the key, its certificate and the authority's, under the client's name."""
        signer, key = new_signer(), profile.new_key()
        certificate = profile.leaf_certificate(signer, "client", key.public_key(), "Zoë", [], VALIDITY)
        for compatible, used, unused in ((False, AES, TRIPLE_DES), (True, TRIPLE_DES, AES)):
            bundle = Bundle("pass word", compatible)
            content = bundle_bytes(bundle, "Zoë", key, certificate, signer.certificate)
            self.assertIn(used, content)
            self.assertNotIn(unused, content)
            found = pkcs12.load_pkcs12(content, b"pass word")
            assert found.key is not None and found.cert is not None
            self.assertEqual(found.key.public_key(), key.public_key())
            self.assertEqual((found.cert.certificate, found.cert.friendly_name), (certificate, "Zoë".encode()))
            self.assertEqual([each.certificate for each in found.additional_certs], [signer.certificate])
            self.assertRaises(ValueError, pkcs12.load_pkcs12, content, b"Pass word")

    def test_refused_passwords(self) -> None:
        """A password that importers disagree about is refused, and not repeated."""
        for password, reason in (
            ("", "is empty"),
            ("schlüssel", "not every importer"),
            ("a\tb", "not every importer"),
            ("p" * 129, "longer than 128"),
        ):
            said = str(self.assertRaises(AuthorityError, Bundle, password, False))
            self.assertIn(reason, said)
            self.assertNotIn(password or "None", said)

    def test_password_is_not_shown(self) -> None:
        """Whoever prints it does not print the password."""
        self.assertEqual(repr(Bundle("hunter2", True)), "Bundle(compatible=True)")
