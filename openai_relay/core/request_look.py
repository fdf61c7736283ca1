"""
Look at the beginning of a request's body: which model it asks for, how much, and whether it streams.

The look is bounded, and the body passes unchanged.  What decides about money is
read as the strictest reader would: a name that stands twice, with two values,
in other letters or behind the part that was seen, is not taken for known.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

import msgspec
from msgspec.structs import replace

from openai_relay.core.decoding import decoder_for
from openai_relay.core.form_look import LONGEST_MODEL, FormScan, boundary_of, settled
from openai_relay.core.form_look import Model as Model
from openai_relay.core.top_level import Member, TopLevel
from openai_relay.core.usage import BYTES_PER_TOKEN

#: What an image or sound inside a body is taken to cost; its length in base64 says nothing about tokens.
TOKENS_PER_MEDIUM: Final = 1000
#: A form brings a file: of sound, compressed as it mostly is, a token takes so many bytes, and of images not fewer.
BYTES_PER_TOKEN_OF_FORM: Final = 800
#: No request may use more tokens, or choices, whatever it says.
MOST_TOKENS: Final = 10_000_000
#: Bytes of a compressed body's text that are looked at, and how many of its own are decoded in one step.
MOST_TEXT: Final = 1 << 20
_STEP: Final = 1 << 12


class RequestLook(msgspec.Struct, frozen=True, gc=False):
    """
    What a request asks for, as far as it was seen.

    ``include_usage`` is ``None`` when the client says nothing about it; ``most_output`` when it sets no bound;
    ``input_tokens`` is an estimate.  A ``model`` that is not ``KNOWN`` may be another one: good for watching only.
    """

    found: Model = Model.HIDDEN
    model: str | None = None
    stream: bool = False
    include_usage: bool | None = None
    choices: int = 1
    most_output: int | None = None
    input_tokens: int = 0
    background: bool = False  #: its answer is fetched later

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


def look_at(
    content_type: bytes, head: bytes, whole: bool, length: int | None = None, strict: bool = True
) -> RequestLook:
    """
    Look at a body.

    :param content_type: of the request; what is no form is taken for JSON.
    :param head: its first bytes, decoded if it was compressed.
    :param whole: whether they are all.
    :param length: of the whole body, when it is known.
    :param strict: whether the model matters, so that one that is named twice must be noticed.
    """
    boundary = boundary_of(content_type)
    if boundary is None and strict and not _MAY_BE_JSON.match(content_type):
        return RequestLook(input_tokens=input_tokens(head, whole, length))
    if boundary is not None:
        form = FormScan(boundary)
        form.feed(head)
        entering = TOKENS_PER_MEDIUM + (length or len(head)) // BYTES_PER_TOKEN_OF_FORM
        return RequestLook(*form.found(whole), form.stream, choices=form.choices, input_tokens=entering)
    entering = input_tokens(head, whole, length)
    if whole:
        try:
            asked = _decode_asked(head)
        except msgspec.ValidationError:  # JSON, of types that the upstream will object to
            pass
        except (ValueError, RecursionError):  # not JSON, not UTF-8, too deep
            return RequestLook(input_tokens=entering)
        else:
            if not strict or _is_plain(head):
                return _looked(_found(asked), asked.model, asked, entering)
    scan = JsonScan()
    scan.feed(head)
    return _looked(*scan.found(whole), scan.asked(), entering)


def look_at_coded(
    content_type: bytes, coding: bytes, head: bytes, whole: bool, length: int | None, strict: bool = True
) -> RequestLook:
    """
    Look at a body as it came, compressed or not.

    Nobody follows the rest of a compressed one, so unless all of it was seen, its model is not known.

    :param coding: the value of Content-Encoding in lower case; empty without one.
    """
    if coding in (b"", b"identity"):
        return look_at(content_type, head, whole, length, strict)
    decoder = decoder_for(coding)
    if decoder is None:
        return RequestLook(input_tokens=input_tokens(head, whole, length))
    texts: list[bytes] = []
    size = at = 0
    while at < len(head) and size <= MOST_TEXT and not decoder.lost:
        texts.append(decoder.feed(head[at : at + _STEP]))
        size += len(texts[-1])
        at += _STEP
    # What was not decoded will be about as dense as what was.
    coded = max(length or 0, len(head))
    length = max(coded, coded * size // max(min(at, len(head)), 1))
    ended = whole and at >= len(head) and decoder.ended
    look = look_at(content_type, b"".join(texts), ended, length, strict)
    return look if ended or look.found is not Model.KNOWN else replace(look, found=Model.HIDDEN)


def scan_for(content_type: bytes) -> Scan:
    """Follow a body of which `look_at` saw the beginning only; to be fed from its first byte."""
    boundary = boundary_of(content_type)
    return JsonScan() if boundary is None else FormScan(boundary)


_MAY_BE_JSON: Final = re.compile(rb"[ \t]*(?:\Z|application/(?:[a-z0-9.-]+\+)?json[ \t]*(?:;|\Z))", re.IGNORECASE)
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


class _Options(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class _Asked(msgspec.Struct, gc=False):
    """The members that are looked at: nothing is built of what else may stand there, however much that is."""

    model: str | None = None
    models: msgspec.Raw | None = None
    fallbacks: msgspec.Raw | None = None
    stream: bool | None = None
    background: bool | None = None
    stream_options: _Options | None = None
    n: int | None = None
    best_of: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None


#: What servers that choose among several models read beside ``model``.
_OTHERS: Final = ("models", "fallbacks")
_decode_asked: Final = msgspec.json.Decoder(_Asked).decode


def _found(asked: _Asked) -> Model:
    if asked.models is not None or asked.fallbacks is not None:
        return Model.AMBIGUOUS
    return Model.ABSENT if asked.model is None else Model.KNOWN


def _is_plain(text: bytes) -> bool:
    """Whether at most one member anywhere can be a model, however it is spelled: then decoding tells all."""
    if b"\\u00" in text:
        return False
    count = text.lower().count(b'"model"')
    return count == 0 or (count == 1 and b'"model"' in text)


def _looked(found: Model, name: str | None, asked: _Asked, entering: int) -> RequestLook:
    if name is not None and len(name) > LONGEST_MODEL:
        found, name = Model.HIDDEN, None
    return RequestLook(
        found,
        None if found is Model.AMBIGUOUS else name,
        asked.stream is True,
        None if asked.stream_options is None else asked.stream_options.include_usage,
        _largest(asked.n, asked.best_of) or 1,
        _largest(asked.max_tokens, asked.max_completion_tokens, asked.max_output_tokens),
        entering,
        asked.background is True,
    )


def _largest(*values: int | None) -> int | None:
    largest = None
    for value in values:
        value = None if value is None else min(value, MOST_TOKENS)
        if value is not None and value >= 0 and (largest is None or value > largest):
            largest = value
    return largest


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
        names = [_string(member) for member in scan.found if member.key.lower() == "model"]
        if any(member.key.lower() in _OTHERS and member.raw != b"null" for member in scan.found):
            return Model.AMBIGUOUS, None
        return settled(
            names,
            readable=not scan.broken and (scan.closed or not whole),
            whole=whole or scan.closed,
        )

    def asked(self) -> _Asked:
        """What the members say, of two of one name the later."""
        asked = _Asked()
        for member in self._members.found:
            kind = _KINDS.get(member.key)
            if member.raw is not None and kind is not None:
                setattr(asked, member.key, _value(member.raw, kind))
        return asked


#: Those that are looked at beside the names of models, and what may stand in them.
_KINDS: Final = {
    field.name: field.type for field in msgspec.structs.fields(_Asked) if field.name not in ("model", *_OTHERS)
}


def _value(raw: bytes, kind: Any = Any) -> object:
    """What is written there; ``None``, too, where it is of another type: the upstream is who objects."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, too deep
        return None


def _string(member: Member) -> str | None:
    value = None if member.raw is None else _value(member.raw)
    return value if isinstance(value, str) and len(value) <= LONGEST_MODEL else None


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
    if b'"%b"' % name.encode() not in text and b"\\u" not in text and text.startswith(b"{"):
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
