"""An upstream that cannot be reached, is not who it should be, falls silent or breaks off."""

from __future__ import annotations

from typing import Final

from tests.reliability.case import (
    PLAIN,
    Case,
    Cut,
    Do,
    ExpectedAnswer,
    ExpectedRequest,
    Given,
    Group,
    Methods,
    Nothing,
    Refused,
    Same,
    SameRequest,
    Script,
    Through,
    Tls,
    Torn,
    Until,
    answer,
    answered,
    head,
    post,
)
from tests.reliability.faithful_requests import LARGE

_CLOSED: Final = Refused(502, "upstream_closed", False)
_SILENT: Final = Refused(504, "upstream_timeout", False)
_UNTRUSTED: Final = Refused(502, "upstream_certificate_invalid", False)
_UNREACHABLE: Final = Refused(502, "upstream_unreachable", False)
_ONCE: Final = Methods((b"POST",))
_ASKED: Final = post(b'{"model":"m"}', b"Content-Type: application/json\r\n")

_TE: Final = b"Transfer-Encoding: chunked\r\n"
_EVENTS: Final = b"Content-Type: text/event-stream\r\n"
_EVENT: Final = b"data: {}\n\n"
_ENDINGS: Final = (("closed", Do.CLOSE), ("closed without a word in TLS", Do.FIN), ("reset", Do.RESET))
_STATUSES: Final = (
    *(b"400 Bad Request", b"401 Unauthorized", b"403 Forbidden", b"404 Not Found", b"408 Request Timeout"),
    *(b"409 Conflict", b"500 Internal Server Error", b"502 Bad Gateway", b"504 Gateway Timeout", b"529 Overloaded"),
)
_CLOSING: Final = b"Content-Length: 2\r\nConnection: close\r\n"
_HINTS: Final = b"HTTP/1.1 103 Early Hints\r\n\r\n"
_COUNTED: Final = b"Content-Length: 1\r\n"
_TEN: Final = b"Content-Length: 10\r\n"


def _fault(
    name: str,
    expected: ExpectedAnswer,
    *steps: bytes | Do,
    upstream: ExpectedRequest = _ONCE,
    through: Through = Through.PATIENT,
    tls: Tls = Tls.GOOD,
) -> Case:
    return Case(name, (_ASKED,), (expected,), upstream, ((Do.READ_REQUEST, *steps),), through, tls)


def _unmet(name: str, expected: Refused, tls: Tls = Tls.GOOD, through: Through = Through.BRISK) -> Case:
    """No request can be sent: the key least of all."""
    return _fault(name, expected, upstream=Nothing(), tls=tls, through=through)


def _cut(name: str, head_fields: bytes, body: bytes, ending: Do, got: bytes, code: str | None = None) -> Case:
    return _fault(name, Cut(got, code=code), answer(head_fields, body), Do.AWAIT_BEGINNING, ending)


def _stale(name: str, method: bytes, sent: bytes, last: ExpectedAnswer, times: int, ending: Do = Do.CLOSE) -> Case:
    """The connection is kept after a first exchange, and closed as the second request comes."""
    scripts: tuple[Script, ...] = (*answered(PLAIN), (Do.READ_REQUEST, ending), *answered(PLAIN))
    methods = Methods((b"GET", *[method] * times))
    return Case(name, (head(), Until.ANSWERED, sent), (Given(b"hello"), last), methods, scripts)


def _passed(status: bytes, fields: bytes = b"") -> Case:
    """Whatever the upstream says is said once, and passed on."""
    said = answer(fields + b"Content-Length: 2\r\n", b"{}", status)
    return Case(
        f"{status.decode()} is passed on, and nothing is repeated", (_ASKED,), (Same(),), SameRequest(), answered(said)
    )


_BEGUN: Final = head(b"POST", b"Content-Length: 1000000\r\n") + b"a" * 1_000
_BEGUN_CHUNKS: Final = head(b"POST", _TE) + b"3e8\r\n" + b"a" * 1_000 + b"\r\n"


_ALL_AT_ONCE: Final = head(b"POST", b"Content-Length: %d\r\n" % (2 * len(LARGE))) + LARGE
_EXPECTS: Final = head(b"POST", b"Expect: 100-continue\r\nContent-Length: 5\r\n")


def _early(name: str, sent: bytes, expected: ExpectedAnswer, *steps: bytes | Do) -> Case:
    return Case(name, (sent,), (expected,), Torn(), ((Do.READ_HEAD, *steps),))


