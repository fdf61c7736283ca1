"""The authority's key: when it may sign, and the passphrase that may be on it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.profile import Signer
from openai_relay.authority.reading import Passphrase, read_key

KEEP_BACKUP: Final = "Restore it from a backup, or make a new authority in another directory with `openai-relay init`"
LONGEST_PASSPHRASE: Final = 1_023  #: bytes, as OpenSSL has it


def open_signer(directory: Path, certificate: x509.Certificate, now: datetime, passphrase: Passphrase | None) -> Signer:
    """
    The key, ready to sign; asks for its passphrase if it has one.

    :raises AuthorityError: it must not sign now, cannot be read, or is another authority's.
    """
    now = now.astimezone(UTC)
    path = directory / "ca.pem"
    if now < certificate.not_valid_before_utc:
        what = f"This machine's clock says {now:%Y-%m-%d %H:%M} UTC, when the authority did not exist yet"
        raise AuthorityError(what, "Set the clock", path)
    if now > certificate.not_valid_after_utc:
        what = f"The authority expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
        do = "Make a new one in another directory with `openai-relay init` and issue new certificates"
        raise AuthorityError(what, do, path)
    path = directory / "ca.key"
    key = read_key(path, KEEP_BACKUP, passphrase)
    if key.public_key() != certificate.public_key():
        raise AuthorityError("This key does not belong to ca.pem beside it", KEEP_BACKUP, path)
    return Signer(certificate, key)


def new_passphrase(passphrase: Passphrase | None) -> bytes | None:
    """
    What a new key is to be encrypted with.

    :raises AuthorityError: that cannot be.
    """
    if passphrase is None:
        return None
    found = passphrase()
    if not found:
        raise AuthorityError("The passphrase is empty", "Give another one")
    if len(found) > LONGEST_PASSPHRASE:
        raise AuthorityError(f"The passphrase is longer than {LONGEST_PASSPHRASE} bytes", "Give another one")
    return found
