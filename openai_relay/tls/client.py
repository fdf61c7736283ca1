"""Connections that we make: a reactor, as endpoints see it, whose transports speak TLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet import interfaces, tcp
from twisted.python.failure import Failure
from zope.interface import implementer

from openai_relay.tls.transport import Authenticate, TLSTransport
from openai_relay.turn import Turn


class TLSClient(TLSTransport, tcp.Client):
    """One connection to the upstream; made by `TLSConnector`."""

    def _connectDone(self) -> None:
        connector: TLSConnector = self.connector
        connection = SSL.Connection(connector.tls_context, None)
        connection.set_connect_state()
        connector.prepare(connection)
        self._authenticate = connector.verify
        self._start_tls(connection, connector.turn)
        tcp.Client._connectDone(self)
        if self.connected and not self.disconnecting:
            self._handshake()

    def _hang_up(self, error: Exception) -> None:
        """The upstream is not who it should be: it is owed nothing, and whoever waits is told at once."""
        self.stopReading()
        self.reactor.callLater(0, self._drop, error)

    def _drop(self, error: Exception) -> None:
        if self.connected:
            self.connectionLost(Failure(error))


class TLSConnector(tcp.Connector):
    """A TCP connector that makes `TLSClient` transports."""

    tls_context: SSL.Context
    turn: Turn
    prepare: Callable[[SSL.Connection], None]
    verify: Authenticate

    def _makeTransport(self) -> TLSClient:
        return TLSClient(self.host, self.port, self.bindAddress, self, self.reactor)


@implementer(interfaces.IReactorTCP, interfaces.IReactorTime, interfaces.IReactorPluggableNameResolver)
class TLSReactor:
    """
    The reactor as an endpoint sees it, with TLS in each connection it makes.

    `HostnameEndpoint` over this resolves and races addresses as ever, and what
    it connects is already a TLS transport.

    :ivar context: for the connections that are made from now on.
    :ivar prepare: called with each new pyOpenSSL connection before its handshake (SNI).
    :ivar verify: called after the handshake; raises to refuse the peer.
    """

    def __init__(self, reactor: Any, context: SSL.Context, prepare: Authenticate, verify: Authenticate) -> None:
        self._reactor, self.context = reactor, context
        self._prepare, self._verify = prepare, verify
        self._turn = Turn(reactor)
        self.nameResolver, self.installNameResolver = reactor.nameResolver, reactor.installNameResolver
        self.callLater, self.getDelayedCalls = reactor.callLater, reactor.getDelayedCalls
        self.seconds, self.listenTCP = reactor.seconds, reactor.listenTCP

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> TLSConnector:
        """As the reactor's, but the transport speaks TLS."""
        connector = TLSConnector(host, port, factory, timeout, bindAddress, self._reactor)
        connector.tls_context, connector.turn = self.context, self._turn
        connector.prepare = self._prepare
        connector.verify = self._verify
        connector.connect()
        return connector
