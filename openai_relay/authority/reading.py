"""Read certificates, keys and revocation lists that people hand in, and say plainly what they are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.files import read_file
from openai_relay.authority.profile import PrivateKey

#: Asks for the passphrase of a key; called only when there is one.
Passphrase = Callable[[], bytes]

_PEM: Final = b"-----BEGIN "


def read_certificate(path: Path, missing: str) -> x509.Certificate:
    """
    The first certificate of a file, PEM or DER.

    :param missing: what to do when there is no such file
    """
    content = read_file(path, missing)
    try:
        pem = _PEM in content
        certificate = x509.load_pem_x509_certificate(content) if pem else x509.load_der_x509_certificate(content)
    except (ValueError, UnsupportedAlgorithm):
        if b"PRIVATE KEY-----" in content and b"BEGIN CERTIFICATE" not in content:
            raise AuthorityError("This is a private key", "Name the certificate that belongs to it", path) from None
        raise AuthorityError("This is not a certificate", "Name a file with one, PEM or DER", path) from None
    try:
        _ = certificate.extensions  # parsed when first asked for, and everybody asks
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise AuthorityError(f"This certificate is malformed ({error})", "Name another one", path) from None
    return certificate


def read_key(path: Path, missing: str, passphrase: Passphrase | None = None) -> PrivateKey:
    """
    A private key, ECDSA or RSA.

    :param passphrase: asked if the key is encrypted; ``None``: then it is refused
    """
    content = read_file(path, missing)
    key: object
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError:  # it wants a password
        if passphrase is None:
            do = "Give its passphrase with --ca-passphrase-from file:PATH or env:NAME"
            raise AuthorityError("This key is encrypted", do, path) from None
        key = _decrypted(content, passphrase(), path)
    except (ValueError, UnsupportedAlgorithm):
        raise AuthorityError("This is not a private key in PEM", missing, path) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise AuthorityError("This key is neither ECDSA nor RSA", missing, path)
    return key


def _decrypted(content: bytes, passphrase: bytes, path: Path) -> object:
    try:
        return serialization.load_pem_private_key(content, passphrase or b"\0")  # an empty one is taken for none
    except (ValueError, TypeError, UnsupportedAlgorithm):
        what = "The passphrase is not this key's (or the key is damaged)"
        raise AuthorityError(
            what, "Try again with the passphrase that was given to `openai-relay init`", path
        ) from None


def read_revocation_list(path: Path, missing: str) -> x509.CertificateRevocationList:
    content = read_file(path, missing)
    try:
        return x509.load_pem_x509_crl(content)
    except (ValueError, UnsupportedAlgorithm):
        raise AuthorityError("This is not a revocation list in PEM", missing, path) from None


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority's key has signed the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
