"""A server in memory and what its tests say to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.errors import RelayError
from openai_relay.http1.server import HTTPServerFactory, Request, ServerConnection, ServerLimits
from tests.http1.wire import Turns, Wire

Pair = tuple[bytes, bytes]

GET = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
GET_1_0 = b"GET /v1/models HTTP/1.0\r\n\r\n"
CHUNKED_POST = b"POST /v1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

LIMITS = ServerLimits(handshake_timeout=7.0, head_timeout=10.0, idle_timeout=75.0, stall_timeout=300.0)


def get(path: bytes, *lines: bytes, version: bytes = b"1.1") -> bytes:
    return b"\r\n".join([b"GET %b HTTP/%b" % (path, version), b"Host: a", *lines]) + b"\r\n\r\n"


def post(length: int, *lines: bytes) -> bytes:
    return b"\r\n".join([b"POST /v1 HTTP/1.1", b"Host: a", b"Content-Length: %d" % length, *lines]) + b"\r\n\r\n"


def answer(request: Request, body: bytes = b"ok", status: int = 200) -> None:
    """A whole answer at once."""
    request.send_head(status, b"OK", [(b"Content-Length", b"%d" % len(body))], len(body))
    request.write(body)
    request.finish()


def answered(body: bytes = b"ok", connection: bytes = b"") -> bytes:
    """What `answer` makes of a body."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), connection, body)


CLOSE = b"Connection: close\r\n"
KEEP = b"Connection: keep-alive\r\n"


class Taker:
    """Takes a request's body, and remembers how it ended."""

    def __init__(self, request: Request) -> None:
        self.body = b""
        self.ended: list[Any] = []
        self.whole: Deferred[None] = request.startProducing(self)
        self.whole.addBoth(self.ended.append)

    def write(self, data: bytes) -> None:
        self.body += data


class Source:
    """A push producer that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class ServerCase(SynchronousTestCase):
    """Tests of a server: what it hands up is in ``requests``, and who left in ``gone``."""

    limits = LIMITS

    def setUp(self) -> None:
        self.turns = Turns()
        self.requests: list[Request] = []
        self.gone: list[tuple[Request, RelayError]] = []
        #: What is done with each request at once.
        self.then: Callable[[Request], None] = lambda _: None
        self.factory = HTTPServerFactory(self.serve, self.turns, self.limits)

    def serve(self, request: Request) -> None:
        self.requests.append(request)
        request.on_gone = lambda error: self.gone.append((request, error))
        self.then(request)

    def connect(self, handshaken: bool = True, tls: bool = True) -> Wire:
        connection = self.factory.buildProtocol(None)
        assert connection is not None
        return Wire(self.turns, connection, handshaken, tls)

    def request(self, wire: Wire, data: bytes = GET) -> Request:
        """Send one request; the one that was handed up for it."""
        before = len(self.requests)
        wire.send(data)
        self.assertEqual(len(self.requests), before + 1)
        return self.requests[-1]

    def connection(self, wire: Wire) -> ServerConnection:
        connection = wire.protocol
        assert isinstance(connection, ServerConnection)
        return connection

    def assertLives(self, wire: Wire) -> None:
        """It has not been closed, and serves one more request."""
        self.assertEqual(wire.ended, "")
        wire.taken()
        answer(self.request(wire))
        self.assertEqual(wire.taken(), answered())
