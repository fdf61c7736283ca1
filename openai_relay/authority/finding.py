"""Which certificates are meant by what somebody typed: a name, a serial number, a fingerprint, or a file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509

from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.index import Issued, record
from openai_relay.authority.reading import is_issued_by, read_certificate


def meant(index: Sequence[Issued], which: str, now: datetime, authority: x509.Certificate) -> list[Issued]:
    """
    All that is to be revoked: of a name, every certificate that has not expired.

    :raises AuthorityError: nothing is meant that this authority has issued.
    """
    if found := [each for each in index if each.name == which and now <= each.not_after]:
        return found
    if one := _one(index, which, authority):
        return [one]
    if any(each.name == which for each in index):
        raise AuthorityError(
            "All certificates of this name have expired already",
            "Nothing needs to be done; to put one on the list all the same, give its serial number",
            repr(which),
        )
    raise _unknown(which)


def renewable(index: Sequence[Issued], which: str, authority: x509.Certificate) -> Issued:
    """
    The one that is to be renewed: of a name, the newest that was not revoked.

    :raises AuthorityError: there is none, it was revoked, or a client and a server have this name.
    """
    named = [each for each in index if each.name == which]
    standing = [each for each in named if each.revoked_at is None]
    if len({each.kind for each in standing}) > 1:
        what = "A client and a server have this name"
        raise AuthorityError(what, "Give the serial number: `openai-relay cert list` tells it", repr(which))
    if standing:
        return standing[-1]
    found = named[-1] if named else _one(index, which, authority)
    if found is None:
        raise _unknown(which)
    if found.revoked_at is not None:
        raise _revoked(found)
    return found


def refuse_revoked(index: Sequence[Issued], serial: str | None) -> None:
    """
    What was revoked meanwhile is not renewed.

    :raises AuthorityError: this one was.
    """
    for each in index:
        if each.serial == serial and each.revoked_at is not None:
            raise _revoked(each)


def _one(index: Sequence[Issued], which: str, authority: x509.Certificate) -> Issued | None:
    """By serial number, fingerprint or file; a file's need not be in the index."""
    hexadecimal = which.replace(":", "").lower().removeprefix("0x")
    for each in index:
        if hexadecimal == each.fingerprint or hexadecimal.lstrip("0") == each.serial:
            return each
    path = Path(which)
    if not path.is_file():
        return None
    certificate = read_certificate(path, "Name a file with a certificate")
    if not is_issued_by(certificate, authority):
        raise AuthorityError("This certificate is from another authority", "Revoke or renew it there", path)
    ours = record(certificate)
    return next((each for each in index if each.serial == ours.serial), ours)


def _revoked(one: Issued) -> AuthorityError:
    what = f"This certificate was revoked on {one.revoked_at:%Y-%m-%d} and is not renewed"
    do = "Issue a new one with `openai-relay cert issue`, if that is right"
    return AuthorityError(what, do, f"{one.name!r} (serial {one.serial})")


def _unknown(which: str) -> AuthorityError:
    return AuthorityError(
        "No certificate has this name, serial number or fingerprint, and there is no such file",
        "See `openai-relay cert list`",
        repr(which),
    )
