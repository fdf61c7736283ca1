"""A client's connection in memory, and what its tests say to it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from openai_relay.http1.client import ClientConnection, ClientLimits
from openai_relay.http1.fields import Pair
from openai_relay.http1.response import Response
from tests.http1.wire import Turns, Wire

LIMITS = ClientLimits(
    connect_timeout=10.0, first_byte_timeout=100.0, idle_timeout=60.0, keepalive_timeout=50.0, max_idle=3
)
HOST: list[Pair] = [(b"Host", b"api.example")]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


@implementer(IBodyProducer)
class Body:
    """
    A request's body, sent by the test.

    :ivar told: what the connection has told it.
    """

    def __init__(
        self, length: int | None, *blocks: bytes, complete: bool = False, error: Exception | None = None
    ) -> None:
        self.length: Any = UNKNOWN_LENGTH if length is None else length
        self.trailers: list[Pair] = []
        self.told: list[str] = []
        self.interim: list[tuple[int, bytes, list[Pair]]] = []
        self.consumer: Any = None
        self.whole: Deferred[None] = Deferred()
        self._blocks = blocks
        self._complete = complete
        self._error = error

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self.consumer = consumer
        for block in self._blocks:
            consumer.write(block)
        if self._error is not None:
            self.whole.errback(self._error)
        elif self._complete:
            self.whole.callback(None)
        return self.whole

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")

    def send_interim(self, status: int, reason: bytes, fields: list[Pair]) -> None:
        self.interim.append((status, reason, fields))


class Sink(Protocol):
    """Takes an answer's body, and remembers how it ended."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.reasons: list[Failure] = []
        #: What is done with the next block.
        self.then: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.blocks.append(data)
        if self.then is not None:
            self.then()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reasons.append(reason)

    @property
    def body(self) -> bytes:
        return b"".join(self.blocks)

    @property
    def complete(self) -> bool:
        """The body ended as it should; whoever asks is sure that it ended once."""
        assert len(self.reasons) <= 1, self.reasons
        return [reason.type for reason in self.reasons] == [ResponseDone]


class Asked:
    """One request, and what has become of it."""

    def __init__(self, waiting: Deferred[Any], late: bool) -> None:
        self.waiting = waiting
        self.response: Response | None = None
        self.error: Failure | None = None
        self.sink = Sink()
        self._late = late
        waiting.addCallbacks(self._answered, self._failed)

    def _answered(self, response: Response) -> None:
        self.response = response
        if not self._late:
            response.deliverBody(self.sink)

    def _failed(self, failure: Failure) -> None:
        self.error = failure

    @property
    def head(self) -> Response:
        assert self.response is not None, self.error
        return self.response

    @property
    def failure(self) -> Exception:
        assert self.error is not None
        assert isinstance(self.error.value, Exception)
        return self.error.value


class ClientCase(SynchronousTestCase):
    """Tests of one connection: ``free`` has it each time that it says so."""

    def setUp(self) -> None:
        self.turns = Turns()
        self.free: list[bool] = []

    def connect(self, handshaken: bool = True) -> Wire:
        connection = ClientConnection(LIMITS, lambda connection: self.free.append(not connection.lost))
        return Wire(self.turns, connection, handshaken)

    def ask(
        self,
        wire: Wire,
        method: bytes = b"GET",
        body: Any = None,
        fields: list[Pair] = HOST,
        interim: Any = None,
        late: bool = False,
    ) -> Asked:
        asked = Asked(wire.protocol.request(method, b"/v1", fields, body, interim), late)
        self.turns.settle()
        return asked

    def sweep(self, wire: Wire, seconds: float) -> None:
        """What a pool does for its connections, for so long."""
        for _ in range(round(seconds * 2)):
            self.now = getattr(self, "now", 0.0) + 0.5
            wire.protocol.sweep(self.now)
            self.turns.settle()
