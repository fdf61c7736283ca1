"""Accepted connections: a TCP port whose transports speak TLS."""

from __future__ import annotations

import errno
import resource
import socket as sockets
from collections.abc import Callable
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet import tcp
from twisted.internet.interfaces import IDelayedCall, IProtocolFactory
from twisted.logger import Logger

from openai_relay.tls.transport import TLSTransport
from openai_relay.turn import Turn

#: Connections accepted at one go, before those that are open get their turn.
AT_ONCE: Final = 64
#: Seconds for which clients wait in the backlog when nothing is left to accept them with.
PAUSE: Final = 0.5
#: Seconds between two complaints about that.
COMPLAINTS_APART: Final = 60.0

#: Nothing is left: descriptors of this process or of the system, or memory of the kernel.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
#: This one client is gone already, or a filter does not let it in.
_PASSED_OVER: Final = frozenset({errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.EINTR})


class TLSServer(TLSTransport, tcp.Server):
    """One accepted connection; made by `TLSPort`."""

    def __init__(
        self,
        sock: Any,
        protocol: Any,
        client: Any,
        server: TLSPort,
        sessionno: int,
        reactor: Any,
        connection: SSL.Connection | None = None,
    ) -> None:
        connection = connection or server.new_connection()
        tcp.Server.__init__(self, sock, protocol, client, server, sessionno, reactor)
        self._start_tls(connection, server.turn)


class TLSPort(tcp.Port):
    """
    A listening TCP port whose connections speak TLS.

    ``context`` is asked for each new connection, so that a reload is a swap.
    When descriptors are exhausted, clients wait in the backlog until some are
    free again; Twisted's own port would close them.
    """

    log = Logger()
    reactor: Any
    transport = TLSServer  # type: ignore[assignment]  # typed as the class of plain TCP
    _type = "TLS"

    def __init__(
        self,
        port: int | None,
        factory: IProtocolFactory,
        context: Callable[[], SSL.Context],
        backlog: int,
        interface: str,
        reactor: Any,
    ) -> None:
        self.context = context
        self.turn = Turn(reactor)
        self._resting: IDelayedCall | None = None
        self._complained = -COMPLAINTS_APART
        tcp.Port.__init__(self, port, factory, backlog, interface, reactor)  # type: ignore[arg-type]

    def new_connection(self) -> SSL.Connection:
        """The server's end of one more TLS connection, in the context in force."""
        connection = SSL.Connection(self.context(), None)
        connection.set_accept_state()
        return connection

    def doRead(self) -> None:
        """Accept who waits."""
        for _ in range(AT_ONCE):
            try:
                sock, address = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _PASSED_OVER:
                    continue
                self._rest(error)
                return
            try:
                self._accepted(sock, address)
            except Exception:  # noqa: BLE001 - one connection's failure must not close the port
                sock.close()
                self.log.failure("bug in accepting a connection")

    def _accepted(self, sock: sockets.socket, address: Any) -> None:
        if len(address) == 4:  # IPv6: with the scope, where there is one
            named = sockets.getnameinfo(address, sockets.NI_NUMERICHOST | sockets.NI_NUMERICSERV)
            address = (named[0], *address[1:])
        assert self.factory is not None
        connection = self.new_connection()  # first: from here on nothing fails that would leave the protocol behind
        protocol = self.factory.buildProtocol(self._buildAddr(address))
        if protocol is None:
            sock.close()
            return
        self.sessionno += 1
        protocol.makeConnection(TLSServer(sock, protocol, address, self, self.sessionno, self.reactor, connection))

    def _rest(self, error: OSError) -> None:
        """Accept nobody for a moment: to try again at once would only burn time."""
        self.stopReading()
        self._resting = self.reactor.callLater(PAUSE, self._rested)
        now = self.reactor.seconds()
        if now - self._complained < COMPLAINTS_APART:
            return
        self._complained = now
        if error.errno in _EXHAUSTED:
            self.log.warn(
                "new clients have to wait: {reason}. Raise the limit of {limit} open files (LimitNOFILE= of the unit, "
                "or ulimit -n), or lower listen.max_connections.",
                reason=error.strerror,
                limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            )
        else:
            self.log.error("new clients have to wait: {reason}", reason=error.strerror)

    def _rested(self) -> None:
        self._resting = None
        self.startReading()

    def connectionLost(self, reason: Any) -> None:
        """The port is closed."""
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        super().connectionLost(reason)

    @classmethod
    def adopt(
        cls, descriptor: int, factory: IProtocolFactory, context: Callable[[], SSL.Context], reactor: Any
    ) -> TLSPort:
        """
        Listen on a socket that somebody else opened, such as systemd.

        :raises ValueError: it does not listen for TCP connections.
        """
        with sockets.socket(fileno=sockets.dup(descriptor)) as probe:
            family = probe.family
            is_tcp = family in (sockets.AF_INET, sockets.AF_INET6) and probe.type == sockets.SOCK_STREAM
            if not is_tcp or not probe.getsockopt(sockets.SOL_SOCKET, sockets.SO_ACCEPTCONN):
                raise ValueError(
                    "the socket that was passed does not listen for TCP connections: "
                    "its unit needs ListenStream= with a port, and no Accept=yes"
                )
            interface = probe.getsockname()[0]
        self = cls(None, factory, context, 0, interface, reactor)
        self._preexistingSocket = sockets.fromfd(descriptor, family, sockets.SOCK_STREAM)
        self._preexistingSocket.setblocking(False)
        return self
