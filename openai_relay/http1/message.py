"""
Message heads: bytes in, a checked head and its framing out (RFC 9112).

llhttp parses; a regular expression has first made sure that the bytes are of
the one form that every recipient reads alike: CRLF only, token names, no NUL,
no control character, no line folding, single spaces in the first line.  What
could frame a message in two ways is refused, whatever a lenient recipient
would make of it (RFC 9112 §6.3, §11.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import httptools

from openai_relay.core.errors import (
    BadRequest,
    ExpectationFailed,
    HeadTooLarge,
    MethodNotAllowed,
    UnknownMethod,
    UpstreamMalformed,
)
from openai_relay.http1.fields import Pair

#: Framings that are no length.
CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2
#: Fields of a head, or of a trailer section, unless a caller says otherwise.
MAX_FIELDS: Final = 256
#: Continue (RFC 9110 §15.2.1).
CONTINUE: Final = 100
#: Switching Protocols (RFC 9110 §15.2.2).
SWITCHING: Final = 101

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIELDS: Final = rb"(?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n"
_REQUEST: Final = re.compile(_TOKEN + rb" [\x21-\x7e]+ HTTP/1\.[01]\r\n" + _FIELDS)
_RESPONSE: Final = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9](?: [\t\x20-\x7e\x80-\xff]*)?\r\n" + _FIELDS)
_TRAILERS: Final = re.compile(_FIELDS)
#: Never forwarded in a trailer section: they frame, route, authenticate or say how to read the body (RFC 9110 §6.5.1).
_NOT_IN_TRAILERS: Final = frozenset(
    {
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"set-cookie",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
#: Without leading zeros, which who reads numbers as C does takes for octal; 15 digits fit any recipient's integer.
_LENGTH: Final = re.compile(rb"0|[1-9][0-9]{0,14}")
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)(/[^#]*)?", re.IGNORECASE)
#: A bare CR or LF, a NUL, or a beginning with which no token begins (both a method and ``HTTP/1.1`` do).
_BROKEN: Final = re.compile(rb"[^\r]\n|\r[^\n]|\0|^[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_WATCHED: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"host", b"connection", b"expect", b"upgrade"},
)
_WATCHED_LENGTHS: Final = frozenset(len(name) for name in _WATCHED)


@dataclass(slots=True, repr=False)  # a field's value may be a secret
class RequestHead:
    """A request's first line and fields, and what follows from them."""

    method: bytes
    target: bytes  #: origin-form, or ``*``
    version: bytes  #: ``b"1.1"`` or ``b"1.0"``
    fields: list[Pair]
    framing: int  #: the body's length, or `CHUNKED`
    keep_alive: bool
    expects_continue: bool
    upgrade: bytes | None  #: the protocols asked for, if the client asked for any


@dataclass(slots=True, repr=False)  # a field's value may be a secret
class ResponseHead:
    """A response's first line and fields, and what follows from them."""

    status: int
    reason: bytes
    version: bytes
    fields: list[Pair]
    framing: int  #: the body's length, `CHUNKED` or `UNTIL_CLOSE`
    keep_alive: bool
    upgrade: bytes | None  #: the protocol that a 101 switches to


class _Lines:
    """What llhttp calls back with; on one object per head, as a parser keeps it."""

    __slots__ = ("fields", "url")

    def __init__(self) -> None:
        self.fields: list[Pair] = []
        self.url = b""

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp trims white space before a value; what stands behind it is no part of it either (RFC 9110 §5.5).
        self.fields.append((name, value.rstrip(b" \t")))


def looks_broken(start: bytes, looked: int = 0) -> bool:
    """
    Whether the beginning of a head can no longer become a good one: no need to wait for its end.

    :param looked: so much of it was looked at before, and found good.
    """
    return _BROKEN.search(start, max(looked - 1, 0)) is not None


