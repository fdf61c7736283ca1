"""Inputs by the thousand from one number: grammar, corpus and mutation, until something breaks."""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from tests.fuzz.client_check import check_client
from tests.fuzz.grammar import make
from tests.fuzz.mutation import mutate
from tests.fuzz.part_checks import check_chunked, check_head
from tests.fuzz.server_check import check_server

Check = Callable[[bytes], str]
CHECKS: Final[Mapping[str, Check]] = {
    "server": check_server,
    "client": check_client,
    "chunked": check_chunked,
    "head": check_head,
}
CORPUS: Final = Path(__file__).parent / "corpus"
#: Tries to make a finding smaller.
_SHRINKING: Final = 3_000


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that broke something."""

    role: str
    data: bytes
    trace: str

    @property
    def name(self) -> str:
        """For its file; tells the role to whoever replays it."""
        return f"{self.role}-{hashlib.sha256(self.data).hexdigest()[:8]}"

    def save(self, directory: Path) -> Path:
        """Write it to a file of its name."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / self.name
        path.write_bytes(self.data)
        return path

    def told(self, path: Path) -> str:
        """What it is and how to see it again."""
        return (
            f"{self.trace}\n{len(self.data)} bytes broke the {self.role} check:\n  {self.data!r}\n"
            f"They are in {path}. To see it again:\n  python -m tests.fuzz --role {self.role} --replay {path}\n"
        )


@dataclass(slots=True)
class Explored:
    """
    What a campaign saw.

    :ivar words: how often each thing became of an input.
    """

    role: str
    inputs: int = 0
    words: Counter[str] = field(default_factory=Counter)
    finding: Finding | None = None

    def told(self) -> str:
        """In one line."""
        words = ", ".join(f"{count} {word}" for word, count in sorted(self.words.items()))
        return f"{self.role}: {self.inputs} inputs: {words}"


def corpus(role: str) -> list[bytes]:
    """The inputs that every campaign begins with."""
    return [path.read_bytes() for path in sorted((CORPUS / role).iterdir())]


def broken_by(check: Check, data: bytes) -> str | None:
    """The traceback, if this input breaks something."""
    try:
        check(data)
    except Exception:  # noqa: BLE001 - that nothing at all is raised is what is checked
        return traceback.format_exc()
    return None


def examine(role: str, check: Check, data: bytes) -> Finding | None:
    """Try one input; what breaks is made smaller first."""
    if broken_by(check, data) is None:
        return None
    data = smaller(check, data)
    return Finding(role, data, broken_by(check, data) or "")


def smaller(check: Check, data: bytes) -> bytes:
    """What is left of an input when nothing more can be taken away without mending it."""
    size = max(len(data) // 2, 1)
    tries = 0
    while size:
        at = 0
        shorter = False
        while at < len(data) and tries < _SHRINKING:
            tries += 1
            candidate = data[:at] + data[at + size :]
            if broken_by(check, candidate) is not None:
                data, shorter = candidate, True
            else:
                at += size
        if not shorter:
            size //= 2
        if tries >= _SHRINKING:
            break
    return data


def explore(role: str, seed: int, enough: Callable[[int], bool], check: Check | None = None) -> Explored:
    """
    Try inputs until there are enough of them, or one breaks something; the same seed tries the same ones.

    :param enough: asked before each input, with the number of those before it.
    :param check: instead of the role's own.
    """
    check = check or CHECKS[role]
    random = Random(f"{role} {seed}")
    seeds = corpus(role)
    waiting = seeds[::-1]
    explored = Explored(role)
    while explored.finding is None and not enough(explored.inputs):
        explored.inputs += 1
        if waiting:
            data = waiting.pop()
        elif random.random() < 0.5:
            data = make(role, random)
        else:
            data = mutate(random.choice([random.choice(seeds), make(role, random)]), seeds, random)
        try:
            explored.words[check(data)] += 1
        except Exception:  # noqa: BLE001 - that nothing at all is raised is what is checked
            explored.finding = examine(role, check, data)
    return explored
