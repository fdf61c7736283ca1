"""The revocation list in its file: written from the index, read back, and when it is time for another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from openai_relay.authority import files, profile
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.index import Issued
from openai_relay.authority.reading import read_revocation_list

CRL_DAYS: Final = 30
#: Lists start this far in the past: so many seconds has a burst of lists to take its dates from.
BACKDATING: Final = timedelta(hours=1)

_MAKE: Final = "Make it with `openai-relay crl`"


@dataclass(frozen=True, slots=True)
class RevocationList:
    """What is in force: the list that the relay reads."""

    path: Path
    number: int
    this_update: datetime
    next_update: datetime
    revoked: int  #: how many certificates are on it

    @property
    def due(self) -> datetime:
        """When the next one should be written: two thirds of the time to its end have gone then."""
        return self.this_update + (self.next_update - self.this_update) * 2 / 3

    def is_due(self, now: datetime) -> bool:
        """Whether the next one should be written; one from the future (a clock was wrong) is of no use to anybody."""
        return now >= self.due or now < self.this_update


def read_list(path: Path) -> RevocationList:
    """
    The list as it lies there.

    :raises AuthorityError: there is none, or it is damaged or not ours.
    """
    crl = read_revocation_list(path, _MAKE)
    if crl.next_update_utc is None:
        raise AuthorityError("This revocation list has no end and was not made here", _MAKE, path)
    return RevocationList(path, _number(crl), crl.last_update_utc, crl.next_update_utc, len(crl))


def list_is_due(path: Path, now: datetime) -> bool:
    """Whether a new list should be written; one that is lost or damaged is."""
    try:
        return read_list(path).is_due(now)
    except AuthorityError:
        return True


def list_is_old(path: Path, now: datetime) -> bool:
    """Whether to write a new list in passing: it would last a day longer. A burst of certificates makes one."""
    try:
        found = read_list(path)
    except AuthorityError:
        return True
    return found.is_due(now) or found.next_update < now + timedelta(days=CRL_DAYS - 1)


def write_list(
    path: Path, index: Iterable[Issued], signer: profile.Signer, now: datetime, days: int = CRL_DAYS
) -> RevocationList:
    """Write it anew: what the index calls revoked, later and with a larger number than the one before."""
    now = now.astimezone(UTC).replace(microsecond=0)
    try:
        before = read_revocation_list(path, "")
        previous, number = before.last_update_utc, _number(before)
    except AuthorityError:
        # Lost or damaged: the index knows better than it did what is revoked.
        previous, number = None, 0
    # RFC 5280 §3.3: an entry stays until a list made after the certificate's expiry has carried it.
    kept = timedelta(days=2 * CRL_DAYS)
    revocations = [
        profile.Revocation(int(each.serial, 16), each.revoked_at, each.reason or "unspecified")
        for each in index
        if each.revoked_at is not None and now < each.not_after + kept
    ]
    crl = profile.revocation_list(
        signer,
        revocations,
        this_update=profile.next_crl_time(now, previous, BACKDATING),
        next_update=now + timedelta(days=days),
        # Seconds since the epoch grow even when the list before was lost.
        number=max(number + 1, int(now.timestamp())),
    )
    files.write_file(path, profile.crl_pem(crl), files.PUBLIC)
    return read_list(path)


def _number(crl: x509.CertificateRevocationList) -> int:
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (x509.ExtensionNotFound, ValueError):
        return 0
