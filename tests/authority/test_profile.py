"""What certificates and revocation lists say."""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority import profile
from tests.authority.directories import NOW

SECOND = timedelta(seconds=1)
START = NOW.replace(microsecond=0)
VALIDITY = profile.Validity(START, START + timedelta(days=30))
BACKDATING = timedelta(minutes=5)


def new_signer() -> profile.Signer:
    key = profile.new_key()
    return profile.Signer(profile.authority_certificate(key, "Test CA", VALIDITY), key)


class CertificateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.signer = new_signer()

    def leaf(
        self, kind: profile.Kind, key: profile.PrivateKey, names: tuple[x509.GeneralName, ...] = ()
    ) -> x509.Certificate:
        return profile.leaf_certificate(self.signer, kind, key.public_key(), "alice", names, VALIDITY)

    def extension(
        self, certificate: x509.Certificate, kind: type[x509.ExtensionType]
    ) -> x509.Extension[x509.ExtensionType]:
        return certificate.extensions.get_extension_for_class(kind)

    def usages(self, certificate: x509.Certificate) -> set[str]:
        """The names of the key usages that are set."""
        found = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        self.assertTrue(found.critical)
        names = (
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("key_cert_sign", "crl_sign"),
        )
        return {name for name in names if getattr(found.value, name)}

    def test_authority(self) -> None:
        """The authority signs certificates and lists with P-256, and no authority below itself."""
        certificate = self.signer.certificate
        self.assertIsInstance(certificate.public_key(), ec.EllipticCurvePublicKey)
        constraints = self.extension(certificate, x509.BasicConstraints)
        self.assertTrue(constraints.critical)
        self.assertEqual(constraints.value, x509.BasicConstraints(ca=True, path_length=0))
        self.assertEqual(self.usages(certificate), {"key_cert_sign", "crl_sign"})
        certificate.verify_directly_issued_by(certificate)

    def test_client(self) -> None:
        """A client's certificate is for clients, signs, and names its authority's key and its own."""
        certificate = self.leaf("client", profile.new_key(), (x509.DNSName("alice"),))
        certificate.verify_directly_issued_by(self.signer.certificate)
        self.assertEqual(self.usages(certificate), {"digital_signature"})
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(purposes), [ExtendedKeyUsageOID.CLIENT_AUTH])
        self.assertEqual(
            self.extension(certificate, x509.BasicConstraints).value, x509.BasicConstraints(ca=False, path_length=None)
        )
        own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        self.assertEqual(own, x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()))
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        above = self.signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        self.assertEqual(issuer.key_identifier, above.key_identifier)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(list(names), [x509.DNSName("alice")])
        self.assertEqual(
            (certificate.not_valid_before_utc, certificate.not_valid_after_utc),
            (VALIDITY.not_before, VALIDITY.not_after),
        )

    def test_server(self) -> None:
        """A server's certificate is for servers only."""
        certificate = self.leaf("server", profile.new_key())
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(purposes), [ExtendedKeyUsageOID.SERVER_AUTH])
        self.assertRaises(
            x509.ExtensionNotFound, certificate.extensions.get_extension_for_class, x509.SubjectAlternativeName
        )

    def test_rsa(self) -> None:
        """An RSA key has 3072 bits and may encipher keys, as older TLS needs."""
        key = profile.new_key("rsa")
        assert isinstance(key, rsa.RSAPrivateKey)
        self.assertEqual(key.key_size, 3072)
        self.assertEqual(self.usages(self.leaf("client", key)), {"digital_signature", "key_encipherment"})

    def test_serials_are_random(self) -> None:
        """No two certificates have one serial number, and each is positive and at most 20 octets."""
        key = profile.new_key()
        serials = {self.leaf("client", key).serial_number for _ in range(20)}
        self.assertEqual(len(serials), 20)
        self.assertTrue(all(0 < serial < 1 << 159 for serial in serials))

    def test_key_format(self) -> None:
        """Keys are PKCS #8, which every client reads."""
        key = profile.new_key()
        pem = profile.key_pem(key)
        self.assertTrue(pem.startswith(b"-----BEGIN PRIVATE KEY-----\n"))
        loaded = serialization.load_pem_private_key(pem, None)
        self.assertEqual(loaded.public_key(), key.public_key())

    def test_key_with_a_passphrase(self) -> None:
        """A key with a passphrase is encrypted with AES, and opens with nothing else."""
        key = profile.new_key()
        pem = profile.key_pem(key, b"secret")
        self.assertTrue(pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"))
        self.assertEqual(serialization.load_pem_private_key(pem, b"secret").public_key(), key.public_key())
        self.assertRaises(ValueError, serialization.load_pem_private_key, pem, b"Secret")


class RevocationListTests(SynchronousTestCase):
    def test_contents(self) -> None:
        """A list is signed, numbered, and tells serial, date and reason of each certificate."""
        signer = new_signer()
        revocations = [
            profile.Revocation(1, START, "unspecified"),
            profile.Revocation(0xABC, START - SECOND, "key-compromise"),
        ]
        crl = profile.revocation_list(signer, revocations, START, START + timedelta(days=30), 7)
        key = signer.certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self.assertTrue(crl.is_signature_valid(key))
        self.assertEqual((crl.last_update_utc, crl.next_update_utc), (START, START + timedelta(days=30)))
        self.assertEqual(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number, 7)
        plain, compromised = crl.get_revoked_certificate_by_serial_number(1), list(crl)[1]
        assert plain is not None
        self.assertEqual(len(plain.extensions), 0)
        self.assertEqual((compromised.serial_number, compromised.revocation_date_utc), (0xABC, START - SECOND))
        reason = compromised.extensions.get_extension_for_class(x509.CRLReason).value.reason
        self.assertEqual(reason, x509.ReasonFlags.key_compromise)
        self.assertEqual(x509.load_pem_x509_crl(profile.crl_pem(crl)), crl)

    @given(st.lists(st.integers(-200, 400), max_size=30))
    def test_times_grow_and_are_past(self, pauses: list[int]) -> None:
        """
        Whether the clock goes, stands, or goes back, each list is later than the last, and none lies in the future.

        Only where the two exclude each other is it not later.
        """
        now, previous = START, None
        for pause in pauses:
            now += timedelta(seconds=pause)
            made = profile.next_crl_time(now, previous, BACKDATING)
            self.assertLessEqual(made, now)
            self.assertGreaterEqual(made, now - BACKDATING)
            if previous is not None and previous < now:
                self.assertGreater(made, previous)
            previous = made

    def test_clock_set_back(self) -> None:
        """After the clock went back, a list is good now rather than later than one from the future."""
        self.assertEqual(profile.next_crl_time(START, START + timedelta(days=1), BACKDATING), START)
