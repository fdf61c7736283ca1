"""
A relay in memory: clients and an upstream on `Wire` transports, a clock that turns by hand.

Between the two ends everything is real, from the HTTP of `ServerConnection` to
that of `ClientConnection`.  Whatever a test does, it ends with every exchange
recorded once, every lease given back, and no secret in anything that was said.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from http.client import HTTPResponse, IncompleteRead
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.logger import eventAsText
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.admission import Admission
from openai_relay.core.budgets import Budgets, Warned
from openai_relay.core.exchange import Exchange
from openai_relay.core.identity import Identity
from openai_relay.core.limits import Blocked, HeldLease, Limiter
from openai_relay.core.paths import PathPolicy
from openai_relay.core.policy import ClientRules, Policy, PolicyBook, Rules, defaults_of
from openai_relay.core.prices import NO_PRICES
from openai_relay.core.settings import LimitSettings, Secret, Settings, UpstreamSettings, WebSocketSettings
from openai_relay.core.tally import DURATION_BOUNDS, Histogram
from openai_relay.core.waiting import WaitingLines
from openai_relay.http1.client import ClientLimits
from openai_relay.http1.pool import Agent, Pool
from openai_relay.http1.server import HTTPServerFactory, ServerLimits
from openai_relay.listener import Listener
from openai_relay.relay import Relay, Ways
from openai_relay.tls.accepting import load
from openai_relay.upstream import StreamingClient, Upstream
from tests import certificates
from tests.doubles import TurningReactor, Wire, observe

#: They stand in requests and settings, and must stand nowhere else.
KEY: Final = b"sk-canary-of-the-relay"
CLIENT_KEY: Final = b"sk-canary-of-the-client"
SECRET_BODY: Final = b"canary-in-a-body"

ALICE: Final = Identity("alice", "a1" * 32, "1f3c9e", certificates.NOW.timestamp() + 3_600)
BOB: Final = Identity("bob", "b2" * 32, "2e", certificates.NOW.timestamp() + 3_600)

STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"x-request-id: req_1\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def request(method: str = "GET", target: str = "/v1/models", *fields: str, body: bytes | None = None) -> bytes:
    """A request as a client sends it, a key of its own included."""
    lines = [f"{method} {target} HTTP/1.1", "Host: relay.example", f"Authorization: Bearer {CLIENT_KEY.decode()}"]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, *fields, "", ""]).encode() + (body or b"")


def answer(body: bytes = b"{}", status: str = "200 OK", *fields: str) -> bytes:
    """An answer as the upstream sends it."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def chunk(data: bytes) -> bytes:
    """One chunk; of nothing it is the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a client was answered, as the parser of Python's own library reads it."""

    status: int
    reason: str
    fields: dict[str, str]  #: with lower-case names
    body: bytes
    complete: bool

    @property
    def error(self) -> dict[str, Any]:
        """OpenAI's error object."""
        error = json.loads(self.body)["error"]
        assert isinstance(error, dict)
        return error


class _Received:
    """A socket that everything has been received on."""

    def __init__(self, stream: BytesIO) -> None:
        self._stream = stream

    def makefile(self, mode: str) -> BytesIO:
        return _Unclosed(self._stream)


class _Unclosed(BytesIO):
    """A stream that outlives the response that was read from it."""

    def __init__(self, stream: BytesIO) -> None:
        super().__init__()
        self._stream = stream

    def read(self, size: int | None = -1) -> bytes:
        return self._stream.read(size)

    def readline(self, size: int | None = -1) -> bytes:
        return self._stream.readline(-1 if size is None else size)

    def readinto(self, buffer: Any) -> int:
        return self._stream.readinto(buffer)

    def close(self) -> None:
        """Left open: the next answer stands behind this one."""


def read_answers(data: bytes, *methods: str) -> list[Answered]:
    """The answers to requests of these methods (``GET`` if none is named); there must be nothing else."""
    stream = BytesIO(data)
    answers = []
    for method in methods or ("GET",):
        received: Any = _Received(stream)
        response = HTTPResponse(received, method=method)
        response.begin()
        complete = True
        try:
            body = response.read()
        except IncompleteRead as error:
            body, complete = error.partial, False
        fields = {name.lower(): value for name, value in response.getheaders()}
        answers.append(Answered(response.status, response.reason, fields, body, complete))
    rest = stream.read()
    assert not rest, rest
    return answers


