"""
A relay in front of a stand-in, both in this process on the real reactor; clients are blocking, in threads.

For what only shows from within (counters, ends of connections) and for
certificates of every kind, which ``tests/certificates.py`` makes.
"""

from __future__ import annotations

import gc
import json
import shutil
import socket
import ssl
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.error import HTTPError

from OpenSSL import SSL
from twisted.internet import reactor as _installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.trial.unittest import TestCase

from openai_relay.core.settings import AdminSettings, LogSettings, Secret, Settings, UpstreamSettings
from openai_relay.service import RelayService, relay_service
from openai_relay.standin.server import StandInOptions
from openai_relay.standin.service import StandIn
from tests import certificates
from tests.certificates import Credential

reactor: Final[Any] = _installed
KEY: Final = b"sk-canary-of-the-relay"
#: A bound of every wait, in seconds, and no expectation.
WITHIN: Final = 60.0
UPSTREAM_CA: Final = "Upstream CA"

T = TypeVar("T")


def in_thread(function: Callable[..., T], *arguments: Any) -> Deferred[T]:
    """Call what blocks; the reactor goes on."""
    return deferToThreadPool(reactor, reactor.getThreadPool(), function, *arguments)


async def until(condition: Callable[[], object]) -> None:
    """Wait until this is true; fails when it does not become so."""
    for _ in range(round(WITHIN / 0.01)):
        if condition():
            return
        await deferLater(reactor, 0.01, lambda: None)
    raise AssertionError("waited in vain")


class InProcessCase(TestCase):
    """Starts services, and stops them with the test."""

    timeout = 2 * WITHIN

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        #: What each connection to an upstream called it (SNI).
        self.names_asked: list[bytes | None] = []
        #: Which protocols it offered (ALPN).
        self.protocols_offered: list[list[bytes]] = []
        # Starting a service tunes the collector for a process that does nothing else.
        self.addCleanup(gc.unfreeze)
        self.addCleanup(gc.set_threshold, *gc.get_threshold())

    def upstream(self, credential: Credential | None = None) -> StandIn:
        """A running stand-in, with a certificate of an authority of its own."""
        shown = credential or certificates.server(issuer=certificates.authority(UPSTREAM_CA))
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(shown.certificate)
        context.use_privatekey(shown.private_key)
        context.set_alpn_select_callback(self._agree)
        context.set_tlsext_servername_callback(lambda connection: self.names_asked.append(connection.get_servername()))
        standin = StandIn(reactor, "127.0.0.1:0", lambda: context, StandInOptions(expected_key=Secret(KEY)))
        standin.startService()
        self.addCleanup(standin.stopService)
        return standin

    def _agree(self, connection: SSL.Connection, offered: list[bytes]) -> bytes:
        self.protocols_offered.append(offered)
        return offered[0]

    def settings(self, standin: StandIn, **listen: Any) -> Settings:
        """What a relay in front of this needs; further settings of ``[listen]`` may be given."""
        upstream_ca = self.directory / "upstream-ca.pem"
        upstream_ca.write_bytes(certificates.authority(UPSTREAM_CA).pem)
        return Settings(
            certificates.listen_settings(self.directory, **listen),
            upstream=UpstreamSettings(
                url=f"https://localhost:{standin.port}", ca=upstream_ca, api_key=Secret(KEY), connect_timeout=WITHIN
            ),
            log=LogSettings("off"),
            admin=AdminSettings("127.0.0.1:0"),
        )

    def start(self, settings: Settings) -> RelayService:
        """A running relay."""
        service = relay_service(reactor, settings)
        self.addCleanup(self.stop, service)
        try:
            service.privilegedStartService()
        except SystemExit:
            self.addCleanup(service.stopService)  # one of two ports may be open
            raise
        service.startService()
        return service

    def stop(self, service: RelayService) -> Deferred[Any] | None:
        """Stop it, once."""
        if not service.running:
            return None
        return service.stopService()

    def client_tls(self, credential: Credential | None, *, chain: bool = True) -> ssl.SSLContext:
        """What a client connects with: a certificate, with or without its intermediates, or none."""
        context = ssl.create_default_context(cadata=certificates.authority().pem.decode())
        if credential is not None:
            context.load_cert_chain(*credential.write(Path(tempfile.mkdtemp(dir=self.directory)), "c", chain=chain))
        return context

    def connection(self, service: RelayService, credential: Credential | None = None) -> HTTPSConnection:
        """A client's connection, with the usual certificate unless another is given; made by its first request."""
        host, _, port = service.address.rpartition(":")
        tls = self.client_tls(credential or certificates.client())
        connection = HTTPSConnection(host.strip("[]"), int(port), timeout=WITHIN, context=tls)
        self.addCleanup(connection.close)
        return connection

    async def ask(
        self, service: RelayService, path: str = "/v1/models", credential: Credential | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of an answer, on a connection of its own."""
        connection = self.connection(service, credential)
        try:
            return await in_thread(get, connection, path)
        finally:
            connection.close()

    async def admin(self, service: RelayService, path: str) -> tuple[int, str]:
        """What the admin listener says."""
        return await in_thread(_fetch, f"http://{service.admin_address}{path}")

    async def metric(self, service: RelayService, series: str) -> float:
        """The value of one series; 0 when it is not there."""
        _, text = await self.admin(service, "/metrics")
        for line in text.splitlines():
            if line.startswith(f"{series} "):
                return float(line.rpartition(" ")[2])
        return 0.0


def get(connection: HTTPSConnection, path: str) -> tuple[int, Any]:
    """One request on a connection; status and JSON."""
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def bare(service: RelayService, receive_buffer: int | None = None) -> socket.socket:
    """A TCP connection on which nothing has been said."""
    connection = socket.socket()
    connection.settimeout(WITHIN)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    host, _, port = service.address.rpartition(":")
    connection.connect((host, int(port)))
    return connection


def without_admin(settings: Settings) -> Settings:
    """The same without an admin listener."""
    return replace(settings, admin=AdminSettings(None))


def _fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=WITHIN) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()
