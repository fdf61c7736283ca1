"""Answers of the upstream that are not well-formed, or could be read in two ways."""

from __future__ import annotations

from typing import Final

from tests.reliability.case import (
    PLAIN,
    Case,
    Cut,
    Do,
    ExpectedAnswer,
    Given,
    Group,
    Methods,
    Refused,
    Script,
    Until,
    answer,
    answered,
    chunks,
    head,
)

_CL: Final = b"Content-Length: 5\r\n"
_TE: Final = b"Transfer-Encoding: chunked\r\n"
_FORGED: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
_ONCE: Final = Methods((b"GET",))
_BAD: Final = Refused(502, "upstream_malformed", False)

_STATUS_LINES: Final = (
    b"HTTP/1.1 1000 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 600 OK", b"HTTP/1.1 099 OK", b"HTTP/1.1 000 OK",
    b"HTTP/1.1 -20 OK", b"HTTP/1.1 2x0 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK", b"HTTP/1.1 OK", b"HTTP/1.1",
    b"HTTP/0.9 200 OK", b"HTTP/1.2 200 OK", b"HTTP/2.0 200 OK", b"HTTP/2 200 OK", b"HTTP/1.10 200 OK",
    b"http/1.1 200 OK", b"HTTPS/1.1 200 OK", b"ICY 200 OK", b" HTTP/1.1 200 OK", b"HTTP/1.1 200 O\0K",
    b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200 \x01", b"HTTP/1.1 200 \x7f", b"HTTP/1.1 200OK",
    b"\xef\xbb\xbfHTTP/1.1 200 OK", b"200 OK", b"",
)  # fmt: skip
_FRAMINGS: Final = (
    ("length and coding", _CL + _TE, b"5\r\nhello\r\n0\r\n\r\n"),
    ("coding and length", _TE + _CL, b"5\r\nhello\r\n0\r\n\r\n"),
    ("two lengths that differ", _CL + b"Content-Length: 6\r\n", b"hello!"),
    ("two lengths that are the same", _CL + _CL, b"hello"),
    ("a list of lengths", b"Content-Length: 5, 5\r\n", b"hello"),
    ("a signed length", b"Content-Length: +5\r\n", b"hello"),
    ("a negative length", b"Content-Length: -5\r\n", b"hello"),
    ("a length in base 16", b"Content-Length: 0x5\r\n", b"hello"),
    ("a length that is no number", b"Content-Length: x\r\n", b"hello"),
    ("an empty length", b"Content-Length:\r\n", b"hello"),
    ("a length of 2^64", b"Content-Length: 18446744073709551616\r\n", b"hello"),
    ("a length with zeros before it", b"Content-Length: 005\r\n", b"hello"),
    ("a coding of one's own", b"Transfer-Encoding: cow\r\n", b"hello"),
    ("gzip, chunked", b"Transfer-Encoding: gzip, chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    ("chunked, identity", b"Transfer-Encoding: chunked, identity\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    ("chunked twice", _TE + _TE, b"5\r\nhello\r\n0\r\n\r\n"),
    ("chunked with a comma", b"Transfer-Encoding: chunked,\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    ("xchunked", b"Transfer-Encoding: xchunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    ("an empty coding", b"Transfer-Encoding:\r\n", b"hello"),
    ("identity", b"Transfer-Encoding: identity\r\n", b"hello"),
)
_FIELDS: Final = (
    ("a space before the colon", b"X-A : 1\r\n"),
    ("a space before the length's colon", b"Content-Length : 5\r\n"),
    ("a space in a name", b"X A: 1\r\n"),
    ("no name", b": 1\r\n"),
    ("no colon", b"X-A\r\n"),
    ("a byte outside ASCII in a name", b"X-\xe9: 1\r\n"),
    ("a bracket in a name", b"X(A): 1\r\n"),
    ("a folded value", b"X-A: 1\r\n 2\r\n"),
    ("a folded first field", b" X-A: 1\r\n"),
    ("NUL in a value", b"X-A: a\0b\r\n"),
    ("a control character in a value", b"X-A: a\x01b\r\n"),
    ("DEL in a value", b"X-A: a\x7fb\r\n"),
    ("CR in a value", b"X-A: a\rSet-Cookie: b\r\n"),
    ("LF in a value", b"X-A: a\nSet-Cookie: b\r\n"),
    ("CR CR LF", b"X-A: a\r\r\n"),
    ("a field of 70 kB", b"X-A: " + b"a" * 70_000 + b"\r\n"),
    ("9,000 fields", b"a:b\r\n" * 9_000),
)
_CHUNKS: Final = (
    ("a size that is no number", b"zz\r\nhello\r\n"),
    ("a negative size", b"-5\r\nhello\r\n"),
    ("0x before the size", b"0x5\r\nhello\r\n"),
    ("a space behind the size", b"5 \r\nhello\r\n"),
    ("bare LF behind the size", b"5\nhello\r\n"),
    ("a size of 17 digits", b"10000000000000005\r\nhello\r\n"),
    ("an extension of 2 kB", b"5;" + b"a" * 2_048 + b"\r\nhello\r\n"),
    ("LF in an extension", b"5;a\nb\r\nhello\r\n"),
    ("bare LF as the last line", b"0\r\n\n"),
    ("a trailer without a colon", b"0\r\nX-A\r\n\r\n"),
    ("a trailer with a space before the colon", b"0\r\nX-A : 1\r\n\r\n"),
    ("a trailer that is a length", b"0\r\nContent-Length: 5\r\n\r\n"),
    ("a trailer that is a cookie", b"0\r\nSet-Cookie: a=b\r\n\r\n"),
    ("trailers of 17 kB", b"0\r\nX-A: " + b"a" * 17_000 + b"\r\n\r\n"),
    ("another answer instead of a chunk", _FORGED),
)
_EVENTS: Final = b"Content-Type: text/event-stream\r\n"
_EVENT: Final = b"data: {}\n\n"


def _got(name: str, script: tuple[Script, ...], *client: ExpectedAnswer, upstream: Methods = _ONCE) -> Case:
    return Case(name, (head(),), client, upstream, script)


def _head(name: str, said: bytes) -> Case:
    return _got(name, answered(said), _BAD)


def _in_chunks(name: str, bad: bytes, fields: bytes = b"", first: bytes = b"first", code: str | None = None) -> Case:
    """The client has the first chunk, and then something that is none comes."""
    begun = answer(fields + _TE, b"%x\r\n%b\r\n" % (len(first), first))
    return _got(name, answered(begun, Do.AWAIT_BEGINNING, bad), Cut(first, code=code))


def _at_once(name: str, bad: bytes) -> Case:
    """The same in one block with the head: what came before the fault still gets to the client."""
    return _got(f"at once: {name}", answered(answer(_TE, b"5\r\nfirst\r\n" + bad)), Cut(b"first"))


def _interim(name: str, fields: bytes) -> Case:
    """Framing in an interim answer (RFC 9110 §8.6, RFC 9112 §6.1) frames nothing, and ends here."""
    said = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n" + fields + b"\r\n" + PLAIN
    return _got(name, answered(said), Given(b"hello", interims=(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",)))


def _longer(name: str, said: bytes, got: bytes) -> Case:
    """What is too much is seen by nobody: neither by this client nor by whoever asks next."""
    asked = (head(), Until.ANSWERED, Until.NONE_KEPT, head())
    script = (*answered(said + _FORGED), *answered(PLAIN))
    return Case(name, asked, (Given(got), Given(b"hello")), Methods((b"GET", b"GET")), script)


CASES: Final = (
    *(_head(f"status line {line.decode('latin-1')!r}", line + b"\r\n" + _CL + b"\r\nhello") for line in _STATUS_LINES),
    *(_head(f"framing: {name}", answer(fields, body)) for name, fields, body in _FRAMINGS),
    _head("framing: a coding in HTTP/1.0", answer(_TE, chunks(b"hello"), version=b"1.0")),
    *(_head(f"field: {name}", answer(fields + _CL, b"hello")) for name, fields in _FIELDS),
    _head("line ends: LF alone", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
    _head("line ends: LF alone behind a field", b"HTTP/1.1 200 OK\r\nX-A: 1\nContent-Length: 5\r\n\r\nhello"),
    _head("line ends: CR alone", b"HTTP/1.1 200 OK\rContent-Length: 5\r\rhello"),
    _head("not HTTP: SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
    _head("not HTTP: HTML", b"<html><body>hello</body></html>\r\n\r\n"),
    _head("not HTTP: JSON", b'{"object": "list"}\n'),
    _head("not HTTP: a frame of HTTP/2", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"),
    _head("not HTTP: a request", head() + b"\r\n"),
    _head("a malformed interim answer", b"HTTP/1.1 103 Early Hints\r\nX A: 1\r\n\r\n" + PLAIN),
    _head(
        "101 that nobody asked for",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw",
    ),
    _head("101 without a word of what to", b"HTTP/1.1 101 Switching Protocols\r\n\r\nraw"),
    _got(
        "a flood of interim answers",
        answered(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1_000 + PLAIN),
        Refused(502, "upstream_malformed", False, interims=16),
    ),
    *(_in_chunks(f"chunks: {name}", bad) for name, bad in _CHUNKS),
    *(_in_chunks(f"events: {name}", bad, _EVENTS, _EVENT, "upstream_malformed") for name, bad in _CHUNKS[:4]),
    *(_at_once(name, bad) for name, bad in _CHUNKS),
    _got(
        "events at once: a size that is no number",
        answered(answer(_EVENTS + _TE, b"a\r\n" + _EVENT + b"\r\nzz\r\n")),
        Cut(_EVENT, code="upstream_malformed"),
    ),
    _interim("a length in an interim answer", b"Content-Length: 5\r\n"),
    _interim("a coding in an interim answer", _TE),
    _longer("bytes behind a counted answer", PLAIN, b"hello"),
    _longer("bytes behind a chunked answer", answer(_TE, chunks(b"hello!")), b"hello!"),
    _longer("bytes behind an answer without a body", answer(b"Content-Length: 0\r\n"), b""),
    Case(
        "a body behind an answer to HEAD",
        (head(b"HEAD"), Until.ANSWERED, Until.NONE_KEPT, head(b"HEAD")),
        (Given(b""), Given(b"")),
        Methods((b"HEAD", b"HEAD")),
        (*answered(PLAIN), *answered(PLAIN[:-5])),
    ),
    Case(
        "a body behind a 304",
        (head(), Until.ANSWERED, Until.NONE_KEPT, head()),
        (Given(b"", 304), Given(b"hello")),
        Methods((b"GET", b"GET")),
        (*answered(answer(_CL, b"hello", b"304 Not Modified")), *answered(PLAIN)),
    ),
    Case(
        "an answer on an idle connection",
        (head(), Until.ANSWERED, Until.NONE_KEPT, head()),
        (Given(b"hello"), Given(b"hello")),
        Methods((b"GET", b"GET")),
        ((Do.READ_REQUEST, PLAIN, Do.AWAIT_CLIENT, _FORGED), *answered(PLAIN)),
    ),
)

GROUP: Final = Group(
    "Malformed answers of the upstream",
    "What the upstream says is held to the same rules: it is answered 502 while nothing has gone to the client, else "
    "the answer is cut and nothing is made up. Bytes that answer nothing are seen by nobody, and the request is not "
    "sent again.",
    CASES,
)
