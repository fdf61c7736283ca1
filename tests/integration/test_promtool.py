"""What Prometheus's own tool says of our metrics."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC
from unittest import skipUnless

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.admin.site import admin_site
from openai_relay.core import errors
from openai_relay.core.budgets import Budget, Budgets
from openai_relay.core.readiness import Check
from openai_relay.core.tally import Tally
from openai_relay.metrics import Build, Exposition, Metrics, Readings
from tests.admin.asking import ask
from tests.core.exchanges import ALICE, BOB, CAUSES, done, used

PROMTOOL = shutil.which("promtool")


def call(make: object) -> Deferred[Exposition]:
    assert callable(make)
    return succeed(make())


def metrics_page() -> bytes:
    """A ``/metrics`` page with something in every family."""
    tally = Tally("api.openai.com")
    for exchange in (done(ALICE), done(BOB, path="/v1/files/f/content"), done(None, status=0, upstream_status=None)):
        tally.exchange_opened(exchange)
        tally.exchange_closed(exchange)
    for cause in (*CAUSES, errors.Unauthenticated()):
        exchange = done(ALICE, status=cause.status, upstream_status=None, error=cause)
        tally.exchange_opened(exchange)
        tally.exchange_closed(exchange)
    tally.exchange_opened(used(BOB))
    tally.exchange_closed(used(BOB, estimated=True))
    tally.event_gaps("chat/completions").observe(1)
    for result in ("ok", "refused"):
        tally.handshake_ended(result)
    standings = Budgets(UTC, lambda: 0.0).standing("bob", [Budget("day", 8_000_000), Budget("month", 9, money=False)])
    metrics = Metrics(tally, Build("0.1.0", "26.10.0", "OpenSSL 3.5.0"))
    metrics.watch(
        Readings(
            connections=lambda: 7,
            upstream_busy=lambda: 2,
            upstream_idle=lambda: 5,
            server_certificate_expiry=lambda: 1_910_000_000.0,
            crl_next_update=lambda: 1_800_000_000.0,
            event_loop_lag=lambda: 0.004,
            log_lines_dropped=lambda: 3,
            requests_waiting=lambda: 4,
            leases=lambda: 11,
            shadow_refusals=lambda: 6,
            budgets=lambda: [("bob", standing) for standing in standings],
            ledger_rows_written=lambda: 9_000,
            ledger_rows_waiting=lambda: 12,
            ledger_rows_lost=lambda: 1,
        )
    )
    return ask(admin_site(Clock(), metrics, lambda: [Check("started", True)], call, Deferred), "GET", "/metrics").body


def check(page: bytes) -> subprocess.CompletedProcess[bytes]:
    """What the tool says of a page."""
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, "check", "metrics"], input=page, capture_output=True, timeout=60, check=False)


@skipUnless(PROMTOOL, "promtool is not installed (Debian package: prometheus)")
class PromtoolTests(SynchronousTestCase):
    def test_clean(self) -> None:
        """The tool reads every line of the page and has nothing to say against any name, unit or help text."""
        page = metrics_page()
        self.assertIn(b"openai_relay_requests_total{", page)
        checked = check(page)
        self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, b"", b""))

    def test_would_complain(self) -> None:
        """A counter that is not named as one does not pass, so that the silence above means something."""
        checked = check(b"# HELP requests Requests.\n# TYPE requests counter\nrequests 1\n")
        self.assertNotEqual(checked.returncode, 0)
        self.assertIn(b"_total", checked.stdout + checked.stderr)
