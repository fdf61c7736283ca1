"""
Find what a model's name stands for in a table of names and globs: the most specific entry wins.

A name that stands in the table wins over any glob, and a glob with more
literal characters before its first wildcard over one with fewer.  ``*``, ``?``
and ``[...]`` are wildcards, and the case of letters counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_WILDCARD: Final = re.compile(r"[*?[]")
#: A longer name is matched by no glob, so that a stranger's text costs little to look at.
LONGEST_NAME: Final = 256


class GlobTable(Generic[T]):
    """
    Values by name or glob; asked with names that strangers send.

    :param entries: pairs of a name or glob and its value.
    :raises ValueError: for an entry that is empty or stands there twice.
    """

    __slots__ = ("_entries", "_globs", "_names", "patterns")

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        self._entries = tuple(entries)
        self._names: dict[str, T] = {}
        globs: dict[str, T] = {}
        order: list[str] = []
        for pattern, value in self._entries:
            if not pattern:
                raise ValueError("an empty name stands for no model")
            table = globs if _WILDCARD.search(pattern) else self._names
            if pattern in table:
                raise ValueError(f"{pattern!r} stands there twice")
            table[pattern] = value
            order.append(pattern)
        self.patterns: tuple[str, ...] = tuple(order)  #: as they were given
        # Sorting is stable: of two globs with equally long literal beginnings the longer one is narrower.
        ranked = sorted(globs.items(), key=lambda item: (len(_literal(item[0])), len(item[0])), reverse=True)
        self._globs = [(_literal(glob), re.compile(translate(glob)).match, glob, value) for glob, value in ranked]

    def find(self, name: str) -> tuple[str, T] | None:
        """The most specific entry for a name, with what it is written as; ``None``: there is none."""
        if name in self._names:
            return name, self._names[name]
        if len(name) <= LONGEST_NAME:
            for beginning, match, glob, value in self._globs:
                if name.startswith(beginning) and match(name):
                    return glob, value
        return None

    def items(self) -> tuple[tuple[str, T], ...]:
        """The entries, as they were given."""
        return self._entries

    def __bool__(self) -> bool:
        """Whether there is any entry."""
        return bool(self.patterns)

    def __eq__(self, other: object) -> bool:
        """Whether the other has the same entries in the same order."""
        return isinstance(other, GlobTable) and self._entries == other._entries

    def __hash__(self) -> int:
        return hash(self._entries)


def _literal(glob: str) -> str:
    return _WILDCARD.split(glob, maxsplit=1)[0]
