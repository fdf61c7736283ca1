"""
The course of a soak: start all processes, watch while the clients work, look what is left, stop, judge.

Nothing here grows with the time: output is counted as it comes, readings thin
themselves out, and each worker's counts replace those it told before.
"""

from __future__ import annotations

import json
import shutil
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from typing import Final

import msgspec

from openai_relay.authority.directory import Authority
from openai_relay.standin.counters import Counters
from tests.integration.running import TWISTD, WITHIN, Site
from tests.ledger.rows import stored
from tests.soak.sampling import Scrape, Series, descriptors, processor_seconds, resident
from tests.soak.verdict import Books, Observed
from tests.soak.watching import AccessLines, Announcement, OwnLog, Watched
from tests.soak.worker import Orders, Told

#: Exchanges that each certificate may have open, and its requests: above what a client does by itself.
CONCURRENT: Final = 6
LIMITS: Final = {"requests_per_minute": 1_200, "burst": 40, "concurrent": CONCURRENT}
#: Gauges that must come to 0, and how long they may take: what idles upstream is closed after this.
KEEPALIVE: Final = 4.0
CALM_WITHIN: Final = 40.0
_ENDINGS: Final = "SELECT ending, count(*) FROM exchanges GROUP BY ending"
GAUGES: Final = ("openai_relay_streams_active", "openai_relay_connections", "openai_relay_upstream_connections")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how much, and from which seed."""

    seconds: float
    processes: int = 2
    threads: int = 6
    seed: int = 1
    say_every: float = 30.0

    @property
    def warm_up(self) -> float:
        """Pools, caches and arenas fill first: a fifth of a short soak, at most five minutes of a long one."""
        return min(self.seconds / 5, 300.0)


class Soak:
    """One soak; ``stop`` ends it before its time."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self.stop = threading.Event()
        self._pause = threading.Event()  # never set
        self._told: dict[int, Told] = {}
        self._lines = AccessLines()
        self._serving = Announcement(r"serving on 127\.0\.0\.1:(\d+)")
        self._admin = Announcement(r"health and metrics: 127\.0\.0\.1:(\d+)")
        self._log = OwnLog(self._serving, self._admin)
        self._memory, self._descriptors = Series(), Series()
        self._seen = Observed(seconds=plan.seconds, warm_up=plan.warm_up)

    def run(self) -> Observed:
        """All of it; returns what is to be judged."""
        with ExitStack() as stack:
            site = Site.make()
            stack.callback(shutil.rmtree, site.directory)
            groups = self._groups(site)
            upstream, url = self._upstream(site)
            stack.callback(upstream.close)
            relay = self._relay(site, url)
            stack.callback(relay.terminate)
            self._seen.descriptors_before = descriptors(relay.pid)
            began = time.monotonic()
            orders = [self._orders(site, number, names) for number, names in enumerate(groups)]
            workers = [self._worker(site, number, each) for number, each in enumerate(orders)]
            for worker in workers:
                stack.callback(worker.close)
            self._watch(relay, workers, began)
            for worker in workers:
                self._seen.workers_failed += worker.close() != 0
            self._calm(relay, upstream)
            leases = [self._worker(site, -1 - each, self._leases(order)) for each, order in enumerate(orders)]
            for worker in leases:
                self._seen.workers_failed += worker.ended(120.0) != 0
            self._seen.workers_failed += sum(not each.last for each in self._told.values())
            self._look(relay, site, url)
            self._seen.exit_code = relay.terminate()
            self._close_books(site)
            self._seen.seconds = time.monotonic() - began
        return self._seen

    def tail(self) -> list[str]:
        """The last lines of the relay's own log."""
        return list(self._log.tail())

    # What runs.

    def _groups(self, site: Site) -> list[list[str]]:
        """The clients' names, by process; makes their certificates and a stranger's."""
        own = Authority.open(site.directory / "authority")
        groups = [
            [f"soak-{process}-{thread}" for thread in range(self._plan.threads)]
            for process in range(self._plan.processes)
        ]
        for number, names in enumerate(groups):
            for name in (*names, f"greedy-{number}", f"hasty-{number}"):
                own.issue_client(name, into=site.directory, stem=name)
        stranger = Authority.create(site.directory / "stranger-authority", "Stranger CA")
        stranger.issue_client("stranger", into=site.directory, stem="stranger")
        return groups

    def _upstream(self, site: Site) -> tuple[Watched, str]:
        url = Announcement(r"upstream: (\S+)")
        command = (sys.executable, "-m", "tests.soak.upstream", "upstream.pem", "upstream.key", "openai.key")
        log = OwnLog()
        upstream = Watched(command, site.directory, url, log)
        try:
            return upstream, url.wait()
        except RuntimeError as error:
            upstream.close()
            raise RuntimeError("\n".join([str(error), *log.tail()])) from None

    def _relay(self, site: Site, url: str) -> Watched:
        configuration = site.write_configuration(
            url, {"limits": LIMITS, "log": {"format": "json"}, "upstream": {"keepalive_timeout": KEEPALIVE}}
        )
        relay = Watched([*TWISTD, "--config", configuration], site.directory, self._lines, self._log)
        try:
            self._port, self._admin_port = int(self._serving.wait()), int(self._admin.wait())
        except RuntimeError as error:
            relay.terminate()
            raise RuntimeError("\n".join([str(error), *self._log.tail()])) from None
        self._scrape()  # whatever a first answer opens for good is open now
        return relay

    def _orders(self, site: Site, number: int, names: list[str]) -> Orders:
        plan = self._plan
        return Orders(
            str(site.directory),
            self._port,
            names,
            f"greedy-{number}",
            f"hasty-{number}",
            CONCURRENT,
            plan.seconds,
            plan.seed,
        )

    def _leases(self, orders: Orders) -> Orders:
        return msgspec.structs.replace(orders, seconds=0.0)

    def _worker(self, site: Site, number: int, orders: Orders) -> Watched:
        self._told[number] = Told()
        decode = msgspec.json.Decoder(Told).decode

        def hear(line: bytes) -> None:
            self._told[number] = decode(line)

        command = (sys.executable, "-m", "tests.soak.worker", msgspec.json.encode(orders).decode())
        return Watched(command, site.directory, hear, lambda line: self._say(line.decode(errors="replace").rstrip()))

    # What is watched.

    def _scrape(self) -> Scrape:
        asking = HTTPConnection("127.0.0.1", self._admin_port, timeout=WITHIN)
        try:
            asking.request("GET", "/metrics")
            return Scrape.of(asking.getresponse().read().decode())
        finally:
            asking.close()

    def _watch(self, relay: Watched, workers: list[Watched], began: float) -> None:
        """A reading each second, and a line now and then, until the clients have done."""
        said = began
        while any(worker.running() for worker in workers) and relay.running() and not self.stop.is_set():
            self.stop.wait(1.0)
            now = time.monotonic()
            self._read(relay, now - began)
            if now - said >= self._plan.say_every:
                said = now
                self._say(self.row(now - began))

    def _read(self, relay: Watched, elapsed: float) -> None:
        seen = self._seen
        try:
            memory, open_now = resident(relay.pid), descriptors(relay.pid)
            seen.processor_seconds = processor_seconds(relay.pid)
            seen.lag_most = max(seen.lag_most, self._scrape().total("openai_relay_event_loop_lag_seconds"))
        except (OSError, IndexError):  # it has ended, and will be judged for that
            return
        seen.rss_most = max(seen.rss_most, memory)
        seen.descriptors_most = max(seen.descriptors_most, open_now)
        self._descriptors.add(open_now)
        if elapsed >= self._plan.warm_up:
            self._memory.add(memory)

    def row(self, elapsed: float) -> str:
        """How it goes, in one line."""
        done = _sum(self._told.values())
        exchanges = sum(done.ends.values())
        memory = f"{self._memory.kept[-1] / (1 << 20):.1f}" if self._memory.kept else "warm-up"
        return (
            f"{elapsed:7.0f} s  {exchanges:9d} exchanges  {exchanges / max(elapsed, 1):6.1f}/s  "
            f"{done.failures:4d} failed  memory {memory:>7} MiB  "
            f"descriptors {self._descriptors.kept[-1] if self._descriptors.kept else 0:4.0f}  "
            f"complaints {self._log.complained:3d}  lag {self._seen.lag_most * 1_000:4.0f} ms"
        )

    def _calm(self, relay: Watched, upstream: Watched) -> None:
        """Until nothing is open any more, or it takes too long; what is left is judged."""
        end = time.monotonic() + CALM_WITHIN
        while relay.running() and time.monotonic() < end:
            scrape = self._scrape()
            self._seen.left_open = {gauge: scrape.total(gauge) for gauge in GAUGES}
            self._seen.descriptors_after = descriptors(relay.pid)
            if not any(self._seen.left_open.values()) and (
                self._seen.descriptors_after <= self._seen.descriptors_before
            ):
                return
            self._pause.wait(0.5)

    def _look(self, relay: Watched, site: Site, url: str) -> None:
        """The last scrape, once the relay has accounted all that the clients did, and the upstream's own counts."""
        seen = self._seen
        wanted = sum(_sum(self._told.values()).ends.values())
        end = time.monotonic() + WITHIN
        while relay.running():
            scrape = self._scrape()
            ends = scrape.by("openai_relay_exchanges_ended_total", "end")
            if sum(ends.values()) == wanted == sum(self._lines.ends.values()) or time.monotonic() > end:
                seen.books = [Books("the relay's metrics", dict(ends))]
                seen.requests = int(scrape.total("openai_relay_requests_total"))
                seen.lines_dropped = int(scrape.total("openai_relay_log_lines_dropped_total"))
                seen.counted_handshakes = dict(scrape.by("openai_relay_tls_handshakes_total", "result"))
                break
            self._pause.wait(0.2)
        context = ssl.create_default_context(cafile=str(site.upstream_ca))
        asking = HTTPSConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=WITHIN, context=context)
        try:
            asking.request("GET", "/standin/stats")
            counters = msgspec.json.decode(asking.getresponse().read(), type=Counters)
        finally:
            asking.close()
        seen.upstream_open, seen.upstream_wrong_keys = counters.open, counters.keys_wrong

    def _close_books(self, site: Site) -> None:
        """All who count exchanges, in one list, for the verdict."""
        seen, done = self._seen, _sum(self._told.values())
        seen.books = [
            Books("the clients", done.ends),
            Books("the access log", dict(self._lines.ends)),
            Books("the ledger", dict(stored(site.file("state") / "ledger.sqlite3", _ENDINGS))),
            *seen.books,
        ]
        seen.kinds, seen.handshakes = done.kinds, done.handshakes
        seen.failures, seen.told = done.failures, done.told
        seen.stale_asked, seen.stale_met = done.stale_asked, done.stale_met
        seen.lines_unreadable = self._lines.unreadable
        seen.complained, seen.complaints = self._log.complained, self._log.complaints
        if self._memory.kept:
            seen.rss_first, seen.rss_last = self._memory.drift()


def _sum(all_told: Iterable[Told]) -> Told:
    kinds: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    handshakes: Counter[str] = Counter()
    total = Told(told=[])
    for each in list(all_told):
        kinds.update(each.kinds)
        ends.update(each.ends)
        handshakes.update(each.handshakes)
        total.stale_asked += each.stale_asked
        total.stale_met += each.stale_met
        total.failures += each.failures
        total.told = (total.told + each.told)[:20]
    total.kinds, total.ends, total.handshakes = dict(kinds), dict(ends), dict(handshakes)
    return total


def report(seen: Observed, wrong: list[str]) -> str:
    """The whole of it as JSON."""
    told = msgspec.to_builtins(seen) | {"passed": not wrong, "findings": wrong}
    return json.dumps(told, indent=2) + "\n"
