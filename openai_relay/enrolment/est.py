"""
The forms of EST (RFC 7030, as RFC 8951 clarifies it): base64 bodies, certificates without a signature around them.

Nothing here does I/O or decides.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

#: Where EST lives (RFC 7030 §3.2.2).
ROOT: Final = b"/.well-known/est/"
#: Bytes of a request's body that are read; a request of RSA 4096 has about 2 KiB.
LONGEST_BODY: Final = 1 << 16
CERTIFICATES: Final = b"application/pkcs7-mime; smime-type=certs-only"
_PEM: Final = b"-----BEGIN"


class BadBody(ValueError):
    """A body is not what EST sends; the text says what it should be."""


def request_bytes(body: bytes) -> bytes:
    """
    The certification request in a body: base64 with line ends or without, or DER or PEM as it is.

    :raises BadBody: it is none of these.
    """
    if body[:1] == b"\x30" or _PEM in body:  # DER of a sequence, which base64 never begins with
        return body
    try:
        found = base64.b64decode(b"".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadBody("The body must be a PKCS #10 request in base64 (RFC 7030 §4.2.1).") from None
    if not found:
        raise BadBody("The body is empty; send a PKCS #10 request in base64 (RFC 7030 §4.2.1).")
    return found


def certificates_body(*certificates: x509.Certificate) -> bytes:
    """Certificates as a body: PKCS #7 without a signature, in base64 with line ends."""
    return base64.encodebytes(pkcs7.serialize_certificates(list(certificates), Encoding.DER))


def certificates_of(body: bytes) -> list[x509.Certificate]:
    """
    The certificates in such a body.

    :raises BadBody: there are none.
    """
    try:
        found = pkcs7.load_der_pkcs7_certificates(base64.b64decode(b"".join(body.split()), validate=True))
    except (binascii.Error, ValueError):
        found = []
    if not found:
        raise BadBody("There is no certificate in it (RFC 7030 §4.2.3).")
    return found


def password_of(authorization: str | None) -> tuple[str, str] | None:
    """User and password of HTTP Basic authentication (RFC 7617); ``None``: there are none that can be read."""
    scheme, _, encoded = (authorization or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None
