"""
Find the top-level members of a JSON object that arrives in blocks, without keeping or building the rest.

It follows the structure only: strings, brackets, and the commas and colons of
the outermost object.  What is not an object at that level is ``broken``; what
lies deeper is passed by, however deep.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

#: Bytes of a wanted value that are kept, and of a name.
LONGEST_VALUE: Final = 4096
LONGEST_NAME: Final = 256
#: Nobody writes the same names so often.
MOST_MEMBERS: Final = 64
#: Steps that an object may take: so many, and one more for so many bytes.  Only what is hardly anything but brackets
#: or members takes more, and would hold everybody up.
MOST_STEPS: Final = 20_000
BYTES_PER_STEP: Final = 64

_WHITE: Final = re.compile(rb"[ \t\r\n]*+")
_INSIDE: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_SCALAR: Final = re.compile(rb"[-+.0-9a-zA-Z]*+")
_OPENING: Final = re.compile(rb"[{\[]*+")
_CLOSING: Final = re.compile(rb"[}\]]*+")


def _balanced(levels: int) -> re.Pattern[bytes]:
    """
    All up to a bracket that is not closed in this block, or holds too many levels or a long string.

    One call reads so far.  What it stops at it has read to no avail, once for each level: hence no long strings.
    """
    plain = rb'[^"{}\[\]]++|"[^"\\]{0,2048}+(?:\\.[^"\\]{0,256}+){0,128}+"'
    pattern = rb"(?:%b)*+" % plain
    for _ in range(levels):
        pattern = rb"(?:%b|[{\[]%b[}\]])*+" % (plain, pattern)
    return re.compile(pattern, re.DOTALL)


_BALANCED: Final = _balanced(8)


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its name, where its value starts, and the value as it was written."""

    key: str
    start: int
    raw: bytes | None  #: None: it was too long to be kept


#: Unbound: a scan that held its own methods would be a cycle.
_Step = Callable[["TopLevel", bytes, int], int]


