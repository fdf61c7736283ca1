"""
Invitations: who may have a certificate for a key of its own, once, and until when.

A file each beneath the authority's directory, named after a digest of the
secret, which itself is kept nowhere.  Taking one is renaming it, so that it is
taken once, whoever else tries at the same moment; it stays behind as used.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from openai_relay.authority import files, names
from openai_relay.authority.errors import AuthorityError
from openai_relay.core.enrolment_code import SECRET_BYTES, digest_of

DIRECTORY: Final = "invitations"
_OPEN, _TAKEN, _USED = ".json", ".taken", ".used"

#: Why an invitation is not good.
Why = Literal["unknown", "used", "expired"]


class NotInvited(Exception):
    """The code is not good; ``why`` says why."""

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why: Why = why


@dataclass(frozen=True, slots=True)
class Invitation:
    """What whoever holds the code may have."""

    name: str
    days: int  #: that the certificate is good for
    until: float  #: seconds since the epoch

    @property
    def ends(self) -> datetime:
        """When it is over."""
        return datetime.fromtimestamp(self.until, UTC)


@dataclass(frozen=True, slots=True)
class Taken:
    """An invitation that nobody else can take, until it is used or given back."""

    invitation: Invitation
    path: Path

    def used(self) -> None:
        """The certificate has been issued."""
        self.path.replace(self.path.with_suffix(_USED))

    def give_back(self) -> None:
        """It has not: the code stays good."""
        self.path.replace(self.path.with_suffix(_OPEN))


class Invitations:
    """
    Those of one authority.

    :param directory: the authority's.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / DIRECTORY

    def invite(self, name: str, days: int, valid: timedelta, now: datetime) -> tuple[Invitation, bytes]:
        """
        Invite somebody.

        :returns: the invitation, and the secret of its code.
        :raises AuthorityError: the name will not do, or nothing can be written.
        """
        invitation = Invitation(names.client_name(name), days, (now + valid).timestamp())
        secret = secrets.token_bytes(SECRET_BYTES)
        files.make_directory(self._directory)
        self._tidy(now)
        content = json.dumps(asdict(invitation)).encode() + b"\n"
        files.write_file(self._path(secret, _OPEN), content, files.PRIVATE)
        return invitation, secret

    def take(self, secret: bytes, now: datetime) -> Taken:
        """
        Take the invitation that a secret is of, before anybody else does.

        :raises NotInvited: there is none that is good.
        :raises AuthorityError: it cannot be read or taken.
        """
        path, taken = self._path(secret, _OPEN), self._path(secret, _TAKEN)
        try:
            path.replace(taken)
        except FileNotFoundError:
            known = any(self._path(secret, end).exists() for end in (_TAKEN, _USED))
            raise NotInvited("used" if known else "unknown") from None
        except OSError as error:
            raise AuthorityError(
                f"Cannot take it ({error.strerror})", "Check the owner of the directory", path
            ) from None
        invitation = _read(taken)
        if invitation.until <= now.timestamp():
            taken.replace(path)
            raise NotInvited("expired")
        return Taken(invitation, taken)

    def open(self, now: datetime) -> list[Invitation]:
        """Those that are good, the first to end first."""
        found = [_read(path) for path in self._files(_OPEN)]
        return sorted((each for each in found if each.until > now.timestamp()), key=lambda each: each.until)

    def withdraw(self, name: str) -> int:
        """Take back what a name is invited to; how many that were."""
        meant = [path for path in self._files(_OPEN) if _read(path).name == name]
        for path in meant:
            path.unlink(missing_ok=True)
        return len(meant)

    def _tidy(self, now: datetime) -> None:
        """Forget what has been over for a week."""
        for path in [*self._files(_OPEN), *self._files(_USED)]:
            if _read(path).until < (now - timedelta(days=7)).timestamp():
                path.unlink(missing_ok=True)

    def _files(self, end: str) -> Iterator[Path]:
        return iter(sorted(self._directory.glob(f"*{end}")))

    def _path(self, secret: bytes, end: str) -> Path:
        return self._directory / f"{digest_of(secret)}{end}"


def _read(path: Path) -> Invitation:
    do = "Remove it, and invite again"
    content = files.read_file(path, do)
    try:
        return Invitation(**json.loads(content))
    except (ValueError, TypeError):
        raise AuthorityError("This is no invitation", do, path) from None
