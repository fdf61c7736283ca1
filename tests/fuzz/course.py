"""
The wire floor with both its ends in memory: a client, an upstream, and between them the shortest relay there is.

It forwards what it is handed and passes back what is answered, with the fields
that the real one lets through; it checks nothing and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from openai_relay.core.errors import RelayError
from openai_relay.core.headers import (
    UpstreamFields,
    for_client,
    for_upstream,
    interim_for_client,
    trailers_for_client,
    trailers_for_upstream,
)
from openai_relay.core.settings import UpstreamSettings
from openai_relay.http1.client import ClientConnection, ClientLimits
from openai_relay.http1.fields import Pair
from openai_relay.http1.request import Request
from openai_relay.http1.response import Response
from openai_relay.http1.server import HTTPServerFactory, ServerLimits
from openai_relay.streaming import ResponseRelay
from tests.fuzz.reading import Reading, read_request
from tests.http1.wire import Turns, Wire

#: What the upstream gets of a request's fields.
UPSTREAM: Final = UpstreamFields.of(UpstreamSettings(url="https://api.example", authorization="passthrough"))
ID: Final = b"id"
MAX_HEAD: Final = 2_048
LIMITS: Final = ServerLimits(max_head=MAX_HEAD)
#: Marks an answer as the relay's own word that there is none.
REFUSED: Final[Pair] = (b"X-Refused", b"yes")


@dataclass(slots=True, eq=False)
class Far:
    """
    The upstream's end of one connection, and all that came there.

    :ivar answered: so much of it belongs to requests that were answered.
    """

    connection: ClientConnection
    wire: Wire
    data: bytes = b""
    answered: int = 0

    def take(self) -> bytes:
        self.data += self.wire.taken()
        return self.data


@dataclass(slots=True, eq=False)
class Handed:
    """
    A request that was handed up.

    :ivar far: where it was forwarded to: what came there from ``start`` on, and before the next one's.
    :ivar endings: how it ended, once.
    :ivar error: what it was refused for.
    """

    request: Request
    far: Far | None = None
    start: int = 0
    stop: int | None = None
    endings: list[str] = field(default_factory=list)
    error: RelayError | None = None
    broken: Failure | None = None
    seen: bool = False  # the upstream has answered it

    def forwarded(self) -> Reading | None:
        """What the upstream reads of it."""
        return None if self.far is None else read_request(self.far.take()[self.start : self.stop])


class Course:
    """
    One client's connection, and those to the upstream that its requests bring about.

    :ivar client: the client's end.
    :ivar received: all that the client was sent.
    """

    def __init__(self) -> None:
        self.turns = Turns()
        self.factory = HTTPServerFactory(self._serve, self.turns, LIMITS)
        self.handed: list[Handed] = []
        self.fars: list[Far] = []
        self.received = b""
        self._running: dict[Request, Deferred[None]] = {}
        connection = self.factory.buildProtocol(None)
        assert connection is not None
        self.connection = connection
        self.client = Wire(self.turns, connection)

    def play(self, blocks: list[bytes], answer: Callable[[Handed, Reading], None]) -> None:
        """Let the client send, and the upstream answer what has come to it as a whole, until nothing moves."""
        for block in blocks:
            self.client.send(block, at_once=False)
        moved = True
        while moved:
            self.turns.settle()
            moved = False
            for handed in self.handed:
                forwarded = None if handed.seen else handed.forwarded()
                if forwarded is not None and forwarded.end == "complete":
                    handed.seen = moved = True
                    assert handed.far is not None
                    handed.far.answered = len(handed.far.data)
                    answer(handed, forwarded)
        self.received += self.client.taken()

    def leave(self) -> None:
        """Everybody leaves; raises what nobody was to raise."""
        self.client.leave()
        for far in self.fars:
            far.wire.leave()
        self.received += self.client.taken()
        for handed in self.handed:
            if handed.broken is not None:
                handed.broken.raiseException()
            assert len(handed.endings) == 1, f"an exchange ended {handed.endings}"
        assert not self.factory.connections, "a connection stays behind"
        assert not self._running, "an exchange stays behind"

    def _serve(self, request: Request) -> None:
        handed = Handed(request)
        self.handed.append(handed)
        request.select_trailers = lambda trailers: trailers_for_upstream(trailers, UPSTREAM)
        request.select_interim = interim_for_client
        request.on_gone = lambda _: self._gone(handed)
        course = Deferred.fromCoroutine(self._exchange(handed))
        if not course.called:
            self._running[request] = course
        course.addBoth(self._over, handed)

    def _over(self, result: object, handed: Handed) -> None:
        self._running.pop(handed.request, None)
        if isinstance(result, Failure):
            handed.broken = result  # raised by leave()

    def _gone(self, handed: Handed) -> None:
        handed.endings.append("gone")
        course = self._running.get(handed.request)
        if course is not None:
            course.cancel()

    async def _exchange(self, handed: Handed) -> None:
        request = handed.request
        try:
            if request.fault is not None:
                raise request.fault
            response = await self._forward(handed)
            request.send_head(response.code, response.phrase, for_client(response.fields, ID), response.length)
            rest = ResponseRelay(request, response).start()
            request.flush()
            if rest is not None:
                await rest
        except (RelayError, CancelledError) as error:
            if handed.endings:
                request.cut()
                return
            assert isinstance(error, RelayError), error
            handed.error = error
            if request.answered:
                handed.endings.append("cut")
                request.cut()
                return
            request.send_head(error.status, b"", [REFUSED, (b"Content-Length", b"0")], 0)
            handed.endings.append("refused")
            request.finish()
        else:
            handed.endings.append("answered")
            request.finish(trailers_for_client(response.trailers))

    async def _forward(self, handed: Handed) -> Response:
        request = handed.request
        far = self._connect()
        for before in self.handed:
            if before.far is far and before.stop is None:
                before.stop = far.answered
        handed.far, handed.start = far, far.answered
        fields = for_upstream(request.fields, UPSTREAM, ID)
        body = None if request.length == 0 else request
        return await far.connection.request(request.method, request.target, fields, body, request.send_interim)

    def _connect(self) -> Far:
        for far in self.fars:
            if not far.connection.lost and not far.connection._busy:
                return far
        connection = ClientConnection(ClientLimits(), lambda _: None)
        far = Far(connection, Wire(self.turns, connection))
        self.fars.append(far)
        return far
