"""
Count what happens to exchanges: plain integers, a microsecond or two an exchange.

The course and the listener count here; ``metrics.py`` says it in Prometheus's
words when asked.  All keys come from bounded sets (clients and models are
capped, endpoints are a table, codes are the protocol's), so no client can grow
this.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from openai_relay.core.endpoint import ENDPOINTS, OTHER, endpoint
from openai_relay.core.errors import (
    BudgetSpent,
    ClientDisabled,
    MethodRefused,
    ModelHidden,
    ModelNotAllowed,
    PathNotAllowed,
    RateLimited,
    RelayError,
    TokensLimited,
    TooManyConcurrent,
    TooManyConnections,
    UpstreamError,
)
from openai_relay.core.exchange import Exchange
from openai_relay.core.globs import LONGEST_NAME
from openai_relay.core.identity import Identity
from openai_relay.core.usage import Usage

#: How many clients are counted by name; the later ones are counted together, as ``other``.
MAX_CLIENTS: Final = 1_000
#: The same for models.
MAX_MODELS: Final = 100
#: The client of an exchange without an identity.
NOBODY: Final = ""

#: Upper bounds in seconds: an embedding takes tenths, a reasoning model minutes.
DURATION_BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FIRST_BYTE_BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
#: A fast model sends an event every few milliseconds; one that thinks, or is about to be given up, is silent for long.
GAP_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
QUEUE_BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

#: What refused an exchange, by the code that the client was told.
_LIMITS: Final = {
    RateLimited.code: "requests",
    TokensLimited.code: "tokens",
    TooManyConcurrent.code: "concurrent",
    TooManyConnections.code: "connections",
    BudgetSpent.code: "budget",
}
_RULES: Final = {
    ClientDisabled.code: "disabled",
    ModelNotAllowed.code: "model",
    ModelHidden.code: "model_hidden",
    MethodRefused.code: "method",
    PathNotAllowed.code: "path",
}


class Histogram:
    """How many durations fell under each bound; ``counts`` has one more, for those above all."""

    __slots__ = ("_bounds_ns", "bounds", "counts", "sum_ns")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum_ns = 0
        self._bounds_ns = [round(bound * 1_000_000_000) for bound in bounds]

    def observe(self, ns: int) -> None:
        """Count one duration; a bound belongs to what is under it."""
        self.counts[bisect_left(self._bounds_ns, ns)] += 1
        self.sum_ns += ns

    def observe_zeros(self, count: int) -> None:
        """Count so many that took no time at all."""
        self.counts[0] += count


@dataclass(slots=True)
class Used:
    """What some exchanges came to; cached tokens are input, reasoning is output, and audio is of both."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    audio: int = 0
    micro_usd: int = 0

    def add(self, usage: Usage, micro_usd: int) -> None:
        """One exchange more."""
        self.input += usage.input_tokens
        self.cached += usage.cached_tokens
        self.output += usage.output_tokens
        self.reasoning += usage.reasoning_tokens
        self.audio += usage.input_audio_tokens + usage.output_audio_tokens
        self.micro_usd += micro_usd


@dataclass(slots=True)
class Kind:
    """One client's exchanges of one endpoint that were answered with one status."""

    duration: Histogram  #: shared by all clients
    first_byte: Histogram  #: shared by all clients and statuses
    first_event: Histogram  #: shared by all clients and statuses
    requests: int = 0


@dataclass(slots=True)
class ClientTally:
    """What is counted for one client."""

    active: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    estimated: int = 0  #: exchanges whose usage nobody told
    used: Used = field(default_factory=Used)
    certificate_expiry: float | None = None  #: of the certificate used last, in seconds since the epoch
    kinds: dict[tuple[str, int], Kind] = field(default_factory=dict)  #: by endpoint and status
    limited: dict[str, int] = field(default_factory=dict)  #: refusals by limit
    forbidden: dict[str, int] = field(default_factory=dict)  #: refusals by rule