CASES: Final = (
    _unmet("nobody listens", _UNREACHABLE, through=Through.REFUSED),
    _unmet("the connection is not taken", Refused(504, "upstream_connect_timeout", False), through=Through.BLACKHOLE),
    _unmet("the name does not resolve", _UNREACHABLE, through=Through.NO_NAME),
    _unmet("a certificate for another name", _UNTRUSTED, Tls.WRONG_NAME),
    _unmet("a certificate whose subject alone has the name", _UNTRUSTED, Tls.NAME_IN_SUBJECT_ONLY),
    _unmet("a certificate of an unknown authority", _UNTRUSTED, Tls.UNKNOWN_AUTHORITY),
    _unmet("an expired certificate", _UNTRUSTED, Tls.EXPIRED),
    _unmet("a certificate that is not valid yet", _UNTRUSTED, Tls.NOT_YET_VALID),
    _unmet("HTTP without TLS", _UNREACHABLE, Tls.PLAIN_TEXT),
    _unmet("no version of TLS that is safe", _UNREACHABLE, Tls.OLD_VERSION),
    _unmet("no answer to the handshake", Refused(504, "upstream_connect_timeout", False), Tls.SILENT),
    _unmet("reset in the handshake", _UNREACHABLE, Tls.RESET),
    _unmet("closed in the handshake", _UNREACHABLE, Tls.CLOSED),
    *(_fault(f"{name} before the head", _CLOSED, ending) for name, ending in _ENDINGS),
    *(_fault(f"{name} in the status line", _CLOSED, b"HTTP/1.1 20", ending) for name, ending in _ENDINGS),
    *(_fault(f"{name} in the head", _CLOSED, b"HTTP/1.1 200 OK\r\nContent-Le", ending) for name, ending in _ENDINGS),
    _fault("closed after an interim answer", Refused(502, "upstream_closed", False, interims=1), _HINTS, Do.CLOSE),
    _fault("silent before the head", _SILENT, Do.SILENCE, through=Through.BRISK),
    _fault("silent in the head", _SILENT, b"HTTP/1.1 200 OK\r\n", Do.SILENCE, through=Through.BRISK),
    _fault(
        "silent after an interim answer",
        Refused(504, "upstream_timeout", False, interims=1),
        _HINTS,
        Do.SILENCE,
        through=Through.BRISK,
    ),
    Case(
        "silent where 100-continue is waited for",
        (head(b"POST", b"Expect: 100-continue\r\nContent-Length: 5\r\n"),),
        (Refused(504, "upstream_timeout", None),),
        Torn(),
        ((Do.READ_HEAD, Do.SILENCE),),
        Through.BRISK,
    ),
    _fault("silent in a counted body", Cut(b"hello"), answer(_TEN, b"hello"), Do.SILENCE, through=Through.BRISK),
    _fault(
        "silent in a chunked body", Cut(b"hello"), answer(_TE, b"5\r\nhello\r\n"), Do.SILENCE, through=Through.BRISK
    ),
    _fault("silent in a body until the close", Cut(b"hello"), answer(b"", b"hello"), Do.SILENCE, through=Through.BRISK),
    _fault(
        "silent in events",
        Cut(_EVENT, code="upstream_timeout"),
        answer(_EVENTS + _TE, b"a\r\n" + _EVENT + b"\r\n"),
        Do.SILENCE,
        through=Through.BRISK,
    ),
    *(_cut(f"{name} in a counted body", _TEN, b"hello", ending, b"hello") for name, ending in _ENDINGS),
    *(_cut(f"{name} in a chunked body", _TE, b"5\r\nhello\r\n", ending, b"hello") for name, ending in _ENDINGS),
    *(_cut(f"{name} in a chunk", _TE, b"a\r\nhello", ending, b"hello") for name, ending in _ENDINGS),
    *(_cut(f"{name} in a chunk's size", _TE, b"5\r\nhello\r\n5", ending, b"hello") for name, ending in _ENDINGS),
    *(
        _cut(f"{name} in the trailers", _TE, b"5\r\nhello\r\n0\r\nX-A: 1\r\n", ending, b"hello")
        for name, ending in _ENDINGS
    ),
    *(_cut(f"{name} in a body until the close", b"", b"hello", ending, b"hello") for name, ending in _ENDINGS[1:]),
    *(
        _cut(f"{name} in events", _EVENTS + _TE, b"a\r\n" + _EVENT + b"\r\n", ending, _EVENT, "upstream_closed")
        for name, ending in _ENDINGS
    ),
    _cut(
        "closed in compressed events",
        _EVENTS + b"Content-Encoding: gzip\r\n" + _TE,
        b"2\r\n\x1f\x8b\r\n",
        Do.CLOSE,
        b"\x1f\x8b",
    ),
    _cut("closed in events of a known length", _EVENTS + b"Content-Length: 20\r\n", _EVENT, Do.CLOSE, _EVENT),
    _cut("closed in half an event", _EVENTS + _TE, b"5\r\ndata:\r\n", Do.CLOSE, b"data:", "upstream_closed"),
    _fault(
        "closed in events before [DONE]",
        Cut(_EVENT * 2, code="upstream_closed"),
        answer(_EVENTS + _TE, b"14\r\n" + _EVENT * 2 + b"\r\n"),
        Do.AWAIT_BEGINNING,
        Do.CLOSE,
    ),
    _stale("kept connection closed as a GET comes: sent again, once", b"GET", head(), Given(b"hello"), 2),
    _stale("kept connection closed as a HEAD comes: sent again, once", b"HEAD", head(b"HEAD"), Given(b""), 2),
    _stale("kept connection closed as a POST comes: never sent twice", b"POST", _ASKED, _CLOSED, 1),
    _stale(
        "kept connection closed as a PUT comes: never sent twice", b"PUT", head(b"PUT", _COUNTED) + b"a", _CLOSED, 1
    ),
    _stale("kept connection closed as a DELETE comes: never sent twice", b"DELETE", head(b"DELETE"), _CLOSED, 1),
    _stale("kept connection closed as a GET with a body comes", b"GET", head(fields=_COUNTED) + b"a", _CLOSED, 1),
    _stale("kept connection reset as a GET comes: sent again, once", b"GET", head(), Given(b"hello"), 2, Do.RESET),
    _stale("kept connection reset as a POST comes: never sent twice", b"POST", _ASKED, _CLOSED, 1, Do.RESET),
    _stale("kept connection left as a GET comes: sent again, once", b"GET", head(), Given(b"hello"), 2, Do.FIN),
    _stale("kept connection left as a POST comes: never sent twice", b"POST", _ASKED, _CLOSED, 1, Do.FIN),
    Case(
        "a fresh connection closed as a GET comes: not sent again",
        (head(),),
        (_CLOSED,),
        Methods((b"GET",)),
        ((Do.READ_REQUEST, Do.CLOSE),),
        Through.BRISK,
    ),
    Case(
        "closed twice as a GET comes: sent twice, and no more",
        (head(), Until.ANSWERED, head()),
        (Given(b"hello"), _CLOSED),
        Methods((b"GET", b"GET", b"GET")),
        (*answered(PLAIN), (Do.READ_REQUEST, Do.CLOSE), (Do.READ_REQUEST, Do.CLOSE)),
    ),
    Case(
        "kept connection reset in the head as a GET comes: not sent again",
        (head(), Until.ANSWERED, head()),
        (Given(b"hello"), _CLOSED),
        Methods((b"GET", b"GET")),
        (*answered(PLAIN), (Do.READ_REQUEST, b"HTTP/1.1 2", Do.CLOSE)),
    ),
    Case(
        "kept connection that was closed while idle: not used",
        (head(), Until.ANSWERED, Until.NONE_KEPT, _ASKED),
        (Given(b"hello"), Given(b"hello")),
        Methods((b"GET", b"POST")),
        (*answered(PLAIN, Do.CLOSE), *answered(PLAIN)),
    ),
    _early("an early answer in the middle of a counted body", _BEGUN, Given(b"hello"), PLAIN),
    _early("an early answer in the middle of a chunked body", _BEGUN_CHUNKS, Given(b"hello"), PLAIN),
    _early("an early 413, then closed", _BEGUN, Given(b"{}", 413), answer(_CLOSING, b"{}", b"413 Too Large")),
    _early("an early answer, and the client sends 5 MiB before it reads", _ALL_AT_ONCE, Given(b"hello"), PLAIN),
    _early("413 instead of 100 Continue", _EXPECTS, Given(b"{}", 413), answer(_CLOSING, b"{}", b"413 Too Large")),
    _early(
        "417 instead of 100 Continue", _EXPECTS, Given(b"", 417), answer(b"Content-Length: 0\r\n", status=b"417 No")
    ),
    _early("closed in the middle of a body", _BEGUN, Refused(502, "upstream_closed"), Do.FIN),
    _early("reset in the middle of a body", _BEGUN, Refused(502, "upstream_closed"), Do.RESET),
    _early("a malformed early answer", _BEGUN, Refused(502, "upstream_malformed"), b"HTTP/1.1 999 No\r\n\r\n"),
    *(_passed(status) for status in _STATUSES),
    _passed(
        b"429 Too Many Requests",
        b"retry-after: 7\r\nretry-after-ms: 6500\r\nx-ratelimit-reset-tokens: 6.5s\r\nx-should-retry: true\r\n",
    ),
    _passed(b"503 Service Unavailable", b"Retry-After: Wed, 21 Oct 2037 07:28:00 GMT\r\n"),
    _passed(b"307 Temporary Redirect", b"Location: /v1/elsewhere\r\n"),
)

GROUP: Final = Group(
    "Faults of the upstream",
    "Every fault has one clear ending: an error of OpenAI's shape with a code of its own, or, once the head is out, a "
    "cut that every client sees. Nothing is made up, and nothing that may have been acted upon is sent twice.",
    CASES,
)
