"""
Secrets that can be found again: strings that occur nowhere else, and a search for them in every form they may take.

A `Canary` is a secret of one kind, such as what stands in a Cookie.  The search
also finds a half of it, and what is written in base64, hexadecimal or
percent-encoding.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

#: Characters of a canary that are enough to know it by.
_ENOUGH: Final = 16


@dataclass(frozen=True, slots=True)
class Canary:
    """One secret; ``text`` is what is handed in, ``token`` the part of it that is nowhere else."""

    kind: str
    text: str
    token: str

    @classmethod
    def make(cls, kind: str, form: str = "{}") -> Canary:
        """A new one; ``form`` is what it looks like, with braces in the place of what is random."""
        token = secrets.token_hex(24)
        return cls(kind, form.format(token), token)

    def forms(self) -> Iterator[tuple[str, bytes]]:
        """Every form that is looked for, in lower case where case carries nothing, with its name."""
        raw = self.token.encode()
        yield "as it is, its beginning", raw[:_ENOUGH]
        yield "as it is, its end", raw[-_ENOUGH:]
        yield "hexadecimal", raw[:_ENOUGH].hex().encode()
        yield "percent-encoded", b"".join(b"%%%02x" % byte for byte in raw[:_ENOUGH])
        yield "backslashes", b"".join(b"\\x%02x" % byte for byte in raw[:_ENOUGH])
        yield "backwards", raw[:_ENOUGH][::-1]
        for shift, code in enumerate(_in_base64(raw)):
            yield f"base64, {shift} bytes on", code


@dataclass(slots=True)
class Nest:
    """All canaries of a test, and the key material beside them."""

    canaries: dict[str, Canary] = field(default_factory=dict)
    _keys: dict[str, list[bytes]] = field(default_factory=dict)

    def __getitem__(self, kind: str) -> str:
        """The text of that kind; made when it is asked for first."""
        if kind not in self.canaries:
            self.canaries[kind] = Canary.make(kind)
        return self.canaries[kind].text

    def add(self, canary: Canary) -> Canary:
        self.canaries[canary.kind] = canary
        return canary

    def add_key(self, name: str, pem: bytes) -> None:
        """A private key: the number that is secret about it, and nothing that its certificate shows as well."""
        key = serialization.load_pem_private_key(pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        number = key.private_numbers().private_value
        raw = number.to_bytes(32, "big")
        self._keys[name] = [raw[:_ENOUGH], raw.hex().encode()[:32], b"%d" % number, *_in_base64(raw)]

    def found(self, where: str, data: bytes, *, but: str = "") -> list[str]:
        """What of it stands in some output; the canary of one kind may be left out."""
        lower = data.lower()
        shown = [
            f"{canary.kind} ({form}) in {where}: …{_around(lower, looked_for.lower())}…"
            for canary in self.canaries.values()
            if canary.kind != but
            for form, looked_for in canary.forms()
            if (looked_for in data if form.startswith("base64") else looked_for in lower)
        ]
        unbroken = data.replace(b"\n", b"").replace(b"\\n", b"")  # a PEM file is broken into lines
        return shown + [
            f"key material of {name} in {where}"
            for name, parts in self._keys.items()
            if any(part in data or part in unbroken for part in parts)
        ]


def _in_base64(raw: bytes) -> Iterator[bytes]:
    """What every base64 text holds that has these bytes in it: one for each place in a group of three."""
    for shift in range(3):
        code = base64.b64encode(b"\0" * shift + raw)
        yield code[(shift * 8 + 5) // 6 : -4][:_ENOUGH]


def _around(data: bytes, found: bytes) -> str:
    at = data.find(found)
    return repr(data[max(at - 60, 0) : at + 60])


def files_below(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Each file in a directory and beneath it, by its path from there."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(directory)), path.read_bytes()


def forms_of(nest: Nest) -> bytes:
    """Every canary in some of its forms, to try the search on."""
    return b" ".join(looked_for for canary in nest.canaries.values() for _, looked_for in canary.forms())


def json_strings(text: str) -> str:
    """All strings in lines of JSON, with their escapes undone."""
    found = []
    for line in text.splitlines():
        try:
            found += re.findall(r"[^\0]+", "\0".join(map(str, json.loads(line).values())))
        except (ValueError, AttributeError):
            continue
    return "\n".join(found)