def parse_request(head: bytes, max_fields: int = MAX_FIELDS) -> RequestHead:
    """
    Check and parse a request head.

    :param head: everything up to and with the empty line.
    :raises BadRequest: it is malformed, or could be framed in two ways; ``told`` says how.
    :raises HeadTooLarge: it has more than ``max_fields`` fields.
    :raises MethodNotAllowed: CONNECT, which has no origin-form target.
    """
    if _REQUEST.fullmatch(head) is None:
        raise BadRequest(told="The request's head is malformed (RFC 9112): check line ends, names and white space.")
    if _has_more_fields(head, max_fields):
        raise HeadTooLarge(told=f"The request has more than {max_fields} header fields.")
    lines = _Lines()
    parser = httptools.HttpRequestParser(lines)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # only says that bytes of another protocol may follow; we decide that by the fields
    except httptools.HttpParserInvalidMethodError:
        raise UnknownMethod() from None
    except httptools.HttpParserError as error:
        raise BadRequest(told=f"The request's head is malformed (RFC 9112): {error}.") from None
    method = parser.get_method()
    if method == b"CONNECT":
        raise MethodNotAllowed()
    line_end = head.index(b"\r\n")
    version = head[line_end - 3 : line_end]
    watched = _watch(lines.fields)
    framing, close, keep = _request_framing(watched, version)
    target = _target(lines.url, watched, version)
    expects = _expectation(watched, version)
    upgrade = _upgrade(watched) if version == b"1.1" else None  # RFC 9110 §7.8: ignored in HTTP/1.0
    return RequestHead(
        method, target, version, lines.fields, framing, not close and (version == b"1.1" or keep), expects, upgrade
    )


def _has_more_fields(head: bytes, max_fields: int) -> bool:
    # The shortest field takes four bytes, so most heads need not be counted; the two other lines are first and last.
    return len(head) > 4 * max_fields and head.count(b"\r\n") - 2 > max_fields


def _upgrade(watched: dict[bytes, list[bytes]]) -> bytes | None:
    """The protocols that a message offers, or switches to."""
    if b"upgrade" not in watched or b"upgrade" not in _options(watched):
        return None
    return b", ".join(watched[b"upgrade"])


def _watch(fields: list[Pair]) -> dict[bytes, list[bytes]]:
    watched: dict[bytes, list[bytes]] = {}
    # Most names have the wrong length already: that costs nothing but a look.
    for name, value in [(pair[0].lower(), pair[1]) for pair in fields if len(pair[0]) in _WATCHED_LENGTHS]:
        if name in _WATCHED:
            watched.setdefault(name, []).append(value)
    return watched


def _options(watched: dict[bytes, list[bytes]]) -> list[bytes]:
    return [option.strip().lower() for value in watched.get(b"connection", ()) for option in value.split(b",")]


def _request_framing(watched: dict[bytes, list[bytes]], version: bytes) -> tuple[int, bool, bool]:
    options = _options(watched)
    close, keep = b"close" in options, b"keep-alive" in options
    codings, lengths = watched.get(b"transfer-encoding"), watched.get(b"content-length")
    if codings is not None:
        if version == b"1.0":
            raise BadRequest(told="Transfer-Encoding is not part of HTTP/1.0.")
        if lengths is not None:
            raise BadRequest(told="A request has either Content-Length or Transfer-Encoding, never both.")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            raise BadRequest(told="The only Transfer-Encoding that the relay accepts is: chunked.")
        return CHUNKED, close, keep
    if lengths is None:
        return 0, close, keep
    if len(lengths) != 1 or _LENGTH.fullmatch(lengths[0]) is None:
        raise BadRequest(told="Content-Length must be given once, as one decimal number without leading zeros.")
    return int(lengths[0]), close, keep


def _target(target: bytes, watched: dict[bytes, list[bytes]], version: bytes) -> bytes:
    hosts = watched.get(b"host", [])
    if len(hosts) > 1 or (version == b"1.1" and not hosts):
        raise BadRequest(told="A request must have exactly one Host field.")
    if hosts and _HOST.fullmatch(hosts[0]) is None:
        raise BadRequest(told="The Host field is not a host name with an optional port.")
    if target.startswith(b"/") or target == b"*":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or (hosts and absolute[1].lower() != hosts[0].lower()):
        raise BadRequest(told="The request target must be a path, or a URL of this very host.")
    return absolute[2] or b"/"


