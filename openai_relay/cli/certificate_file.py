"""What the certificate in a file says, and what the authority here knows of it."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from openai_relay.authority.directory import Authority, Clock, utc_now
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.index import record
from openai_relay.authority.reading import read_certificate
from openai_relay.cli.documents import ShownDocument


def describe(file: Path, directory: Path, clock: Clock = utc_now) -> ShownDocument:
    """
    Read the certificate, and look it up where there is an authority.

    :raises AuthorityError: when the file holds none.
    """
    certificate = read_certificate(file, "Name the file of a certificate")
    issued, issued_here = record(certificate), None
    if (directory / "ca.pem").exists():
        authority = Authority.open(directory, clock)
        issued_here = authority.has_issued(certificate)
        if issued_here:
            issued = next((each for each in authority.issued() if each.serial == issued.serial), issued)
    now = clock()
    return ShownDocument(
        file=file,
        kind="authority" if _is_authority(certificate) else issued.kind,
        name=issued.name,
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=issued.serial,
        fingerprint=issued.fingerprint,
        not_before=issued.not_before,
        not_after=issued.not_after,
        days_left=issued.days_left(now),
        names=issued.names,
        key=_key(certificate),
        issued_here=issued_here,
        state=issued.state(now),
    )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except (ValueError, TypeError) as error:
        raise AuthorityError(f"Its public key cannot be read ({error})", "Name another certificate") from None
    match key:
        case ec.EllipticCurvePublicKey():
            return f"ECDSA {key.curve.name}"
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
        case _:
            return type(key).__name__.removesuffix("PublicKey")
