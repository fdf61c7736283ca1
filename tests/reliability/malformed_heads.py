"""Request heads that are not of the one form that every recipient reads alike."""

from __future__ import annotations

from typing import Final

from tests.reliability.case import HOST, Case, Group, Nothing, Refused, Through, head, refused
from tests.reliability.malformed_framing import SMUGGLED

_LINE: Final = b"GET /v1/case HTTP/1.1\r\n"
_CONTROLS: Final = (0x00, 0x01, 0x07, 0x08, 0x0B, 0x0C, 0x1B, 0x1F, 0x7F)
_PLACES: Final = (
    ("the method", b"G%bET /v1/case HTTP/1.1\r\n" + HOST + b"\r\n"),
    ("the target", b"GET /v1/ca%bse HTTP/1.1\r\n" + HOST + b"\r\n"),
    ("the query", b"GET /v1/case?a=%b HTTP/1.1\r\n" + HOST + b"\r\n"),
    ("the version", b"GET /v1/case HTTP/1.%b1\r\n" + HOST + b"\r\n"),
    ("a name", _LINE + HOST + b"X-%bA: 1\r\n\r\n"),
    ("a value", _LINE + HOST + b"X-A: a%bb\r\n\r\n"),
    ("the Host", _LINE + b"Host: relay%b.example\r\n\r\n"),
)
_LINE_ENDS: Final = (
    ("LF alone everywhere", b"GET /v1/case HTTP/1.1\nHost: relay.example\n\n"),
    ("LF alone behind the first line", b"GET /v1/case HTTP/1.1\n" + HOST + b"\r\n"),
    ("LF alone behind a field", _LINE + b"Host: relay.example\nX-A: 1\r\n\r\n"),
    ("LF alone as the empty line", _LINE + HOST + b"\n" + SMUGGLED),
    ("CR alone behind the first line", b"GET /v1/case HTTP/1.1\r" + HOST + b"\r\n"),
    ("CR alone behind a field", _LINE + HOST + b"X-A: 1\rX-B: 2\r\n\r\n"),
    ("CR alone everywhere", b"GET /v1/case HTTP/1.1\rHost: relay.example\r\r"),
    ("CR CR LF", _LINE + HOST + b"X-A: 1\r\r\n\r\n"),
    ("LF CR", b"GET /v1/case HTTP/1.1\n\rHost: relay.example\n\r\n\r"),
    ("CR in a target", b"GET /v1/\rcase HTTP/1.1\r\n" + HOST + b"\r\n"),
    ("CR in a name", _LINE + HOST + b"X\r-A: 1\r\n\r\n"),
    ("LF in a value", _LINE + HOST + b"X-A: 1\n2\r\n\r\n"),
    ("LF alone before the request", b"\n" + head()),
    ("CR alone before the request", b"\r" + head()),
    ("a folded value", _LINE + HOST + b"X-A: 1\r\n 2\r\n\r\n"),
    ("a value folded with a tab", _LINE + HOST + b"X-A: 1\r\n\t2\r\n\r\n"),
    ("a folded Host", _LINE + b"Host: relay\r\n .example\r\n\r\n"),
    ("a folded first field", _LINE + b" X-A: 1\r\n" + HOST + b"\r\n"),
    ("a line of white space", _LINE + HOST + b" \r\n\r\n"),
)
_NAMES: Final = (
    b"X A", b"X-A ", b"X-A\t", b" X-A", b"", b"X(A", b"X)A", b"X,A", b"X/A", b"X;A", b"X<A", b"X=A", b"X>A", b"X?A",
    b"X@A", b"X[A", b"X\\A", b"X]A", b"X{A", b"X}A", b'X"A', b"X\xe9A", b"\xff", b"X-\xc3\xa9",
)  # fmt: skip
_VERSIONS: Final = (
    b"HTTP/0.9", b"HTTP/0.1", b"HTTP/1.2", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/2", b"HTTP/3", b"HTTP/1", b"HTTP/1.",
    b"HTTP/.1", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1.01", b"HTTP/11", b"HTTP/+1.1", b"HTTP/1,1", b"http/1.1",
    b"HTTPS/1.1", b"HTTP /1.1", b"HTTP/ 1.1", b"ICAP/1.0", b"RTSP/1.0", b"HTTP", b"1.1", b"HTTP/1.1 ",
    b"HTTP/1.1 HTTP/1.1", b"HTTP/1.1\t", b"HTTP/\xb9.1",
)  # fmt: skip
_FIRST_LINES: Final = (
    ("no version", b"GET /v1/case\r\n"),
    ("no target", b"GET HTTP/1.1\r\n"),
    ("an empty target", b"GET  HTTP/1.1\r\n"),
    ("only a method", b"GET\r\n"),
    ("two spaces", b"GET  /v1/case HTTP/1.1\r\n"),
    ("two spaces before the version", b"GET /v1/case  HTTP/1.1\r\n"),
    ("tabs for spaces", b"GET\t/v1/case\tHTTP/1.1\r\n"),
    ("a space before it", b" GET /v1/case HTTP/1.1\r\n"),
    ("a space in the target", b"GET /v1/a case HTTP/1.1\r\n"),
    ("a method with a colon", b"GET: /v1/case HTTP/1.1\r\n"),
    ("a method in brackets", b"(GET) /v1/case HTTP/1.1\r\n"),
    ("a byte outside ASCII in the method", b"G\xcbT /v1/case HTTP/1.1\r\n"),
    ("a byte outside ASCII in the target", b"GET /v1/\xe9 HTTP/1.1\r\n"),
    ("UTF-8 in the target", "GET /v1/é HTTP/1.1\r\n".encode()),
    ("UTF-8 in the query", "GET /v1/case?é HTTP/1.1\r\n".encode()),
    ("a byte order mark", b"\xef\xbb\xbfGET /v1/case HTTP/1.1\r\n"),
)
_HOSTS: Final = (
    ("none", b""),
    ("two", HOST + HOST),
    ("two that differ", HOST + b"Host: elsewhere.example\r\n"),
    ("two in different letters", HOST + b"hOST: relay.example\r\n"),
    ("empty", b"Host:\r\n"),
    ("two in one line", b"Host: relay.example, elsewhere.example\r\n"),
    ("a space in it", b"Host: relay example\r\n"),
    ("a tab in it", b"Host: relay\texample\r\n"),
    ("a path", b"Host: relay.example/v1\r\n"),
    ("a URL", b"Host: https://relay.example\r\n"),
    ("a user", b"Host: user@relay.example\r\n"),
    ("a query", b"Host: relay.example?x\r\n"),
    ("a fragment", b"Host: relay.example#x\r\n"),
    ("a backslash", b"Host: relay.example\\x\r\n"),
    ("a port that is no number", b"Host: relay.example:x\r\n"),
    ("a port of six digits", b"Host: relay.example:655360\r\n"),
    ("two ports", b"Host: relay.example:1:2\r\n"),
    ("an open bracket", b"Host: [::1\r\n"),
    ("brackets with a name", b"Host: [relay.example]\r\n"),
    ("a byte outside ASCII", b"Host: relay\xe9.example\r\n"),
    ("a space before the colon", b"Host : relay.example\r\n"),
)
_NOT_HTTP: Final = (
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("a TLS record", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ("an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("an HTML page", b"<html>\r\n\r\n"),
    ("JSON", b'{"a": 1}\r\n\r\n'),
    ("a PROXY line", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + head()),
    ("zero bytes", bytes(64) + b"\r\n\r\n"),
)


def _too_large(name: str, sent: bytes) -> Case:
    return Case(name, (sent,), (Refused(431, "head_too_large"),), Nothing())


def _late(name: str, sent: bytes) -> Case:
    """What never becomes a head is given up on; where time-outs are short."""
    return Case(name, (sent,), (Refused(408, "request_timeout"),), Nothing(), through=Through.BRISK)


CASES: Final = (
    *(
        refused(f"control character {control:#04x} in {place}", form.replace(b"%b", bytes([control])))
        for place, form in _PLACES
        for control in _CONTROLS
    ),
    *(refused(f"line ends: {name}", sent) for name, sent in _LINE_ENDS),
    *(refused(f"name {name!r}", _LINE + HOST + name + b": 1\r\n\r\n") for name in _NAMES),
    refused("a line without a colon", _LINE + HOST + b"X-A\r\n\r\n"),
    *(refused(f"version {version!r}", b"GET /v1/case " + version + b"\r\n" + HOST + b"\r\n") for version in _VERSIONS),
    *(refused(f"first line: {name}", line + HOST + b"\r\n") for name, line in _FIRST_LINES),
    *(refused(f"Host: {name}", _LINE + fields + b"\r\n") for name, fields in _HOSTS),
    *(refused(f"not HTTP: {name}", sent) for name, sent in _NOT_HTTP),
    _too_large("a head of 70 kB", head(fields=b"X-A: " + b"a" * 70_000 + b"\r\n")),
    _too_large("a head without an end", _LINE + HOST + b"X-A: " + b"a" * 100_000),
    _too_large("a target of 70 kB", head(target=b"/v1/" + b"a" * 70_000)),
    _late("a first line without an end", b"GET /v1/case"),
    _late("fields without an empty line behind them", _LINE + HOST),
    _too_large("9,000 fields", head(fields=b"a:b\r\n" * 9_000)),
)

GROUP: Final = Group(
    "Malformed request heads",
    "A head that is not well-formed is answered 400 (431 where it is only too large, 408 where it never ends), its "
    "connection is closed, and nothing of it reaches the upstream.",
    CASES,
)
