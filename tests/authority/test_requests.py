"""What is believed of a request, and what is said of those that are no good."""

from __future__ import annotations

import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority import profile
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.names import AlternativeNames
from openai_relay.authority.requests import LARGEST, read_request
from tests.authority.csrs import csr
from tests.authority.test_profile import new_signer

DER = serialization.Encoding.DER
#: RSA with PKCS #1 and SHA-256, SHA-1, or something that nobody has defined, as DER.
SHA256, SHA1, NOTHING = (bytes.fromhex(f"06092a864886f70d0101{last}") for last in ("0b", "05", "7f"))
GOOD = csr("alice", encoding=DER)


class KeyTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        """P-256, P-384 and RSA from 2048 bits are accepted, in PEM and in DER, with text around the PEM."""
        keys: tuple[profile.PrivateKey, ...] = (
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP384R1()),
            rsa.generate_private_key(65_537, 2_048),
        )
        for key in keys:
            for content in (csr("alice", key=key), csr(key=key, encoding=DER), b"Hello\n" + csr("alice", key=key)):
                self.assertEqual(read_request(content).public_key, key.public_key())

    def test_older_label(self) -> None:
        """The label that other tools write (NEW CERTIFICATE REQUEST) is understood."""
        content = csr("alice").replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST")
        self.assertEqual(read_request(content).name(), "alice")

    def test_refused_keys(self) -> None:
        """A key that is too small, too large, or of another kind is refused with what would do."""
        for key, reason in (
            (rsa.generate_private_key(65_537, 1_024), "The RSA key of this request has 1024 bits"),
            (ec.generate_private_key(ec.SECP521R1()), "is on the curve secp521r1"),
            (ec.generate_private_key(ec.SECP256K1()), "is on the curve secp256k1"),
        ):
            said = str(self.assertRaises(AuthorityError, read_request, csr("alice", key=key), "x.csr"))
            self.assertIn(reason, said)
            self.assertIn("x.csr: ", said)
            self.assertIn("ECDSA P-256 or P-384, or RSA of 2048 to 8192 bits", said)

    def test_other_kind_of_key(self) -> None:
        """Ed25519, which many clients and the API itself may not know, is refused by its name."""
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "alice")])
        request = x509.CertificateSigningRequestBuilder(subject).sign(ed25519.Ed25519PrivateKey.generate(), None)
        content = request.public_bytes(DER)
        self.assertIn("(Ed25519)", str(self.assertRaises(AuthorityError, read_request, content)))

    def test_weak_digest(self) -> None:
        """A signature with SHA-1 or another weak digest proves nothing."""
        content = csr("alice", key=rsa.generate_private_key(65_537, 2_048), encoding=DER)
        for digest, name in ((SHA1, "sha1"), (NOTHING, "an unknown digest")):
            error = self.assertRaises(AuthorityError, read_request, content.replace(SHA256, digest))
            self.assertIn(f"signed with {name}. Make it anew with SHA-256", str(error))

    def test_somebody_elses_key(self) -> None:
        """Who asks for another's key without holding it gets nothing."""
        theirs, ours = csr("alice", encoding=DER), profile.new_key().public_key()
        raw = serialization.PublicFormat.SubjectPublicKeyInfo
        key = read_request(theirs).public_key.public_bytes(DER, raw)
        content = theirs.replace(key, ours.public_bytes(DER, raw))
        self.assertIn("nobody has proved to hold", str(self.assertRaises(AuthorityError, read_request, content)))

    @given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
    def test_any_change(self, place: int, change: int) -> None:
        """However a request is changed on its way, it is refused, or asks for the same as before."""
        content = bytearray(GOOD)
        content[place] ^= change
        try:
            read = read_request(bytes(content))
        except AuthorityError:  # and never anything but an error for people
            return
        # DER lets a signature be written in more than one way; what it signs it does not.
        meant = read_request(GOOD)
        self.assertEqual((read.subject, read.wished), (meant.subject, meant.wished))

    @given(st.binary(max_size=300))
    @example(b"")
    @example(b"-----BEGIN CERTIFICATE-----")
    def test_any_bytes(self, content: bytes) -> None:
        """No bytes get past, whatever label they have."""
        for begin in (b"", b"-----BEGIN CERTIFICATE REQUEST-----\n"):
            error = self.assertRaises(AuthorityError, read_request, begin + content, "x.csr")
            self.assertTrue(str(error).startswith("x.csr: This is "), str(error))

    def test_something_else(self) -> None:
        """A key, a certificate, and a file without end are each called what they are; no key is repeated."""
        key = profile.key_pem(profile.new_key())
        said = str(self.assertRaises(AuthorityError, read_request, key))
        self.assertIn("This is a private key. Name the request", said)
        self.assertNotIn(key.splitlines()[1].decode(), said)
        pem = profile.certificate_pem(new_signer().certificate)
        self.assertIn("This is a certificate already", str(self.assertRaises(AuthorityError, read_request, pem)))
        content = b"\0" * (LARGEST + 1)
        self.assertIn("longer than any request", str(self.assertRaises(AuthorityError, read_request, content)))


class WishTests(SynchronousTestCase):
    def test_name(self) -> None:
        """The one CN is the name, by the rules for all names."""
        self.assertEqual(read_request(csr("alice")).name(), "alice")
        for common_names, reason in (
            ((), "The request has no CN"),
            (("alice", "bob"), "holds 2 common names"),
            (("a/b",), "path separator"),
            (("a\nb",), "do not print"),
        ):
            error = self.assertRaises(AuthorityError, read_request(csr(*common_names)).name)
            self.assertIn(reason, str(error))

    def test_alternative_names(self) -> None:
        """Names of the three kinds are handed on to who asks for them."""
        wished = [
            x509.RFC822Name("alice@example.org"),
            x509.DNSName("laptop"),
            x509.UniformResourceIdentifier("spiffe://x/alice"),
        ]
        request = read_request(csr("alice", alternative=wished))
        self.assertEqual(
            request.alternative(), AlternativeNames(("laptop",), ("spiffe://x/alice",), ("alice@example.org",))
        )

    def test_no_alternative_names(self) -> None:
        """A request that wishes for none is said to be so when they are asked for."""
        error = self.assertRaises(AuthorityError, read_request(csr("alice")).alternative)
        self.assertIn("holds no alternative names", str(error))

    def test_other_kinds_of_names(self) -> None:
        """Addresses and directory names are not for clients; who asks for them is told."""
        directory = x509.DirectoryName(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")]))
        for name, kind in (
            (x509.IPAddress(ipaddress.ip_address("::1")), "IP address"),
            (directory, "directory name"),
            (x509.RegisteredID(x509.ObjectIdentifier("1.2.3")), "RegisteredID"),
        ):
            request = read_request(csr("alice", alternative=[name]))
            self.assertIn(f"({kind})", str(self.assertRaises(AuthorityError, request.alternative)))

    def test_malformed_extensions(self) -> None:
        """A request whose extensions nobody can read is refused in words."""
        broken = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x04\x00")
        content = csr("alice", extensions=[broken])
        self.assertIn("malformed", str(self.assertRaises(AuthorityError, read_request, content)))
