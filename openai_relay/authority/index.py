"""
The record of every certificate issued, one JSON object a line: what the authority answers and revokes from.

The revocation list is made from it and from nothing else, so a damaged or
missing index stops a command: to go on without it would un-revoke.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.names import name_text
from openai_relay.authority.profile import Kind
from openai_relay.authority.reasons import Reason

State = Literal["valid", "not-yet-valid", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class Issued:
    """One certificate that the authority has signed."""

    kind: Kind
    name: str
    serial: str  #: lower-case hex, without leading zeros
    fingerprint: str  #: SHA-256 of the DER certificate, 64 lower-case hex digits
    not_before: datetime
    not_after: datetime
    names: tuple[str, ...] = ()  #: the alternative names, such as ``DNS:localhost``
    revoked_at: datetime | None = None
    reason: Reason | None = None

    def state(self, now: datetime) -> State:
        """Revoked comes first: a certificate stays revoked after it has expired."""
        if self.revoked_at is not None:
            return "revoked"
        if now > self.not_after:
            return "expired"
        return "not-yet-valid" if now < self.not_before else "valid"

    def days_left(self, now: datetime) -> int:
        """Whole days until it expires; negative once it has."""
        return (self.not_after - now).days


def record(certificate: x509.Certificate) -> Issued:
    """The line for a certificate, as it is read off it."""
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        kind: Kind = "client" if ExtendedKeyUsageOID.CLIENT_AUTH in purposes else "server"
    except x509.ExtensionNotFound:
        kind = "client"
    return Issued(
        kind=kind,
        name=common_name(certificate.subject),
        serial=f"{certificate.serial_number:x}",
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        names=tuple(map(name_text, alternative_names(certificate))),
    )


def alternative_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def common_name(name: x509.Name) -> str:
    """The CN, or the whole name where there is none."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    value = found[0].value if found else name.rfc4514_string()
    return value if isinstance(value, str) else value.decode("latin-1")


def dump_index(index: Iterable[Issued]) -> bytes:
    return b"".join(msgspec.json.encode(each) + b"\n" for each in index)


def load_index(content: bytes, path: Path) -> list[Issued]:
    """
    The index out of its file.

    :raises AuthorityError: with the line that cannot be read
    """
    index = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            issued = msgspec.json.decode(line, type=Issued)
            if issued.not_after.tzinfo is None or issued.not_before.tzinfo is None:
                raise msgspec.ValidationError("a time has no time zone")
            int(issued.serial, 16)
        except (msgspec.DecodeError, ValueError) as error:
            what = f"Line {number} of the list of issued certificates cannot be read ({error})"
            do = "Restore the file from a backup: without it, revocations would be forgotten"
            raise AuthorityError(what, do, path) from None
        index.append(issued)
    return index
