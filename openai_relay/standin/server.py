"""
One request from its head to the end of its answer: paced, broken or refused as it asked.

Order: controls, route, key, body, answer, delay, head, body.  ``standin.hang``
and ``standin.early`` leave steps out.  Whatever happens, the exchange is
counted once.
"""

from __future__ import annotations

import gzip
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from openai_relay.core.errors import ClientGone, RelayError
from openai_relay.core.settings import Secret
from openai_relay.http1.server import Request
from openai_relay.standin import credentials
from openai_relay.standin.answer import JSON, Answer, Call, Head
from openai_relay.standin.controls import Controls, controls_of
from openai_relay.standin.counters import Counters
from openai_relay.standin.echo import KEPT as ECHOED
from openai_relay.standin.forms import Digest, FormReader, boundary_of
from openai_relay.standin.heads import Heads, reason_of
from openai_relay.standin.intake import Intake, Sink, Whole
from openai_relay.standin.problems import Problem, on_demand
from openai_relay.standin.pump import Pump, compressed, cut_short
from openai_relay.standin.routes import STATS, Route, Routes, Takes

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
        self._counted: set[_Exchange] = set()  # under way
        self._number = 0

    def serve(self, request: Request) -> None:
        """Answer one request."""
        serving = Deferred.fromCoroutine(self._serve(request))
        if not serving.called:
            request.on_gone = lambda _: serving.cancel()

    async def _serve(self, request: Request) -> None:
        self._number += 1
        exchange = _Exchange(request, self._number, self._clock.seconds())
        try:
            await self._course(exchange)
        except (CancelledError, ClientGone):
            exchange.left = True
        except RelayError as error:  # the body turned out to be malformed
            self._refuse(exchange, Problem(error.status, error.told, error.type, error.code))
        except Problem as problem:
            self._refuse(exchange, problem)
        except Exception:  # noqa: BLE001 - the one place
            self.log.failure("bug in the stand-in")
            self._refuse(exchange, Problem(500, "The stand-in has a bug.", "server_error"))
        finally:
            self._account(exchange)

    async def _course(self, exchange: _Exchange) -> None:
        request = exchange.request
        if request.fault is not None:
            self._counters.malformed += 1
            raise Problem(request.fault.status, request.fault.told, request.fault.type, request.fault.code)
        path, _, query = request.target.partition(b"?")
        found = credentials.received(request.fields)
        method, name = request.method.decode("latin-1"), unquote_to_bytes(path).decode("utf-8", "replace")
        if name == STATS and method == "GET":
            for other in self._counted:
                self._count_sent(other)
            answer = self._routes.find(method, name)[0].answer(Call(Controls(), 0, 0))
            self._send_whole(exchange, answer, answer.body)
            return
        try:
            route, parameter = self._open(exchange, method, name, query, found)
        except Problem:
            await self._drain(exchange)
            raise
        controls = exchange.controls
        call = await self._take(exchange, route, found.content_type, parameter, query)
        if controls.hang:
            await Deferred()
        if controls.delay_ms:
            await deferLater(self._clock, controls.delay_ms / 1_000)
        self._fail_on_demand(controls)
        if controls.cut_in_head:
            request.connection.transport.write(b"HTTP/1.1 200 O")
            self._cut(exchange)
            return
        await self._send(exchange, route.answer(call))

    def _open(
        self, exchange: _Exchange, method: str, path: str, query: bytes, found: credentials.Received
    ) -> tuple[Route, str]:
        """All that a request's head decides."""
        name = "no route"
        try:
            controls = exchange.controls = controls_of(query, found.controls)
            route, parameter = (self._routes.echo, "") if controls.echo else self._routes.find(method, path)
            name = f"{method} {route.name}"
        finally:
            exchange.counted = True
            self._counted.add(exchange)
            self._counters.begin(name)
        self._admit(found)
        return route, parameter

    def _admit(self, found: credentials.Received) -> None:
        matched = credentials.matches(credentials.bearer(found), self._options.expected_key)
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

    async def _drain(self, exchange: _Exchange) -> None:
        """Read a refused body away when it is short: closing the connection would cost more."""
        request = exchange.request
        if request.receiving and not request.expects_continue and (request.length or MOST_DRAINED) < MOST_DRAINED:
            await Intake(request, Digest(0), self._counters, None).take()

    async def _take(self, exchange: _Exchange, route: Route, content_type: bytes, parameter: str, query: bytes) -> Call:
        request, controls = exchange.request, exchange.controls
        boundary = boundary_of(content_type) if route.takes is Takes.FORM else None
        form = FormReader(boundary) if boundary else None
        whole = Whole() if route.takes is Takes.WHOLE else None
        digest = Digest(ECHOED)
        sink: Sink = form or whole or digest
        if not controls.early and request.length != 0:
            await Intake(request, sink, self._counters, controls.stall_after).take()
        return Call(
            controls,
            exchange.number,
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

    async def _send(self, exchange: _Exchange, answer: Answer) -> None:
        controls = exchange.controls
        if answer.blocks is None:
            body = gzip.compress(answer.body, mtime=0) if controls.gzip else answer.body
            length: int | None = len(body)
            if not (controls.first_byte_ms or controls.cut_after is not None or controls.cut_after_bytes is not None):
                self._send_whole(exchange, answer, body)
                return
            blocks: Iterator[bytes] = iter((body,))
        else:
            blocks = compressed(answer.blocks) if controls.gzip else answer.blocks
            length = None if controls.gzip else answer.length
        self._head(exchange, answer, length)
        await self._stream(exchange, blocks)

    async def _stream(self, exchange: _Exchange, blocks: Iterator[bytes]) -> None:
        request, controls = exchange.request, exchange.controls
        if controls.first_byte_ms:
            request.flush()
        if controls.cut_after is not None:
            blocks = islice(blocks, controls.cut_after)
        if controls.cut_after_bytes is not None:
            blocks = cut_short(blocks, controls.cut_after_bytes)
        interval = self._options.interval_ms if controls.interval_ms is None else controls.interval_ms
        await Pump(self._clock, request, blocks, interval / 1_000).run(controls.first_byte_ms / 1_000)
        if controls.cut_after is not None or controls.cut_after_bytes is not None:
            self._cut(exchange)
        else:
            request.finish()

    def _send_whole(self, exchange: _Exchange, answer: Answer, body: bytes) -> None:
        self._head(exchange, answer, len(body))
        exchange.request.write(body)
        exchange.request.finish()

    def _refuse(self, exchange: _Exchange, problem: Problem) -> None:
        """Answer with an error; when an answer has begun, all that can be done is to cut it."""
        if exchange.request.finished:
            return
        if exchange.request.answered:
            self._cut(exchange)
            return
        answer = Answer(JSON, fields=tuple(problem.fields), status=problem.status)
        self._send_whole(exchange, answer, problem.body())

    def _head(self, exchange: _Exchange, answer: Answer, length: int | None) -> None:
        request, controls = exchange.request, exchange.controls
        status = answer.status
        if status == 200 and controls.status is not None and controls.status < 400:
            status = controls.status
        if controls.chunked or status in (204, 304):
            length = None
        extra = [*answer.fields, *controls.field]
        if controls.gzip and answer.status < 400:
            extra.append((b"Content-Encoding", b"gzip"))
        if controls.close:
            request.connection.close_after()
        now = self._clock.seconds()
        spent_ms = int((now - exchange.began) * 1_000)
        fields = self._heads.fields(now, exchange.number, spent_ms, answer.content_type, length, extra)
        reason = reason_of(status) if controls.reason is None else controls.reason.encode("ascii")
        request.send_head(status, reason, fields, length)
        if exchange.counted:
            self._counters.answer(status)

    def _cut(self, exchange: _Exchange) -> None:
        exchange.cut = True
        exchange.request.cut()

    def _account(self, exchange: _Exchange) -> None:
        if not exchange.counted:
            return
        counters = self._counters
        counters.open -= 1
        self._counted.discard(exchange)
        self._count_sent(exchange)
        if exchange.left:
            counters.aborted += 1
        elif exchange.cut:
            counters.cut += 1
        else:
            counters.finished += 1

    def _count_sent(self, exchange: _Exchange) -> None:
        """Count what has been sent since the last time: not for each block, only when somebody asks."""
        sent = exchange.request.bytes_out
        self._counters.bytes_sent += sent - exchange.sent
        exchange.sent = sent


class _Exchange:
    """One request while it is served."""

    __slots__ = ("began", "controls", "counted", "cut", "left", "number", "request", "sent")

    def __init__(self, request: Request, number: int, began: float) -> None:
        self.request = request
        self.number = number
        self.began = began
        self.controls = Controls()
        self.counted = False
        self.cut = False
        self.left = False
        self.sent = 0  # bytes of the body that are counted already
