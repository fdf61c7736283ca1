"""
The deny list: clients that are let in no more, by name, serial number or fingerprint.

For those who cannot wait for their authority's revocation list, or have none.
An entry is ``name:phone``, ``serial:1f3c`` or ``sha256:`` and 64 hex digits,
as logs and ``openai-relay cert list`` show them; colons between the digits are
passed over, since openssl prints them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openai_relay.core.identity import Identity, is_plain_name

_HEX: Final = re.compile(r"[0-9a-f]+")
_FINGERPRINT_DIGITS: Final = 64
#: A serial number has at most 20 bytes (RFC 5280 §4.1.2.2).
_SERIAL_DIGITS: Final = 40
_KINDS: Final = 'begin it with "name:", "serial:" or "sha256:"'


class BadEntry(ValueError):
    """An entry of a deny list cannot be understood; the message says why, and what it should look like."""


@dataclass(frozen=True, slots=True)
class DenyList:
    """Whom to refuse, whatever certificate they show."""

    names: frozenset[str] = frozenset()
    serials: frozenset[str] = frozenset()  #: as in `Identity`
    fingerprints: frozenset[str] = frozenset()  #: as in `Identity`

    def denies(self, identity: Identity) -> bool:
        """Whether this client is on it."""
        return (
            identity.name in self.names or identity.serial in self.serials or identity.fingerprint in self.fingerprints
        )

    def __or__(self, other: DenyList) -> DenyList:
        return DenyList(self.names | other.names, self.serials | other.serials, self.fingerprints | other.fingerprints)

    def __len__(self) -> int:
        return len(self.names) + len(self.serials) + len(self.fingerprints)


@dataclass(frozen=True, slots=True)
class DenyFile:
    """A deny list of its own file, as it was read."""

    path: Path
    denied: DenyList


def deny_list(entries: Iterable[str]) -> DenyList:
    """
    The list of these entries.

    :raises BadEntry: for the first that cannot be understood.
    """
    found: dict[str, set[str]] = {"name": set(), "serial": set(), "sha256": set()}
    for entry in entries:
        kind, value = _read(entry)
        found[kind].add(value)
    return DenyList(frozenset(found["name"]), frozenset(found["serial"]), frozenset(found["sha256"]))


def entries_of(text: str) -> Iterator[tuple[int, str]]:
    """The entries of a deny list's file, one to a line, with the number of each line; ``#`` begins a comment line."""
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield number, entry


def _read(entry: str) -> tuple[str, str]:
    kind, colon, value = entry.partition(":")
    if kind == "name" and colon:
        if not is_plain_name(value):
            raise BadEntry("names nobody: a name is 1 to 256 printable characters, without blanks around it")
        return kind, value
    digits = value.replace(":", "").lower()
    if kind == "serial" and colon:
        digits = digits.removeprefix("0x")
        if not _HEX.fullmatch(digits) or len(digits) > _SERIAL_DIGITS:
            raise BadEntry("is no serial number: write it in hex digits, as `openai-relay cert list` shows it")
        return kind, digits.lstrip("0") or "0"
    if kind == "sha256" and colon:
        if not _HEX.fullmatch(digits) or len(digits) != _FINGERPRINT_DIGITS:
            raise BadEntry(f"is no SHA-256 fingerprint of a certificate: that has {_FINGERPRINT_DIGITS} hex digits")
        return kind, digits
    raise BadEntry(f"does not say what it is about; {_KINDS}")
