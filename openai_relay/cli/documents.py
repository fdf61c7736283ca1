"""What ``--json`` says of certificates and revocation lists; the field names are documented and stay."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from openai_relay.authority.directory import RevocationList
from openai_relay.authority.index import Issued
from openai_relay.authority.profile import Kind


@dataclass(frozen=True, slots=True)
class CertificateDocument:
    """One certificate."""

    kind: Kind
    name: str
    serial: str
    fingerprint: str
    state: str
    not_before: datetime
    not_after: datetime
    days_left: int
    names: tuple[str, ...]
    revoked_at: datetime | None
    reason: str | None

    @classmethod
    def of(cls, issued: Issued, now: datetime) -> CertificateDocument:
        return cls(
            kind=issued.kind,
            name=issued.name,
            serial=issued.serial,
            fingerprint=issued.fingerprint,
            state=issued.state(now),
            not_before=issued.not_before,
            not_after=issued.not_after,
            days_left=issued.days_left(now),
            names=issued.names,
            revoked_at=issued.revoked_at,
            reason=issued.reason,
        )


@dataclass(frozen=True, slots=True)
class IssuedDocument:
    """A certificate just issued, with its files."""

    certificate: CertificateDocument
    certificate_file: Path
    key_file: Path
    ca_file: Path
    shortened: bool
    base_url: str | None  #: for a client: what to give an SDK


@dataclass(frozen=True, slots=True)
class ListDocument:
    """Certificates, in the order in which they were issued."""

    certificates: tuple[CertificateDocument, ...]


@dataclass(frozen=True, slots=True)
class RevokedDocument:
    """What was asked to be revoked, and the list that says so."""

    certificates: tuple[CertificateDocument, ...]
    crl_file: Path


@dataclass(frozen=True, slots=True)
class ShownDocument:
    """A certificate as it is read off a file."""

    file: Path
    kind: str  #: client, server, or authority
    name: str
    subject: str
    issuer: str
    serial: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    days_left: int
    names: tuple[str, ...]
    key: str
    issued_here: bool | None  #: None: there is no authority here that could tell
    state: str


@dataclass(frozen=True, slots=True)
class CrlDocument:
    """The revocation list."""

    file: Path
    number: int
    this_update: datetime
    next_update: datetime
    days_left: int
    revoked: int

    @classmethod
    def of(cls, crl: RevocationList, now: datetime) -> CrlDocument:
        return cls(
            file=crl.path,
            number=crl.number,
            this_update=crl.this_update,
            next_update=crl.next_update,
            days_left=(crl.next_update - now).days,
            revoked=crl.revoked,
        )
