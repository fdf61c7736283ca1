"""
Wiring: builds every object once, and owns the order of start and stop.

What can be wrong with files is found while building, before anything listens.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import twisted
from OpenSSL import SSL
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from openai_relay.access_log import AccessLog, LineWriter
from openai_relay.accounting.account import Accounting
from openai_relay.accounting.place import BadState
from openai_relay.admin.event_loop import EventLoopLag
from openai_relay.admin.site import admin_site
from openai_relay.core.errors import RelayError, TooManyConnections, Unauthenticated
from openai_relay.core.exchange import Exchange
from openai_relay.core.identity import Identity
from openai_relay.core.log_line import resolve
from openai_relay.core.paths import PathPolicy
from openai_relay.core.readiness import Check
from openai_relay.core.settings import Settings
from openai_relay.core.tally import Histogram, Tally
from openai_relay.http1.server import HTTPServerFactory, ServerConnection, ServerLimits
from openai_relay.listener import Listener
from openai_relay.metrics import Build, Metrics, Readings, budget_standings
from openai_relay.relay import Relay
from openai_relay.systemd import Notifier, current_pid, passed_socket
from openai_relay.tls.accepting import load, why_refused
from openai_relay.tls.files import BadCertificateFile
from openai_relay.tls.server import TLSPort
from openai_relay.upstream import BadUpstream, Upstream

#: Seconds that running exchanges get to finish when the service stops.
DRAIN_TIMEOUT = 30.0
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
        self._tally = tally
        self._log = log
        self._accounting = accounting

    def closed(self, exchange: Exchange) -> None:
        """Count it, and write its row and its line."""
        self._tally.exchange_closed(exchange)
        self._accounting.record(exchange)
        self._log.record(exchange)


class RelayService(MultiService):
    """
    The relay as a Twisted service: listens when started, drains when stopped.

    :ivar address: where clients connect, as ``host:port``, once it is started.
    """

    log = Logger()

    def __init__(self, reactor: Any, settings: Settings) -> None:
        super().__init__()
        self._reactor = reactor
        self._settings = settings
        try:
            loaded = load(settings.listen)
            self._upstream = Upstream(reactor, settings.upstream)
            self._accounting = Accounting(reactor, settings)
        except (BadCertificateFile, BadUpstream, BadState) as error:
            raise CannotServe(str(error)) from None
        self._listener = Listener(settings, loaded, time.time)
        self._tally = Tally(self._upstream.name)
        self._writer = LineWriter(_STDOUT)
        log_format = resolve(settings.log.format, terminal=os.isatty(_STDERR))
        log = AccessLog(self._writer.write, log_format, time.time_ns)
        self.relay = Relay(
            self._listener,
            PathPolicy(settings.upstream.allow_paths, settings.upstream.deny_paths),
            self._accounting.admission,
            self._accounting.me,
            self._upstream,
            settings.websocket,
            _Account(self._tally, log, self._accounting),
            time.monotonic_ns,
            _request_ids(),
        )
        self._factory = _server(reactor, self.relay, settings)
        self._factory.on_handshake = self._handshake_done
        self._factory.on_lost = self._connection_lost
        self._notifier = Notifier(reactor, os.environ, current_pid())
        self._lag = EventLoopLag(reactor, time.monotonic_ns)
        self._metrics = Metrics(self._tally, _build())
        ledger = self._accounting.ledger
        self._metrics.watch(
            Readings(
                connections=lambda: len(self._factory.connections),
                upstream_busy=lambda: self._upstream.pool.open - self._upstream.pool.idle,
                upstream_idle=lambda: self._upstream.pool.idle,
                server_certificate_expiry=lambda: self._listener.loaded.certificate_expiry,
                crl_next_update=lambda: self._listener.loaded.crl_next_update,
                event_loop_lag=self._lag.seconds,
                log_lines_dropped=lambda: self._writer.dropped,
                requests_waiting=lambda: len(self._accounting.lines),
                leases=lambda: self._accounting.limiter.open,
                shadow_refusals=lambda: self._accounting.limiter.overlooked,
                budgets=lambda: budget_standings(self._tally, self._accounting.policies, self._accounting.budgets),
                ledger_rows_written=None if ledger is None else lambda: ledger.written,
                ledger_rows_waiting=None if ledger is None else lambda: ledger.waiting,
                ledger_rows_lost=None if ledger is None else lambda: ledger.lost,
            )
        )
        self._refusal_told = float("-inf")
        self._clients_port: IListeningPort | None = None
        self._admin_port: IListeningPort | None = None
        self.address = ""
        self.admin_address = ""

    def privilegedStartService(self) -> None:
        """Listen; as the user that may bind low ports."""
        self._listen()
        super().privilegedStartService()

    def startService(self) -> None:
        """Serve."""
        if self._clients_port is None:
            self._listen()
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
        self._notifier.ready(f"serving on {self.address}")
        self.log.info(
            "serving on {address}, forwarding to {upstream}; health and metrics: {admin}",
            address=self.address,
            upstream=self._settings.upstream.url,
            admin=self.admin_address or "off",
        )
        for warning in self._listener.loaded.warnings:
            self.log.warn("{warning}", warning=warning)

    def stopService(self) -> Deferred[Any]:
        """Stop accepting, let running exchanges finish for a while, then end them."""
        self._notifier.stopping("finishing exchanges")
        self.log.info(
            "stopping: {running} exchanges get {grace:g} s to finish", running=self.relay.running, grace=DRAIN_TIMEOUT
        )
        stopped: list[Deferred[Any]] = [Deferred.fromCoroutine(self._stop())]
        below = super().stopService()
        if below is not None:
            stopped.append(below)
        return DeferredList(stopped)

    async def _stop(self) -> None:
        await self._close(self._clients_port)
        drained = self.relay.drain()
        self._factory.drain()
        timer = self._reactor.callLater(DRAIN_TIMEOUT, self.relay.end_all)
        await drained
        if timer.active():
            timer.cancel()
        await self._factory.close()
        await self._upstream.close()
        await self._close(self._admin_port)  # last: until here it tells that the relay is stopping
        self._lag.stop()
        self._notifier.stop()
        self._accounting.stop()
        self._writer.stop()
        self.log.info("stopped")

    async def _close(self, port: IListeningPort | None) -> None:
        stopping = None if port is None else port.stopListening()
        if stopping is not None:
            await stopping

    def _listen(self) -> None:
        settings = self._settings
        try:
            self.address = self._open_clients_port(settings.listen.address, settings.listen.backlog)
            if settings.admin.address is not None:
                self.admin_address = self._open_admin_port(settings.admin.address)
        except CannotListenError as error:
            reason = getattr(error.socketError, "strerror", None) or error.socketError
            raise SystemExit(
                f"openai-relay: cannot listen on {_join(error.interface, error.port)}: {reason}; "
                "is another one running there? Choose another address in [listen] or [admin]."
            ) from None
        except (LookupError, ValueError) as error:
            raise SystemExit(f"openai-relay: listen.address = {settings.listen.address!r}: {error}") from None

    def _open_clients_port(self, address: str, backlog: int) -> str:
        scheme, _, name = address.partition(":")
        if scheme == "systemd":
            descriptor = passed_socket(self._reactor, name)
            port = TLSPort.adopt(descriptor, self._factory, self._listener.context, self._reactor)
        else:
            host, number = _split(address)
            port = TLSPort(number, self._factory, self._listener.context, backlog, host, self._reactor)
        port.startListening()
        self._clients_port = port
        where = port.getHost()
        return _join(where.host, where.port)

    def _open_admin_port(self, address: str) -> str:
        reactor = self._reactor
        host, number = _split(address)
        site = admin_site(
            self._reactor, self._metrics, self._readiness, partial(deferToThreadPool, reactor, reactor.getThreadPool())
        )
        port = reactor.listenTCP(number, site, interface=host)
        self._admin_port = port
        where = port.getHost()
        return _join(where.host, where.port)

    def _readiness(self) -> list[Check]:
        now = time.time()
        crl_until, certificate_until = self._listener.loaded.crl_next_update, self._listener.loaded.certificate_expiry
        return [
            _check("started", bool(self.running) or self.relay.draining, "it does not listen yet"),
            _check("accepting", not self.relay.draining, "it is stopping: what runs may finish"),
            _check("crl", crl_until is None or crl_until > now, "the revocation list is out of date: nobody is let in"),
            _check("certificate", certificate_until > now, "the certificate that clients are shown has expired"),
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
        if isinstance(client, TooManyConnections) and not client.heard:
            connection.abort()

    def _connection_lost(self, connection: ServerConnection) -> None:
        client: Identity | RelayError | None = connection.client
        if isinstance(client, Identity | TooManyConnections):
            self._listener.left(client)
        elif client is None:  # it left, or was dropped, before its handshake came to an end
            self._tally.handshake_ended("failed")


def relay_service(reactor: Any, settings: Settings) -> RelayService:
    """
    The relay, built and not yet listening.

    :raises CannotServe: a certificate, key, CA or CRL file cannot be used.
    """
    return RelayService(reactor, settings)


def _server(reactor: Any, relay: Relay, settings: Settings) -> HTTPServerFactory:
    listen = settings.listen
    limits = ServerLimits(
        listen.handshake_timeout,
        listen.head_timeout,
        listen.idle_timeout,
        listen.stall_timeout,
        listen.max_head,
        listen.max_fields,
    )
    return HTTPServerFactory(relay, reactor, limits, listen.max_connections)


def _check(name: str, ok: bool, otherwise: str) -> Check:
    return Check(name, ok, "" if ok else otherwise)


def _request_ids() -> Callable[[], str]:
    """Identifiers that no other process gives out, and that cost a counter."""
    prefix = os.urandom(9).hex()
    count = 0

    def new() -> str:
        nonlocal count
        count += 1
        return f"rly_{prefix}{count:08x}"

    return new


def _build() -> Build:
    try:
        own = version("openai-relay")
    except PackageNotFoundError:
        own = "unknown"
    return Build(own, twisted.__version__, SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode("ascii"))


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
