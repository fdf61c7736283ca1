"""Kinds of a soak: what is refused, limited or broken by the upstream, and how the client must learn of it."""

from __future__ import annotations

import json
import socket
import ssl
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Final

from tests.soak import leaving
from tests.soak.calling import WITHIN, Caller, Line, Lost, Met502, error_code
from tests.soak.upstream import GOOD

_HOST: Final = b"Host: localhost\r\n"
_POST: Final = b"POST /v1/files HTTP/1.1\r\n" + _HOST
_SMUGGLED: Final = b"GET /v1/models HTTP/1.1\r\n" + _HOST + b"\r\n"
_MALFORMED: Final = (
    b"GET /v1/models HTTP/1.1\nHost: localhost\n\n",
    b"GET /v1/models HTTP/1.1\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\n" + _HOST + _HOST + b"\r\n",
    b"GET /v1/models HTTP/1.1\r\n" + _HOST + b"X-A: 1\r\n folded\r\n\r\n",
    b"GET /v1/models HTTP/3.0\r\n" + _HOST + b"\r\n",
    b"\x16\x03\x01 not even text\r\n\r\n",
    _POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + _SMUGGLED,
    _POST + b"Content-Length: 5, 5\r\n\r\nhello" + _SMUGGLED,
    _POST + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n" + _SMUGGLED,
)
_REFUSED: Final = (
    ("GET", "/", 403),
    ("GET", "/v1/%2e%2e/dashboard", 403),
    ("POST", "/v1/organization/users", 403),
    ("TRACE", "/v1/models", 405),
    ("BREW", "/v1/models", 501),
    ("GET", "/v1/models%00", 400),
)
#: Faults before the head of an answer, and the code that the client is told.
_BEFORE: Final = (
    ("reset_before_head", "upstream_closed"),
    ("close_before_head", "upstream_closed"),
    ("cut_head", "upstream_closed"),
    ("two_lengths", "upstream_malformed"),
    ("no_http", "upstream_malformed"),
)
#: Faults within a stream of events: the client reads an error event, and a body without an end.
_WITHIN: Final = (("reset_in_body", "upstream_closed"), ("bad_chunk", "upstream_malformed"))
_SSL_ENDS: Final = (ssl.SSLError, ConnectionError)
_CHAT: Final = (
    b'{"model":"gpt-4o-mini","stream":true,"stream_options":{"include_usage":true},'
    b'"messages":[{"role":"user","content":"Hi"}]}'
)


def malformed(caller: Caller) -> None:
    """What is no request, or could be read as two: 400, and the connection ends."""
    line = caller.new_line()
    line.send(caller.rng.choice(_MALFORMED))
    answer = line.answer()
    caller.expect(answer, 400)
    if error_code(answer.read()) != "malformed_request" or line.socket.recv(1):
        raise Lost("a malformed request was not refused as such, or something was served after it")
    caller.done.ended("refused")
    line.close()


def refused(caller: Caller) -> None:
    """What the relay does not forward; the connection goes on."""
    method, target, status = caller.rng.choice(_REFUSED)
    line = caller.line()
    line.request(method, target)
    answer = line.answer(method)
    caller.expect(answer, status)
    error_code(answer.read())
    caller.done.ended("refused")
    if answer.will_close:
        caller.drop()


def upstream_error(caller: Caller) -> None:
    """An error that the upstream answers passes unchanged."""
    status = caller.rng.choice((400, 401, 404, 409, 422, 429, 500, 503))
    line = caller.line()
    line.request("GET", f"/v1/models?standin.status={status}&standin.code=of-the-upstream")
    answer = line.answer()
    caller.expect(answer, status)
    if error_code(answer.read()) != "of-the-upstream":
        raise Lost(f"a {status} of the upstream came as another")
    caller.done.ended("done")


def upstream_fault(caller: Caller) -> None:
    """The upstream breaks HTTP: one clear ending each."""
    rng = caller.rng
    way = rng.randrange(4)
    if way == 0:
        fault, code = rng.choice(_BEFORE)
        _told(caller, rng.choice(("GET", "POST")), f"/v1/x?soak.fault={fault}", code)
    elif way == 1:
        _told(caller, "GET", "/v1/models?standin.cut_in_head=1", "upstream_closed")
    elif way == 2:
        fault, code = rng.choice(_WITHIN)
        _broken(caller, f"/v1/x?soak.fault={fault}", code)
    elif rng.random() < 0.5:
        _broken(caller, f"/v1/chat/completions?standin.events=20&standin.cut_after={rng.randint(1, 10)}", None)
    else:
        _short(caller)


