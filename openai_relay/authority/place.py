"""Where a new certificate and its key go, and what may be replaced there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.files import make_directory, refuse_existing
from openai_relay.authority.index import record
from openai_relay.authority.profile import Kind, PublicKey
from openai_relay.authority.reading import is_issued_by, read_certificate, read_key

#: Names of the authority's own files.
_RESERVED = ("ca", "crl")


@dataclass(frozen=True, slots=True)
class Place:
    """Files of one name in one directory: certificate, key, and both in one."""

    directory: Path
    stem: str
    renew: bool  #: replace what is there, if it is an older certificate for the same name
    bundled: bool = False  #: the ``.p12`` file is wanted, too

    @property
    def certificate(self) -> Path:
        return self.directory / f"{self.stem}.pem"

    @property
    def key(self) -> Path:
        return self.directory / f"{self.stem}.key"

    @property
    def bundle(self) -> Path:
        return self.directory / f"{self.stem}.p12"

    def prepare(
        self, authority: x509.Certificate, kind: Kind, name: str, *, with_key: bool = True
    ) -> x509.Certificate | None:
        """
        The directory exists afterwards, and writing the files destroys nothing that is still needed.

        :param with_key: the key will be written as well
        :returns: the certificate that is to be renewed, if there is one.
        :raises AuthorityError: when something would be lost.
        """
        if self.stem in _RESERVED:
            what = "Files of this name are the authority's own"
            raise AuthorityError(what, "Choose another name", self.certificate)
        make_directory(self.directory)
        if not self.renew:
            paths = [self.certificate, *([self.key] if with_key else []), *([self.bundle] if self.bundled else [])]
            for path in paths:
                refuse_existing(path, "Move it away, choose another directory, or replace it with --renew")
            return None
        if not self.certificate.exists():
            return None
        old = read_certificate(self.certificate, "")
        was = record(old)
        if not is_issued_by(old, authority) or (was.kind, was.name) != (kind, name):
            what = f"This is another certificate (a {was.kind}'s, for {was.name!r}) and is not replaced"
            raise AuthorityError(what, "Choose another directory, or move it away", self.certificate)
        return old

    def keep_key(self, key: PublicKey) -> None:
        """
        A key that lies here may stay beside a certificate for this one: it belongs to it.

        :raises AuthorityError: it does not; whoever used the two would fail.
        """
        if not self.key.exists():
            return
        if read_key(self.key, "").public_key() != key:
            what = "This key is not the one that the request was made with, and would lie beside its certificate"
            raise AuthorityError(what, "Move it away, or choose another directory", self.key)
