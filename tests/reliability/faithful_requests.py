"""Requests that must reach the upstream as a direct client's would."""

from __future__ import annotations

import gzip
from typing import Final

from tests.reliability.case import (
    HOST,
    KEY,
    PLAIN,
    REQUEST_ID,
    UPSTREAM_HOST,
    Case,
    Do,
    Given,
    Group,
    Requests,
    Same,
    SameRequest,
    Until,
    answered,
    chunked_post,
    chunks,
    faithful,
    head,
    post,
)

#: Each value of a byte, in an order of its own.
EVERY_BYTE: Final = bytes((7 * value) % 256 for value in range(256))
LARGE: Final = EVERY_BYTE * 20_480  # 5 MiB
BROTLI: Final = b"\x0b\x02\x80hello\x03"
ZSTD: Final = b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello"
JSON: Final = b"Content-Type: application/json\r\n"
MULTIPART: Final = (
    b'--b0\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
    b'--b0\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xa9.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + EVERY_BYTE + b"\r\n--b0--\r\n"
)
_METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND", b"REPORT", b"SEARCH")
_TARGETS: Final = (
    (b"dots that stay inside", b"/v1/files/./a/../b"),
    (b"encoded dots", b"/v1/files/%2e/a/%2E%2e/b"),
    (b"an encoded slash", b"/v1/files/a%2Fb%2fc"),
    (b"escapes in both cases", b"/v1/files/%7euser%7E%c3%A9"),
    (b"an encoded percent sign", b"/v1/files/100%25"),
    (b"two slashes", b"/v1//files///a"),
    (b"a slash at the end", b"/v1/files/"),
    (b"every plain character", b"/v1/files/a-._~!$&'()*+,;=:@"),
    (b"a parameter", b"/v1/files;version=1/a"),
    (b"braces, quotes and a pipe", b'/v1/files/{"a"|b^`c`}'),
    (b"a long path", b"/v1/files/" + b"a" * 4_000),
    (b"a query", b"/v1/files?limit=2&after=file_1"),
    (b"an empty query", b"/v1/files?"),
    (b"escapes and plus signs in a query", b"/v1/files?a=%20+%2B&b=%zz&c=%&d=a%00b"),
    (b"dots and slashes in a query", b"/v1/files?path=/../../etc//passwd&x=?y=?"),
    (b"brackets in a query", b"/v1/files?include[]=a&include[]=b"),
    (b"a long query", b"/v1/files?q=" + b"q" * 30_000),
)
_HEADS: Final = (
    ("order, case and repetition", b"X-B: 1\r\nx-a: 2\r\nX-b: 3\r\nX-A: 4\r\nACCEPT: */*\r\nX-B: 1\r\n"),
    ("an empty value", b"X-Empty: \r\nX-After: 1\r\n"),
    ("tabs and spaces inside a value", b"X-A: a\t b  c\r\n"),
    ("bytes outside ASCII in a value", b"X-A: \xff\x80\xc3\xa9\r\n"),
    ("quotes, commas and semicolons in a value", b'X-A: "a, b"; c="d\\"e", f\r\n'),
    ("every character of a name", b"!#$%&'*+-.^_`|~09azAZ: 1\r\n"),
    ("a value of 16 kB", b"X-A: " + b"v" * 16_384 + b"\r\n"),
    ("60 fields", b"".join(b"X-Field-%d: %d\r\n" % (n, n) for n in range(60))),
    ("what SDKs send", b"Accept: application/json\r\nUser-Agent: OpenAI/Python 3\r\nX-Stainless-Retry-Count: 0\r\n"),
    ("Accept-Encoding", b"Accept-Encoding: gzip, br;q=0.5, zstd\r\n"),
    ("If-None-Match and Range", b'If-None-Match: "a"\r\nRange: bytes=0-4\r\n'),
    (
        "an idempotency key and a trace",
        b"Idempotency-Key: a\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n",
    ),
    ("the client's own Authorization", b"X-A: 1\r\nauthorization: Bearer mine\r\nX-B: 2\r\n"),
    ("the client's own request id", b"X-Client-Request-Id: mine\r\nX-A: 1\r\n"),
    ("hop-by-hop fields", b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nX-A: 1\r\n"),
    ("Connection: close", b"X-A: 1\r\nConnection: close\r\n"),
    ("unknown fields", b"X-Unheard-Of: 1\r\nOpenAI-Beta: assistants=v2\r\nX_Under_Score: 1\r\n"),
)
_BODIES: Final = (
    ("JSON", b'{"model":"m","messages":[]}', JSON),
    ("no Content-Type", b"hello", b""),
    ("every value of a byte", EVERY_BYTE, b"Content-Type: application/octet-stream\r\n"),
    ("one byte", b"x", b""),
    ("no byte", b"", b""),
    ("bytes that look like a request", b"GET /v1/smuggled HTTP/1.1\r\nHost: a\r\n\r\n", b""),
    ("line ends and NUL", b"\r\n\r\n\0\0\n\r", b""),
    ("gzip", gzip.compress(b"hello" * 50, mtime=0), b"Content-Encoding: gzip\r\n"),
    ("br", BROTLI, b"Content-Encoding: br\r\n"),
    ("zstd", ZSTD, b"Content-Encoding: zstd\r\n"),
    ("multipart", MULTIPART, b"Content-Type: multipart/form-data; boundary=b0\r\n"),
    ("5 MiB", LARGE, b"Content-Type: application/octet-stream\r\n"),
)


def _ours(method: bytes, fields: bytes) -> bytes:
    """The head that the upstream must get, its further fields given."""
    return b"%b /v1/case HTTP/1.1\r\nHost: %b\r\n%bAuthorization: Bearer %b\r\nX-Client-Request-Id: %b\r\n\r\n" % (
        method,
        UPSTREAM_HOST,
        fields,
        KEY,
        REQUEST_ID,
    )


def _byte_by_byte(data: bytes) -> tuple[bytes, ...]:
    return tuple(data[at : at + 1] for at in range(len(data)))


def _pipelined() -> Case:
    """Three requests in one block."""
    three = head(fields=b"X-N: 1\r\n") + post(b"two", b"X-N: 2\r\n") + head(fields=b"X-N: 3\r\n")
    answers = tuple(answered(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)[0] for number in range(1, 4))
    saw = Requests(
        (
            _ours(b"GET", b"X-N: 1\r\n"),
            _ours(b"POST", b"X-N: 2\r\nContent-Length: 3\r\n") + b"two",
            _ours(b"GET", b"X-N: 3\r\n"),
        )
    )
    return Case("three requests sent ahead", (three,), (Given(b"1"), Given(b"2"), Given(b"3")), saw, answers)


def _written_anew(name: str, fields: bytes, as_ours: bytes) -> Case:
    """White space around a value is no part of it (RFC 9110 §5.5), and is written in one way."""
    return Case(name, (head(fields=fields),), (Given(b"hello"),), Requests((_ours(b"GET", as_ours),)))


_CONTINUE: Final = ((Do.READ_HEAD, b"HTTP/1.1 100 Continue\r\n\r\n", Do.READ_REQUEST, PLAIN),)
_EXPECT: Final = head(b"POST", b"Expect: 100-continue\r\nContent-Length: 5\r\n")

CASES: Final = (
    *(
        faithful(f"method {method.decode()}", head(method), script=answered(PLAIN if method != b"HEAD" else PLAIN[:-5]))
        for method in _METHODS
    ),
    *(faithful(f"target with {name.decode()}", head(target=target)) for name, target in _TARGETS),
    faithful("the URL of this very host", head(target=b"http://relay.example/v1/files?x=1")),
    *(faithful(f"head with {name}", head(fields=fields)) for name, fields in _HEADS),
    _written_anew("no space before a value", b"X-A:1\r\n", b"X-A: 1\r\n"),
    _written_anew("much white space around a value", b"X-A: \t  1 \t \r\n", b"X-A: 1\r\n"),
    *(faithful(f"counted body: {name}", post(body, fields)) for name, body, fields in _BODIES),
    *(
        faithful(f"chunked body: {name}", chunked_post(chunks(*([body] if body else [])), fields))
        for name, body, fields in _BODIES
    ),
    faithful("chunked body: chunks of one byte", chunked_post(chunks(*_byte_by_byte(EVERY_BYTE)))),
    faithful("chunked body: sizes with leading zeros", chunked_post(b"0005\r\nhello\r\n00\r\n\r\n")),
    faithful("chunked body: sizes in capitals", chunked_post(b"A\r\n0123456789\r\n0\r\n\r\n")),
    faithful(
        "chunked body: trailers",
        chunked_post(chunks(b"a", trailers=b"X-Sum: 1\r\nx-sum: 2\r\n"), b"Trailer: X-Sum\r\n"),
    ),
    faithful("Transfer-Encoding in other letters", head(b"POST", b"tRANSFER-eNCODING: CHUNKED\r\n") + chunks(b"a")),
    Case(
        "chunk extensions, which end here",
        (chunked_post(b'5;a=b;c="d;e"\r\nhello\r\n0;last\r\n\r\n'),),
        (Same(),),
        SameRequest(),
    ),
    faithful("sent byte by byte", *_byte_by_byte(post(b"hello", b"X-A: 1\r\n"))),
    faithful(
        "chunked, sent byte by byte", *_byte_by_byte(chunked_post(chunks(b"hello", b"!", trailers=b"X-A: 1\r\n")))
    ),
    faithful(
        "the body after the upstream has the head",
        head(b"POST", b"Content-Length: 5\r\n"),
        Until.UPSTREAM_HAS_HEAD,
        b"hello",
    ),
    faithful("a GET with a body", head(b"GET", b"Content-Length: 5\r\n") + b"hello"),
    faithful("a DELETE with a body", head(b"DELETE", b"Content-Length: 5\r\n") + b"hello"),
    faithful("empty lines before the request", b"\r\n\r\n" + head()),
    faithful("Expect: 100-continue, the upstream's word", _EXPECT, Until.INTERIM, b"hello", script=_CONTINUE),
    faithful("Expect: 100-continue, the client does not wait", _EXPECT + b"hello", script=_CONTINUE),
    faithful("Expect: 100-continue, the upstream does not either", _EXPECT + b"hello"),
    faithful("HTTP/1.0", head(version=b"1.0")),
    faithful("HTTP/1.0 with a body", head(b"POST", b"Content-Length: 5\r\n", version=b"1.0") + b"hello"),
    faithful("HTTP/1.0, kept", head(fields=b"Connection: keep-alive\r\n", version=b"1.0")),
    faithful("HTTP/1.0 without Host", head(version=b"1.0").replace(HOST, b"")),
    faithful(
        "HTTP/1.0 with Expect", head(b"POST", b"Expect: 100-continue\r\nContent-Length: 1\r\n", version=b"1.0") + b"a"
    ),
    faithful("a GET with a length of zero", head(fields=b"Content-Length: 0\r\n")),
    _pipelined(),
)

GROUP: Final = Group(
    "Faithful requests",
    "What a client sends reaches the upstream as if it had been sent there, byte for byte, but for the documented "
    "differences.",
    CASES,
)
