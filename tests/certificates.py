"""
Certificates, keys and revocation lists for the tests, of every kind that can be shown to a relay.

What is asked for twice is made once per process: key generation costs.  Times
are offsets from the moment this module was imported, so that equal questions
get equal answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from openai_relay.core.settings import ListenSettings, Secret

Purpose = Literal["client", "server"]

NOW: Final = datetime.now(UTC).replace(microsecond=0)
DAY: Final = timedelta(days=1)

_PURPOSES: Final = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}
_PEM: Final = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate with its key, and the intermediates that lead from it towards its root."""

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey
    intermediates: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(_PEM)

    @property
    def chain_pem(self) -> bytes:
        """The certificate, then its intermediates: what its holder sends."""
        return b"".join([each.public_bytes(_PEM) for each in (self.certificate, *self.intermediates)])

    @property
    def key_pem(self) -> bytes:
        """The private key, not encrypted."""
        return self.private_key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    def write(self, directory: Path, stem: str, *, chain: bool = True) -> tuple[Path, Path]:
        """Put ``STEM.pem`` and ``STEM.key`` there, with or without the intermediates; returns both paths."""
        certificate, key = directory / f"{stem}.pem", directory / f"{stem}.key"
        certificate.write_bytes(self.chain_pem if chain else self.pem)
        key.write_bytes(self.key_pem)
        return certificate, key


@cache
def authority(name: str = "Test CA", number: int = 0) -> Credential:
    """A root; another ``number`` is another authority of the same name."""
    return _authority(name, None, number)


@cache
def intermediate(name: str = "Test intermediate", issuer: Credential | None = None) -> Credential:
    """An authority under a root (the usual one, or this one)."""
    return _authority(name, issuer or authority(), 0)


@cache
def client(
    name: str = "alice",
    issuer: Credential | None = None,
    *,
    purpose: Purpose | None = "client",
    not_before: timedelta = -DAY,
    not_after: timedelta = 365 * DAY,
    common_names: tuple[str, ...] | None = None,
    dns: tuple[str, ...] = (),
    uris: tuple[str, ...] = (),
    emails: tuple[str, ...] = (),
    place: str | None = None,
) -> Credential:
    """
    A client's certificate, of the usual authority unless another is named.

    :param common_names: in place of the one that is the name; may be none or several.
    :param purpose: the extended key usage; ``None``: the extension is not there.
    :param place: where its revocation list is published, says cRLDistributionPoints.
    """
    names: list[x509.GeneralName] = [x509.DNSName(each) for each in dns]
    names += [x509.UniformResourceIdentifier(each) for each in uris]
    names += [x509.RFC822Name(each) for each in emails]
    subject = (name,) if common_names is None else common_names
    points = None
    if place is not None:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(place)], None, None, None)
        points = x509.CRLDistributionPoints([point])
    return _leaf(subject, issuer or authority(), purpose, names, NOW + not_before, NOW + not_after, points)


@cache
def garbled(encoded: bytes = b"garbage") -> Credential:
    """A client's certificate whose alternative names, DER that is given, nobody can read."""
    names = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, encoded)
    return _leaf(("mallory",), authority(), "client", (), NOW - DAY, NOW + DAY, names)


@cache
def server(
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1"),
    issuer: Credential | None = None,
    *,
    not_before: timedelta = -DAY,
    not_after: timedelta = 365 * DAY,
) -> Credential:
    """A server's certificate for these names and addresses, of the usual authority unless another is named."""
    return _leaf((hosts[0],), issuer or authority(), "server", _hosts(hosts), NOW + not_before, NOW + not_after)


def revocation_list(
    revoked: Sequence[Credential] = (),
    issuer: Credential | None = None,
    *,
    this_update: timedelta = -DAY,
    next_update: timedelta = 30 * DAY,
    scope: x509.ExtensionType | None = None,
    encoding: serialization.Encoding = _PEM,
) -> bytes:
    """
    A revocation list; by default it is empty, in force, in PEM, and of the usual authority.

    :param scope: a critical extension that says what it is about.
    """
    signer = issuer or authority()
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.certificate.subject)
        .last_update(NOW + this_update)
        .next_update(NOW + next_update)
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(NOW + this_update).build())
    if scope is not None:
        builder = builder.add_extension(scope, critical=True)
    return builder.sign(signer.private_key, hashes.SHA256()).public_bytes(encoding)


def place(url: str | None = None, **limits: bool) -> x509.IssuingDistributionPoint:
    """
    Says of a list where it is published, and with what limits (``only_contains_user_certs`` and the like).

    :param limits: further fields of `x509.IssuingDistributionPoint`, those that say yes or no.
    """
    names = ("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl", "only_contains_attribute_certs")
    users, authorities, indirect, attributes = (limits.get(name, False) for name in names)
    full_name = None if url is None else [x509.UniformResourceIdentifier(url)]
    return x509.IssuingDistributionPoint(full_name, None, users, authorities, None, indirect, attributes)


def listen_settings(
    directory: Path, *, trusted: Credential | None = None, crl: bytes | None = None, **others: object
) -> ListenSettings:
    """
    Write ``server.pem``, ``ca.pem`` and (if one is given) ``crl.pem`` there; returns settings that name them.

    :param trusted: whose clients are let in.
    :param others: further fields of `ListenSettings`; the address is a free port unless it says otherwise.
    """
    of_server = server()
    certificate, _ = of_server.write(directory, "server")
    client_ca = directory / "ca.pem"
    client_ca.write_bytes((trusted or authority()).pem)
    path = None
    if crl is not None:
        path = directory / "crl.pem"
        path.write_bytes(crl)
    fields: dict[str, object] = {"address": "127.0.0.1:0", "crl": path, **others}
    return ListenSettings(certificate, Secret(of_server.key_pem), client_ca, **fields)  # type: ignore[arg-type]


def _hosts(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _subject(names: Sequence[str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _authority(name: str, issuer: Credential | None, number: int) -> Credential:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject([name])
    builder = _builder(
        subject, key, subject if issuer is None else issuer.certificate.subject, NOW - 10 * DAY, NOW + 3_650 * DAY
    )
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(_issuer_of(issuer, key), critical=False)
        .sign(key if issuer is None else issuer.private_key, hashes.SHA256())
    )
    return Credential(certificate, key, () if issuer is None else (certificate, *issuer.intermediates))


def _leaf(
    names: Sequence[str],
    issuer: Credential,
    purpose: Purpose | None,
    alternative: Sequence[x509.GeneralName],
    start: datetime,
    end: datetime,
    further: x509.ExtensionType | None = None,
) -> Credential:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_subject(names), key, issuer.certificate.subject, start, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_issuer_of(issuer, key), critical=False)
    )
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([_PURPOSES[purpose]]), critical=False)
    if alternative:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
    if further is not None:
        builder = builder.add_extension(further, critical=False)
    return Credential(builder.sign(issuer.private_key, hashes.SHA256()), key, issuer.intermediates)


def _issuer_of(issuer: Credential | None, key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    public = key.public_key() if issuer is None else issuer.private_key.public_key()
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
