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
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from openai_relay.authority import files, names, profile
from openai_relay.authority.bundle import Bundle
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.finding import meant, refuse_revoked, renewable
from openai_relay.authority.index import Issued, alternative_names, dump_index, load_index, record
from openai_relay.authority.issuing import BACKDATING, KeyMade, Wanted, check_days, given_names
from openai_relay.authority.place import Place
from openai_relay.authority.reading import Passphrase, is_issued_by, read_certificate
from openai_relay.authority.reasons import Reason
from openai_relay.authority.requests import SigningRequest
from openai_relay.authority.revocations import CRL_DAYS, RevocationList, list_is_due, list_is_old, read_list, write_list
from openai_relay.authority.signing import KEEP_BACKUP, new_passphrase, open_signer

Clock = Callable[[], datetime]

AUTHORITY_DAYS: Final = 3_650
CLIENT_DAYS: Final = 365
SERVER_DAYS: Final = 397  #: phones and browsers refuse much longer ones


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate just issued, and where it and its key are."""

    issued: Issued
    certificate: Path
    key: Path
    shortened: bool  #: it ends with the authority, earlier than was asked for
    bundle: Path | None = None  #: both in one, for phones and browsers


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate just issued for a key that is elsewhere."""

    issued: Issued
    certificate: x509.Certificate
    file: Path | None  #: where it was put, if it was to be put anywhere
    shortened: bool  #: it ends with the authority, earlier than was asked for