def _expectation(watched: dict[bytes, list[bytes]], version: bytes) -> bool:
    values = watched.get(b"expect")
    if values is None or version == b"1.0":  # RFC 9110 §10.1.1: ignored in HTTP/1.0
        return False
    if len(values) != 1 or values[0].lower() != b"100-continue":
        raise ExpectationFailed()
    return True


def parse_response(head: bytes, method: bytes, max_fields: int = MAX_FIELDS) -> ResponseHead:
    """
    Check and parse a response head.

    A 1xx or 204 that says how long its body is contradicts itself (RFC 9110 §8.6, RFC 9112 §6.1): it is
    taken without the fields that say so, and its connection is not to be kept, as a body may follow after all.

    :param head: everything up to and with the empty line.
    :param method: of the request it answers: a HEAD has no body whatever the fields say.
    :raises UpstreamMalformed: it is malformed, could be framed in two ways, or has more than ``max_fields`` fields.
    """
    if _RESPONSE.fullmatch(head) is None:
        raise UpstreamMalformed("malformed response head")
    if _has_more_fields(head, max_fields):
        raise UpstreamMalformed(f"more than {max_fields} header fields")
    lines = _Lines()
    parser = httptools.HttpResponseParser(lines)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise UpstreamMalformed(f"malformed response head: {error}") from None
    end = head.index(b"\r\n")
    version, status, reason = head[5:8], int(head[9:12]), head[13:end]
    watched = _watch(lines.fields)
    options = _options(watched)
    keep_alive = b"close" not in options and (version == b"1.1" or b"keep-alive" in options)
    framing = _response_framing(watched, version)
    fields = lines.fields
    if (status < 200 or status == 204) and not _FRAMING.isdisjoint(watched):
        fields = [pair for pair in fields if pair[0].lower() not in _FRAMING]
        keep_alive = keep_alive and framing == 0
    if method == b"HEAD" or status < 200 or status in (204, 304):
        framing = 0  # RFC 9112 §6.3: no body, whatever the fields say
    upgrade = _upgrade(watched) if status == SWITCHING else None
    return ResponseHead(status, reason, version, fields, framing, keep_alive and framing != UNTIL_CLOSE, upgrade)


def _response_framing(watched: dict[bytes, list[bytes]], version: bytes) -> int:
    codings, lengths = watched.get(b"transfer-encoding"), watched.get(b"content-length")
    if codings is not None:
        if lengths is not None or version == b"1.0" or len(codings) != 1 or codings[0].lower() != b"chunked":
            raise UpstreamMalformed("ambiguous framing: Transfer-Encoding beside Content-Length, or not just chunked")
        return CHUNKED
    if lengths is None:
        return UNTIL_CLOSE
    if len(lengths) != 1 or _LENGTH.fullmatch(lengths[0]) is None:
        raise UpstreamMalformed("Content-Length is repeated or no plain decimal number")
    return int(lengths[0])


def parse_trailers(section: bytes, max_fields: int = MAX_FIELDS) -> list[Pair]:
    """
    Check and split a trailer section, up to and with its empty line.

    :raises ValueError: it is malformed, has a field that may not stand there, or more than ``max_fields``.
    """
    if section == b"\r\n":
        return []
    if _TRAILERS.fullmatch(section) is None:
        raise ValueError("malformed trailer section")
    if section.count(b"\r\n") - 1 > max_fields:
        raise ValueError(f"more than {max_fields} trailer fields")
    pairs = []
    for line in section[:-4].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() in _NOT_IN_TRAILERS:
            raise ValueError("a field that may not stand in a trailer section")
        pairs.append((name, value.strip(b" \t")))
    return pairs


def write_fields(fields: list[Pair]) -> bytes:
    """Field lines for the wire, without the empty line."""
    return b"\r\n".join([*map(b": ".join, fields), b""])
