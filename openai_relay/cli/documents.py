"""What ``--json`` says of certificates and revocation lists; the field names are documented and stay."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from openai_relay.authority.index import Issued
from openai_relay.authority.profile import Kind
from openai_relay.authority.revocations import RevocationList

#: A valid certificate ends soon when this is left of it, or a third of its life if that is less.
SOON: Final = timedelta(days=30)


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
    expires_soon: bool
    names: tuple[str, ...]
    revoked_at: datetime | None
    reason: str | None

    @classmethod
    def of(cls, issued: Issued, now: datetime) -> CertificateDocument:
        soon = min(SOON, (issued.not_after - issued.not_before) / 3)
        return cls(
            kind=issued.kind,
            name=issued.name,
            serial=issued.serial,
            fingerprint=issued.fingerprint,
            state=issued.state(now),
            not_before=issued.not_before,
            not_after=issued.not_after,
            days_left=issued.days_left(now),
            expires_soon=issued.state(now) == "valid" and issued.not_after - now < soon,
            names=issued.names,
            revoked_at=issued.revoked_at,
            reason=issued.reason,
        )


@dataclass(frozen=True, slots=True)
class ListedDocument(CertificateDocument):
    """One certificate, and when it was used last."""

    last_seen: datetime | None

    @classmethod
    def seen(cls, issued: Issued, now: datetime, last_seen: datetime | None) -> ListedDocument:
        document = CertificateDocument.of(issued, now)
        return cls(**{each.name: getattr(document, each.name) for each in fields(document)}, last_seen=last_seen)


@dataclass(frozen=True, slots=True)
class IssuedDocument:
    """A certificate just issued, with its files."""

    certificate: CertificateDocument
    certificate_file: Path
    key_file: Path | None  #: None: the key is where the request was made
    p12_file: Path | None
    ca_file: Path
    shortened: bool
    base_url: str | None  #: for a client: what to give an SDK


@dataclass(frozen=True, slots=True)
class ListDocument:
    """Certificates, sorted as asked."""

    certificates: tuple[ListedDocument, ...]
    ledger: Path | None  #: where ``last_seen`` is from
    seen_since: datetime | None  #: how far back that looks


@dataclass(frozen=True, slots=True)
class RenewedDocument(IssuedDocument):
    """A certificate just issued in place of another."""

    renewed: CertificateDocument  #: the other one, which stays good


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
    due: datetime  #: when the next one should be written
    written: bool  #: this one was, just now

    @classmethod
    def of(cls, crl: RevocationList, now: datetime, *, written: bool) -> CrlDocument:
        return cls(
            file=crl.path,
            number=crl.number,
            this_update=crl.this_update,
            next_update=crl.next_update,
            days_left=(crl.next_update - now).days,
            revoked=crl.revoked,
            due=crl.due.replace(microsecond=0),
            written=written,
        )