class TopLevel:
    """
    Reads along.

    :param wanted: names of members that are kept, in small letters; other spellings of them are kept too.
    :ivar found: these, in order, as often as they stand there.
    :ivar closed: the object has ended.
    :ivar broken: it is no JSON object, or one that nobody means well with.
    """

    __slots__ = (
        "_depth",
        "_escaped",
        "_key",
        "_offset",
        "_quoted",
        "_raw",
        "_size",
        "_start",
        "_step",
        "_steps",
        "_wanted",
        "broken",
        "closed",
        "found",
    )

    def __init__(self, wanted: frozenset[str]) -> None:
        self._wanted = wanted
        self._step: _Step = TopLevel._opening
        self._offset = 0  # of the block in the body
        self._steps = MOST_STEPS  # that are left
        self._escaped = False  # the last block ended in a string, with a backslash
        self._quoted = False  # in a string, below the outermost object
        self._depth = 0
        self._key: str | None = None  # of the member, if it is wanted
        self._raw: list[bytes] = []
        self._size = 0
        self._start = 0
        self.found: list[Member] = []
        self.closed = False
        self.broken = False

    def feed(self, block: bytes) -> None:
        """Read the next block."""
        at = 0
        self._steps += 2 + len(block) // BYTES_PER_STEP  # two, since a block may be a byte
        while at < len(block) and not self.broken:
            at = self._step(self, block, at)
            self._steps -= 1
            if self._steps < 0:
                self.broken = True
        self._offset += len(block)

    def _expect(self, block: bytes, at: int, steps: dict[bytes, _Step]) -> int:
        """Go on with the step for the next byte that is no white space."""
        at = _end(_WHITE, block, at)
        if at < len(block):
            step = steps.get(block[at : at + 1])
            self.broken = step is None
            if step is not None:
                self._step = step
                self.closed = step is TopLevel._behind
        return at + 1

    def _opening(self, block: bytes, at: int) -> int:
        return self._expect(block, at, {b"{": TopLevel._first})

    def _first(self, block: bytes, at: int) -> int:
        return self._expect(block, at, {b'"': TopLevel._in_name, b"}": TopLevel._behind})

    def _next(self, block: bytes, at: int) -> int:
        return self._expect(block, at, {b'"': TopLevel._in_name})

    def _colon(self, block: bytes, at: int) -> int:
        return self._expect(block, at, {b":": TopLevel._value})

    def _comma(self, block: bytes, at: int) -> int:
        return self._expect(block, at, {b",": TopLevel._next, b"}": TopLevel._behind})

    def _behind(self, block: bytes, at: int) -> int:
        at = _end(_WHITE, block, at)
        self.broken = at < len(block)
        return at

    def _in_name(self, block: bytes, at: int) -> int:
        end, over = self._string(block, at)
        self._take(block[at:end], LONGEST_NAME)
        if over:
            self._named()
            self._step = TopLevel._colon
        return end

    def _named(self) -> None:
        name = b'"' + b"".join(self._raw)
        self._key = None
        if self._size <= LONGEST_NAME:
            try:
                key = msgspec.json.decode(name, type=str)
            except ValueError:  # no text
                self.broken = True
                return
            if key.lower() in self._wanted:
                self._key = key
        self._raw, self._size = [], 0

    def _value(self, block: bytes, at: int) -> int:
        at = _end(_WHITE, block, at)
        if at == len(block):
            return at
        self._start = self._offset + at
        first = block[at : at + 1]
        if first == b'"':
            self._step = TopLevel._in_string
        elif first in b"{[":
            self._step, self._depth = TopLevel._nested, 1
        elif _end(_SCALAR, block, at) > at:
            self._step = TopLevel._scalar
            return at
        else:
            self.broken = True
        self._take(first, LONGEST_VALUE)
        return at + 1

    def _in_string(self, block: bytes, at: int) -> int:
        end, over = self._string(block, at)
        return self._took(block, at, end, over)

    def _scalar(self, block: bytes, at: int) -> int:
        end = _end(_SCALAR, block, at)
        return self._took(block, at, end, end < len(block))

    def _nested(self, block: bytes, start: int) -> int:
        at = start
        while at < len(block) and self._depth:
            self._steps -= 1
            if self._steps < 0:
                break
            if self._quoted:
                at, over = self._string(block, at)
                self._quoted = not over
                continue
            at = _end(_BALANCED, block, at)
            if block[at : at + 1] == b'"':  # a string that is long, or ends in another block
                self._quoted = True
                at += 1
                continue
            closed = _end(_CLOSING, block, at)
            if closed > at:
                levels = min(closed - at, self._depth)
                self._depth -= levels
                at += levels
                continue
            opened = _end(_OPENING, block, at)
            self._depth += opened - at
            at = opened
        return self._took(block, start, at, not self._depth)

    def _string(self, block: bytes, at: int) -> tuple[int, bool]:
        """Where the string ends within the block, and whether it does."""
        if self._escaped:
            self._escaped = False
            at += 1
        at = _end(_INSIDE, block, at)
        if at < len(block):
            self._escaped = block[at : at + 1] == b"\\"
            return at + 1, not self._escaped
        return at, False

    def _took(self, block: bytes, start: int, end: int, over: bool) -> int:
        """Keep what was read of a value, and note the member when it is over."""
        self._take(block[start:end], LONGEST_VALUE)
        if over:
            if self._key is not None:
                raw = b"".join(self._raw) if self._size <= LONGEST_VALUE else None
                self.found.append(Member(self._key, self._start, raw))
                self.broken = len(self.found) > MOST_MEMBERS
            self._raw, self._size = [], 0
            self._step = TopLevel._comma
        return end

    def _take(self, piece: bytes, most: int) -> None:
        self._size += len(piece)
        if self._size <= most and (self._key is not None or most == LONGEST_NAME):
            self._raw.append(piece)


def _end(pattern: re.Pattern[bytes], block: bytes, at: int) -> int:
    """Where the pattern, which matches anything, stops matching."""
    found = pattern.match(block, at)
    return found.end() if found else at
