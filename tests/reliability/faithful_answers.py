"""Answers that must reach the client as the upstream gave them."""

from __future__ import annotations

import gzip
from typing import Final

from tests.reliability.case import (
    Case,
    Do,
    Given,
    Group,
    Methods,
    Same,
    SameRequest,
    answer,
    answered,
    chunks,
    faithful,
    head,
)
from tests.reliability.faithful_requests import BROTLI, EVERY_BYTE, LARGE, MULTIPART, ZSTD

_STATUSES: Final = (
    *(b"200 OK", b"201 Created", b"202 Accepted", b"203 Other", b"206 Partial Content", b"226 IM Used"),
    *(b"300 Multiple Choices", b"301 Moved Permanently", b"302 Found", b"303 See Other", b"307 Temporary Redirect"),
    *(b"308 Permanent Redirect", b"400 Bad Request", b"401 Unauthorized", b"402 Payment Required", b"403 Forbidden"),
    *(b"404 Not Found", b"408 Request Timeout", b"409 Conflict", b"413 Too Large", b"415 Unsupported", b"418 Teapot"),
    *(b"422 Unprocessable", b"429 Too Many Requests", b"451 Unavailable", b"499 Odd", b"500 Internal Server Error"),
    *(b"501 Not Implemented", b"502 Bad Gateway", b"503 Service Unavailable", b"504 Timeout", b"520 Web", b"599 Last"),
)
_REASONS: Final = (
    ("of one's own", b"200 All is (well), \xe2\x9c\x93"),
    ("that is empty", b"200 "),
    ("with tabs and many spaces", b"200  a\t b  "),
    ("of 1 kB", b"200 " + b"r" * 1_024),
)
_FIELDS: Final = (
    ("order, case and repetition", b"X-B: 1\r\nx-a: 2\r\nX-b: 3\r\nX-A: 4\r\nSERVER: s\r\nX-B: 1\r\n"),
    ("an empty value", b"X-Empty: \r\nX-After: 1\r\n"),
    ("bytes outside ASCII", b"X-A: \xff\x80\xc3\xa9\r\n"),
    ("14 kB of fields", b"".join(b"X-Field-%d: %b\r\n" % (n, b"v" * 120) for n in range(100))),
    ("what OpenAI sends", b"x-request-id: req_1\r\nopenai-processing-ms: 5\r\nopenai-version: 2020-10-01\r\n"),
    ("rate limits", b"x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-tokens: 149984\r\nretry-after: 3\r\n"),
    ("ETag and Last-Modified", b'ETag: "a"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nVary: Accept\r\n'),
    ("Location", b"Location: https://elsewhere.example/v1/x?y#z\r\n"),
    ("hop-by-hop fields", b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nX-A: 1\r\n"),
    (
        "a cookie, Alt-Svc and HSTS",
        b'Set-Cookie: a=b\r\nX-A: 1\r\nAlt-Svc: h3=":443"\r\nStrict-Transport-Security: max-age=1\r\n',
    ),
    ("Connection: close", b"X-A: 1\r\nConnection: close\r\n"),
    ("its own X-Accel-Buffering", b"X-Accel-Buffering: yes\r\nContent-Type: text/event-stream\r\n"),
    ("a WWW-Authenticate", b'WWW-Authenticate: Bearer realm="a", error="b"\r\n'),
)
_BODIES: Final = (
    ("every value of a byte", EVERY_BYTE, b"Content-Type: application/octet-stream\r\n"),
    ("no Content-Type", b"hello", b""),
    ("no byte", b"", b""),
    ("one byte", b"x", b""),
    ("bytes that look like an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    ("gzip", gzip.compress(b"hello" * 50, mtime=0), b"Content-Encoding: gzip\r\nContent-Type: text/event-stream\r\n"),
    ("br", BROTLI, b"Content-Encoding: br\r\n"),
    ("zstd", ZSTD, b"Content-Encoding: zstd\r\n"),
    ("multipart", MULTIPART, b"Content-Type: multipart/mixed; boundary=b0\r\n"),
    ("events", b"data: {}\n\ndata: [DONE]\n\n", b"Content-Type: text/event-stream; charset=utf-8\r\n"),
    ("5 MiB", LARGE, b"Content-Type: application/octet-stream\r\n"),
)
_CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
_HINTS: Final = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nX-A: 1\r\nX-A: 2\r\n\r\n"
_HELLO: Final = answer(b"Content-Length: 5\r\n", b"hello")


def _counted(body: bytes, fields: bytes = b"", status: bytes = b"200 OK", version: bytes = b"1.1") -> bytes:
    return answer(fields + b"Content-Length: %d\r\n" % len(body), body, status, version)


def _in_chunks(body: bytes, fields: bytes) -> bytes:
    return answer(fields + _CHUNKED, chunks(*([body] if body else [])))


def _get(
    name: str, said: bytes, *then: bytes | Do, fields: bytes = b"", method: bytes = b"GET", version: bytes = b"1.1"
) -> Case:
    return faithful(name, head(method, fields, version=version), script=answered(said, *then))


def _byte_by_byte(data: bytes) -> tuple[bytes, ...]:
    return tuple(data[at : at + 1] for at in range(len(data)))


def _old(name: str, said: bytes, *then: bytes | Do) -> Case:
    """What an HTTP/1.0 client gets: it knows no chunks."""
    return _get(f"to HTTP/1.0: {name}", said, *then, version=b"1.0")


CASES: Final = (
    *(_get(f"status {status.decode()}", _counted(b'{"a":1}', status=status)) for status in _STATUSES),
    *(_get(f"a reason {name}", _counted(b"hello", status=status)) for name, status in _REASONS),
    *(_get(f"fields: {name}", _counted(b"hello", fields)) for name, fields in _FIELDS),
    *(_get(f"counted body: {name}", _counted(body, fields)) for name, body, fields in _BODIES),
    *(_get(f"chunked body: {name}", _in_chunks(body, fields)) for name, body, fields in _BODIES),
    *(_get(f"until the close: {name}", answer(fields, body), Do.CLOSE) for name, body, fields in _BODIES),
    _get("chunks of one byte", answer(_CHUNKED, chunks(*_byte_by_byte(EVERY_BYTE)))),
    _get("sizes with zeros, capitals and extensions", answer(_CHUNKED, b"00A;x=y\r\n0123456789\r\n000;z\r\n\r\n")),
    _get("trailers", answer(b"Trailer: X-Sum\r\n" + _CHUNKED, chunks(b"a", trailers=b"X-Sum: 1\r\nx-sum: 2\r\n"))),
    faithful("sent byte by byte", head(), script=((Do.READ_REQUEST, *_byte_by_byte(_HELLO)),)),
    faithful(
        "chunked, sent byte by byte",
        head(),
        script=((Do.READ_REQUEST, *_byte_by_byte(answer(_CHUNKED, chunks(b"hello", b"!", trailers=b"X-A: 1\r\n")))),),
    ),
    _get("HEAD with a length", answer(b"Content-Length: 5000\r\nX-A: 1\r\n"), method=b"HEAD"),
    _get("HEAD without a length", answer(b"X-A: 1\r\n"), method=b"HEAD"),
    _get("HEAD of a chunked answer", answer(b"X-A: 1\r\n" + _CHUNKED), method=b"HEAD"),
    _get("HEAD with 404", answer(b"Content-Length: 20\r\n", status=b"404 Not Found"), method=b"HEAD"),
    _get("204", answer(b"X-A: 1\r\n", status=b"204 No Content")),
    _get("304", answer(b'ETag: "a"\r\n', status=b"304 Not Modified")),
    _get("304 with the length of what it stands for", answer(b"Content-Length: 500\r\n", status=b"304 Not Modified")),
    _get("205 without a body", answer(b"Content-Length: 0\r\n", status=b"205 Reset Content")),
    _get("103 before the answer", _HINTS + _HELLO),
    _get("103 long before the answer", _HINTS, _HELLO),
    _get("102, 103 and 103 before the answer", b"HTTP/1.1 102 Processing\r\n\r\n" + _HINTS * 2 + _HELLO),
    _get("100 that nobody asked for", b"HTTP/1.1 100 Continue\r\n\r\n" + _HELLO),
    _get("103 with a cookie", b"HTTP/1.1 103 Early Hints\r\nSet-Cookie: a=b\r\nLink: </a>\r\n\r\n" + _HELLO),
    _get("sixteen interim answers", _HINTS * 16 + _HELLO),
    _get("103 before an answer to HEAD", _HINTS + answer(b"Content-Length: 5\r\n"), method=b"HEAD"),
    _get("HTTP/1.0 with a length", _counted(b"hello", version=b"1.0"), Do.CLOSE),
    _get("HTTP/1.0 until the close", answer(b"X-A: 1\r\n", b"hello", version=b"1.0"), Do.CLOSE),
    _get("HTTP/1.0 kept", _counted(b"hello", b"Connection: keep-alive\r\n", version=b"1.0")),
    _get("asked to close", _HELLO, fields=b"Connection: close\r\n"),
    _get("chunked, asked to close", _in_chunks(b"hello", b""), fields=b"Connection: close\r\n"),
    _get(
        "chunked, to HTTP/1.0 that would keep",
        _in_chunks(b"a", b""),
        fields=b"Connection: keep-alive\r\n",
        version=b"1.0",
    ),
    Case(
        "Connection names a field, which ends here, and the length, which does not",
        (head(),),
        (Given(b"hello"),),
        Methods((b"GET",)),
        answered(answer(b"Connection: X-Gone, Content-Length\r\nX-Gone: 1\r\nContent-Length: 5\r\n", b"hello")),
    ),
    Case(
        "a status line without a space behind the status, which is added",
        (head(),),
        (Given(b"hello"),),
        Methods((b"GET",)),
        answered(b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello"),
    ),
    _old("a counted body", _HELLO),
    _old("a chunked body", _in_chunks(EVERY_BYTE, b"X-A: 1\r\n")),
    _old("a chunked body with trailers", answer(_CHUNKED, chunks(b"a", trailers=b"X-Sum: 1\r\n"))),
    _old("a body until the close", answer(b"", b"hello"), Do.CLOSE),
    _old("103 before the answer", _HINTS + _HELLO),
    _old("204", answer(b"X-A: 1\r\n", status=b"204 No Content")),
    _old("5 MiB in chunks", _in_chunks(LARGE, b"")),
    Case(
        "the first block long before the last",
        (head(),),
        (Same(),),
        SameRequest(),
        ((Do.READ_REQUEST, answer(_CHUNKED, b"5\r\nhello\r\n"), b"1\r\n!\r\n0\r\n\r\n"),),
    ),
    Case(
        "204 with a length, which RFC 9110 §8.6 forbids: the length ends here",
        (head(),),
        (Given(b"", 204),),
        Methods((b"GET",)),
        answered(answer(b"Content-Length: 0\r\n", status=b"204 No Content")),
    ),
)

GROUP: Final = Group(
    "Faithful answers",
    "What the upstream answers reaches the client as if it had asked there, byte for byte, but for the documented "
    "differences.",
    CASES,
)
