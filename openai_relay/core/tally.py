"""
Count what happens to exchanges: plain integers, about a microsecond an exchange.

The course and the listener count here; ``metrics.py`` says it in Prometheus's
words when asked.  All keys come from bounded sets (clients are capped,
endpoints are a table, codes are the protocol's), so no client can grow this.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from openai_relay.core.endpoint import OTHER, endpoint
from openai_relay.core.errors import RateLimited, TooManyConcurrent, TooManyConnections, UpstreamError
from openai_relay.core.exchange import Exchange
from openai_relay.core.identity import Identity

#: How many clients are counted by name; the later ones are counted together, as ``other``.
MAX_CLIENTS: Final = 1_000
#: The client of an exchange without an identity.
NOBODY: Final = ""

#: Upper bounds in seconds: an embedding takes tenths, a reasoning model minutes.
DURATION_BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FIRST_BYTE_BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)

#: Refusals that are not of a rate; those are told apart by their ``type``.
_LIMITS: Final = {TooManyConcurrent.code: "concurrent", TooManyConnections.code: "connections"}


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


@dataclass(slots=True)
class Kind:
    """One client's exchanges of one endpoint that were answered with one status."""

    duration: Histogram  #: shared by all clients
    first_byte: Histogram  #: shared by all clients and statuses
    requests: int = 0


@dataclass(slots=True)
class ClientTally:
    """What is counted for one client."""

    active: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    certificate_expiry: float | None = None  #: of the certificate used last, in seconds since the epoch
    kinds: dict[tuple[str, int], Kind] = field(default_factory=dict)  #: by endpoint and status
    limited: dict[str, int] = field(default_factory=dict)  #: refusals by limit


class Tally:
    """
    All that is counted.

    :ivar upstream: what the upstream is called from now on: its host, or a name from the configuration.
    """

    def __init__(self, upstream: str, max_clients: int = MAX_CLIENTS) -> None:
        self.upstream = upstream
        self.clients: dict[str, ClientTally] = {}
        self.durations: dict[tuple[str, int], Histogram] = {}  #: by endpoint and status
        self.first_bytes: dict[str, Histogram] = {}  #: by endpoint
        self.ends: dict[str, int] = {}
        self.upstream_answers: dict[tuple[str, int | None], int] = {}  #: by upstream and its status
        self.handshakes: dict[str, int] = {}
        self._max_clients = max_clients

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
        end = exchange.end
        self.ends[end] = self.ends.get(end, 0) + 1
        error = exchange.error
        if exchange.upstream_status is not None or isinstance(error, UpstreamError):
            answer = (self.upstream, exchange.upstream_status)
            self.upstream_answers[answer] = self.upstream_answers.get(answer, 0) + 1
        if isinstance(error, RateLimited):
            limit = _LIMITS.get(error.code, error.type)
            client.limited[limit] = client.limited.get(limit, 0) + 1

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

    def _new_kind(self, client: ClientTally, key: tuple[str, int]) -> Kind:
        kind = Kind(
            self.durations.setdefault(key, Histogram(DURATION_BOUNDS)),
            self.first_bytes.setdefault(key[0], Histogram(FIRST_BYTE_BOUNDS)),
        )
        client.kinds[key] = kind
        return kind
