"""
Read a certificate signing request (PKCS #10), and believe of it no more than its key.

Its signature proves that whoever made it holds the private key.  What else it
asks for (names, purposes, authority) is a stranger's wish: names are handed on
for those who want them, everything else is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.names import AlternativeNames, client_name
from openai_relay.authority.profile import PublicKey

#: No request comes near this; a device or a wrong file would fill the memory.
LARGEST: Final = 65_536
RSA_BITS: Final = (2_048, 8_192)
CURVES: Final = ("secp256r1", "secp384r1")

_PEM: Final = (b"-----BEGIN CERTIFICATE REQUEST-----", b"-----BEGIN NEW CERTIFICATE REQUEST-----")
_DIGESTS: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_MAKE: Final = (
    "Make one with `openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
    "-subj /CN=NAME -keyout NAME.key -out NAME.csr`"
)
_KEYS: Final = "Make a new key: ECDSA P-256 or P-384, or RSA of 2048 to 8192 bits"


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """What a request proves (its key), and what it wishes for."""

    public_key: PublicKey
    subject: x509.Name
    wished: tuple[x509.GeneralName, ...]  #: its alternative names, unchecked
    where: object  #: the file it came from, for messages

    def name(self) -> str:
        """The one CN of its subject, if it is a name that a client may have."""
        found = [str(each.value) for each in self.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if len(found) != 1:
            what = f"The request holds {len(found) or 'no'} common names (CN)" if found else "The request has no CN"
            raise AuthorityError(what, "Say the client's name yourself, as NAME", self.where)
        return client_name(found[0])

    def alternative(self) -> AlternativeNames:
        """Its alternative names, of the kinds that a client's certificate may carry; checked when they are used."""
        if not self.wished:
            raise AuthorityError("The request holds no alternative names", "Do without them", self.where)
        dns, uri, email = [], [], []
        for each in self.wished:
            match each:
                case x509.DNSName():
                    dns.append(each.value)
                case x509.UniformResourceIdentifier():
                    uri.append(each.value)
                case x509.RFC822Name():
                    email.append(each.value)
                case _:
                    what = f"The request asks for an alternative name of a kind that clients do not get ({_kind(each)})"
                    raise AuthorityError(what, "Give the names yourself, or have them left out there", self.where)
        return AlternativeNames(tuple(dns), tuple(uri), tuple(email))


def read_request(content: bytes, where: object = None) -> SigningRequest:
    """
    A request out of its bytes, PEM or DER, with its signature verified and its key found good enough.

    :param where: the file it came from, for messages
    :raises AuthorityError: with what is wrong with it; then nothing may be issued for it.
    """
    if len(content) > LARGEST:
        raise AuthorityError(f"This is longer than any request ({LARGEST} bytes)", "Name the right file", where)
    request = _parsed(content, where)
    public_key = _key(request, where)
    _verify(request, where)
    try:
        # Parsed when first asked for, all at once: one that is malformed spoils the rest.
        wished = tuple(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        subject = request.subject
    except x509.ExtensionNotFound:
        wished, subject = (), request.subject
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise AuthorityError(f"This request is malformed ({error})", _MAKE, where) from None
    return SigningRequest(public_key, subject, wished, where)


def _parsed(content: bytes, where: object) -> x509.CertificateSigningRequest:
    try:
        if any(begin in content for begin in _PEM):
            return x509.load_pem_x509_csr(content)
        if b"-----BEGIN " not in content:
            return x509.load_der_x509_csr(content)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise AuthorityError("This is not a certificate signing request, or a damaged one", _MAKE, where) from None
    if b"PRIVATE KEY-----" in content:
        do = "Name the request that was made with it (a .csr file), and keep the key where it is"
        raise AuthorityError("This is a private key", do, where)
    if b"-----BEGIN CERTIFICATE-----" in content:
        raise AuthorityError("This is a certificate already", "Name a request (a .csr file)", where)
    raise AuthorityError("This is not a certificate signing request", _MAKE, where)


def _key(request: x509.CertificateSigningRequest, where: object) -> PublicKey:
    try:
        key = request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise AuthorityError("The key of this request cannot be read", _KEYS, where) from None
    match key:
        case ec.EllipticCurvePublicKey():
            if key.curve.name not in CURVES:
                raise AuthorityError(f"The key of this request is on the curve {key.curve.name}", _KEYS, where)
        case rsa.RSAPublicKey():
            if not RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
                raise AuthorityError(f"The RSA key of this request has {key.key_size} bits", _KEYS, where)
        case _:
            kind = type(key).__name__.removesuffix("PublicKey")
            raise AuthorityError(
                f"The key of this request is of a kind that not everybody reads ({kind})", _KEYS, where
            )
    return key


def _verify(request: x509.CertificateSigningRequest, where: object) -> None:
    try:
        digest = request.signature_hash_algorithm
        holds = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        digest, holds = None, False
    if not isinstance(digest, _DIGESTS):
        name = "an unknown digest" if digest is None else digest.name
        raise AuthorityError(f"This request is signed with {name}", "Make it anew with SHA-256", where)
    if not holds:
        what = "The signature of this request is not its key's, so nobody has proved to hold that key"
        raise AuthorityError(what, "Make it anew, and let nothing change it on its way", where)


def _kind(name: x509.GeneralName) -> str:
    match name:
        case x509.IPAddress():
            return "IP address"
        case x509.DirectoryName():
            return "directory name"
        case _:
            return type(name).__name__
