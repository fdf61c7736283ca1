"""
What each certificate and revocation list says (RFC 5280), and nothing about where they are kept.

The profile of client certificates is the one that OpenAI's own mutual TLS asks
for: issued directly by the authority, subject and authority key identifiers,
key usage digitalSignature (keyEncipherment too for RSA), purpose clientAuth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from openai_relay.authority.reasons import Reason

Kind = Literal["client", "server"]
KeyType = Literal["p256", "rsa"]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

RSA_BITS: Final = 3072

_PURPOSE: Final[dict[Kind, ObjectIdentifier]] = {
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
}


_REASONS: Final[dict[Reason, x509.ReasonFlags]] = {
    "key-compromise": x509.ReasonFlags.key_compromise,
    "affiliation-changed": x509.ReasonFlags.affiliation_changed,
    "superseded": x509.ReasonFlags.superseded,
    "cessation-of-operation": x509.ReasonFlags.cessation_of_operation,
    "privilege-withdrawn": x509.ReasonFlags.privilege_withdrawn,
}


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when, in whole seconds, with time zone."""

    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Signer:
    """The authority while it signs: its certificate with its key."""

    certificate: x509.Certificate
    key: PrivateKey


@dataclass(frozen=True, slots=True)
class Revocation:
    """One line of a revocation list."""

    serial: int
    revoked_at: datetime
    reason: Reason


def new_key(key_type: KeyType = "p256") -> PrivateKey:
    if key_type == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    return ec.generate_private_key(ec.SECP256R1())


def authority_certificate(key: PrivateKey, name: str, validity: Validity) -> x509.Certificate:
    """The root: it signs certificates and revocation lists, and no further authority."""
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    return (
        _builder(_subject(name), _subject(name), public, validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )


def leaf_certificate(
    signer: Signer,
    kind: Kind,
    key: PublicKey,
    name: str,
    alternative: Sequence[x509.GeneralName],
    validity: Validity,
) -> x509.Certificate:
    """A client's or a server's certificate, directly under the authority."""
    usage = _key_usage(enciphers_keys=isinstance(key, rsa.RSAPublicKey))
    builder = (
        _builder(_subject(name), signer.certificate.subject, key, validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([_PURPOSE[kind]]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_issuer_identifier(signer.certificate), critical=False)
    )
    if alternative:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
    return builder.sign(signer.key, hashes.SHA256())


def revocation_list(
    signer: Signer,
    revocations: Iterable[Revocation],
    this_update: datetime,
    next_update: datetime,
    number: int,
) -> x509.CertificateRevocationList:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.certificate.subject)
        .last_update(this_update)
        .next_update(next_update)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_issuer_identifier(signer.certificate), critical=False)
    )
    for each in revocations:
        entry = x509.RevokedCertificateBuilder().serial_number(each.serial).revocation_date(each.revoked_at)
        if each.reason != "unspecified":  # RFC 5280 §5.3.1: absent rather than unspecified
            entry = entry.add_extension(x509.CRLReason(_REASONS[each.reason]), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(signer.key, hashes.SHA256())


def next_crl_time(now: datetime, previous: datetime | None, backdating: timedelta) -> datetime:
    """
    When the next list says it was made: strictly later than the one before, and never in the future.

    OpenSSL ignores a list that is not later, by whole seconds, than one it has,
    and refuses everybody while one lies ahead of its clock.  Lists are therefore
    dated back, and a burst of them uses up the seconds in between.  Only after a
    clock was set back is "not in the future" worth more than "strictly later".
    """
    earliest = now - backdating
    if previous is None:
        return earliest
    return min(max(earliest, previous + timedelta(seconds=1)), now)


def certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def crl_pem(crl: x509.CertificateRevocationList) -> bytes:
    return crl.public_bytes(serialization.Encoding.PEM)


def key_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """
    The private key, PKCS #8: whoever writes it restricts the file.

    :param passphrase: ``None``: it is not encrypted
    """
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _builder(subject: x509.Name, issuer: x509.Name, key: PublicKey, validity: Validity) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _issuer_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _key_usage(signs_certificates: bool = False, enciphers_keys: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=enciphers_keys,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
