"""
Wiring: builds every object once, and owns the order of start, reload and stop.

What can be wrong with files is found while building, before anything listens.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import twisted
from OpenSSL import SSL
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from openai_relay.access_log import AccessLog, LineWriter
from openai_relay.accounting.account import Accounting
from openai_relay.accounting.place import BadState
from openai_relay.admin.event_loop import EventLoopLag
from openai_relay.admin.site import admin_site
from openai_relay.authority.errors import AuthorityError
from openai_relay.core.errors import RelayError, TooManyConnections, Unauthenticated
from openai_relay.core.exchange import Exchange
from openai_relay.core.identity import Identity
from openai_relay.core.log_line import resolve
from openai_relay.core.paths import PathPolicy
from openai_relay.core.readiness import Check
from openai_relay.core.restart import NotReloaded
from openai_relay.core.settings import LogSettings, Settings
from openai_relay.core.standing import Refused
from openai_relay.core.tally import Histogram, Tally
from openai_relay.draining import Drain
from openai_relay.enrolment.door import EnrolmentDoor, load_door
from openai_relay.eviction import Eviction
from openai_relay.http1.server import HTTPServerFactory, ServerConnection, ServerLimits
from openai_relay.listener import Listener
from openai_relay.metrics import Build, Metrics, Readings, budget_standings
from openai_relay.overdue import Overdue
from openai_relay.ports import Ports
from openai_relay.relay import Relay, Ways
from openai_relay.reload import Built, Reload, Written
from openai_relay.request_ids import request_ids
from openai_relay.systemd import Notifier, current_pid
from openai_relay.tls.accepting import load, why_refused
from openai_relay.tls.files import BadCertificateFile
from openai_relay.upstream import BadUpstream
from openai_relay.upstreams import Upstreams
from openai_relay.watching import FilesWatch, look

#: Seconds between two log lines about refused handshakes; the metrics count them all.
REFUSALS_APART = 1.0
#: By number: twistd puts objects of its own in the place of `sys.stdout`.
_STDOUT, _STDERR = 1, 2
_GC_THRESHOLD = 20_000


class CannotServe(Exception):
    """The configuration is well-formed but cannot be served; the message says what, where and what to do."""


class _Account:
    """Hands each exchange to whoever counts and writes."""

    def __init__(self, tally: Tally, log: AccessLog, accounting: Accounting) -> None:
        self.opened: Callable[[Exchange], None] = tally.exchange_opened
        self.event_gaps: Callable[[str], Histogram] = tally.event_gaps
        self.log = log
        self._tally = tally
        self._accounting = accounting

    def closed(self, exchange: Exchange) -> None:
        """Count it, and write its row and its line."""
        self._tally.exchange_closed(exchange)
        self._accounting.record(exchange)
        self.log.record(exchange)


class RelayService(MultiService):
    """
    The relay as a Twisted service: listens when started, drains when stopped.

    :param written: where the settings are from.
    :param read: reads that again.
    """

    log = Logger()

    def __init__(self, reactor: Any, settings: Settings, written: Written, read: Callable[[], Written]) -> None:
        super().__init__()
        self._reactor = reactor
        self._settings = settings
        looks = look(written.watched())
        try:
            loaded = load(settings.listen)
            self._upstreams = Upstreams(reactor, settings.upstream)
            self._accounting = Accounting(reactor, settings)
            self._tally = Tally(self._upstreams.current.name)
            self._door: EnrolmentDoor | None = None
            self._in_thread: Any = partial(_in_thread, reactor)
            if settings.enrol.address is not None:
                loaded_door = load_door(settings)
                self._door = EnrolmentDoor(reactor, settings, loaded_door, self._in_thread, self._tally.enrolled)
        except (BadCertificateFile, BadUpstream, BadState, AuthorityError) as error:
            raise CannotServe(str(error)) from None
        self._listener = Listener(settings, loaded, time.time)
        self._writer = LineWriter(_STDOUT)
        self._account = _Account(self._tally, self._access_log(settings.log), self._accounting)
        self.relay = Relay(
            self._listener,
            self._ways(settings),
            self._accounting.admission,
            self._accounting.me,
            self._account,
            time.monotonic_ns,
            request_ids("rly_"),
        )
        self._factory = HTTPServerFactory(self.relay, reactor, _limits(settings), settings.listen.max_connections)
        self._factory.on_handshake = self._handshake_done
        self._factory.on_lost = self._connection_lost
        self._eviction = Eviction(
            reactor,
            time.time,
            lambda: self._factory.connections,
            self._listener,
            self._accounting.admission,
            self.relay,
        )
        self._notifier = Notifier(reactor, os.environ, current_pid())
        self._reload = Reload(settings, written, read, self._in_thread, self._accounting.read_spent, self._adopt)
        self._watch = FilesWatch(
            reactor, looks, lambda: self._reload.written.watched(), self._in_thread, self._files_changed
        )
        self.addService(self._watch)
        self.addService(Overdue(reactor, time.time, self._in_force))
        self._lag = EventLoopLag(reactor, time.monotonic_ns)
        self._metrics = Metrics(self._tally, _build())
        self._metrics.watch(self._readings())
        site = admin_site(reactor, self._metrics, self._readiness, self._in_thread, self.reload)
        self.ports = Ports(reactor, self._factory, self._listener.context, site, self._door)
        self._drain: Drain | None = None
        self._refusal_told = float("-inf")

    @property
    def address(self) -> str:
        """Where clients connect, as ``host:port``, once it is started."""
        return self.ports.address

    @property
    def admin_address(self) -> str:
        """Where its health is asked for; empty: nowhere."""
        return self.ports.admin_address

    def privilegedStartService(self) -> None:
        """Listen; as the user that may bind low ports."""
        self.ports.open(self._settings)
        super().privilegedStartService()

    def startService(self) -> None:
        """Serve."""
        if not self.ports.is_open:
            self.ports.open(self._settings)
        super().startService()
        try:
            self._accounting.start()
        except BadState as error:
            raise SystemExit(f"openai-relay: state.directory: {error}") from None
        self._writer.start()
        self._lag.start()
        # What exists now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        # An exchange leaves next to no cycles, and makes enough objects to have a scan every tenth one.
        gc.set_threshold(_GC_THRESHOLD, 10, 10)
        self._ready()
        self.log.info(
            "serving on {address}, forwarding to {upstream}; health and metrics: {admin}{enrol}",
            address=self.ports.address,
            upstream=self._settings.upstream.url,
            admin=self.ports.admin_address or "off",
            enrol=f"; devices enrol at {self.ports.enrol_address}" if self.ports.enrol_address else "",
        )
        for warning in self._listener.loaded.warnings:
            self.log.warn("{warning}", warning=warning)

    def reload(self) -> Deferred[None]:
        """
        Read the configuration and all that it names again, and put it in force.

        Fails with `NotReloaded`: nothing has changed.
        """
        if self._drain is not None:
            return fail(NotReloaded(["the relay is stopping; start it again, and it reads everything anew"]))
        self._notifier.reloading(time.monotonic_ns())
        return self._reload.all().addBoth(self._reloaded)

    def hurry(self) -> None:
        """End at once what still runs, if the service is stopping."""
        if self._drain is not None:
            self._drain.hurry()

    def stopService(self) -> Deferred[Any]:
        """Stop accepting, let running exchanges finish for a while, then end them."""
        self._notifier.stopping("finishing exchanges")
        self._drain = Drain(
            self._reactor,
            time.monotonic_ns,
            self.relay,
            self._notifier,
            self._settings.listen.drain_timeout,
            lambda: self._factory.newcomers,
        )
        stopped: list[Deferred[Any]] = [Deferred.fromCoroutine(self._stop(self._drain))]
        below = super().stopService()
        if below is not None:
            stopped.append(below)
        return DeferredList(stopped)

    async def _stop(self, drain: Drain) -> None:
        await self.ports.close_clients()
        self._factory.drain()
        await drain.finish()
        await self._reload.finished()
        await self._factory.close()
        self._eviction.stop()
        await self._upstreams.close()
        await self.ports.close_admin()  # last: until here it tells that the relay is stopping
        self._lag.stop()
        self._notifier.stop()
        self._accounting.stop()
        self._writer.stop()
        self.log.info("stopped")

    def _ready(self) -> None:
        self._notifier.ready(f"serving on {self.ports.address}")

    def _reloaded(self, result: Any) -> Any:
        if self._drain is None:
            self._ready()
        return result

    def _files_changed(self, changed: list[Path]) -> None:
        if self._drain is None:
            self._reload.files(changed).addErrback(lambda failure: failure.trap(NotReloaded))  # told in the log

    def _adopt(self, built: Built) -> int:
        """Put it in force: first what may fail, then the rest at one go."""
        settings = built.settings
        self._upstreams.renew(settings.upstream, built.upstream_context, built.upstream_ca)
        self._settings = settings
        self._watch.know(built.looks)
        self._listener.renew(settings, built.loaded)
        if self._door is not None and built.door is not None:
            self._door.renew(settings, built.door)
        self._accounting.renew(settings, built.policies, built.spent)
        self._tally.upstream = self._upstreams.current.name
        self._account.log = self._access_log(settings.log)
        self._factory.renew(_limits(settings), settings.listen.max_connections)
        self.relay.ways = self._ways(settings)
        return self._eviction.hold_all()

    def _ways(self, settings: Settings) -> Ways:
        upstream = settings.upstream
        return Ways(PathPolicy(upstream.allow_paths, upstream.deny_paths), self._upstreams.current, settings.websocket)

    def _access_log(self, settings: LogSettings) -> AccessLog:
        return AccessLog(self._writer.write, resolve(settings.format, terminal=os.isatty(_STDERR)), time.time_ns)

    def _in_force(self) -> tuple[Any, bool]:
        return self._listener.loaded, self._settings.listen.crl_expired == "refuse"

    def _readings(self) -> Readings:
        accounting, ledger = self._accounting, self._accounting.ledger
        return Readings(
            connections=lambda: len(self._factory.connections),
            upstream_busy=lambda: self._upstreams.busy,
            upstream_idle=lambda: self._upstreams.idle,
            server_certificate_expiry=lambda: self._listener.loaded.certificate_expiry,
            crl_next_update=lambda: self._listener.loaded.crl_next_update,
            crl_this_update=lambda: self._listener.loaded.crl_this_update,
            event_loop_lag=self._lag.seconds,
            log_lines_dropped=lambda: self._writer.dropped,
            requests_waiting=lambda: len(accounting.lines),
            leases=lambda: accounting.limiter.open,
            shadow_refusals=lambda: accounting.limiter.overlooked,
            budgets=lambda: budget_standings(self._tally, accounting.policies, accounting.budgets),
            ledger_rows_written=None if ledger is None else lambda: ledger.written,
            ledger_rows_waiting=None if ledger is None else lambda: ledger.waiting,
            ledger_rows_lost=None if ledger is None else lambda: ledger.lost,
        )

    def _readiness(self) -> list[Check]:
        now = time.time()
        loaded, refuses = self._in_force()
        late = loaded.crl_next_update is not None and loaded.crl_next_update <= now
        what = "nobody is let in" if refuses else "it counts all the same"
        return [
            _check("started", bool(self.running) or self.relay.draining, "it does not listen yet"),
            _check("accepting", not self.relay.draining, "it is stopping: what runs may finish"),
            Check("crl", not (late and refuses), f"the revocation list is out of date: {what}" if late else ""),
            _check(
                "certificate", loaded.certificate_expiry > now, "the certificate that clients are shown has expired"
            ),
            *self._accounting.checks(),
        ]

    def _handshake_done(self, connection: ServerConnection, error: Exception | None) -> None:
        if error is not None:
            connection.client = Unauthenticated()
            self._tally.handshake_ended("refused")
            now = time.monotonic()
            told_lately = now - self._refusal_told < REFUSALS_APART
            self._refusal_told = self._refusal_told if told_lately else now
            (self.log.debug if told_lately else self.log.info)(
                "handshake refused for {host}: {reason}",
                host=connection.client_address,
                reason=why_refused(connection.transport.tls),
            )
            return
        self._tally.handshake_ended("ok")
        client = connection.client = self._listener.arrived(connection.transport.tls)
        if isinstance(client, Identity):
            self._eviction.arrived(client)
        elif isinstance(client, TooManyConnections) and not client.heard:
            connection.abort()

    def _connection_lost(self, connection: ServerConnection) -> None:
        client: Identity | Refused | RelayError | None = connection.client
        if isinstance(client, Identity | Refused | TooManyConnections):
            self._listener.left(client)
        elif client is None:  # it left, or was dropped, before its handshake came to an end
            self._tally.handshake_ended("failed")


class Settled:
    """Settings that are from nowhere: what is read again is what they name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def settings(self) -> Settings:
        """As they are."""
        return self._settings

    def watched(self) -> tuple[Path, ...]:
        """The files of certificates and revocation lists; the key was read before."""
        listen = self._settings.listen
        return tuple(path for path in (listen.certificate, listen.client_ca, listen.crl) if path is not None)


def relay_service(
    reactor: Any, settings: Settings, written: Written | None = None, read: Callable[[], Written] | None = None
) -> RelayService:
    """
    The relay, built and not yet listening.

    :param written: where the settings are from.
    :param read: reads that again, when the service is to reload.
    :raises CannotServe: a certificate, key, CA or CRL file cannot be used.
    """
    written = written or Settled(settings)
    return RelayService(reactor, settings, written, read or (lambda: written))


def _in_thread(reactor: Any, function: Callable[[], Any]) -> Deferred[Any]:
    return deferToThreadPool(reactor, reactor.getThreadPool(), function)


def _limits(settings: Settings) -> ServerLimits:
    listen = settings.listen
    return ServerLimits(
        listen.handshake_timeout,
        listen.head_timeout,
        listen.idle_timeout,
        listen.stall_timeout,
        listen.max_head,
        listen.max_fields,
    )


def _check(name: str, ok: bool, otherwise: str) -> Check:
    return Check(name, ok, "" if ok else otherwise)


def _build() -> Build:
    try:
        own = version("openai-relay")
    except PackageNotFoundError:
        own = "unknown"
    return Build(own, twisted.__version__, SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode("ascii"))