@dataclass(slots=True)
class RecordingAccount:
    """Remembers what it is told, in order."""

    opened_exchanges: list[Exchange] = field(default_factory=list)
    closed_exchanges: list[Exchange] = field(default_factory=list)
    broken: Exception | None = None  #: raised once an exchange has been noted as closed
    gaps: Histogram = field(default_factory=lambda: Histogram(DURATION_BOUNDS))

    def opened(self, exchange: Exchange) -> None:
        self.opened_exchanges.append(exchange)

    def closed(self, exchange: Exchange) -> None:
        self.closed_exchanges.append(exchange)
        if self.broken is not None:
            raise self.broken

    def event_gaps(self, endpoint: str) -> Histogram:
        return self.gaps


class WatchedLimiter(Limiter):
    """A `Limiter` that tells who is in; ``broken`` is raised instead of asking it."""

    broken: Exception | None = None

    def decide(self, *args: Any, **named: Any) -> HeldLease | Blocked:
        if self.broken is not None:
            raise self.broken
        return super().decide(*args, **named)

    @property
    def out(self) -> set[tuple[str, str | None]]:
        """The keys, each with its group of models, of which exchanges are open."""
        return {where for where, account in self._accounts.items() if account.open}


class NobodyTold:
    """In the place of `Me`: tells who asks, and no more."""

    async def answer(self, identity: Identity, policy: Policy) -> bytes:
        return json.dumps({"client": identity.name, "tier": policy.tier}).encode()


class FarEnd:
    """
    The upstream's end of every connection that the relay makes.

    :ivar connections: in the order in which they were made.
    :ivar held: while this is a list, who connects waits in it instead.
    """

    def __init__(self, clock: TurningReactor) -> None:
        self._clock = clock
        self.connections: list[Wire] = []
        self.held: list[tuple[Any, Deferred[Any]]] | None = None
        self.failure: Exception | None = None

    def connect(self, factory: Any) -> Deferred[Any]:
        if self.failure is not None:
            raise self.failure
        if self.held is not None:
            waiting: Deferred[Any] = Deferred()
            self.held.append((factory, waiting))
            return waiting
        return succeed(self._made(factory))

    def accept(self) -> Wire:
        """Let the one who waits connect."""
        assert self.held is not None
        factory, waiting = self.held.pop(0)
        waiting.callback(self._made(factory))
        return self.connections[-1]

    def _made(self, factory: Any) -> Any:
        wire = Wire(self._clock)
        protocol = factory.buildProtocol(None)
        self.connections.append(wire)
        wire.connect(protocol)
        return protocol


class MemoryUpstream(Upstream):
    """An `Upstream` whose connections lead to a `FarEnd`."""

    def __init__(self, clock: TurningReactor, settings: UpstreamSettings, far_end: FarEnd) -> None:
        super().__init__(clock, settings)
        limits = ClientLimits(
            settings.connect_timeout,
            settings.first_byte_timeout,
            settings.idle_timeout,
            settings.keepalive_timeout,
            settings.max_idle_connections,
        )
        self.pool = Pool(clock, far_end.connect, limits)
        self._client = StreamingClient(Agent(self._origin, self.pool))


