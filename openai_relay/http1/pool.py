"""
The upstream's connections, kept alive and reused; an `IAgent` on top of them.

The agent belongs to one origin: what it is asked for elsewhere it refuses.  It
follows nothing, stores nothing, decodes nothing and retries nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from openai_relay.core.errors import UpstreamClosed
from openai_relay.http1.client import ClientConnection
from openai_relay.http1.fields import FieldLines, pairs_of
from openai_relay.http1.patience import ClientLimits
from openai_relay.http1.sweep import Sweep


class Pool(Factory):
    """
    Connections to one origin, reused last in, first out; the factory of their protocols.

    :param connect: connects a factory; fires with its protocol, whose TLS handshake may still run.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        connect: Callable[[Factory], Deferred[Any]],
        limits: ClientLimits | None = None,
        sweep_interval: float = 0.5,
    ) -> None:
        self._clock = clock
        self._connect = connect
        self._limits = limits or ClientLimits()
        self._sweep = Sweep(clock, sweep_interval)
        self._idle: dict[ClientConnection, None] = {}
        self._all: set[ClientConnection] = set()
        self._old: set[ClientConnection] = set()  # not to be used again
        self._renewals = 0
        self._closed = False
        self._retired = False  # nothing will be asked any more but what is on its way here
        self._emptied: Deferred[None] | None = None

    @property
    def idle(self) -> int:
        """How many connections wait for a request."""
        return len(self._idle)

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._all)

    def buildProtocol(self, addr: IAddress | None) -> ClientConnection:
        """One more connection."""
        return ClientConnection(self._limits, self._free)

    def take(self) -> ClientConnection | None:
        """The idle connection that was used last, if there is one."""
        while self._idle:
            connection = self._idle.popitem()[0]
            if not connection.lost:
                return connection
        return None

    def connect(self) -> Deferred[ClientConnection]:
        """
        A new connection, its handshake done.

        Fails with `twisted.internet.defer.TimeoutError` after the connect time-out, else with what
        connecting or the handshake failed with.
        """
        return Deferred.fromCoroutine(self._open()).addTimeout(self._limits.connect_timeout, self._clock)

    async def _open(self) -> ClientConnection:
        renewals = self._renewals
        connection: ClientConnection = await self._connect(self)
        # Endpoints put a wrapper between; nothing shall stand in the way of each block.
        connection.transport.protocol = connection
        if not connection.lost:
            self._all.add(connection)
            if renewals != self._renewals:
                self._old.add(connection)
        if self._closed:
            connection.abandon()
        await connection.ready
        if connection.lost:
            raise UpstreamClosed("closed before anything could be asked")
        self._sweep.add(connection)
        return connection

    def _free(self, connection: ClientConnection) -> None:
        if connection.lost:
            self._all.discard(connection)
            self._old.discard(connection)
            self._sweep.discard(connection)
            self._idle.pop(connection, None)
            self._look_if_empty()
        elif self._closed or self._retired or connection in self._old or len(self._idle) >= self._limits.max_idle:
            connection.abandon()
        else:
            self._idle[connection] = None

    def close_idle(self) -> None:
        """Close the connections that wait for a request."""
        for connection in list(self._idle):
            connection.abandon()

    def renew(self) -> None:
        """Use none of the present connections again: the idle ones close now, each other after its exchange."""
        self._renewals += 1
        self._old |= self._all
        self.close_idle()

    def retire(self) -> None:
        """As ``renew``, for connections that are still to come, too: each serves what it was made for, and closes."""
        self._retired = True
        self.close_idle()

    def close(self) -> Deferred[None]:
        """Reset every connection; fires when there is none."""
        self._closed = True
        if self._emptied is None:
            self._emptied = Deferred()
        for connection in list(self._all):
            connection.transport.abortConnection()  # what runs on it is told when it is lost
        self._look_if_empty()
        return self._emptied

    def _look_if_empty(self) -> None:
        if self._emptied is not None and not self._all and not self._emptied.called:
            self._emptied.callback(None)


@implementer(IAgent)
class Agent:
    """
    Sends requests to one origin over a `Pool`.

    :param origin: ``https://host[:port]``, without a path.
    """

    def __init__(self, origin: bytes, pool: Pool) -> None:
        self.origin = origin
        self.pool = pool

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        """
        Send a request (`IAgent`).

        A body producer that has ``send_interim`` is told of interim answers; one with an ``upgrade`` may be
        answered with 101.  Fails with `ValueError` if the URI is of another origin.
        """
        target = uri[len(self.origin) :]
        if not uri.startswith(self.origin) or target[:1] not in (b"/", b"*"):
            return fail(ValueError("this agent sends to its own origin only"))
        fields = headers.pairs if isinstance(headers, FieldLines) else pairs_of(headers)
        interim = getattr(bodyProducer, "send_interim", None)
        upgrades = getattr(bodyProducer, "upgrade", None) is not None
        body = None if bodyProducer is None or bodyProducer.length == 0 else bodyProducer
        connection = self.pool.take()
        if connection is not None:
            return connection.request(method, target, fields, body, interim, upgrades)  # type: ignore[return-value]
        return self.pool.connect().addCallback(lambda new: new.request(method, target, fields, body, interim, upgrades))


__all__ = ["Agent", "Pool"]
