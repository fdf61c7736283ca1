"""HTTP/1.1, the server's side: makes a connection for each client, and ends them all."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory

from openai_relay.http1.patience import ServerLimits
from openai_relay.http1.request import Request
from openai_relay.http1.server_connection import ServerConnection
from openai_relay.http1.sweep import Sweep


class HTTPServerFactory(Factory):
    """
    Serves requests: calls ``serve`` with each.

    :param max_connections: one more takes the place of the oldest whose handshake is not done; without
        such a one it is closed as it comes.
    """

    noisy = False

    def __init__(
        self,
        serve: Callable[[Request], None],
        clock: IReactorTime,
        limits: ServerLimits | None = None,
        max_connections: int | None = None,
        sweep_interval: float = 0.5,
    ) -> None:
        self._serve = serve
        self._limits = limits or ServerLimits()
        self._sweep = Sweep(clock, sweep_interval)
        self._max_connections = max_connections
        self.connections: set[ServerConnection] = set()
        self._strangers: dict[ServerConnection, None] = {}  # in the order in which they came
        #: Told of each finished TLS handshake: the connection, and why it was refused.
        self.on_handshake: Callable[[ServerConnection, Exception | None], None] | None = None
        self.on_lost: Callable[[ServerConnection], None] | None = None
        self._emptied: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> ServerConnection | None:
        """One more connection, or ``None`` when there are too many: it is closed at once."""
        if self._max_connections is not None and len(self.connections) >= self._max_connections:
            # Whoever has shown no certificate yet gives way: nobody unknown can keep the others out.
            stranger = next(iter(self._strangers), None)
            if stranger is None:
                return None
            del self._strangers[stranger]
            stranger.abort()
        connection = ServerConnection(self._serve, self._limits, self._sweep)
        connection.factory = self
        self.connections.add(connection)
        return connection

    def renew(self, limits: ServerLimits, max_connections: int | None) -> None:
        """Hold new connections to other limits."""
        self._limits = limits
        self._max_connections = max_connections

    def handshake_begun(self, connection: ServerConnection) -> None:
        """A connection's TLS handshake is awaited."""
        self._strangers[connection] = None

    def handshake_done(self, connection: ServerConnection, error: Exception | None) -> None:
        """A connection's TLS handshake ended."""
        if error is None:
            self._strangers.pop(connection, None)
        if self.on_handshake is not None:
            self.on_handshake(connection, error)

    def drain(self) -> None:
        """Close each connection when it is idle, or has become so; who has only just come may still ask, once."""
        for connection in list(self.connections):
            connection.drain()

    @property
    def newcomers(self) -> int:
        """How many connections were accepted, and have asked nothing yet."""
        return sum(connection.is_new for connection in self.connections)

    def close(self) -> Deferred[None]:
        """Reset whatever is still open, give what is closing already a last moment; fires when nothing is."""
        if self._emptied is None:
            self._emptied = Deferred()
        for connection in list(self.connections):
            connection.end()
        self._look_if_empty()
        return self._emptied

    def _look_if_empty(self) -> None:
        if self._emptied is not None and not self.connections and not self._emptied.called:
            self._emptied.callback(None)

    def connection_lost(self, connection: ServerConnection) -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        self._strangers.pop(connection, None)
        self._look_if_empty()
        if self.on_lost is not None:
            self.on_lost(connection)


__all__ = ["HTTPServerFactory", "Request", "ServerConnection", "ServerLimits"]
