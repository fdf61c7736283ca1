"""
Find the line on which each key of a TOML text stands.

``tomllib`` gives values without places.  This reads only the outline (headers,
keys, where a value ends) and expects a text that ``tomllib`` has taken; on any
other it still ends, and may find too little.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import Final

#: The way to a value: names of tables and keys, and numbers of list items.
Key = tuple[str | int, ...]

_BLANK: Final = re.compile(r"(?:[\s,]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_REST_OF_LINE: Final = re.compile(r"[^\n]*")
_EQUALS: Final = re.compile(r"[ \t]*=[ \t]*")
_DOT: Final = re.compile(r"[ \t]*\.[ \t]*")
_NAME: Final = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
#: The multi-line forms first; they may end in one or two quotes of their own before the closing three.
_STRING: Final = re.compile(
    r'''"""(?:[^"\\]|\\[\s\S]|"{1,2}(?!"))*"{3,5}'''
    r"""|'''(?:[^']|'{1,2}(?!'))*'{3,5}"""
    r'''|"(?:[^"\\\n]|\\.)*"'''
    r"""|'[^'\n]*'"""
)
_PLAIN: Final = re.compile(r"[^,\]}#\n]*")


def key_lines(text: str) -> dict[Key, int]:
    """
    Where each table, key and list item first stands.

    :returns: line numbers, from 1, by way; dotted names and headers count for each table on their way.
    """
    outline = _Outline(text)
    outline.read()
    return outline.lines


@dataclass(slots=True)
class _Outline:
    """One pass over a text."""

    text: str
    lines: dict[Key, int] = field(default_factory=dict)
    _last: dict[Key, int] = field(
        default_factory=dict
    )  #: of each list that is written as ``[[name]]``: its newest item
    _at: int = 0
    _line: int = 1
    _counted: int = 0  #: how far line ends were counted

    def read(self) -> None:
        table: Key = ()
        while self._more():
            before = self._at
            if self.text[self._at] == "[":
                table = self._header()
                self._take(_REST_OF_LINE)
            else:
                self._pair(table)
            self._at = max(self._at, before + 1)

    def _more(self) -> bool:
        """Skip blanks, commas and comments; say whether anything is left."""
        self._take(_BLANK)
        return self._at < len(self.text)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match.group()

    def _found(self, way: Key) -> None:
        self._line += self.text.count("\n", self._counted, self._at)
        self._counted = self._at
        self.lines.setdefault(way, self._line)

    def _header(self) -> Key:
        """Read ``[name]``, or ``[[name]]``: the next item of a list. What is beneath it belongs to the newest."""
        is_item = self.text.startswith("[[", self._at)
        self._at += 2 if is_item else 1
        way = self._name((), in_header=True)
        if not is_item or not way:
            return way
        if isinstance(way[-1], int):
            way = way[:-1]
        self._last[way] = self._last.get(way, -1) + 1
        way = (*way, self._last[way])
        self._found(way)
        return way

    def _name(self, way: Key, *, in_header: bool = False) -> Key:
        """Read a name, dotted or not; each part is a table on the way."""
        self._take(_SPACE)
        while part := self._take(_NAME):
            way = (*way, _unquoted(part))
            self._found(way)
            if in_header and way in self._last:
                way = (*way, self._last[way])
            if not self._take(_DOT):
                break
        return way

    def _pair(self, table: Key) -> None:
        way = self._name(table)
        self._take(_EQUALS)
        self._value(way)

    def _value(self, way: Key) -> None:
        opening = self.text[self._at : self._at + 1]
        if opening == "[":
            self._list(way)
        elif opening == "{":
            self._inline_table(way)
        elif not self._take(_STRING):
            self._take(_PLAIN)

    def _list(self, way: Key) -> None:
        self._at += 1
        item = 0
        while self._more() and self.text[self._at] != "]":
            before = self._at
            self._found((*way, item))
            self._value((*way, item))
            self._at = max(self._at, before + 1)
            item += 1
        self._at += 1

    def _inline_table(self, way: Key) -> None:
        self._at += 1
        while self._more() and self.text[self._at] != "}":
            before = self._at
            self._pair(way)
            self._at = max(self._at, before + 1)
        self._at += 1


def _unquoted(name: str) -> str:
    if name[0] not in "\"'":
        return name
    try:
        value = tomllib.loads(f"name = {name}")["name"]
    except tomllib.TOMLDecodeError:
        return name[1:-1]
    return str(value)
