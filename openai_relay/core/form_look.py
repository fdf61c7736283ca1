"""
Find the model, and what else matters, in a form that arrives in blocks; and say what is known of a model at all.

A form is read as everybody writes it.  What two readers might read in two ways
is not read: it must not be a way around a rule.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from multipart import MultipartError, MultipartSegment, PushMultipartParser  # type: ignore[import-untyped]  # has no types

#: A longer name is no model's.
LONGEST_MODEL: Final = 512


class Model(Enum):
    """What was found out about the model."""

    KNOWN = "known"
    ABSENT = "absent"  #: the whole body was seen and names none
    HIDDEN = "hidden"  #: it may be named where nobody looked, or the body cannot be read
    AMBIGUOUS = "ambiguous"  #: named twice, and not the same


def boundary_of(content_type: bytes) -> str | None:
    """The boundary of a form, empty where two readers might take another; ``None`` for any other body."""
    if content_type[:10].lower() != b"multipart/":
        return None
    form = _FORM.fullmatch(content_type)
    return "" if form is None else (form[1] or form[2]).decode("ascii")


#: As everybody writes it, and everybody reads alike: one parameter, and no character that would have to be quoted.
_FORM: Final = re.compile(
    rb"multipart/form-data[ \t]*;[ \t]*boundary=(?:\"([A-Za-z0-9'+_./:=?-]{1,70})\"|([A-Za-z0-9'+_.-]{1,70}))[ \t]*",
    re.IGNORECASE,
)


class FormScan:
    """
    Finds the fields of a form that arrives in blocks.

    :param boundary: empty if there is none, and then nothing can be read.
    """

    def __init__(self, boundary: str) -> None:
        self._name: str | None = None
        self._value = b""
        self._opening = b"--" + boundary.encode("latin-1")  # what is still to come of it: nothing stands before
        self._values: list[str | None] = []
        self._parser: PushMultipartParser | None = None
        self.stream = False
        self.choices = 1
        try:
            self._parser = PushMultipartParser(boundary)
        except MultipartError:  # nobody's boundary
            return

    def feed(self, block: bytes) -> None:
        """Read the next block."""
        if self._opening:
            begun = min(len(block), len(self._opening))
            if block[:begun] != self._opening[:begun]:  # who passes over a preamble reads another form
                self._parser = None
            self._opening = self._opening[begun:]
        try:
            # To the parser an empty block is the end.
            for event in self._parser.parse(block) if block and self._parser is not None else ():
                self._take(event)
        except (MultipartError, ValueError):
            self._parser = None

    def _take(self, event: MultipartSegment | bytearray | None) -> None:
        if isinstance(event, MultipartSegment):
            disposition = str(event.header("Content-Disposition", ""))
            if _ODD_NAME.search(disposition) or len(_NAME.findall(disposition)) > 1:  # each reader takes another
                self._parser = None
                raise MultipartError("a name that can be read in two ways")
            self._name, self._value = str(event.name or "").lower(), b""
        elif event is not None:
            if self._name in _FIELDS and len(self._value) <= LONGEST_MODEL:
                self._value += event[: LONGEST_MODEL + 1]
        elif self._name == "model":
            name = _text(self._value)
            if len(self._values) < 2 and name not in self._values:  # two are too many already
                self._values.append(name)
        elif self._name == "stream":
            self.stream = self._value.strip().lower() in (b"true", b"1")
        elif self._name == "n" and _COUNT.fullmatch(self._value) is not None:
            self.choices = int(self._value) or 1

    def found(self, whole: bool) -> tuple[Model, str | None]:
        """Tell what is known of the model."""
        if whole and self._parser is not None:
            try:
                self._parser.close()
            except MultipartError:  # no form, or half of one
                self._parser = None
        return settled(self._values, self._parser is not None, whole)


_ODD_NAME: Final = re.compile(r"\bname\s*\*|\\", re.IGNORECASE)
_NAME: Final = re.compile(r"(?<![A-Za-z])name\s*=", re.IGNORECASE)
_FIELDS: Final = frozenset({"model", "stream", "n"})
_COUNT: Final = re.compile(rb"[0-9]{1,6}")


def settled(names: list[str | None], readable: bool, whole: bool) -> tuple[Model, str | None]:
    """What the model is, given each value that stands for one; ``None`` is a value that is no name."""
    if len(set(names)) > 1:
        return Model.AMBIGUOUS, None
    if not readable or (names and names[0] is None):
        return Model.HIDDEN, None
    if names:
        return Model.KNOWN, names[0]
    return (Model.ABSENT if whole else Model.HIDDEN), None


def _text(value: bytes) -> str | None:
    try:
        return value.decode("utf-8") if len(value) <= LONGEST_MODEL else None
    except UnicodeDecodeError:
        return None
