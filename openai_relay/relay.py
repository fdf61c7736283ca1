"""
The course of one exchange: accepted, authenticated, admitted, forwarded, streamed, accounted.

A reader finds the whole life of a request in `Relay._exchange`, and its one
ending in that function's ``finally``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from openai_relay.core.errors import (
    BadRequest,
    ClientGone,
    MethodNotAllowed,
    RelayBug,
    RelayError,
    ShuttingDown,
    TooManyConnections,
    UpgradeRefused,
    error_body,
    error_event,
)
from openai_relay.core.exchange import Exchange
from openai_relay.core.headers import for_client, trailers_for_client, upgrade_for_client
from openai_relay.core.identity import Identity
from openai_relay.core.limits import Limits
from openai_relay.core.paths import PathPolicy
from openai_relay.core.settings import LimitBy, WebSocketSettings
from openai_relay.http1.fields import Pair
from openai_relay.http1.message import SWITCHING
from openai_relay.http1.request import Request
from openai_relay.http1.response import Response
from openai_relay.listener import Listener
from openai_relay.streaming import ResponseRelay, Tunnel
from openai_relay.upstream import Upstream


class Account(Protocol):
    """Who is told of exchanges: as one is admitted or refused, and when it is over."""

    def opened(self, exchange: Exchange) -> None:
        """It begins."""

    def closed(self, exchange: Exchange) -> None:
        """It is over; called once for each, whatever way it ended."""


class Relay:
    """
    Serves requests, one course each.

    :param monotonic_ns: for durations.
    :param new_id: makes the relay's own request identifiers.
    """

    log = Logger()

    def __init__(
        self,
        listener: Listener,
        paths: PathPolicy,
        limits: Limits,
        limit_by: LimitBy,
        upstream: Upstream,
        websocket: WebSocketSettings,
        account: Account,
        monotonic_ns: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        self._listener = listener
        self._paths = paths
        self._limits = limits
        self._limit_by = limit_by
        self._upstream = upstream
        self._websocket = websocket
        self._account = account
        self._monotonic_ns = monotonic_ns
        self._new_id = new_id
        self._running: dict[Request, Deferred[None]] = {}
        self._draining: Deferred[None] | None = None
        self._stopped = False

    def __call__(self, request: Request) -> None:
        """Serve a request whose head has just arrived."""
        course = Deferred.fromCoroutine(self._exchange(request))
        if not course.called:
            self._running[request] = course
            course.addBoth(self._ended, request)

    async def _exchange(self, request: Request) -> None:
        exchange = Exchange(self._monotonic_ns(), self._new_id())  # accepted
        _note_request(exchange, request)
        lease = None
        own: list[Pair] = []
        response: Response | None = None
        tunnel: Tunnel | None = None
        ending: Callable[[], None] = request.cut
        try:
            self._account.opened(exchange)
            request.on_gone = lambda error: self._leave(request, exchange, error)
            if request.fault is not None:
                raise request.fault
            identity = exchange.identity = self._listener.check(request.connection.client)  # authenticated
            self._check(request)
            lease = self._limits.admit(identity.limit_key(self._limit_by))  # admitted
            own = lease.fields()
            request_id = exchange.relay_request_id.encode("ascii")
            response = await self._upstream.forward(request, request_id)  # forwarded
            _note_response(exchange, response, self._monotonic_ns())
            fields = for_client(response.fields, request_id, own)
            if response.code == SWITCHING:
                request.send_head(SWITCHING, response.phrase, upgrade_for_client(fields), None)
                tunnel = Tunnel(request, response, self._websocket.idle_timeout)
                rest = tunnel.start()
            else:
                request.send_head(response.code, response.phrase, fields, response.length)
                rest = ResponseRelay(request, response).start()
            request.flush()
            if rest is not None:
                await rest  # streamed
            ending = partial(request.finish, trailers_for_client(response.trailers))
        except Exception as error:  # noqa: BLE001 - the one place
            exchange.error = _without_frames(self._explain(error, exchange))
            if tunnel is not None:
                tunnel.end(exchange.error)
            else:
                self._refuse(request, response, exchange.error, exchange, own)
            ending = request.finish
        finally:
            if lease is not None:
                lease.release()
            if tunnel is not None:
                tunnel.account(exchange)
            exchange.bytes_in, exchange.bytes_out = request.bytes_in, request.bytes_out
            try:
                self._account.closed(exchange.close(self._monotonic_ns()))  # accounted: ledger and metrics
            finally:
                ending()  # last: the client's next request may have come already, and is then served within this call

    def _check(self, request: Request) -> None:
        """What this relay forwards at all."""
        if self._draining is not None:
            raise ShuttingDown()
        if request.method == b"TRACE":
            raise MethodNotAllowed()
        if request.upgrade is not None:
            self._check_upgrade(request)
        self._paths.check(request.target, request.method)

    def _check_upgrade(self, request: Request) -> None:
        if request.upgrade is None or request.upgrade.lower() != b"websocket":
            raise UpgradeRefused()
        if not self._websocket.enabled:
            raise UpgradeRefused(told="WebSockets are switched off at this relay.")
        if request.method != b"GET" or request.length != 0:
            raise BadRequest(told="A WebSocket is asked for with GET and without a body (RFC 6455 §4.1).")

    def _leave(self, request: Request, exchange: Exchange, error: RelayError) -> None:
        """The client has left: wake the course from whatever it waits for."""
        exchange.error = error
        course = self._running.get(request)
        if course is not None:
            course.cancel()

    def _explain(self, error: Exception, exchange: Exchange) -> RelayError:
        """What the exchange failed with; what nobody foresaw is a bug, and logged as one."""
        if exchange.error is not None:  # the client left, or the relay is stopping: whatever broke then, broke of that
            return exchange.error
        if isinstance(error, RelayError):
            return error
        if isinstance(error, CancelledError):
            return ShuttingDown() if self._stopped else ClientGone()
        self.log.failure("bug in exchange {id}", id=exchange.relay_request_id)
        return RelayBug(type(error).__name__)

    def _refuse(
        self, request: Request, response: Response | None, error: RelayError, exchange: Exchange, own: list[Pair]
    ) -> None:
        """Tell the client: with an error body, or, once the head is out, with an error event and a cut."""
        if isinstance(error, ClientGone):
            exchange.status = exchange.status or error.status
            request.cut()  # it is gone, and if not, it must not take this for an end
            return
        if request.finished:
            return
        if request.answered:
            if response is not None and _is_plain_event_stream(response):
                request.write(error_event(error))
            request.cut()
            return
        exchange.status = error.status
        if error.status in (401, 408) or isinstance(error, TooManyConnections):
            request.connection.close_after()  # no further request on this connection would fare better
        body = error_body(error)
        fields = [
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(body)),
            *error.headers(),
            *([] if error.status == 429 else own),
            (b"x-relay-request-id", exchange.relay_request_id.encode("ascii")),
        ]
        request.send_head(error.status, _phrase(error.status), fields, len(body))
        request.write(body)

    def _ended(self, result: object, request: Request) -> object:
        del self._running[request]
        if self._draining is not None and not self._running and not self._draining.called:
            self._draining.callback(None)
        return result

    @property
    def running(self) -> int:
        """How many exchanges are under way."""
        return len(self._running)

    @property
    def draining(self) -> bool:
        """Whether the relay is stopping."""
        return self._draining is not None

    def drain(self) -> Deferred[None]:
        """Admit nothing more; fires when the last exchange is over."""
        if self._draining is None:
            self._draining = Deferred()
            if not self._running:
                self._draining.callback(None)
        return self._draining

    def end_all(self) -> None:
        """End what still runs: each stream with an error event and a cut."""
        self._stopped = True
        for course in list(self._running.values()):
            course.cancel()


def _without_frames(error: RelayError) -> RelayError:
    """The cause without its traceback, whose frames hold this very exchange and its connection: a cycle."""
    error.__context__ = None
    return error.with_traceback(None)


def _note_request(exchange: Exchange, request: Request) -> None:
    exchange.method = request.method.decode("ascii")
    exchange.path = request.target.partition(b"?")[0].decode("ascii")
    exchange.http_version = request.version.decode("ascii")
    exchange.client_address = request.connection.client_address
    client = request.connection.client
    if isinstance(client, Identity):
        exchange.identity = client


def _note_response(exchange: Exchange, response: Response, now_ns: int) -> None:
    exchange.first_byte_ns = now_ns
    exchange.status = exchange.upstream_status = response.code
    for value in [value for name, value in response.fields if len(name) == 12 and name.lower() == b"x-request-id"]:
        exchange.upstream_request_id = value.decode("latin-1")


def _is_plain_event_stream(response: Response) -> bool:
    """Whether a client would understand an event written into this body."""
    media_type, coding = b"", b""
    for name, value in response.fields:
        lower = name.lower()
        if lower == b"content-type":
            media_type = value
        elif lower == b"content-encoding":
            coding = value
    streams = media_type.split(b";", 1)[0].strip().lower() == b"text/event-stream"
    return streams and response.length is None and coding in (b"", b"identity")


def _phrase(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode("ascii")
