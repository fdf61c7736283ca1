"""An authority of somebody else's: a root, an issuing authority under it, and their lists, all made by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

_TIME: Final = "%Y%m%d%H%M%SZ"
_CONFIGURATION: Final = """
[ca]
default_ca = this
[this]
dir = {directory}
database = $dir/index.txt
new_certs_dir = $dir
certificate = $dir/ca.pem
private_key = $dir/ca.key
serial = $dir/serial
crlnumber = $dir/crlnumber
default_md = sha256
default_days = 300
policy = any
unique_subject = no
[any]
organizationName = optional
commonName = supplied
[root]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[issuing]
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[client]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[client_with_place]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
crlDistributionPoints = URI:https://ca.example/1.0/crl
[client_with_other_place]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
crlDistributionPoints = URI:https://ca.example/shards/2
[list]
authorityKeyIdentifier = keyid
[list_with_place]
authorityKeyIdentifier = keyid
issuingDistributionPoint = critical, @place
[place]
fullname = URI:https://ca.example/1.0/crl
"""


def openssl(*words: object) -> bytes:
    """What an openssl command prints."""
    return subprocess.run(
        ["openssl", *map(str, words)], check=True, capture_output=True, timeout=60, stdin=subprocess.DEVNULL
    ).stdout


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody's certificate and key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class OutsideAuthority:
    """One authority, root or issuing, in a directory of its own."""

    directory: Path

    @classmethod
    def make(cls, directory: Path, name: str, above: OutsideAuthority | None = None) -> OutsideAuthority:
        """A root, or an authority that another one has certified."""
        made = cls(directory)
        directory.mkdir()
        (directory / "ca.cnf").write_text(_CONFIGURATION.format(directory=directory))
        (directory / "index.txt").write_bytes(b"")
        for counter in ("serial", "crlnumber"):
            (directory / counter).write_text("1000\n")
        request = made._request(f"/O=Corp/CN={name}", "ca")
        if above is None:
            words = ("-selfsign", "-extensions", "root")
            made._ca(*words, "-in", request, "-out", directory / "ca.pem", "-keyfile", directory / "ca.key")
        else:
            above._ca("-extensions", "issuing", "-in", request, "-out", directory / "ca.pem")
        return made

    @property
    def pem(self) -> bytes:
        return (self.directory / "ca.pem").read_bytes()

    def client(self, name: str, profile: str = "client") -> Holder:
        """A client's certificate with its key."""
        request = self._request(f"/O=Corp/CN={name}", name)
        certificate = self.directory / f"{name}.pem"
        self._ca("-extensions", profile, "-in", request, "-out", certificate)
        return Holder(certificate, self.directory / f"{name}.key")

    def revoke(self, certificate: Path) -> None:
        """Take a certificate back; the next list says so."""
        self._ca("-revoke", certificate)

    def crl(self, profile: str = "list", age: timedelta = timedelta()) -> bytes:
        """A list, in PEM, of now or from some time ago."""
        path = self.directory / "crl.pem"
        now = datetime.now(UTC)
        times = ("-crl_lastupdate", f"{now - age:{_TIME}}", "-crl_nextupdate", f"{now + timedelta(days=30):{_TIME}}")
        self._ca("-gencrl", "-crlexts", profile, *times, "-out", path)
        return path.read_bytes()

    def _request(self, subject: str, stem: str) -> Path:
        request = self.directory / f"{stem}.csr"
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl("req", "-new", *key, "-subj", subject, "-keyout", self.directory / f"{stem}.key", "-out", request)
        return request

    def _ca(self, *words: object) -> None:
        openssl("ca", "-batch", "-notext", "-config", self.directory / "ca.cnf", *words)
