"""
The course of one exchange: accepted, authenticated, admitted, forwarded, streamed, accounted.

A reader finds the whole life of a request in `Relay._exchange`, and its one
ending in that function's ``finally``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from openai_relay.admission import Admission, Admitted
from openai_relay.core.errors import (
    BadRequest,
    ClientGone,
    MethodNotAllowed,
    NoSuchPath,
    RelayBug,
    RelayError,
    ShuttingDown,
    TooManyConnections,
    UpgradeRefused,
    error_body,
    error_event,
)
from openai_relay.core.exchange import Exchange
from openai_relay.core.headers import for_client, trailers_for_client, upgrade_for_client, without_length
from openai_relay.core.identity import Identity
from openai_relay.core.metering import meter_for
from openai_relay.core.paths import PathPolicy
from openai_relay.core.policy import Policy
from openai_relay.core.settings import WebSocketSettings
from openai_relay.core.standing import Refused
from openai_relay.core.tally import Histogram
from openai_relay.http1.fields import Pair
from openai_relay.http1.message import SWITCHING
from openai_relay.http1.request import Request
from openai_relay.http1.response import Response
from openai_relay.listener import Listener
from openai_relay.noting import is_plain_stream, kind_of, note_request, note_response, note_usage
from openai_relay.streaming import MeteredRelay, MeteredStream, ResponseRelay, SiftedStream, Tunnel
from openai_relay.upstream import Upstream

#: What the relay answers itself; never forwarded.
OWN_PATHS: Final = "/relay/"
ME: Final = "/relay/v1/me"


#: Who is on a connection; ``None``: nobody knows yet.
Client = Identity | Refused | RelayError | None


class Me(Protocol):
    """Who tells a client what it may do and has used; ``me.py`` does."""

    async def answer(self, identity: Identity, policy: Policy) -> bytes:
        """A JSON document."""


class Account(Protocol):
    """Who is told of exchanges: as one is admitted or refused, and when it is over."""

    def opened(self, exchange: Exchange) -> None:
        """It begins."""

    def closed(self, exchange: Exchange) -> None:
        """It is over; called once for each, whatever way it ended."""

    def event_gaps(self, endpoint: str) -> Histogram:
        """What takes the time between the events of a stream of this endpoint."""


@dataclass(frozen=True, slots=True)
class Ways:
    """Where requests may go, as it is in force when one begins."""

    paths: PathPolicy
    upstream: Upstream
    websocket: WebSocketSettings


class Relay:
    """
    Serves requests, one course each.

    :ivar ways: for requests that begin from now on; those under way keep theirs.
    :param monotonic_ns: for durations.
    :param new_id: makes the relay's own request identifiers.
    """

    log = Logger()

    def __init__(
        self,
        listener: Listener,
        ways: Ways,
        admission: Admission,
        me: Me,
        account: Account,
        monotonic_ns: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        self.ways = ways
        self._listener = listener
        self._admission = admission
        self._me = me
        self._account = account
        self._monotonic_ns = monotonic_ns
        self._new_id = new_id
        self._running: dict[Request, _Running] = {}
        self._draining: Deferred[None] | None = None
        self._stopped = False

    def __call__(self, request: Request) -> None:
        """Serve a request whose head has just arrived."""
        exchange = Exchange(self._monotonic_ns(), self._new_id())
        course = Deferred.fromCoroutine(self._exchange(request, exchange))
        if not course.called:
            self._running[request] = _Running(exchange, course)
            course.addBoth(self._ended, request)

    async def _exchange(self, request: Request, exchange: Exchange) -> None:
        ways = self.ways  # accepted
        note_request(exchange, request)
        admitted: Admitted | None = None
        own: list[Pair] = []
        response: Response | None = None
        answer: ResponseRelay | None = None
        ending: Callable[[], None] = request.cut
        try:
            self._account.opened(exchange)
            request.on_gone = lambda error: self._leave(request, exchange, error)
            if request.fault is not None:
                raise request.fault
            identity = exchange.identity = self._listener.check(request.connection.client)
            exchange.stage = "authenticated"
            self._check(request, ways)
            policy = self._admission.policy(identity)
            if exchange.path.startswith(OWN_PATHS):
                await self._answer_itself(request, exchange, identity, policy)
                ending = request.finish
                return
            ways.paths.check(request.target, request.method)
            admitted = await self._admission.enter(request, exchange, identity, policy)
            exchange.stage = "admitted"
            own = admitted.fields()
            request_id = exchange.relay_request_id.encode("ascii")
            exchange.stage, forwarded_ns = "forwarded", self._monotonic_ns()
            response = await ways.upstream.forward(request, request_id, policy, admitted.body)
            exchange.stage, exchange.first_byte_ns = "streamed", self._monotonic_ns()
            media_type, coding = note_response(exchange, response)
            waited_ns = exchange.first_byte_ns - forwarded_ns
            fields = for_client(response.fields, request_id, [*own, self._timing(exchange, waited_ns)])
            if response.code == SWITCHING:
                request.send_head(SWITCHING, response.phrase, upgrade_for_client(fields), None)
                answer = Tunnel(request, response, ways.websocket.idle_timeout)
            else:
                sifted = False
                meter = meter_for(admitted.asked.endpoint, request.method, response.code, media_type, coding)
                if meter is None:
                    answer = ResponseRelay(request, response)
                else:
                    gaps = self._account.event_gaps(admitted.asked.endpoint)
                    kind = MeteredRelay
                    if is_plain_stream(media_type, coding):
                        sifted = admitted.asked_usage
                        kind = SiftedStream if sifted else MeteredStream
                    answer = kind(request, response, meter, gaps, self._monotonic_ns)
                length, fields = (None, without_length(fields)) if sifted else (response.length, fields)
                request.send_head(response.code, response.phrase, fields, length)
            rest = answer.start()
            request.flush()
            if rest is not None:
                await rest  # streamed
            answer.flush()
            ending = partial(request.finish, trailers_for_client(response.trailers))
        except Exception as error:  # noqa: BLE001 - the one place
            exchange.error = _without_frames(self._explain(error, exchange))
            if answer is not None:
                answer.flush()
            if isinstance(answer, Tunnel):
                answer.end(exchange.error)
            else:
                self._refuse(request, response, exchange.error, exchange, own)
            ending = request.finish
        finally:
            exchange.bytes_in, exchange.bytes_out = request.bytes_in, request.bytes_out
            try:
                if admitted is not None:
                    try:
                        note_usage(exchange, admitted, answer, sent=request.taken)
                    except Exception:  # noqa: BLE001 - a fault in reading must not keep what is to be given back
                        self.log.failure("bug in metering exchange {id}", id=exchange.relay_request_id)
                    self._admission.leave(admitted, exchange)
                self._account.closed(exchange.close(self._monotonic_ns()))  # accounted: ledger, log and metrics
            finally:
                ending()  # last: the client's next request may have come already, and is then served within this call

    async def _answer_itself(self, request: Request, exchange: Exchange, identity: Identity, policy: Policy) -> None:
        """What a client asks of the relay, and not of the upstream."""
        if exchange.path != ME:
            raise NoSuchPath()
        if request.method not in (b"GET", b"HEAD"):
            raise MethodNotAllowed(allow=b"GET, HEAD")
        body = await self._me.answer(identity, policy)
        exchange.status = 200
        fields = [
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Cache-Control", b"no-store"),
            (b"x-relay-request-id", exchange.relay_request_id.encode("ascii")),
        ]
        request.send_head(200, b"OK", fields, len(body))
        request.write(body)

    def _timing(self, exchange: Exchange, waited_ns: int) -> Pair:
        """The relay's own share until now, in milliseconds, and what of it was waiting for a limit (Server-Timing)."""
        own_ns = self._monotonic_ns() - exchange.opened_ns - waited_ns
        if exchange.queue_ns:
            queued = b", relay-queue;dur=%.3f" % (exchange.queue_ns / 1_000_000)
            return b"server-timing", b"relay;dur=%.3f" % ((own_ns - exchange.queue_ns) / 1_000_000) + queued
        return b"server-timing", b"relay;dur=%.3f" % (own_ns / 1_000_000)

    def _check(self, request: Request, ways: Ways) -> None:
        """What this relay forwards at all."""
        if self._draining is not None:
            raise ShuttingDown()
        if request.method == b"TRACE":
            raise MethodNotAllowed()
        if request.upgrade is not None:
            self._check_upgrade(request, ways.websocket)

    def _check_upgrade(self, request: Request, websocket: WebSocketSettings) -> None:
        if request.upgrade is None or request.upgrade.lower() != b"websocket":
            raise UpgradeRefused()
        if not websocket.enabled:
            raise UpgradeRefused(told="WebSockets are switched off at this relay.")
        if request.method != b"GET" or request.length != 0:
            raise BadRequest(told="A WebSocket is asked for with GET and without a body (RFC 6455 §4.1).")

    def _leave(self, request: Request, exchange: Exchange, error: RelayError) -> None:
        """The client has left: wake the course from whatever it waits for."""
        exchange.error = error
        running = self._running.get(request)
        if running is not None:
            running.course.cancel()

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
            if response is not None and response.length is None and is_plain_stream(*kind_of(response)):
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
    def under_way(self) -> list[Exchange]:
        """The exchanges that are, the oldest first."""
        return [running.exchange for running in self._running.values()]

    def end(self, why: Callable[[Client], RelayError | None]) -> int:
        """
        End what runs for clients who may not go on: with this error, told in the form that each can still take.

        :param why: ``None``: it may go on.
        :returns: how many ended.
        """
        ended = 0
        for request, running in list(self._running.items()):
            error = why(request.connection.client)
            if error is not None and request in self._running:
                self._leave(request, running.exchange, error)
                ended += 1
        return ended

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
        for running in list(self._running.values()):
            running.course.cancel()


@dataclass(frozen=True, slots=True)
class _Running:
    exchange: Exchange
    course: Deferred[None]


def _without_frames(error: RelayError) -> RelayError:
    """The cause without its traceback, whose frames hold this very exchange and its connection: a cycle."""
    error.__context__ = None
    return error.with_traceback(None)


def _phrase(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode("ascii")