class RelayCase(SynchronousTestCase):
    """A relay with nobody connected yet."""

    limit_settings = LimitSettings()
    tiers: Mapping[str, Rules] = {}
    client_rules: Mapping[str, ClientRules] = {}
    prices = NO_PRICES
    upstream_settings = UpstreamSettings(
        url="https://api.example", api_key=Secret(KEY), first_byte_timeout=60.0, idle_timeout=30.0
    )
    websocket_settings = WebSocketSettings(idle_timeout=15.0)
    server_limits = ServerLimits(stall_timeout=20.0)

    def setUp(self) -> None:
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        self.events = observe(self)
        self.wall = certificates.NOW.timestamp()
        self.clock = TurningReactor()
        self.far_end = FarEnd(self.clock)
        self.account = RecordingAccount()
        self.limits = WatchedLimiter(self.limit_settings, self.monotonic_ns)
        self.lines = WaitingLines(self.limits, self.monotonic_ns)
        self.budgets = Budgets(UTC, lambda: self.wall)
        self.warned: list[Warned] = []
        self.admission = Admission(
            PolicyBook(defaults_of(self.limit_settings), self.tiers, self.client_rules),
            self.budgets,
            self.lines,
            self.prices,
            limit_by="certificate",
            expected_output=self.limit_settings.expected_output,
            include_usage=self.upstream_settings.include_usage,
            clock=self.clock,
            monotonic_ns=self.monotonic_ns,
            wall=lambda: self.wall,
            warn=self.warned.append,
        )
        settings = Settings(
            replace(certificates.listen_settings(directory), max_connections_per_identity=100),
            upstream=self.upstream_settings,
        )
        self.listener = Listener(settings, load(settings.listen), lambda: self.wall)
        self.upstream = MemoryUpstream(self.clock, self.upstream_settings, self.far_end)
        self.relay = Relay(
            self.listener,
            Ways(
                PathPolicy(self.upstream_settings.allow_paths, self.upstream_settings.deny_paths),
                self.upstream,
                self.websocket_settings,
            ),
            self.admission,
            NobodyTold(),
            self.account,
            self.monotonic_ns,
            lambda: f"rly_{len(self.account.opened_exchanges)}",
        )
        self.factory = HTTPServerFactory(self.relay, self.clock, self.server_limits)
        self.clients: list[Wire] = []
        self.said: list[bytes] = []
        self.addCleanup(self.assertOver)

    def monotonic_ns(self) -> int:
        return round(self.clock.seconds() * 1_000_000_000)

    def client(self, client: object = ALICE) -> Wire:
        """A client's connection, its handshake done."""
        wire = Wire(self.clock)
        connection = self.factory.buildProtocol(None)
        assert connection is not None
        wire.connect(connection)
        connection.client = client
        self.clients.append(wire)
        return wire

    def asked(self, data: bytes = request(), client: object = ALICE) -> Wire:
        """A client's connection on which this has been sent."""
        wire = self.client(client)
        wire.receive(data)
        return wire

    def upstream_wire(self, number: int = -1) -> Wire:
        """A connection that the relay has made, by default the last one."""
        return self.far_end.connections[number]

    def took(self, wire: Wire) -> bytes:
        """What was written to a client since the last time."""
        data = wire.taken()
        self.said.append(data)
        return data

    def answered(self, wire: Wire, *methods: str) -> Answered:
        """The one answer that a client got since the last time."""
        (answered,) = read_answers(self.took(wire), *methods)
        return answered

    @property
    def closed(self) -> list[Exchange]:
        """The exchanges that were recorded."""
        return self.account.closed_exchanges

    def recorded(self) -> Exchange:
        """The one exchange that was recorded."""
        (exchange,) = self.closed
        return exchange

    def assertRecorded(self, status: int, end: str, code: str | None = None) -> Exchange:
        """The last exchange was recorded so, and nothing of it is left."""
        exchange = self.closed[-1]
        found = None if exchange.error is None else exchange.error.code
        self.assertEqual((exchange.status, exchange.end, found), (status, end, code))
        self.assertEqual(self.limits.out, set())
        self.assertEqual(self.relay.running, 0)
        return exchange

    def assertServing(self) -> None:
        """The next good request, on a new connection, is answered as if nothing had happened."""
        wire = self.asked(request(target="/v1/next"))
        upstream = self.upstream_wire()
        self.assertIn(b"GET /v1/next HTTP/1.1\r\n", upstream.taken())
        upstream.receive(answer(b'{"next":true}'))
        answered = self.answered(wire)
        self.assertEqual((answered.status, answered.body), (200, b'{"next":true}'))
        self.assertRecorded(200, "done")

    def assertOver(self) -> None:
        """Everybody leaves; then nothing is left, and no secret was said."""
        for wire in self.clients:
            self.took(wire)
            wire.lose()
        self.clock.settle()
        self.upstream.close()
        self.clock.settle()
        self.assertEqual(self.relay.running, 0)
        self.assertEqual(self.limits.out, set())
        self.assertEqual(len(self.lines), 0)
        self.assertEqual(self.budgets.reserved, 0)
        opened = sorted(map(id, self.account.opened_exchanges))
        self.assertEqual(sorted(map(id, self.closed)), opened, "each exchange is recorded once")
        self.assertEqual((self.upstream.pool.open, self.upstream.pool.idle), (0, 0))
        for exchange in self.closed:
            self.assertSecret(repr(exchange))
        for event in self.events:
            self.assertSecret(eventAsText(event))
            self.assertSecret(repr({name: repr(value) for name, value in event.items()}))
        self.assertNotIn(KEY, b"".join(self.said))
        self.assertNotIn(CLIENT_KEY, b"".join(self.said))

    def assertSecret(self, said: str) -> None:
        for canary in (KEY, CLIENT_KEY, SECRET_BODY):
            self.assertNotIn(canary.decode(), said)