def _told(caller: Caller, method: str, target: str, code: str) -> None:
    line = caller.line()
    line.request(method, target)
    answer = line.answer(method)
    body = answer.read()
    if answer.status != 502 or error_code(body) not in (code, "upstream_closed"):
        raise Lost(f"{target} was answered {answer.status} {body[:200]!r}")
    if error_code(body) != code:  # the fault never happened: the request met a stale connection before it
        raise Met502()
    caller.done.ended("upstream_error")


def _broken(caller: Caller, target: str, code: str | None) -> None:
    line = caller.new_line()
    line.request("POST", target, _CHAT, "Content-Type: application/json\r\n")
    answer = line.answer("POST")
    caller.expect(answer, 200)
    got = _rest(answer)
    if got is None:
        raise Lost(f"{target} broke off, and the client was told that it was whole")
    last = got.rstrip(b"\n").rpartition(b"\n")[2]
    found = error_code(last.removeprefix(b"data: "))
    if found != (code or "upstream_closed") or b"[DONE]" in got:
        raise Lost(f"{target} ended with {got[-300:]!r}")
    caller.done.ended("upstream_error")
    line.close()


def _rest(answer: HTTPResponse) -> bytes | None:
    """What came before the end that HTTP does not know; ``None`` when the answer was whole."""
    got = b""
    try:
        while block := answer.read1(65_536):
            got += block
    except (IncompleteRead, HTTPException, *_SSL_ENDS):
        return got
    return None


def _short(caller: Caller) -> None:
    line = caller.new_line()
    line.request("GET", "/v1/x?soak.fault=short")
    answer = line.answer()
    caller.expect(answer, 200)
    try:
        answer.read()
    except (IncompleteRead, *_SSL_ENDS):
        caller.done.ended("upstream_error")
        line.close()
        return
    raise Lost("a body of 2 bytes was passed on as one of 1000")


def stale(caller: Caller) -> None:
    """The upstream closes a kept connection, or says on it what nobody asked; this answer is good all the same."""
    caller.done.stale(asked=1)
    line = caller.line()
    line.request("GET", f"/v1/x?soak.fault={caller.rng.choice(('stale', 'unasked'))}")
    answer = line.answer()
    caller.expect(answer, 200)
    if answer.read() != GOOD:
        raise Lost("the answer before a stale end did not come whole")
    caller.done.ended("done")


def greedy(caller: Caller) -> None:
    """As many exchanges as a certificate may have open, and one more."""
    with caller.shared.greed:
        hold_all(caller, caller.shared.greedy)


def hold_all(caller: Caller, name: str) -> None:
    """
    Open all the exchanges that this certificate may have, be refused one more, and end them well.

    It shows as well that no lease of that certificate has been lost: one less would fail.
    """
    held: list[Line] = []
    try:
        while len(held) < caller.shared.concurrent:
            line = caller.new_line(name=name)
            try:
                leaving.begin(caller, line, "POST", "/v1/standin/digest", 2)
            except Met502:
                caller.done.stale(met=1)
                caller.done.ended("upstream_error")
                line.close()
                continue
            except Lost as lost:
                raise Lost(f"{name} may have {caller.shared.concurrent} open, has {len(held)}: {lost}") from None
            held.append(line)
        line = caller.new_line(name=name)
        line.request("GET", "/v1/models")
        answer = line.answer()
        caller.expect(answer, 429)
        if error_code(answer.read()) != "concurrency_limit_exceeded":
            raise Lost("one too many was refused for another reason")
        caller.done.ended("limited")
        line.close()
        for line in held:
            line.send(b"{}")
            answer = line.answer("POST")
            caller.expect(answer, 200)
            if json.loads(answer.read())["bytes"] != 2:
                raise Lost("a held upload did not arrive")
            caller.done.ended("done")
    finally:
        for line in held:
            line.close()


def hasty(caller: Caller) -> None:
    """Requests as fast as they go, until the rate is limited."""
    line = caller.new_line(name=caller.shared.hasty)
    for _ in range(100):
        line.request("GET", "/v1/models")
        answer = line.answer()
        caller.expect(answer, 200, 429)
        answer.read()
        caller.done.ended("done" if answer.status == 200 else "limited")
        if answer.status == 429:
            break
    line.close()


def no_certificate(caller: Caller) -> None:
    """Whoever shows no certificate, or one of a stranger's, gets no further than the handshake."""
    name = caller.rng.choice((None, "stranger"))
    with socket.create_connection(("127.0.0.1", caller.port), WITHIN) as bare:
        try:
            with caller.tls(name).wrap_socket(bare, server_hostname="localhost") as tls:
                tls.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answered = tls.recv(1)
        except _SSL_ENDS:
            answered = b""
    if answered:
        raise Lost("a client without a good certificate was answered")
    caller.done.handshake("refused")
