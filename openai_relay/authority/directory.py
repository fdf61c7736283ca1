"""
``Authority``: a directory that can issue, renew, revoke and list certificates.

    ca.pem, ca.key   the authority itself
    index.jsonl      every certificate it has issued, and what became of it
    crl.pem          the revocation list, made from the index
    clients/         where client certificates and keys go unless told otherwise

Only ``ca.pem`` and ``crl.pem`` are for the relay; with the rest the directory
can live on another machine.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from openai_relay.authority import files, names, profile
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.index import Issued, alternative_names, dump_index, load_index, record
from openai_relay.authority.place import Place
from openai_relay.authority.reading import is_issued_by, read_certificate, read_key, read_revocation_list
from openai_relay.authority.reasons import Reason

Clock = Callable[[], datetime]

#: Certificates and lists start this far in the past, for machines whose clocks run behind.
BACKDATING: Final = timedelta(minutes=5)
LONGEST_DAYS: Final = 36_500

AUTHORITY_DAYS: Final = 3_650
CLIENT_DAYS: Final = 365
SERVER_DAYS: Final = 397  #: phones and browsers refuse much longer ones
CRL_DAYS: Final = 30

_KEEP_BACKUP: Final = "Restore it from a backup, or make a new authority in another directory with `openai-relay init`"


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate just issued, and where it and its key are."""

    issued: Issued
    certificate: Path
    key: Path
    shortened: bool  #: it ends with the authority, earlier than was asked for


@dataclass(frozen=True, slots=True)
class RevocationList:
    """What is in force: the list that the relay reads."""

    path: Path
    number: int
    this_update: datetime
    next_update: datetime
    revoked: int  #: how many certificates are on it


