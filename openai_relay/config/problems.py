"""What a person is told about a bad configuration: where, which key, what is wrong, what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openai_relay.config.lines import Key

#: A longer value is not shown: it is noise, or something that was pasted by mistake.
LONGEST_SHOWN: Final = 60
#: What API keys and PEM look like; such a value is in the wrong place and must not be repeated.
_SECRETIVE: Final = re.compile(r"(?<![A-Za-z0-9])(?:sk|sess)-[A-Za-z0-9_-]{4}|-----BEGIN|bearer ", re.IGNORECASE)

_NOT_SHOWN: Final = "the value (not shown here)"


class Wrong(ValueError):
    """A value cannot be used; the text says what is wrong and, after a semicolon, what to do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right."""

    where: str  #: the file, or the command-line option; empty: not known yet, see ``read.placed``
    key: str | None  #: dotted, as in ``listen.address``; ``None``: the whole file or option
    told: str  #: what is wrong; what to do
    line: int | None = None  #: of the file; ``None`` also stands for an option
    in_file: bool = True  #: False: an option of the command line is at fault

    def __str__(self) -> str:
        where = self.where if self.line is None else f"{self.where}:{self.line}"
        return ": ".join(part for part in (where, self.key, self.told) if part)


#: The way to a key, and what is wrong there, or in a file that is named there.
Finding = tuple[Key, str | Problem]


class Wrongs(ValueError):
    """Several things beneath a key cannot be used; each finding's way begins at that key."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(told) for _, told in self.findings))

    def beneath(self, name: str | int) -> list[Finding]:
        """The findings, with ways that begin one step before."""
        return [((name, *way), told) for way, told in self.findings]


class BadConfiguration(Exception):
    """The configuration cannot be used; every problem that was found is listed, those of a file by line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        found = dict.fromkeys(problems)
        files = list(dict.fromkeys(problem.where for problem in found if problem.line is not None))
        self.problems = tuple(
            sorted(found, key=lambda each: (-1, 0) if each.line is None else (files.index(each.where), each.line))
        )
        super().__init__("\n".join(self.messages))

    @property
    def messages(self) -> list[str]:
        """A line for each problem: ``FILE:LINE: key: what is wrong; what to do``."""
        return [str(problem) for problem in self.problems]

    @property
    def only_options(self) -> bool:
        """Whether the command line alone is at fault, and no file."""
        return not any(problem.in_file for problem in self.problems)


def shown(value: object) -> str:
    """A value as it may be repeated to a person: on one line, without control characters, never a secret."""
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        text = f'"{value}"' if isinstance(value, str) and value.isprintable() else repr(value)
    except ValueError:  # an integer of thousands of digits
        return _NOT_SHOWN
    return _NOT_SHOWN if len(text) > LONGEST_SHOWN or _SECRETIVE.search(text) else text


def shown_path(path: Path) -> str:
    """A path as it may be repeated, however long; a key that was pasted in its place is not."""
    return "the file (its name looks like a secret)" if _SECRETIVE.search(str(path)) else f'"{printable(str(path))}"'


def shown_name(name: str, otherwise: str = "(a name that looks like a secret)") -> str:
    """A name that somebody chose, as it may be repeated; ``otherwise`` for a key that was pasted in its place."""
    return otherwise if _SECRETIVE.search(name) else printable(name)


def printable(text: str) -> str:
    """A name or a path as it may be printed: what could move a terminal's cursor is escaped."""
    return text if text.isprintable() else repr(text)


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    close = difflib.get_close_matches(word.lower().replace("-", "_"), list(known), n=1)
    return close[0] if close else None