class Tally:
    """
    All that is counted.

    :ivar upstream: what the upstream is called from now on: its host, or a name from the configuration.
    """

    def __init__(self, upstream: str, max_clients: int = MAX_CLIENTS, max_models: int = MAX_MODELS) -> None:
        self.upstream = upstream
        self.clients: dict[str, ClientTally] = {}
        self.durations: dict[tuple[str, int], Histogram] = {}  #: by endpoint and status
        self.first_bytes: dict[str, Histogram] = {}  #: by endpoint
        self.first_events: dict[str, Histogram] = {}  #: by endpoint
        self.gaps: dict[str, Histogram] = {}  #: by endpoint
        self.queue = Histogram(QUEUE_BOUNDS)  #: of those who had to wait for a limit
        self.models: dict[str, Used] = {}
        self.ends: dict[str, int] = {}
        self.upstream_answers: dict[tuple[str, int | None], int] = {}  #: by upstream and its status
        self.handshakes: dict[str, int] = {}
        self.enrolments: dict[str, int] = {}
        self._max_clients = max_clients
        self._max_models = max_models

    def exchange_opened(self, exchange: Exchange) -> None:
        """An exchange began; its identity, if it has one, is set and stays."""
        self._client(exchange.identity).active += 1

    def exchange_closed(self, exchange: Exchange) -> None:
        """An exchange that was opened here is over, and closed."""
        identity = exchange.identity
        client = self._client(identity)
        client.active -= 1
        client.bytes_in += exchange.bytes_in
        client.bytes_out += exchange.bytes_out
        if identity is not None:
            client.certificate_expiry = identity.not_after
        key = (endpoint(exchange.path), exchange.status)
        kind = client.kinds.get(key)
        if kind is None:
            kind = self._new_kind(client, key)
        kind.requests += 1
        kind.duration.observe(exchange.duration_ns)
        if exchange.first_byte_ns is not None:
            kind.first_byte.observe(exchange.first_byte_ns - exchange.opened_ns)
        if exchange.first_event_ns is not None:
            kind.first_event.observe(exchange.first_event_ns - exchange.opened_ns)
        if exchange.queue_ns > 0:
            self.queue.observe(exchange.queue_ns)
        usage = exchange.usage
        if usage is not None:
            micro_usd = exchange.cost_micro_usd or 0
            client.used.add(usage, micro_usd)
            client.estimated += usage.estimated
            self._model(exchange).add(usage, micro_usd)
        error = exchange.error
        end = exchange.end
        self.ends[end] = self.ends.get(end, 0) + 1
        if exchange.upstream_status is not None or isinstance(error, UpstreamError):
            answer = (self.upstream, exchange.upstream_status)
            self.upstream_answers[answer] = self.upstream_answers.get(answer, 0) + 1
        if error is not None:
            _count_refusal(client, error)

    def event_gaps(self, endpoint: str) -> Histogram:
        """
        Where the time between two events of a stream is observed; asked for once a stream.

        :param endpoint: out of ``ENDPOINTS``.
        """
        gaps = self.gaps.get(endpoint)
        if gaps is None:
            gaps = self.gaps.setdefault(endpoint if endpoint in ENDPOINTS else OTHER, Histogram(GAP_BOUNDS))
        return gaps

    def enrolled(self, outcome: str) -> None:
        """A device asked for a certificate: ``enrolled``, ``renewed``, or why not."""
        self.enrolments[outcome] = self.enrolments.get(outcome, 0) + 1

    def handshake_ended(self, result: str) -> None:
        """A client's TLS handshake succeeded (``ok``) or failed; ``result`` is out of a fixed set."""
        self.handshakes[result] = self.handshakes.get(result, 0) + 1

    def _client(self, identity: Identity | None) -> ClientTally:
        name = NOBODY if identity is None else identity.name
        client = self.clients.get(name)
        if client is None:
            if len(self.clients) >= self._max_clients:
                name = OTHER
            client = self.clients.setdefault(name, ClientTally())
        return client

    def _model(self, exchange: Exchange) -> Used:
        name = exchange.model
        used = None if name is None else self.models.get(name)
        if used is None:
            if name is None or not self._may_be_named(name, exchange.status):
                name = OTHER
            used = self.models.setdefault(name, Used())
        return used

    def _may_be_named(self, model: str, status: int) -> bool:
        # A name is a stranger's text until an upstream has answered to it: what it refuses never gets one.
        answered = 200 <= status < 300 or status == 101
        plain = 0 < len(model) <= LONGEST_NAME and model.isprintable()
        return answered and plain and len(self.models) < self._max_models

    def _new_kind(self, client: ClientTally, key: tuple[str, int]) -> Kind:
        kind = Kind(
            self.durations.setdefault(key, Histogram(DURATION_BOUNDS)),
            self.first_bytes.setdefault(key[0], Histogram(FIRST_BYTE_BOUNDS)),
            self.first_events.setdefault(key[0], Histogram(FIRST_BYTE_BOUNDS)),
        )
        client.kinds[key] = kind
        return kind


def _count_refusal(client: ClientTally, error: RelayError) -> None:
    code = error.code
    if (limit := _LIMITS.get(code)) is not None:
        client.limited[limit] = client.limited.get(limit, 0) + 1
    elif (rule := _RULES.get(code)) is not None:
        client.forbidden[rule] = client.forbidden.get(rule, 0) + 1
