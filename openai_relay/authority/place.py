"""Where a new certificate and its key go, and what may be replaced there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.files import make_directory, refuse_existing
from openai_relay.authority.index import record
from openai_relay.authority.profile import Kind
from openai_relay.authority.reading import is_issued_by, read_certificate

#: Names of the authority's own files.
_RESERVED = ("ca", "crl")


@dataclass(frozen=True, slots=True)
class Place:
    """Two files of one name in one directory."""

    directory: Path
    stem: str
    renew: bool  #: replace what is there, if it is an older certificate for the same name

    @property
    def certificate(self) -> Path:
        return self.directory / f"{self.stem}.pem"

    @property
    def key(self) -> Path:
        return self.directory / f"{self.stem}.key"

    def prepare(self, authority: x509.Certificate, kind: Kind, name: str) -> x509.Certificate | None:
        """
        The directory exists afterwards, and writing the two files destroys nothing that is still needed.

        :returns: the certificate that is to be renewed, if there is one.
        :raises AuthorityError: when something would be lost.
        """
        if self.stem in _RESERVED:
            what = "Files of this name are the authority's own"
            raise AuthorityError(what, "Choose another name", self.certificate)
        make_directory(self.directory)
        if not self.renew:
            for path in (self.certificate, self.key):
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
