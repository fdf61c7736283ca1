"""
Say what was counted in Prometheus's words, when somebody asks.

``core.tally`` counts in plain integers; the library's objects are made only
while a scrape is answered.  What has a value already (open connections, a
certificate's end) is not counted but read at the scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from openai_relay.core.budgets import Budgets, Standing
from openai_relay.core.endpoint import OTHER
from openai_relay.core.policy import PolicyBook
from openai_relay.core.tally import NOBODY, Histogram, Tally, Used

#: The code of an exchange, or of an upstream, that did not come to an answer.
UNANSWERED: Final = "none"

_PREFIX: Final = "openai_relay"

#: Label values, and the number that they label.
_Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Exposition:
    """What a scrape is answered."""

    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Build:
    """What is running, for ``openai_relay_build_info``."""

    version: str
    twisted: str
    openssl: str


@dataclass(frozen=True, slots=True)
class Readings:
    """
    Values that somebody else has, read at each scrape; what is ``None``, or returns it, has no series.

    Timestamps are seconds since the epoch.
    """

    connections: Callable[[], int] | None = None  #: of clients, open
    upstream_busy: Callable[[], int] | None = None  #: connections to the upstream that carry an exchange
    upstream_idle: Callable[[], int] | None = None  #: connections to the upstream kept for the next one
    server_certificate_expiry: Callable[[], float | None] | None = None
    crl_next_update: Callable[[], float | None] | None = None
    crl_this_update: Callable[[], float | None] | None = None
    event_loop_lag: Callable[[], float] | None = None
    log_lines_dropped: Callable[[], int] | None = None
    requests_waiting: Callable[[], int] | None = None  #: for a limit
    leases: Callable[[], int] | None = None  #: of admitted exchanges that are not over
    shadow_refusals: Callable[[], int] | None = None  #: that shadow mode kept from clients
    budgets: Callable[[], Iterable[tuple[str, Standing]]] | None = None  #: by client, as `budget_standings` has them
    ledger_rows_written: Callable[[], int] | None = None
    ledger_rows_waiting: Callable[[], int] | None = None
    ledger_rows_lost: Callable[[], int] | None = None


def budget_standings(tally: Tally, policies: PolicyBook, budgets: Budgets) -> Iterator[tuple[str, Standing]]:
    """Where each client stands that has budgets: those with rules of their own, and those who came."""
    came = [name for name in tally.clients if name not in (NOBODY, OTHER)]
    for name in dict.fromkeys((*policies.names, *came)):
        for standing in budgets.standing(name, policies.policy(name).budgets):
            yield name, standing


class Metrics:
    """All metrics of one relay; ``/metrics`` asks."""

    def __init__(self, tally: Tally, build: Build) -> None:
        self._tally = tally
        self._build = build
        self._readings = Readings()
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def watch(self, readings: Readings) -> None:
        """Read these at each scrape from now on, instead of those given before."""
        self._readings = readings

    def scrape(self, accept: str = "") -> Callable[[], Exposition]:
        """
        Read what is to be read, and leave the rest, which takes long when the clients are many, to the caller.

        :param accept: the ``Accept`` field; OpenMetrics is understood.
        :returns: makes the text; to be called once, in any thread, as it touches nothing that has one.
        """
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # the library stumbles over versions that are no numbers
            encode, content_type = choose_encoder("")
        scrape = _Scrape(self._tally, self._build, list(self._read()), self._process)
        return lambda: Exposition(content_type, encode(scrape))

    def _read(self) -> Iterator[Metric]:
        readings = self._readings
        pool = (("busy", readings.upstream_busy), ("idle", readings.upstream_idle))
        yield _gauge(
            "upstream_connections",
            "Open connections to the upstream: busy with an exchange, or idle and kept for the next.",
            ("upstream", "state"),
            [((self._tally.upstream, state), read()) for state, read in pool if read is not None],
        )
        for make, name, text, read in (
            (_gauge, "connections", "Open connections of clients.", readings.connections),
            (
                _gauge,
                "server_certificate_expiry_timestamp_seconds",
                "When the certificate that clients are shown expires.",
                readings.server_certificate_expiry,
            ),
            (
                _gauge,
                "crl_next_update_timestamp_seconds",
                "When the revocation list becomes too old to be trusted.",
                readings.crl_next_update,
            ),
            (
                _gauge,
                "crl_this_update_timestamp_seconds",
                "When the revocation list was made; of several, the oldest.",
                readings.crl_this_update,
            ),
            (
                _gauge,
                "event_loop_lag_seconds",
                "The longest that the event loop was late in the last minute.",
                readings.event_loop_lag,
            ),
            (
                _counter,
                "log_lines_dropped",
                "Log lines that were not written: their reader is too slow, or the disk is full.",
                readings.log_lines_dropped,
            ),
            (_gauge, "requests_waiting", "Requests that wait for a limit.", readings.requests_waiting),
            (_gauge, "leases", "Places that admitted exchanges hold until they are over.", readings.leases),
            (
                _counter,
                "shadow_refusals",
                "Requests that a limit would have refused, were it not in shadow mode.",
                readings.shadow_refusals,
            ),
            (_counter, "ledger_rows_written", "Rows stored in the ledger.", readings.ledger_rows_written),
            (_gauge, "ledger_rows_waiting", "Rows that are still to be stored.", readings.ledger_rows_waiting),
            (
                _counter,
                "ledger_rows_lost",
                "Rows that were not stored and never will be: the queue was full.",
                readings.ledger_rows_lost,
            ),
        ):
            value = None if read is None else read()
            if value is not None:
                yield make(name, text, (), [((), value)])
        yield _gauge(
            "budget_spent_ratio",
            "How much of a budget is spent in the period under way; 1 is all of it.",
            ("client", "period", "counts"),
            [] if readings.budgets is None else map(_spent, readings.budgets()),
        )


class _Scrape(Collector):
    """
    The answer to one scrape, as the library wants to collect it.

    It runs beside the thread that counts.  ``list`` copies a dictionary in
    one step; that one number may be an exchange younger than the next does
    no harm.
    """

    def __init__(self, tally: Tally, build: Build, read: list[Metric], process: CollectorRegistry) -> None:
        self._tally = tally
        self._build = build
        self._read = read
        self._process = process

    def collect(self) -> Iterator[Metric]:
        """All metrics, ours first."""
        build = {"version": self._build.version, "twisted": self._build.twisted, "openssl": self._build.openssl}
        yield InfoMetricFamily(f"{_PREFIX}_build", "What is running.", build)
        yield from self._exchanges()
        yield from self._clients()
        yield from self._read
        yield from self._process.collect()

    def _exchanges(self) -> Iterator[Metric]:
        tally = self._tally
        yield _histogram(
            "request_duration_seconds",
            "From a request's head to the last byte of its answer, streams included.",
            ("endpoint", "code"),
            [((asked, _code(status)), histogram) for (asked, status), histogram in list(tally.durations.items())],
        )
        yield _histogram(
            "time_to_first_byte_seconds",
            "From a request's head to the head of the upstream's answer.",
            ("endpoint",),
            [((asked,), histogram) for asked, histogram in list(tally.first_bytes.items()) if any(histogram.counts)],
        )
        yield _histogram(
            "time_to_first_event_seconds",
            "From a request's head to the first event of its stream.",
            ("endpoint",),
            [((asked,), histogram) for asked, histogram in list(tally.first_events.items()) if any(histogram.counts)],
        )
        yield _histogram(
            "event_gap_seconds",
            "Between two events of a stream; those that came in one block count as 0.",
            ("endpoint",),
            [((asked,), histogram) for asked, histogram in list(tally.gaps.items()) if any(histogram.counts)],
        )
        yield _histogram(
            "queue_wait_seconds", "How long requests waited for a limit, of those that had to.", (), [((), tally.queue)]
        )
        models = [(_label(name), used) for name, used in list(tally.models.items())]
        yield _counter(
            "model_tokens", "Tokens by model; cached are input, reasoning output.", ("model", "kind"), _tokens(models)
        )
        yield _counter("model_cost_dollars", "What exchanges cost, by model.", ("model",), _costs(models))
        yield _counter("exchanges_ended", "Exchanges by how they ended.", ("end",), _single(tally.ends))
        yield _counter(
            "upstream_requests",
            "Requests that went to the upstream, by its status code; none: it did not answer.",
            ("upstream", "code"),
            [((name, _code(status)), count) for (name, status), count in list(tally.upstream_answers.items())],
        )
        yield _counter(
            "tls_handshakes", "TLS handshakes with clients: ok, or why not.", ("result",), _single(tally.handshakes)
        )
        yield _counter(
            "enrolments",
            "Devices that asked for a certificate: enrolled, renewed, or why not.",
            ("outcome",),
            _single(tally.enrolments),
        )

    def _clients(self) -> Iterator[Metric]:
        clients = [(_label(name), client) for name, client in list(self._tally.clients.items())]
        yield _counter(
            "requests",
            "Requests by the status code that the client was answered; none: it was not.",
            ("client", "endpoint", "code"),
            [
                ((name, asked, _code(status)), kind.requests)
                for name, client in clients
                for (asked, status), kind in list(client.kinds.items())
            ],
        )
        yield _gauge(
            "streams_active",
            "Exchanges open now, streaming or not.",
            ("client",),
            [((name,), client.active) for name, client in clients],
        )
        yield _counter(
            "request_bytes",
            "Bytes of request bodies, counted when an exchange ends.",
            ("client",),
            [((name,), client.bytes_in) for name, client in clients],
        )
        yield _counter(
            "response_bytes",
            "Bytes of answers' bodies, counted when an exchange ends.",
            ("client",),
            [((name,), client.bytes_out) for name, client in clients],
        )
        yield _counter(
            "rate_limited",
            "Requests refused because of a limit of the relay's own.",
            ("client", "limit"),
            [((name, limit), count) for name, client in clients for limit, count in list(client.limited.items())],
        )
        yield _counter(
            "forbidden",
            "Requests refused because of a rule about what clients may do.",
            ("client", "rule"),
            [((name, rule), count) for name, client in clients for rule, count in list(client.forbidden.items())],
        )
        used = [(name, client.used) for name, client in clients]
        yield _counter(
            "tokens", "Tokens by client; cached are input, reasoning output.", ("client", "kind"), _tokens(used)
        )
        yield _counter("cost_dollars", "What exchanges cost, by client.", ("client",), _costs(used))
        yield _counter(
            "estimated_exchanges",
            "Exchanges whose tokens are an estimate, as the upstream told none.",
            ("client",),
            [((name,), client.estimated) for name, client in clients if client.estimated],
        )
        yield _gauge(
            "client_certificate_expiry_timestamp_seconds",
            "When the certificate that a client used last expires.",
            ("client",),
            [((name,), expiry) for name, client in clients if (expiry := client.certificate_expiry) is not None],
        )


def _label(name: str) -> str:
    """A name as it may stand in the text: one that is no UTF-8 would cost the whole page."""
    return name if name.isprintable() else name.encode("unicode_escape").decode("ascii")


def _code(status: int | None) -> str:
    return str(status) if status else UNANSWERED


def _tokens(used: Iterable[tuple[str, Used]]) -> Iterator[_Sample]:
    for name, each in used:
        for kind, count in (
            ("input", each.input),
            ("cached_input", each.cached),
            ("output", each.output),
            ("reasoning", each.reasoning),
            ("audio", each.audio),
        ):
            if count:
                yield (name, kind), count


def _costs(used: Iterable[tuple[str, Used]]) -> list[_Sample]:
    return [((name,), each.micro_usd / 1_000_000) for name, each in used if each.micro_usd]


def _spent(standing: tuple[str, Standing]) -> _Sample:
    name, at = standing
    budget = at.budget
    limit = budget.hard or budget.soft or 1  # it has one of the two
    return (_label(name), budget.period, "usd" if budget.money else "tokens"), at.spent / limit


def _single(counts: Mapping[str, int]) -> list[_Sample]:
    return [((label,), count) for label, count in list(counts.items())]


def _counter(name: str, text: str, labels: tuple[str, ...], samples: Iterable[_Sample]) -> Metric:
    family = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)
    for values, count in samples:
        family.add_metric(values, count)
    return family


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: Iterable[_Sample]) -> Metric:
    family = GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _histogram(
    name: str, text: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], Histogram]]
) -> Metric:
    family = HistogramMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)
    for values, histogram in samples:
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(values, buckets, histogram.sum_ns / 1_000_000_000)
    return family
