"""``StandIn``: the stand-in as a Twisted service; listens, counts connections, and ends with all of them closed."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from openai_relay.http1.server import HTTPServerFactory, ServerConnection, ServerLimits
from openai_relay.standin.counters import Counters
from openai_relay.standin.server import Exchanges, StandInOptions
from openai_relay.tls.server import TLSPort

BACKLOG: Final = 1_024
#: Requests are asked to take their time here, so the server's own patience has to be longer.
_LIMITS: Final = ServerLimits(idle_timeout=300.0, stall_timeout=3_600.0)


class CannotListen(Exception):
    """The stand-in cannot start; the message says why, and what to do."""


class StandInFactory(Factory):
    """Counts the connections of the HTTP server that it is in front of."""

    noisy = False

    def __init__(self, clock: Any, counters: Counters, options: StandInOptions) -> None:
        self.exchanges = Exchanges(clock, counters, options)
        self.http = HTTPServerFactory(self.exchanges.serve, clock, _LIMITS)
        self._counters = counters

    def buildProtocol(self, addr: IAddress | None) -> ServerConnection | None:
        """One more connection."""
        self._counters.connections += 1
        return self.http.buildProtocol(addr)


class StandIn(Service):
    """
    A server that answers like the OpenAI API.

    :ivar counters: what has reached it.
    """

    def __init__(
        self,
        reactor: Any,
        listen: str = "127.0.0.1:0",
        context: Callable[[], SSL.Context] | None = None,
        options: StandInOptions | None = None,
    ) -> None:
        """
        Make it; it listens once it is started.

        :param listen: ``host:port`` with an IP address; port 0 takes a free one.
        :param context: of TLS; without one the address must be a loopback one.
        :raises CannotListen: the address is not one.
        """
        self._reactor = reactor
        self._context = context
        self._host, self._wanted_port = parse_address(listen)
        if context is None and not ip_address(self._host).is_loopback:
            raise CannotListen(
                f"Without a certificate the stand-in listens on loopback only, not on {self._host}: "
                "use 127.0.0.1, or give --certificate and --key."
            )
        self.counters = Counters()
        self._factory = StandInFactory(reactor, self.counters, options or StandInOptions())
        self._port: Any = None

    @property
    def port(self) -> int:
        """Where it listens, once it is started."""
        return int(self._port.getHost().port)

    @property
    def url(self) -> str:
        """The root of the API, without ``/v1``."""
        scheme = "http" if self._context is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self.port}"

    def startService(self) -> None:
        """
        Listen.

        :raises twisted.internet.error.CannotListenError: the port is taken.
        """
        if self._context is None:
            self._port = self._reactor.listenTCP(self._wanted_port, self._factory, BACKLOG, self._host)
        else:
            port = TLSPort(self._wanted_port, self._factory, self._context, BACKLOG, self._host, self._reactor)
            port.startListening()
            self._port = port
        super().startService()

    async def _stop(self) -> None:
        await maybeDeferred(self._port.stopListening)
        http, exchanges = self._factory.http, self._factory.exchanges
        closed = exchanges.close_websockets()
        for connection in list(http.connections):
            if connection not in exchanges.conversing:
                connection.end()
        await closed
        await http.close()

    def stopService(self) -> Deferred[None]:
        """Stop listening, close WebSockets with 1001 and reset what else is open; fires when nothing is left."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())


def parse_address(listen: str) -> tuple[str, int]:
    """
    Split ``127.0.0.1:8080`` or ``[::1]:8080``.

    :raises CannotListen: it is not of that form.
    """
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    try:
        ip_address(host)
        number = int(port)
    except ValueError:
        number = -1
    if not 0 <= number <= 65_535 or not port.isascii():
        raise CannotListen(f"{listen!r} is not an address to listen on: give IP:PORT, such as 127.0.0.1:8080.")
    return host, number


def server_context(certificate: Path, key: Path) -> SSL.Context:
    """
    TLS 1.2 and up with a certificate chain and its key, both PEM; clients need no certificate here.

    :raises CannotListen: a file cannot be read or is not what it should be.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    for path, what, load in (
        (certificate, "certificate", lambda: context.use_certificate_chain_file(str(certificate))),
        (key, "key", lambda: context.use_privatekey_file(str(key))),
    ):
        try:
            path.read_bytes()
            load()
        except OSError as error:
            raise CannotListen(f"The {what} {path} cannot be read: {error.strerror}.") from error
        except SSL.Error as error:
            raise CannotListen(f"{path} is not a PEM file with a {what}, or does not fit the other file.") from error
    try:
        context.check_privatekey()
    except SSL.Error as error:
        raise CannotListen(f"The key {key} does not belong to the certificate {certificate}.") from error
    return context
