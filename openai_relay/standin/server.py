"""
One request from its head to the end of its answer: paced, broken or refused as it asked.

Order: controls, route, key, body, answer, delay, head, body; of a WebSocket:
controls, route, key, handshake, delay, 101, conversation.  ``standin.hang`` and
``standin.early`` leave steps out.  Whatever happens, the exchange is
counted once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from wsproto.frame_protocol import CloseReason

from openai_relay.core.errors import ClientGone, RelayError
from openai_relay.core.settings import Secret
from openai_relay.http1.connection import Connection
from openai_relay.http1.server import Request
from openai_relay.standin import credentials
from openai_relay.standin.answer import Call, Calls, Head
from openai_relay.standin.controls import Controls, controls_of
from openai_relay.standin.counters import Counters
from openai_relay.standin.echo import KEPT as ECHOED
from openai_relay.standin.forms import Digest, FormReader, boundary_of
from openai_relay.standin.frames import Frames
from openai_relay.standin.handshake import Agreement, agree, wants_websocket
from openai_relay.standin.heads import Heads
from openai_relay.standin.intake import Intake, Sink, Whole
from openai_relay.standin.problems import Problem, invalid, on_demand
from openai_relay.standin.reply import Reply
from openai_relay.standin.routes import STATS, Route, Routes, Takes
from openai_relay.standin.websocket import Endpoint, WebSocket

#: Keys of ``standin.fail_times`` that are remembered.
MOST_KEYS: Final = 10_000
#: A refused body that is longer costs the client its connection.
MOST_DRAINED: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class StandInOptions:
    """How a stand-in behaves towards requests that ask for nothing special."""

    interval_ms: float = 0.0  #: between two events of a stream
    expected_key: Secret | None = None  #: any other is refused; None: every key will do


class Exchanges:
    """Serves the requests of one stand-in; ``serve`` is for `HTTPServerFactory`."""

    log = Logger()

    def __init__(self, clock: IReactorTime, counters: Counters, options: StandInOptions) -> None:
        self._clock = clock
        self._counters = counters
        self._options = options
        self._routes = Routes(counters, options.expected_key)
        self._heads = Heads()
        self._failed: OrderedDict[str, int] = OrderedDict()
        self._counted: set[Reply] = set()  # under way
        self._websockets: dict[Connection, WebSocket] = {}
        self._closed: Deferred[None] | None = None  # fires when no WebSocket is left
        self._number = 0

    def serve(self, request: Request) -> None:
        """Answer one request."""
        serving = Deferred.fromCoroutine(self._serve(request))
        if not serving.called:
            request.on_gone = lambda _: serving.cancel()

    async def _serve(self, request: Request) -> None:
        self._number += 1
        reply = Reply(request, self._number, self._clock, self._counters, self._heads)
        try:
            await self._course(reply)
        except (CancelledError, ClientGone):
            reply.left = True
        except RelayError as error:  # the body turned out to be malformed
            reply.refuse(Problem(error.status, error.told, error.type, error.code))
        except Problem as problem:
            reply.refuse(problem)
        except Exception:  # noqa: BLE001 - the one place
            self.log.failure("bug in the stand-in")
            reply.refuse(Problem(500, "The stand-in has a bug.", "server_error"))
        finally:
            reply.account()
            self._counted.discard(reply)

    async def _course(self, reply: Reply) -> None:
        request = reply.request
        if request.fault is not None:
            self._counters.malformed += 1
            raise Problem(request.fault.status, request.fault.told, request.fault.type, request.fault.code)
        path, _, query = request.target.partition(b"?")
        found = credentials.received(request.fields)
        method, name = request.method.decode("latin-1"), unquote_to_bytes(path).decode("utf-8", "replace")
        if name == STATS and method == "GET":
            for other in self._counted:
                other.count_sent()
            answer = self._routes.find(method, name)[0].answer(Call(Controls(), 0, 0))
            reply.send_whole(answer, answer.body)
            return
        try:
            route, parameter = self._open(reply, method, name, query, found)
            agreement = self._agree(request, route, reply.controls)
        except Problem:
            await self._drain(reply)
            raise
        controls = reply.controls
        call = await self._take(reply, route, found.content_type, parameter, query)
        if controls.hang:
            await Deferred()
        if controls.delay_ms:
            await deferLater(self._clock, controls.delay_ms / 1_000)
        self._fail_on_demand(controls)
        if controls.cut_in_head:
            reply.cut_in_head()
            return
        refused = controls.status is not None and controls.status < 400  # an error was raised above
        if agreement is not None and route.converse is not None and not refused:
            await self._converse(reply, agreement, route.converse(self._calls(call)))
        else:
            await reply.send(route.answer(call), self._options.interval_ms)

    async def _converse(self, reply: Reply, agreement: Agreement, endpoint: Endpoint) -> None:
        """The conversation on a WebSocket, to its end."""
        reply.switch(agreement.fields)
        frames = Frames(agreement.deflate, reply.controls.fragment)
        websocket = WebSocket(self._clock, reply, frames, self._counters)
        connection = reply.request.connection
        self._websockets[connection] = websocket
        try:
            await websocket.converse(endpoint, self._options.interval_ms)
        finally:
            del self._websockets[connection]
            closed = self._closed
            if closed is not None and not self._websockets:
                self._closed = None
                closed.callback(None)

    @property
    def conversing(self) -> Collection[Connection]:
        """The connections that are WebSockets at present."""
        return self._websockets.keys()

    def close_websockets(self) -> Deferred[None]:
        """Tell everybody who has a WebSocket that this server is going away; fires when none is left."""
        if not self._websockets:
            return succeed(None)
        closed = self._closed = Deferred()
        for websocket in list(self._websockets.values()):
            websocket.close(CloseReason.GOING_AWAY, "the stand-in is stopping")
        return closed

    def _calls(self, call: Call) -> Calls:
        def make(body: bytes) -> Call:
            self._number += 1
            return replace(call, number=self._number, created=int(self._clock.seconds()), body=body)

        return make

    def _agree(self, request: Request, route: Route, controls: Controls) -> Agreement | None:
        """The opening handshake of a WebSocket; ``None``: the request is an ordinary one."""
        if route.converse is None:
            return None
        if request.length != 0:
            raise invalid("A request for a WebSocket has no body.")
        return agree(request.fields, route.protocol, controls.deflate)

    def _open(
        self, reply: Reply, method: str, path: str, query: bytes, found: credentials.Received
    ) -> tuple[Route, str]:
        """All that a request's head decides."""
        name = "no route"
        upgrading = wants_websocket(reply.request.method, reply.request.upgrade)
        try:
            controls = reply.controls = controls_of(query, found.controls)
            websocket = self._routes.find_websocket(path) if upgrading and not controls.echo else None
            if websocket is not None:
                route, parameter = websocket, ""
            else:
                route, parameter = (self._routes.echo, "") if controls.echo else self._routes.find(method, path)
            name = f"{method} {route.name}"
        finally:
            reply.count(name)
            self._counted.add(reply)
        self._admit(found, websocket is not None)
        return route, parameter

    def _admit(self, found: credentials.Received, websocket: bool) -> None:
        offered = credentials.key_offered(found)
        if offered is not None:
            self._counters.keys_in_protocols += 1
        key = offered if websocket and offered and not found.authorization else credentials.bearer(found)
        matched = credentials.matches(key, self._options.expected_key)
        if matched is not None:
            self._counters.key(matched)
            if not matched:
                raise credentials.wrong_key()
        credentials.check_request_id(found)

    def _fail_on_demand(self, controls: Controls) -> None:
        status = controls.status or 0
        if controls.fail_times:
            failed = self._failed.pop(controls.key, 0)
            self._failed[controls.key] = failed + 1
            if len(self._failed) > MOST_KEYS:
                self._failed.popitem(last=False)
            if failed >= controls.fail_times:
                return
            status = status if status >= 400 else 500
        if status >= 400:
            raise on_demand(status, controls.code, controls.retry_after_ms, controls.should_retry)

    async def _drain(self, reply: Reply) -> None:
        """Read a refused body away when it is short: closing the connection would cost more."""
        request = reply.request
        if request.receiving and not request.expects_continue and (request.length or MOST_DRAINED) < MOST_DRAINED:
            await Intake(request, Digest(0), self._counters, None).take()

    async def _take(self, reply: Reply, route: Route, content_type: bytes, parameter: str, query: bytes) -> Call:
        request, controls = reply.request, reply.controls
        boundary = boundary_of(content_type) if route.takes is Takes.FORM else None
        form = FormReader(boundary) if boundary else None
        whole = Whole() if route.takes is Takes.WHOLE else None
        digest = Digest(ECHOED)
        sink: Sink = form or whole or digest
        if not controls.early and request.length != 0:
            await Intake(request, sink, self._counters, controls.stall_after).take()
        return Call(
            controls,
            reply.number,
            int(self._clock.seconds()),
            parameter,
            tuple(parse_qsl(query.decode("latin-1"))) if query else (),
            body=whole.body() if whole else b"",
            form=form if form is None else form.form if controls.early else form.close(),
            head=Head(
                request.method, request.target, request.version, request.fields, request.length, request.trailers
            ),
            content=None if form or whole else digest.content(),
        )