def utc_now() -> datetime:
    """The clock of everybody who has no other."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Authority:
    """One authority in its directory; each command takes the directory's lock and leaves it consistent."""

    directory: Path
    certificate: x509.Certificate
    clock: Clock
    passphrase: Passphrase | None = None  #: asked when an encrypted key is to sign

    @classmethod
    def create(
        cls,
        directory: Path,
        name: str | None = None,
        days: int = AUTHORITY_DAYS,
        clock: Clock = utc_now,
        passphrase: Passphrase | None = None,
    ) -> Authority:
        """
        A new authority, with an empty revocation list; nothing is overwritten.

        :param name: ``None``: one that no other authority has, so that their lists cannot be taken for each other
        :param passphrase: what its key is encrypted with; ``None``: it is not
        """
        name = f"openai-relay CA {secrets.token_hex(4)}" if name is None else names.client_name(name)
        check_days(days)
        secret = new_passphrase(passphrase)
        files.make_directory(directory)
        with files.locked(directory / ".lock"):
            for file in ("ca.pem", "ca.key", "index.jsonl", "crl.pem"):
                files.refuse_existing(directory / file, "Choose another directory, or go on with the authority there")
            start = _seconds(clock()) - BACKDATING
            key = profile.new_key()
            validity = profile.Validity(start, start + timedelta(days=days) + BACKDATING)
            certificate = profile.authority_certificate(key, name, validity)
            # ca.pem comes last but for the list: without it the directory is no authority yet.
            files.write_file(directory / "ca.key", profile.key_pem(key, secret), files.PRIVATE)
            files.write_file(directory / "index.jsonl", b"", files.PRIVATE)
            files.write_file(directory / "ca.pem", profile.certificate_pem(certificate), files.PUBLIC)
            authority = cls(directory, certificate, clock, passphrase)
            write_list(authority.crl_path, [], profile.Signer(certificate, key), clock())
        return authority

    @classmethod
    def open(cls, directory: Path, clock: Clock = utc_now, passphrase: Passphrase | None = None) -> Authority:
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
            raise AuthorityError("This is not the certificate of an authority made here", KEEP_BACKUP, path)
        return cls(directory, certificate, clock, passphrase)

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
        bundle: Bundle | None = None,
    ) -> Credential:
        """
        A certificate and a new key for a client.

        :param alternative: ``None``: those of the renewed certificate, else what the name itself implies
        :param into: the directory for the files; ``None``: ``clients/`` of this one
        :param stem: their name without ending; ``None``: from the client's name
        :param renew: replace the files; the old certificate stays good until it expires or is revoked
        :param bundle: write both as one ``.p12`` file, too
        """
        name = names.client_name(name)
        place = Place(self._clients(into), stem or names.file_stem(name), renew, bundle is not None)
        wanted = Wanted("client", name, given_names(name, alternative), days, keep_names=alternative is None)
        return self._issue(wanted, place, KeyMade(profile.new_key(key_type), bundle))

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
        place = Place(into or self.directory, stem or names.file_stem(hosts[0]), renew)
        wanted = Wanted("server", name, general_names, days, keep_names=len(hosts) == 1)
        return self._issue(wanted, place, KeyMade(profile.new_key(key_type), None))

    def renew(
        self,
        which: str,
        *,
        days: int | None = None,
        into: Path | None = None,
        key_type: profile.KeyType = "p256",
        bundle: Bundle | None = None,
    ) -> Credential:
        """
        A new certificate with a new key in place of one that was issued: same name, same alternative names.

        The old one stays good until it expires or is revoked.

        :param which: a name (its newest certificate that is not revoked), serial number, fingerprint or file
        :param days: ``None``: as long as a new one
        """
        wanted = self._renewed(which, days)
        return self._issue(wanted, self._usual_place(wanted, into, bundle), KeyMade(profile.new_key(key_type), bundle))

    def sign_request(
        self,
        request: SigningRequest,
        name: str | None = None,
        *,
        days: int = CLIENT_DAYS,
        alternative: names.AlternativeNames | None = None,
        place: Place | None = None,
    ) -> Signed:
        """
        A client's certificate for a key that stays where it is; what else the request says is not believed.

        :param name: ``None``: the request's CN
        :param alternative: ``None``: what the name itself implies; ``request.alternative()``: as the request wishes
        :param place: where to put the certificate; ``None``: nowhere, it is returned only
        """
        name = request.name() if name is None else names.client_name(name)
        wanted = Wanted("client", name, given_names(name, alternative), days)
        return self._sign(wanted, request.public_key, place)

    def renew_request(
        self, which: str, request: SigningRequest, *, days: int | None = None, place: Place | None = None
    ) -> Signed:
        """As ``renew``, for the key of a request: the same as before, or another; names come from the old one."""
        return self._sign(self._renewed(which, days), request.public_key, place)

    def place_for(self, name: str, into: Path | None = None, renew: bool = False) -> Place:
        """Where a client's certificate usually goes."""
        return Place(self._clients(into), names.file_stem(names.client_name(name)), renew)

    def revoke(self, which: str, reason: Reason = "unspecified") -> list[Issued]:
        """
        Take certificates back: by name (all that this client or server still holds), serial, fingerprint, or file.

        What is revoked already stays as it is; the list is written anew in any case.

        :returns: what is meant by ``which``, as it stands now.
        """
        signer = self._signer()
        with self._locked():
            index, now = self._index(), _seconds(self.clock())
            found = meant(index, which, now, self.certificate)
            serials = {each.serial for each in found}
            index += [each for each in found if each.serial not in {known.serial for known in index}]
            index = [
                replace(each, revoked_at=now, reason=reason)
                if each.serial in serials and each.revoked_at is None
                else each
                for each in index
            ]
            self._write_index(index)
            write_list(self.crl_path, index, signer, now)
            return [each for each in index if each.serial in serials]

    def renewable(self, which: str) -> Issued:
        """The certificate that ``renew`` would renew."""
        return renewable(self._index(), which, self.certificate)

    def issued(self) -> list[Issued]:
        """Every certificate, in the order in which they were issued."""
        return self._index()

    def refresh_crl(self, days: int = CRL_DAYS) -> RevocationList:
        """Write the revocation list anew, good for so many days from now."""
        check_days(days)
        signer = self._signer()
        with self._locked():
            return write_list(self.crl_path, self._index(), signer, self.clock(), days)

    def refresh_if_due(self, now: datetime, days: int = CRL_DAYS) -> RevocationList | None:
        """
        Write the revocation list anew when two thirds of the time to its nextUpdate have gone, or it cannot be read.

        The key is read only then.

        :returns: the new list; ``None``: the one that is there will do.
        """
        check_days(days)
        if not list_is_due(self.crl_path, now):
            return None
        signer = self._signer()
        with self._locked():
            # Somebody else may have been quicker.
            return (
                write_list(self.crl_path, self._index(), signer, now, days) if list_is_due(self.crl_path, now) else None
            )

    def crl(self) -> RevocationList:
        """The revocation list as it lies there."""
        return read_list(self.crl_path)

    def has_issued(self, certificate: x509.Certificate) -> bool:
        """Whether this authority's key has signed the certificate."""
        return is_issued_by(certificate, self.certificate)

    def _issue(self, wanted: Wanted, place: Place, made: KeyMade) -> Credential:
        signed = self._sign(wanted, made.key.public_key(), place, made)
        bundle = None if made.bundle is None else place.bundle
        return Credential(signed.issued, place.certificate, place.key, signed.shortened, bundle)

    def _sign(
        self, wanted: Wanted, public_key: profile.PublicKey, place: Place | None, made: KeyMade | None = None
    ) -> Signed:
        """
        Issue, record, and write what is to be written.

        :param made: ``None``: the key is elsewhere, and only the certificate is written
        """
        check_days(wanted.days)
        signer = self._signer()  # before the lock: it may ask somebody
        with self._locked(), ExitStack() as staging:
            index, now = self._index(), _seconds(self.clock())
            refuse_revoked(index, wanted.renews)
            alternative, new = wanted.alternative, list[tuple[Path, bytes, int]]()
            if place is not None:
                old = place.prepare(self.certificate, wanted.kind, wanted.name, with_key=made is not None)
                if old is not None and wanted.keep_names:
                    alternative = alternative_names(old)
                if made is None:
                    place.keep_key(public_key)
            validity = wanted.validity(now, self.certificate)
            certificate = profile.leaf_certificate(signer, wanted.kind, public_key, wanted.name, alternative, validity)
            if place is not None:
                if made is not None:
                    new += made.files(place, wanted.name, certificate, self.certificate)
                new.append((place.certificate, profile.certificate_pem(certificate), files.PUBLIC))
            # Everything that may fail for want of space or rights comes before the index, and the index before
            # the certificate has its name: one that is in somebody's hands can always be revoked.
            staged = []
            for each in new:
                staged.append(files.Staged.write(*each))
                staging.callback(staged[-1].discard)
            issued = record(certificate)
            self._write_index([*index, issued])
            for file in staged:
                file.commit()
            if list_is_old(self.crl_path, now):
                write_list(self.crl_path, [*index, issued], signer, now)
            shortened = wanted.asked(now) > self.not_after
            return Signed(issued, certificate, None if place is None else place.certificate, shortened)

    def _renewed(self, which: str, days: int | None) -> Wanted:
        old = self.renewable(which)
        usual = CLIENT_DAYS if old.kind == "client" else SERVER_DAYS
        alternative = [names.named(each) for each in old.names]
        return Wanted(old.kind, old.name, alternative, usual if days is None else days, renews=old.serial)

    def _usual_place(self, wanted: Wanted, into: Path | None, bundle: Bundle | None) -> Place:
        if wanted.kind == "server":
            return Place(into or self.directory, "server", renew=True)
        return Place(self._clients(into), names.file_stem(wanted.name), renew=True, bundled=bundle is not None)

    def _clients(self, into: Path | None) -> Path:
        return into or self.directory / "clients"

    def _locked(self) -> AbstractContextManager[None]:
        return files.locked(self.directory / ".lock")

    def _index(self) -> list[Issued]:
        path = self.directory / "index.jsonl"
        do = "Restore it from a backup: without it, revocations would be forgotten"
        return load_index(files.read_file(path, do), path)

    def _write_index(self, index: Iterable[Issued]) -> None:
        files.write_file(self.directory / "index.jsonl", dump_index(index), files.PRIVATE)

    def _signer(self) -> profile.Signer:
        return open_signer(self.directory, self.certificate, self.clock(), self.passphrase)


def _seconds(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(microsecond=0)
