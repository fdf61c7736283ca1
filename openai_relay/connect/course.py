"""
The course of one exchange of a local tool: looked at, sent to the relay with the certificate, streamed back.

Nobody is authenticated or limited here: the relay does that, and its answers,
refusals included, go back as they are.  What only this end knows (there is no
relay; it refused the certificate) is answered in OpenAI's shape.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from openai_relay.core.errors import (
    BadRequest,
    ClientGone,
    RelayBug,
    RelayError,
    ShuttingDown,
    UpgradeRefused,
    error_body,
    error_event,
)
from openai_relay.core.exchange import Exchange
from openai_relay.core.headers import for_client, trailers_for_client, upgrade_for_client
from openai_relay.core.identity import Identity
from openai_relay.core.local_requests import LocalRequests, without_credentials
from openai_relay.core.policy import Policy
from openai_relay.http1.fields import Pair
from openai_relay.http1.message import SWITCHING
from openai_relay.http1.request import Request
from openai_relay.http1.response import Response
from openai_relay.streaming import ResponseRelay, Tunnel
from openai_relay.upstream import Upstream

#: Seconds without a byte. The relay's time-outs are the ones that count, and TCP tells when it has vanished.
PATIENCE: Final = 86_400.0
#: The relay has them: to it this is one client.
_NO_RULES: Final = Policy()
_REQUEST_ID: Final = b"x-relay-request-id"


class Course:
    """
    Serves requests, one course each.

    :param in_words: says what an error means here.
    :param record: is told of each exchange that has ended.
    :ivar identity: whose certificate the relay is shown.
    """

    log = Logger()

    def __init__(
        self,
        accepted: LocalRequests,
        upstream: Upstream,
        identity: Identity,
        in_words: Callable[[RelayError], RelayError],
        record: Callable[[Exchange], None],
        monotonic_ns: Callable[[], int],
        new_id: Callable[[], str],
        *,
        pass_authorization: bool = True,
    ) -> None:
        self.identity = identity
        self._accepted = accepted
        self._upstream = upstream
        self._in_words = in_words
        self._record = record
        self._monotonic_ns = monotonic_ns
        self._new_id = new_id
        self._pass_authorization = pass_authorization
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
        exchange = Exchange(self._monotonic_ns(), self._new_id(), identity=self.identity)
        exchange.method = request.method.decode("ascii")
        exchange.path = request.target.partition(b"?")[0].decode("ascii")
        response: Response | None = None
        tunnel: Tunnel | None = None
        ending: Callable[[], None] = request.cut
        try:
            request.on_gone = lambda error: self._leave(request, exchange, error)
            self._check(request)
            request_id = exchange.relay_request_id.encode("ascii")
            exchange.stage = "forwarded"
            response = await self._upstream.forward(request, request_id, _NO_RULES)
            exchange.stage, exchange.first_byte_ns = "streamed", self._monotonic_ns()
            exchange.status = exchange.upstream_status = response.code
            # The relay's own identifier: by that one its operator finds the exchange.
            ids = [value for name, value in response.fields if name.lower() == _REQUEST_ID]
            fields = for_client(response.fields, ids[0] if ids else request_id)
            if response.code == SWITCHING:
                request.send_head(SWITCHING, response.phrase, upgrade_for_client(fields), None)
                tunnel = Tunnel(request, response, PATIENCE)
                rest = tunnel.start()
            else:
                request.send_head(response.code, response.phrase, fields, response.length)
                rest = ResponseRelay(request, response).start()
            request.flush()
            if rest is not None:
                await rest
            ending = partial(request.finish, trailers_for_client(response.trailers))
        except Exception as error:  # noqa: BLE001 - the one place
            exchange.error = self._explain(error, exchange)
            if tunnel is not None:
                tunnel.end(exchange.error)
                ending = request.finish
            else:
                ending = self._refuse(request, response, exchange.error, exchange)
        finally:
            if tunnel is not None:
                tunnel.account(exchange, 0)
            exchange.bytes_in, exchange.bytes_out = request.bytes_in, request.bytes_out
            try:
                self._record(exchange.close(self._monotonic_ns()))
            finally:
                ending()  # last: the client's next request may have come already, and is then served within this call

    def _check(self, request: Request) -> None:
        if request.fault is not None:
            raise request.fault
        if self._draining is not None:
            raise ShuttingDown(told="`openai-relay connect` is stopping; please try again.")
        self._accepted.check(request.fields)
        if request.upgrade is not None:
            if request.upgrade.lower() != b"websocket":
                raise UpgradeRefused()
            if request.method != b"GET" or request.length != 0:
                raise BadRequest(told="A WebSocket is asked for with GET and without a body (RFC 6455 §4.1).")
        if not self._pass_authorization:
            request.fields = without_credentials(request.fields)

    def _leave(self, request: Request, exchange: Exchange, error: RelayError) -> None:
        """The client has left: wake the course from whatever it waits for."""
        exchange.error = error
        course = self._running.get(request)
        if course is not None:
            course.cancel()

    def _explain(self, error: Exception, exchange: Exchange) -> RelayError:
        """What the exchange failed with; what nobody foresaw is a bug, and logged as one."""
        if exchange.error is not None:  # the client left: whatever broke then, broke of that
            explained = exchange.error
        elif isinstance(error, RelayError):
            explained = self._in_words(error)
        elif isinstance(error, CancelledError):
            explained = ShuttingDown(told="`openai-relay connect` has stopped.") if self._stopped else ClientGone()
        else:
            self.log.failure("bug in exchange {id}", id=exchange.relay_request_id)
            explained = RelayBug(type(error).__name__, "`openai-relay connect` failed; its output says how.")
        explained.__context__ = explained.__cause__ = None  # their frames hold this very exchange: a cycle
        return explained.with_traceback(None)

    def _refuse(
        self, request: Request, response: Response | None, error: RelayError, exchange: Exchange
    ) -> Callable[[], None]:
        """Tell the client: with an error body, or, once the head is out, with an error event; returns how to end."""
        if isinstance(error, ClientGone):
            exchange.status = exchange.status or error.status
            return request.cut  # it is gone, and if not, it must not take this for an end
        if request.answered:
            if response is not None and response.length is None and request.version == b"1.0":
                return request.connection.abort  # whose end is the connection's: only a reset says that it is none
            if response is not None and _is_plain_event_stream(response):
                request.write(error_event(error))
            return request.cut
        exchange.status = error.status
        if error.status == 408:
            request.connection.close_after()
        body = error_body(error)
        fields: list[Pair] = [
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(body)),
            *error.headers(),
            (_REQUEST_ID, exchange.relay_request_id.encode("ascii")),
        ]
        request.send_head(error.status, HTTPStatus(error.status).phrase.encode("ascii"), fields, len(body))
        request.write(body)
        return request.finish

    def _ended(self, result: object, request: Request) -> object:
        del self._running[request]
        if self._draining is not None and not self._running and not self._draining.called:
            self._draining.callback(None)
        return result

    @property
    def running(self) -> int:
        """How many exchanges are under way."""
        return len(self._running)

    def drain(self) -> Deferred[None]:
        """Begin nothing more; fires when the last exchange is over."""
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


def _is_plain_event_stream(response: Response) -> bool:
    """Whether a client would understand an event written into this body."""
    found = {name.lower(): value for name, value in response.fields}
    media_type = found.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
    coding = found.get(b"content-encoding", b"identity")
    return media_type == b"text/event-stream" and response.length is None and coding == b"identity"