def utc_now() -> datetime:
    """The clock of everybody who has no other."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Authority:
    """One authority in its directory; each command takes the directory's lock and leaves it consistent."""

    directory: Path
    certificate: x509.Certificate
    clock: Clock

    @classmethod
    def create(
        cls, directory: Path, name: str | None = None, days: int = AUTHORITY_DAYS, clock: Clock = utc_now
    ) -> Authority:
        """
        A new authority, with an empty revocation list; nothing is overwritten.

        :param name: ``None``: one that no other authority has, so that their lists cannot be taken for each other
        """
        name = f"openai-relay CA {secrets.token_hex(4)}" if name is None else names.client_name(name)
        _check_days(days)
        files.make_directory(directory)
        with files.locked(directory / ".lock"):
            for file in ("ca.pem", "ca.key", "index.jsonl", "crl.pem"):
                files.refuse_existing(directory / file, "Choose another directory, or go on with the authority there")
            start = _seconds(clock()) - BACKDATING
            key = profile.new_key()
            validity = profile.Validity(start, start + timedelta(days=days) + BACKDATING)
            certificate = profile.authority_certificate(key, name, validity)
            # ca.pem comes last but for the list: without it the directory is no authority yet.
            files.write_file(directory / "ca.key", profile.key_pem(key), files.PRIVATE)
            files.write_file(directory / "index.jsonl", b"", files.PRIVATE)
            files.write_file(directory / "ca.pem", profile.certificate_pem(certificate), files.PUBLIC)
            authority = cls(directory, certificate, clock)
            authority._write_crl([], CRL_DAYS)
        return authority

    @classmethod
    def open(cls, directory: Path, clock: Clock = utc_now) -> Authority:
        """The authority that is there; its key is read only when something is to be signed."""
        path = directory / "ca.pem"
        missing = "Make an authority with `openai-relay init`, or name its directory"
        certificate = read_certificate(path, missing)
        try:
            is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except (x509.ExtensionNotFound, ValueError):
            is_authority = False
        if not is_authority:
            raise AuthorityError("This is not the certificate of an authority made here", _KEEP_BACKUP, path)
        return cls(directory, certificate, clock)

    @property
    def certificate_path(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def crl_path(self) -> Path:
        return self.directory / "crl.pem"

    @property
    def not_after(self) -> datetime:
        return self.certificate.not_valid_after_utc

    def issue_client(
        self,
        name: str,
        *,
        days: int = CLIENT_DAYS,
        alternative: names.AlternativeNames | None = None,
        into: Path | None = None,
        stem: str | None = None,
        renew: bool = False,
        key_type: profile.KeyType = "p256",
    ) -> Credential:
        """
        A certificate and a new key for a client.

        :param alternative: ``None``: those of the renewed certificate, else what the name itself implies
        :param into: the directory for the two files; ``None``: ``clients/`` of this one
        :param stem: their name without ending; ``None``: from the client's name
        :param renew: replace the two files; the old certificate stays good until it expires or is revoked
        """
        name = names.client_name(name)
        wanted = _Wanted(
            "client",
            name,
            (alternative or names.implied_names(name)).general_names(),
            alternative is None,
            days,
            key_type,
        )
        place = Place(into or self.directory / "clients", stem or names.file_stem(name), renew)
        return self._issue(wanted, place)

    def issue_server(
        self,
        hosts: Sequence[str],
        *,
        days: int = SERVER_DAYS,
        into: Path | None = None,
        stem: str | None = None,
        renew: bool = False,
        key_type: profile.KeyType = "p256",
    ) -> Credential:
        """
        A certificate and a new key for a server that answers to these names and addresses; as ``issue_client``.

        :param hosts: the first is its name; if it is the only one, a renewal keeps the others
        """
        general_names = names.host_names(hosts)
        name = hosts[0] if len(hosts[0]) <= names.LONGEST_NAME else "server"
        wanted = _Wanted("server", name, general_names, len(hosts) == 1, days, key_type)
        place = Place(into or self.directory, stem or names.file_stem(hosts[0]), renew)
        return self._issue(wanted, place)

    def revoke(self, which: str, reason: Reason = "unspecified") -> list[Issued]:
        """
        Take certificates back: by name (all that this client or server still holds), serial, fingerprint, or file.

        What is revoked already stays as it is; the list is written anew in any case.

        :returns: what is meant by ``which``, as it stands now.
        """
        with self._locked():
            index, now = self._index(), _seconds(self.clock())
            found = self._find(index, which, now)
            meant = {each.serial for each in found}
            index += [each for each in found if each.serial not in {known.serial for known in index}]
            index = [
                replace(each, revoked_at=now, reason=reason)
                if each.serial in meant and each.revoked_at is None
                else each
                for each in index
            ]
            signer = self._signer()
            self._write_index(index)
            self._write_crl(index, CRL_DAYS, signer)
            return [each for each in index if each.serial in meant]

    def issued(self) -> list[Issued]:
        """Every certificate, in the order in which they were issued."""
        return self._index()

    def refresh_crl(self, days: int = CRL_DAYS) -> RevocationList:
        """Write the revocation list anew, good for so many days from now."""
        _check_days(days)
        with self._locked():
            return self._write_crl(self._index(), days)

    def crl(self) -> RevocationList:
        """The revocation list as it lies there."""
        do = "Make it with `openai-relay crl`"
        crl = read_revocation_list(self.crl_path, do)
        if crl.next_update_utc is None:
            raise AuthorityError("This revocation list has no end and was not made here", do, self.crl_path)
        return RevocationList(self.crl_path, _number(crl), crl.last_update_utc, crl.next_update_utc, len(crl))

    def has_issued(self, certificate: x509.Certificate) -> bool:
        """Whether this authority's key has signed the certificate."""
        return is_issued_by(certificate, self.certificate)

    def _issue(self, wanted: _Wanted, place: Place) -> Credential:
        _check_days(wanted.days)
        with self._locked():
            index, now = self._index(), _seconds(self.clock())
            old = place.prepare(self.certificate, wanted.kind, wanted.name)
            alternative = alternative_names(old) if old is not None and wanted.keep_names else wanted.alternative
            asked = now + timedelta(days=wanted.days)
            validity = profile.Validity(
                max(now - BACKDATING, self.certificate.not_valid_before_utc), min(asked, self.not_after)
            )
            signer = self._signer()
            key = profile.new_key(wanted.key_type)
            certificate = profile.leaf_certificate(signer, wanted.kind, key, wanted.name, alternative, validity)
            # Everything that may fail for want of space or rights comes before the index, and the index before
            # the certificate has its name: one that is in somebody's hands can always be revoked.
            staged_key = files.Staged.write(place.key, profile.key_pem(key), files.PRIVATE)
            try:
                staged = files.Staged.write(place.certificate, profile.certificate_pem(certificate), files.PUBLIC)
                try:
                    issued = record(certificate)
                    self._write_index([*index, issued])
                    staged_key.commit()
                    staged.commit()
                finally:
                    staged.discard()
            finally:
                staged_key.discard()
            self._write_crl([*index, issued], CRL_DAYS, signer)
            return Credential(issued, place.certificate, place.key, shortened=asked > self.not_after)

    def _find(self, index: Sequence[Issued], which: str, now: datetime) -> list[Issued]:
        if found := [each for each in index if each.name == which and now <= each.not_after]:
            return found
        hexadecimal = which.replace(":", "").lower().removeprefix("0x")
        for each in index:
            if hexadecimal == each.fingerprint or hexadecimal.lstrip("0") == each.serial:
                return [each]
        path = Path(which)
        if path.is_file():
            certificate = read_certificate(path, "Name a file with a certificate")
            if not self.has_issued(certificate):
                raise AuthorityError("This certificate is from another authority", "Revoke it there", path)
            ours = record(certificate)
            return [next((each for each in index if each.serial == ours.serial), ours)]
        if any(each.name == which for each in index):
            raise AuthorityError(
                "All certificates of this name have expired already",
                "Nothing needs to be done; to put one on the list all the same, give its serial number",
                repr(which),
            )
        raise AuthorityError(
            "No certificate has this name, serial number or fingerprint, and there is no such file",
            "See `openai-relay cert list`",
            repr(which),
        )

    def _locked(self) -> AbstractContextManager[None]:
        return files.locked(self.directory / ".lock")

    def _index(self) -> list[Issued]:
        path = self.directory / "index.jsonl"
        do = "Restore it from a backup: without it, revocations would be forgotten"
        return load_index(files.read_file(path, do), path)

    def _write_index(self, index: Iterable[Issued]) -> None:
        files.write_file(self.directory / "index.jsonl", dump_index(index), files.PRIVATE)

    def _signer(self) -> profile.Signer:
        now = self.clock().astimezone(UTC)
        if now < self.certificate.not_valid_before_utc:
            what = f"This machine's clock says {now:%Y-%m-%d %H:%M} UTC, when the authority did not exist yet"
            raise AuthorityError(what, "Set the clock", self.certificate_path)
        if now > self.not_after:
            what = f"The authority expired on {self.not_after:%Y-%m-%d}"
            do = "Make a new one in another directory with `openai-relay init` and issue new certificates"
            raise AuthorityError(what, do, self.certificate_path)
        path = self.directory / "ca.key"
        key = read_key(path, _KEEP_BACKUP)
        if key.public_key() != self.certificate.public_key():
            raise AuthorityError("This key does not belong to ca.pem beside it", _KEEP_BACKUP, path)
        return profile.Signer(self.certificate, key)

    def _write_crl(self, index: Iterable[Issued], days: int, signer: profile.Signer | None = None) -> RevocationList:
        now = _seconds(self.clock())
        try:
            before = read_revocation_list(self.crl_path, "")
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
            signer or self._signer(),
            revocations,
            this_update=profile.next_crl_time(now, previous, BACKDATING),
            next_update=now + timedelta(days=days),
            # Seconds since the epoch grow even when the list before was lost.
            number=max(number + 1, int(now.timestamp())),
        )
        files.write_file(self.crl_path, profile.crl_pem(crl), files.PUBLIC)
        return self.crl()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A certificate to be issued."""

    kind: profile.Kind
    name: str
    alternative: Sequence[x509.GeneralName]
    keep_names: bool  #: a renewal takes the old certificate's instead
    days: int
    key_type: profile.KeyType


def _check_days(days: int) -> None:
    if not 1 <= days <= LONGEST_DAYS:
        raise AuthorityError("A certificate or list is good for 1 to 36500 days", "Give a number in between", days)


def _seconds(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(microsecond=0)


def _number(crl: x509.CertificateRevocationList) -> int:
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (x509.ExtensionNotFound, ValueError):
        return 0
