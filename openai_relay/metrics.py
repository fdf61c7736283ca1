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

from openai_relay.core.tally import Histogram, Tally

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
    event_loop_lag: Callable[[], float] | None = None
    log_lines_dropped: Callable[[], int] | None = None


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
        for name, text, read in (
            ("connections", "Open connections of clients.", readings.connections),
            (
                "server_certificate_expiry_timestamp_seconds",
                "When the certificate that clients are shown expires.",
                readings.server_certificate_expiry,
            ),
            (
                "crl_next_update_timestamp_seconds",
                "When the revocation list becomes too old to be trusted.",
                readings.crl_next_update,
            ),
            (
                "event_loop_lag_seconds",
                "The longest that the event loop was late in the last minute.",
                readings.event_loop_lag,
            ),
        ):
            value = None if read is None else read()
            if value is not None:
                yield _gauge(name, text, (), [((), value)])
        if readings.log_lines_dropped is not None:
            yield _counter(
                "log_lines_dropped",
                "Log lines that were not written: their reader is too slow, or the disk is full.",
                (),
                [((), readings.log_lines_dropped())],
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
