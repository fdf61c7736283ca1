"""
Look at the beginning of a request's body: which model it asks for, how much, and whether it streams.

The look is bounded, and the body passes unchanged.  What decides about money is
read as the strictest reader would: a name that stands twice, with two values,
in other letters or behind the part that was seen, is not taken for known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, TypeGuard

import msgspec
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header  # type: ignore[import-untyped]

from openai_relay.core.top_level import Member, TopLevel
from openai_relay.core.usage import BYTES_PER_TOKEN

#: A longer name is no model's.
LONGEST_MODEL: Final = 512
#: What an image or sound inside a body is taken to cost; its length in base64 says nothing about tokens.
TOKENS_PER_MEDIUM: Final = 1000


class Model(Enum):
    """What was found out about the model."""

    KNOWN = "known"
    ABSENT = "absent"  #: the whole body was seen and names none
    HIDDEN = "hidden"  #: it may be named where nobody looked, or the body cannot be read
    AMBIGUOUS = "ambiguous"  #: named twice, and not the same


@dataclass(frozen=True, slots=True)
class RequestLook:
    """
    What a request asks for, as far as it was seen.

    ``include_usage`` is ``None`` when the client says nothing about it; ``most_output`` when it sets no bound;
    ``input_tokens`` is an estimate.
    """

    found: Model = Model.HIDDEN
    model: str | None = None
    stream: bool = False
    include_usage: bool | None = None
    choices: int = 1
    most_output: int | None = None
    input_tokens: int = 0

    def reserve(self, default_output: int) -> int:
        """Tokens to set aside: of the input, and the most that may come of each choice."""
        most = default_output if self.most_output is None else self.most_output
        return self.input_tokens + self.choices * most


class Scan(Protocol):
    """Follows a body for its model, so that one named late, or twice, is noticed before the body has gone up whole."""

    def feed(self, block: bytes) -> None:
        """Read the next block."""

    def found(self, whole: bool) -> tuple[Model, str | None]:
        """Tell what is known; ``whole``: no more will come."""


def look_at(content_type: bytes, head: bytes, whole: bool, length: int | None = None) -> RequestLook:
    """
    Look at a body.

    :param content_type: of the request; what is no form is taken for JSON.
    :param head: its first bytes, decoded if it was compressed.
    :param whole: whether they are all.
    :param length: of the whole body, when it is known.
    """
    entering = input_tokens(head, whole, length)
    boundary = boundary_of(content_type)
    if boundary is not None:
        form = FormScan(boundary)
        form.feed(head)
        return RequestLook(*form.found(whole), stream=form.stream, input_tokens=entering)
    asked = _decoded(head) if whole else None
    if whole and asked is None:
        return RequestLook(input_tokens=entering)
    scan = JsonScan()
    if asked is not None and _is_plain(head):
        name = asked.model if isinstance(asked.model, str) else None
        found = Model.KNOWN if name is not None else Model.ABSENT if asked.model is None else Model.HIDDEN
        return _looked(found, name, asked, entering)
    scan.feed(head)
    return _looked(*scan.found(whole), asked or scan.asked(), entering)


def scan_for(content_type: bytes) -> Scan:
    """Follow a body of which `look_at` saw the beginning only; to be fed from its first byte."""
    boundary = boundary_of(content_type)
    return JsonScan() if boundary is None else FormScan(boundary)


def boundary_of(content_type: bytes) -> str | None:
    """The boundary of a form; ``None`` for any other body."""
    if content_type[:10].lower() != b"multipart/":
        return None
    return parse_options_header(content_type.decode("latin-1"))[1].get("boundary") or None


_MEDIUM: Final = re.compile(rb";base64,[A-Za-z0-9+/=_\\-]*+")


def input_tokens(head: bytes, whole: bool, length: int | None) -> int:
    """Estimate a body's tokens from its length; images and sounds within it count as such."""
    rest = 0 if whole else max((length or 0) - len(head), 0)
    media = bytes_of_media = 0
    if b";base64," in head:
        for medium in _MEDIUM.finditer(head):
            media += 1
            bytes_of_media += medium.end() - medium.start()
            if medium.end() == len(head):
                rest = 0  # it goes on where nobody looked
    return media * TOKENS_PER_MEDIUM + -(-(len(head) - bytes_of_media + rest) // BYTES_PER_TOKEN)


class _Asked(msgspec.Struct, gc=False):
    """The members that are looked at; any type may stand in them, for the upstream is who objects."""

    model: object = None
    stream: object = None
    stream_options: object = None
    n: object = None
    best_of: object = None
    max_tokens: object = None
    max_completion_tokens: object = None
    max_output_tokens: object = None


_decode_asked: Final = msgspec.json.Decoder(_Asked).decode


def _decoded(text: bytes) -> _Asked | None:
    try:
        return _decode_asked(text)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, too deep
        return None


def _is_plain(text: bytes) -> bool:
    """Whether at most one member anywhere can be a model, however it is spelled: then decoding tells all."""
    lower = text.lower()
    return text.count(b'"model"') == lower.count(b'"model"') <= 1 and b"\\u006" not in lower and b"\\u004" not in lower


def _looked(found: Model, name: str | None, asked: _Asked, entering: int) -> RequestLook:
    if name is not None and len(name) > LONGEST_MODEL:
        found, name = Model.HIDDEN, None
    bounds = [
        bound for bound in (asked.max_tokens, asked.max_completion_tokens, asked.max_output_tokens) if _is_count(bound)
    ]
    choices = [count for count in (asked.n, asked.best_of) if _is_count(count)]
    options = asked.stream_options
    wanted = options.get("include_usage") if isinstance(options, dict) else None
    return RequestLook(
        found,
        name,
        asked.stream is True,
        wanted if isinstance(wanted, bool) else None,
        max(choices, default=1) or 1,
        max(bounds, default=None),
        entering,
    )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class JsonScan:
    """Finds the top-level members of a JSON object that arrives in blocks."""

    def __init__(self) -> None:
        self._members = TopLevel(frozenset(_Asked.__struct_fields__))

    def feed(self, block: bytes) -> None:
        """Read the next block."""
        self._members.feed(block)

    def found(self, whole: bool) -> tuple[Model, str | None]:
        """Tell what is known of the model."""
        scan = self._members
        return _settled(
            [_string(member) for member in scan.found if member.key.lower() == "model"],
            readable=not scan.broken and (scan.closed or not whole),
            whole=whole or scan.closed,
        )

    def asked(self) -> _Asked:
        """What the members say, of two of one name the later."""
        asked = _Asked()
        for member in self._members.found:
            if member.raw is not None and member.key in _Asked.__struct_fields__:
                setattr(asked, member.key, _value(member.raw))
        return asked


class FormScan:
    """Finds the fields of a form that arrives in blocks."""

    def __init__(self, boundary: str) -> None:
        self._parser = PushMultipartParser(boundary)
        self._name: str | None = None
        self._value = b""
        self._values: list[str | None] = []
        self._broken = False
        self.stream = False

    def feed(self, block: bytes) -> None:
        """Read the next block."""
        try:
            # To the parser an empty block is the end.
            for event in self._parser.parse(block) if block and not self._broken else ():
                self._take(event)
        except (MultipartError, ValueError):
            self._broken = True

    def _take(self, event: MultipartSegment | bytearray | None) -> None:
        if isinstance(event, MultipartSegment):
            self._name, self._value = str(event.name or "").lower(), b""
        elif event is not None:
            if self._name in ("model", "stream") and len(self._value) <= LONGEST_MODEL:
                self._value += event[: LONGEST_MODEL + 1]
        elif self._name == "model":
            self._values.append(_text(self._value))
        elif self._name == "stream":
            self.stream = self._value.strip().lower() in (b"true", b"1")

    def found(self, whole: bool) -> tuple[Model, str | None]:
        """Tell what is known of the model."""
        if whole and not self._broken:
            try:
                self._parser.close()
            except MultipartError:  # no form, or half of one
                self._broken = True
        return _settled(self._values, not self._broken, whole)


def _settled(names: list[str | None], readable: bool, whole: bool) -> tuple[Model, str | None]:
    """What the model is, given each value that stands for one; ``None`` is a value that is no name."""
    if len(set(names)) > 1:
        return Model.AMBIGUOUS, None
    if not readable or (names and names[0] is None):
        return Model.HIDDEN, None
    if names:
        return Model.KNOWN, names[0]
    return (Model.ABSENT if whole else Model.HIDDEN), None


def _value(raw: bytes) -> object:
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, too deep
        return None


def _string(member: Member) -> str | None:
    value = None if member.raw is None else _value(member.raw)
    return value if isinstance(value, str) and len(value) <= LONGEST_MODEL else None


def _text(value: bytes) -> str | None:
    try:
        return value.decode("utf-8") if len(value) <= LONGEST_MODEL else None
    except UnicodeDecodeError:
        return None


_WANTED: Final = b'"include_usage":true'


def ask_for_usage(body: bytes) -> bytes | None:
    """
    Ask for the usage of a chat stream, and change no other byte: a member is put in, or its value set to true.

    :param body: one that `look_at` saw whole, and that streams.
    :returns: ``None`` when there is nothing to change, or options stand there that are not understood.
    """
    options = _members(body, "stream_options")
    if options == []:
        return _inserted(body, body.find(b"{") + 1, b'"stream_options":{' + _WANTED + b"}")
    if options is None or options[0].raw is None:
        return None
    if options[0].raw == b"null":
        return _replaced(body, options[0], b"{" + _WANTED + b"}")
    wanted = _members(options[0].raw, "include_usage")
    if wanted == []:
        return _inserted(body, options[0].start + 1, _WANTED)
    if wanted is None or wanted[0].raw not in (b"false", b"null"):
        return None
    return _replaced(body, options[0], _replaced(options[0].raw, wanted[0], b"true"))


def _members(text: bytes, name: str) -> list[Member] | None:
    """The one member of that name in an object, or none; ``None`` when others are like it, or it is no object."""
    if b'"%b"' % name.encode() not in text and text.startswith(b"{"):
        return []
    scan = TopLevel(frozenset((name,)))
    scan.feed(text)
    sound = not scan.broken and scan.closed and len(scan.found) <= 1 and all(each.key == name for each in scan.found)
    return scan.found if sound else None


def _replaced(text: bytes, member: Member, value: bytes) -> bytes:
    end = member.start + len(member.raw or b"")
    return text[: member.start] + value + text[end:]


def _inserted(text: bytes, at: int, member: bytes) -> bytes:
    """The text with a first member in the object that opens before ``at``."""
    comma = b"" if text[at:].lstrip(b" \t\r\n").startswith(b"}") else b","
    return text[:at] + member + comma + text[at:]
