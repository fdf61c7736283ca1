"""What a scrape reads, and in whose words."""

from __future__ import annotations

import itertools
import re
import threading
from datetime import UTC
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core import errors
from openai_relay.core.budgets import Budget, Budgets, Standing
from openai_relay.core.endpoint import OTHER
from openai_relay.core.exchange import Exchange
from openai_relay.core.identity import Identity
from openai_relay.core.periods import Period
from openai_relay.core.policy import ClientRules, PolicyBook, Rules
from openai_relay.core.tally import Tally
from openai_relay.metrics import Build, Metrics, Readings, budget_standings
from tests.core.exchanges import ALICE, BOB, SECOND, done, exchanges, used

BUILD = Build(version="0.1.0", twisted="26.10.0", openssl="OpenSSL 3.5.0")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"

#: Every name that docs/metrics.md promises.
PROMISED = {
    "openai_relay_build_info",
    "openai_relay_requests_total",
    "openai_relay_request_duration_seconds",
    "openai_relay_time_to_first_byte_seconds",
    "openai_relay_streams_active",
    "openai_relay_request_bytes_total",
    "openai_relay_response_bytes_total",
    "openai_relay_rate_limited_total",
    "openai_relay_exchanges_ended_total",
    "openai_relay_upstream_requests_total",
    "openai_relay_upstream_connections",
    "openai_relay_connections",
    "openai_relay_tls_handshakes_total",
    "openai_relay_client_certificate_expiry_timestamp_seconds",
    "openai_relay_server_certificate_expiry_timestamp_seconds",
    "openai_relay_crl_next_update_timestamp_seconds",
    "openai_relay_crl_this_update_timestamp_seconds",
    "openai_relay_enrolments_total",
    "openai_relay_event_loop_lag_seconds",
    "openai_relay_log_lines_dropped_total",
    "openai_relay_time_to_first_event_seconds",
    "openai_relay_event_gap_seconds",
    "openai_relay_queue_wait_seconds",
    "openai_relay_requests_waiting",
    "openai_relay_leases",
    "openai_relay_shadow_refusals_total",
    "openai_relay_forbidden_total",
    "openai_relay_tokens_total",
    "openai_relay_cost_dollars_total",
    "openai_relay_estimated_exchanges_total",
    "openai_relay_model_tokens_total",
    "openai_relay_model_cost_dollars_total",
    "openai_relay_budget_spent_ratio",
    "openai_relay_ledger_rows_written_total",
    "openai_relay_ledger_rows_waiting",
    "openai_relay_ledger_rows_lost_total",
}

#: The labels of the plainest exchange.
PLAIN = {"client": "alice", "endpoint": "chat/completions", "code": "200"}

SPENT = Standing(Budget("day", 8_000_000, 4_000_000), Period("2026-11-23", 0, 86_400), 2_000_000, 500_000)

READINGS = Readings(
    connections=lambda: 7,
    upstream_busy=lambda: 2,
    upstream_idle=lambda: 5,
    server_certificate_expiry=lambda: 1_910_000_000.0,
    crl_next_update=lambda: 1_800_000_000.0,
    crl_this_update=lambda: 1_700_000_000.0,
    event_loop_lag=lambda: 0.004,
    log_lines_dropped=lambda: 3,
    requests_waiting=lambda: 4,
    leases=lambda: 11,
    shadow_refusals=lambda: 6,
    budgets=lambda: [("alice", SPENT)],
    ledger_rows_written=lambda: 9_000,
    ledger_rows_waiting=lambda: 12,
    ledger_rows_lost=lambda: 1,
)


class MetricsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.tally = Tally("api.openai.com")
        self.metrics = Metrics(self.tally, BUILD)
        self.metrics.watch(READINGS)

    def count(self, exchange: Exchange) -> None:
        self.tally.exchange_opened(exchange)
        self.tally.exchange_closed(exchange)

    def count_some(self) -> None:
        """One of each kind."""
        self.count(done(ALICE))
        self.count(done(ALICE, path="/v1/files/file-1/content"))
        self.count(done(BOB, status=429, upstream_status=None, error=errors.RateLimited(SECOND, "Too many.")))
        self.count(done(BOB, status=502, upstream_status=None, error=errors.UpstreamUnreachable("refused")))
        self.count(done(None, status=0, upstream_status=None, error=errors.ClientGone()))
        self.count(done(BOB, status=403, upstream_status=None, error=errors.ModelNotAllowed()))
        self.count(used(ALICE, path="/v1/responses", estimated=True))
        self.tally.event_gaps("responses").observe(SECOND // 50)
        self.tally.exchange_opened(done(BOB))
        self.tally.handshake_ended("ok")
        self.tally.enrolled("used")

    def families(self) -> dict[str, Metric]:
        text = self.metrics.scrape()().body.decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    def value(self, name: str, **labels: str) -> float | None:
        """The one sample of that name with those labels."""
        found = [
            sample.value
            for family in self.families().values()
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ]
        return found[0] if found else None

    def test_names(self) -> None:
        """What the documentation promises is there, and nothing of ours beside it."""
        self.count_some()
        body = self.metrics.scrape()().body.decode()
        ours = {line.split()[2] for line in body.splitlines() if line.startswith("# TYPE openai_relay_")}
        self.assertEqual(ours, PROMISED)

    def test_documented(self) -> None:
        """Every name, and every label it has, is in the page that operators read."""
        self.count_some()
        rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `openai_relay_")]
        labels = {row.split("`")[1]: set(re.findall(r"`(\w+)`", row.split("|")[3])) for row in rows}
        self.assertEqual(set(labels), PROMISED)
        for family in self.families().values():
            for sample in family.samples:
                name = re.sub("_(bucket|count|sum)$", "", sample.name)
                if name in PROMISED:
                    self.assertEqual(set(sample.labels) - {"le"}, labels[name], name)

    def test_requests(self) -> None:
        """Requests are told by client, endpoint and code, ``none`` being no answer."""
        self.count_some()
        name = "openai_relay_requests_total"
        self.assertEqual(self.value(name, client="alice", endpoint="chat/completions", code="200"), 1)
        self.assertEqual(self.value(name, client="alice", endpoint="files/{id}/content", code="200"), 1)
        self.assertEqual(self.value(name, client="", endpoint="chat/completions", code="none"), 1)
        self.assertEqual(self.value("openai_relay_streams_active", client="bob"), 1)
        self.assertEqual(self.value("openai_relay_streams_active", client="alice"), 0)

    def test_bytes_and_ends(self) -> None:
        """Bytes are told by client, and ends by what they were."""
        self.count_some()
        self.assertEqual(self.value("openai_relay_request_bytes_total", client="alice"), 936)
        self.assertEqual(self.value("openai_relay_response_bytes_total", client="alice"), 12_288)
        self.assertEqual(self.value("openai_relay_exchanges_ended_total", end="done"), 3)
        self.assertEqual(self.value("openai_relay_exchanges_ended_total", end="client_gone"), 1)

    def test_upstream(self) -> None:
        """The upstream's answers are told by code, and its failures to answer too."""
        self.count_some()
        name = "openai_relay_upstream_requests_total"
        self.assertEqual(self.value(name, upstream="api.openai.com", code="200"), 3)
        self.assertEqual(self.value(name, upstream="api.openai.com", code="none"), 1)
        name = "openai_relay_upstream_connections"
        self.assertEqual(self.value(name, upstream="api.openai.com", state="busy"), 2)
        self.assertEqual(self.value(name, upstream="api.openai.com", state="idle"), 5)

    def test_limits(self) -> None:
        """A refusal is told by client and limit."""
        self.count_some()
        self.assertEqual(self.value("openai_relay_rate_limited_total", client="bob", limit="requests"), 1)

    def test_rules(self) -> None:
        """A refusal because of a rule is told by client and rule."""
        self.count_some()
        self.assertEqual(self.value("openai_relay_forbidden_total", client="bob", rule="model"), 1)

    def test_usage(self) -> None:
        """Tokens by kind, cost in dollars and estimates are told by client, and by model."""
        self.count_some()
        for labels in ({"client": "alice"}, {"model": "gpt-5"}):
            prefix = "openai_relay_model_" if "model" in labels else "openai_relay_"
            for kind, count in (("input", 100), ("cached_input", 20), ("output", 50), ("reasoning", 10), ("audio", 7)):
                self.assertEqual(self.value(f"{prefix}tokens_total", kind=kind, **labels), count)
            self.assertEqual(self.value(f"{prefix}cost_dollars_total", **labels), 0.00125)
        self.assertEqual(self.value("openai_relay_estimated_exchanges_total", client="alice"), 1)

    def test_nothing_used(self) -> None:
        """A client that used no tokens has no series of them, so that a thousand such clients cost nothing."""
        self.count_some()
        for name in ("tokens", "cost_dollars", "estimated_exchanges"):
            samples = self.families()[f"openai_relay_{name}"].samples
            self.assertEqual({sample.labels["client"] for sample in samples}, {"alice"})

    def test_times_of_streams(self) -> None:
        """The time to the first event, that between events and that in a line are histograms."""
        self.count_some()
        for name, labels, seconds in (
            ("time_to_first_event_seconds", {"endpoint": "responses"}, 0.3),
            ("event_gap_seconds", {"endpoint": "responses"}, 0.02),
            ("queue_wait_seconds", {}, 0.1),
        ):
            self.assertEqual(self.value(f"openai_relay_{name}_sum", **labels), seconds)
            self.assertEqual(self.value(f"openai_relay_{name}_count", **labels), 1)

    def test_budgets(self) -> None:
        """A budget's spent part is told of its hard limit, or, without one, of the soft one."""
        name = "openai_relay_budget_spent_ratio"
        self.assertEqual(self.value(name, client="alice", period="day", counts="usd"), 0.25)
        soft = Standing(Budget("month", None, 1_000, money=False), SPENT.period, 1_500, 0)
        self.metrics.watch(Readings(budgets=lambda: [("bob", soft)]))
        self.assertEqual(self.value(name, client="bob", period="month", counts="tokens"), 1.5)

    def test_histogram(self) -> None:
        """Buckets are cumulated, and the sum is in seconds."""
        self.count_some()
        labels = {"endpoint": "chat/completions", "code": "200"}
        name = "openai_relay_request_duration_seconds"
        self.assertEqual(self.value(f"{name}_bucket", le="1.0", **labels), 0)
        self.assertEqual(self.value(f"{name}_bucket", le="2.5", **labels), 1)
        self.assertEqual(self.value(f"{name}_bucket", le="+Inf", **labels), 1)
        self.assertEqual(self.value(f"{name}_count", **labels), 1)
        self.assertEqual(self.value(f"{name}_sum", **labels), 1.25)
        name = "openai_relay_time_to_first_byte_seconds"
        self.assertEqual(self.value(f"{name}_bucket", le="0.25", endpoint="chat/completions"), 1)

    def test_no_empty_histogram(self) -> None:
        """An endpoint that the upstream never answered has no times to the first byte."""
        self.count(done(ALICE, path="/nope", status=403, upstream_status=None, error=errors.PathNotAllowed()))
        self.assertEqual(self.families()["openai_relay_time_to_first_byte_seconds"].samples, [])

    def test_readings(self) -> None:
        """What others know is read when the scrape begins."""
        self.assertEqual(self.value("openai_relay_connections"), 7)
        self.assertEqual(self.value("openai_relay_server_certificate_expiry_timestamp_seconds"), 1_910_000_000)
        self.assertEqual(self.value("openai_relay_crl_next_update_timestamp_seconds"), 1_800_000_000)
        self.assertEqual(self.value("openai_relay_crl_this_update_timestamp_seconds"), 1_700_000_000)
        self.assertEqual(self.value("openai_relay_event_loop_lag_seconds"), 0.004)
        self.assertEqual(self.value("openai_relay_log_lines_dropped_total"), 3)
        self.assertEqual(self.value("openai_relay_requests_waiting"), 4)
        self.assertEqual(self.value("openai_relay_leases"), 11)
        self.assertEqual(self.value("openai_relay_shadow_refusals_total"), 6)
        self.assertEqual(self.value("openai_relay_ledger_rows_written_total"), 9_000)
        self.assertEqual(self.value("openai_relay_ledger_rows_waiting"), 12)
        self.assertEqual(self.value("openai_relay_ledger_rows_lost_total"), 1)

    def test_nothing_to_read(self) -> None:
        """What nobody knows, or there is not (as without a revocation list), has no series."""
        self.metrics.watch(Readings(crl_next_update=lambda: None))
        families = self.families()
        self.assertNotIn("openai_relay_connections", families)
        self.assertNotIn("openai_relay_crl_next_update_timestamp_seconds", families)
        self.assertEqual(families["openai_relay_upstream_connections"].samples, [])

    def test_read_in_the_callers_thread(self) -> None:
        """Others are asked before the work is handed to a thread, as they belong to the reactor's."""
        asked: list[threading.Thread] = []

        def lag() -> float:
            asked.append(threading.current_thread())
            return 0.0

        self.metrics.watch(Readings(event_loop_lag=lag))
        make = self.metrics.scrape()
        self.assertEqual(asked, [threading.current_thread()])
        make()
        self.assertEqual(len(asked), 1)

    def test_process(self) -> None:
        """The process's own metrics are there: memory, processor time, descriptors, Python."""
        families = self.families()
        for name in ("process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds", "python_info"):
            self.assertIn(name, families)

    def test_build(self) -> None:
        """What is running can be joined to any series."""
        self.assertEqual(
            self.value("openai_relay_build_info", version="0.1.0", twisted="26.10.0", openssl="OpenSSL 3.5.0"), 1
        )

    def test_no_created_series(self) -> None:
        """No counter brings a second series along that says when it was made, in either format."""
        self.count_some()
        for accept in ("", OPENMETRICS):
            body = self.metrics.scrape(accept)().body
            ours = [line for line in body.splitlines() if line.startswith(b"openai_relay")]
            self.assertEqual([line for line in ours if b"_created" in line], [])

    def test_nothing_global(self) -> None:
        """Two relays in one process count apart, and the library's global registry knows neither."""
        other = Metrics(Tally("other"), BUILD)
        self.count_some()
        self.assertNotIn(b'client="alice"', other.scrape()().body)
        self.assertFalse([family for family in REGISTRY.collect() if family.name.startswith("openai_relay")])

    def test_openmetrics(self) -> None:
        """OpenMetrics is spoken to whoever asks for it, so that its strict reader understands."""
        self.count_some()
        exposition = self.metrics.scrape(OPENMETRICS)()
        self.assertTrue(exposition.content_type.startswith("application/openmetrics-text"))
        names = {family.name for family in openmetrics(exposition.body.decode())}
        self.assertIn("openai_relay_requests", names)
        self.assertIn("openai_relay_build", names)

    @given(
        st.text(),
        st.sampled_from(["", "*/*", "text/plain", "application/openmetrics-text"]),
        st.sampled_from(["", ";version=0.0.1", ";version=1.0.0", ";version=9.9.9", ";version=x", ";version=", ";;,,="]),
    )
    def test_odd_accept(self, noise: str, media_type: str, version: str) -> None:
        """An ``Accept`` that nobody understands gets one of the text formats all the same."""
        exposition = self.metrics.scrape(f"{media_type}{version};{noise}")()
        self.assertIn("text", exposition.content_type)
        self.assertIn(b"openai_relay_build_info{", exposition.body)

    @given(st.lists(exchanges(), max_size=5))
    def test_any_client_can_be_told(self, many: list[Exchange]) -> None:
        """Whatever the names of clients, the text stays one that Prometheus reads, with their requests in it."""
        tally = Tally("api.openai.com")
        for exchange in many:
            tally.exchange_opened(exchange)
            tally.exchange_closed(exchange)
        text = Metrics(tally, BUILD).scrape()().body.decode()
        [requests] = [
            family
            for family in text_string_to_metric_families(text)
            if family.name in ("openai_relay_requests", "openai_relay_requests_total")
        ]
        self.assertEqual(sum(sample.value for sample in requests.samples), len(many))
        self.assertTrue(all(sample.labels["client"].isprintable() for sample in requests.samples))

    def test_counting_while_scraped(self) -> None:
        """Exchanges of new clients that end while the text is made, in its thread, do not break it."""
        newcomers = itertools.count()

        def arrive() -> None:
            number = next(newcomers)
            newcomer = Identity(f"client-{number}", "f" * 64, "1", 0.0)
            self.count(done(newcomer, status=600 + number, upstream_status=600 + number))

        class Late(int):
            """A status that counts one more exchange as it is told, as the other thread may at that moment."""

            def __bool__(self) -> bool:
                arrive()
                return True

        self.count(done(ALICE, status=Late(200), upstream_status=Late(200)))
        self.assertEqual(self.value("openai_relay_requests_total", **PLAIN), 1)
        self.assertGreaterEqual(next(newcomers), 3)
        self.assertEqual(self.value("openai_relay_requests_total", **{**PLAIN, "client": "client-0", "code": "600"}), 1)


class BudgetStandingsTests(SynchronousTestCase):
    def test_whose(self) -> None:
        """Told are clients with rules of their own, come or not, and those who came: each once, real ones only."""
        daily, monthly = Budget("day", 1_000), Budget("month", 5_000)
        policies = PolicyBook(
            Rules(budgets=(daily,)), clients={"alice": ClientRules(Rules(budgets=(monthly,))), "carol": ClientRules()}
        )
        budgets = Budgets(UTC, lambda: 0.0)
        budgets.begin("bob", daily, 250)
        tally = Tally("api.openai.com", max_clients=3)
        for identity in (ALICE, None, BOB, Identity("dave", "d" * 64, "4", 0.0)):
            tally.exchange_opened(done(identity))
        self.assertIn(OTHER, tally.clients)
        told = [(name, at.budget, at.spent) for name, at in budget_standings(tally, policies, budgets)]
        self.assertEqual(told, [("alice", daily, 0), ("alice", monthly, 0), ("carol", daily, 0), ("bob", daily, 250)])
