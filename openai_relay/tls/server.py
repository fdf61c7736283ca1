"""Accepted connections: a TCP port whose transports speak TLS."""

from __future__ import annotations

import socket as sockets
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet import tcp
from twisted.internet.interfaces import IProtocolFactory

from openai_relay.tls.transport import TLSTransport
from openai_relay.turn import Turn


class TLSServer(TLSTransport, tcp.Server):
    """One accepted connection; made by `TLSPort`."""

    def __init__(self, sock: Any, protocol: Any, client: Any, server: TLSPort, sessionno: int, reactor: Any) -> None:
        tcp.Server.__init__(self, sock, protocol, client, server, sessionno, reactor)
        connection = SSL.Connection(server.context(), None)
        connection.set_accept_state()
        self._start_tls(connection, server.turn)


class TLSPort(tcp.Port):
    """
    A listening TCP port whose connections speak TLS.

    ``context`` is asked for each new connection, so that a reload is a swap.
    """

    transport = TLSServer  # type: ignore[assignment]
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
        tcp.Port.__init__(self, port, factory, backlog, interface, reactor)  # type: ignore[arg-type]

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
