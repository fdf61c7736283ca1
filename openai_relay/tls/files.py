"""Read what TLS needs from files: certificates, and revocation lists in the forms in which authorities publish them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

#: In a directory of lists, the names that count.
LIST_ENDINGS: Final = (".pem", ".crl")

_PEM: Final = b"-----BEGIN"
_LIST: Final = b"-----BEGIN X509 CRL-----"


class BadCertificateFile(Exception):
    """A file that TLS needs cannot be used; the message says which, why and what to do."""

    def __init__(self, key: str, path: Path | None, problem: str) -> None:
        super().__init__(f"{key}: {path}: {problem}" if path else f"{key}: {problem}")
        self.key = key
        self.path = path
        self.problem = problem


@dataclass(frozen=True, slots=True)
class ListRead:
    """A revocation list, and the file that it is from."""

    path: Path
    crl: x509.CertificateRevocationList


def read_certificates(key: str, path: Path) -> list[x509.Certificate]:
    """
    One or more certificates in PEM form.

    :param key: the setting that names the file, for messages
    :raises BadCertificateFile: there is none.
    """
    pem = _read(key, path)
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        certificates = []
    if not certificates:
        raise BadCertificateFile(key, path, "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    return certificates


def read_lists(key: str, path: Path) -> list[ListRead]:
    """
    The lists of a file, in PEM or DER, or of every ``*.pem`` and ``*.crl`` in a directory.

    :param key: the setting that names it, for messages
    :raises BadCertificateFile: there is none, or one of the files holds something else.
    """
    try:
        inside = sorted(path.iterdir()) if path.is_dir() else None
    except OSError as error:
        raise _unreadable(key, path, error) from None
    if inside is None:
        return _lists(key, path)
    files = [each for each in inside if each.suffix.lower() in LIST_ENDINGS]
    if not files:
        raise BadCertificateFile(key, path, "is a directory without a revocation list (*.pem or *.crl)")
    for each in files:
        if not each.is_file():  # a pipe would be waited for, and a link into the void be a list that is missed
            raise BadCertificateFile(key, each, "is no regular file; remove it, or put the list there")
    return [one for each in files for one in _lists(key, each)]


def _lists(key: str, path: Path) -> list[ListRead]:
    content = _read(key, path)
    try:
        if _PEM in content:
            lists = [x509.load_pem_x509_crl(_LIST + block) for block in content.split(_LIST)[1:]]
        else:
            lists = [x509.load_der_x509_crl(content)]
    except ValueError:
        lists = []
    if not lists:
        raise BadCertificateFile(key, path, f"holds no revocation list, in PEM ({_LIST.decode()}) or DER form")
    return [ListRead(path, each) for each in lists]


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(key, path, error) from None


def _unreadable(key: str, path: Path, error: OSError) -> BadCertificateFile:
    return BadCertificateFile(key, path, f"cannot be read ({error.strerror}); check the path and its owner")
