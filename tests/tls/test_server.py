"""Accepted connections: what a port hands to each. How they shake hands and read stands with the transport."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from openai_relay.tls.server import AT_ONCE, COMPLAINTS_APART, PAUSE, TLSPort, TLSServer
from tests.doubles import MemorySocket, Recorder, observe
from tests.tls.test_transport import TransportCase, server_context


class PortTests(TransportCase):
    def test_context_for_each_connection(self) -> None:
        """Each new connection asks for the context in force, so that a reload is a swap."""
        contexts = [server_context(), server_context()]
        port = TLSPort(0, Factory(), iter(contexts).__next__, 50, "127.0.0.1", self.reactor)
        sockets: list[Any] = [MemorySocket(), MemorySocket()]
        used = [
            TLSServer(sock, Recorder(), ("192.0.2.7", 1), port, 0, self.reactor).tls.get_context() for sock in sockets
        ]
        self.assertEqual(used, contexts)


class Backlog:
    """A listening socket: gives what it is told to, then says that nobody waits."""

    def __init__(self, arrivals: list[Any]) -> None:
        self.arrivals = arrivals
        self.accepted: list[MemorySocket] = []

    def accept(self) -> tuple[MemorySocket, Any]:
        if not self.arrivals:
            raise BlockingIOError(errno.EAGAIN, "nobody waits")
        arrival = self.arrivals.pop(0)
        if isinstance(arrival, Exception):
            raise arrival
        self.accepted.append(MemorySocket())
        return self.accepted[-1], arrival

    def fileno(self) -> int:
        return 1_000


class Recorders(Factory):
    """Makes a protocol for each connection, as long as there is room."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.made: list[Recorder] = []

    def buildProtocol(self, addr: Any) -> Any:
        if len(self.made) >= self.room:
            return None
        self.made.append(Recorder())
        return self.made[-1]


V4: Any = ("192.0.2.7", 40_000)
V6: Any = ("2001:db8::1", 40_000, 0, 0)


class AcceptingTests(TransportCase):
    """What a port does with those who knock."""

    def knocked(
        self, *arrivals: Any, room: int = 1_000, interface: str = "127.0.0.1"
    ) -> tuple[Backlog, TLSPort, Recorders]:
        factory = Recorders(room)
        port = TLSPort(0, factory, server_context, 50, interface, self.reactor)
        backlog = Backlog(list(arrivals))
        port.socket = backlog
        port.connected = True
        port.startReading()
        port.doRead()
        return backlog, port, factory

    def reading(self, port: TLSPort) -> bool:
        return port in self.reactor.getReaders()

    def test_all_who_wait(self) -> None:
        """All who wait are accepted, by IPv4 or IPv6, each with its address."""
        for interface, address in (("127.0.0.1", V4), ("::1", V6)):
            _, _, factory = self.knocked(address, address, interface=interface)
            peers: list[Any] = [protocol.transport for protocol in factory.made]
            self.assertEqual([peer.getPeer().host for peer in peers], [address[0]] * 2)

    def test_not_all_at_once(self) -> None:
        """Those who are connected get their turn before the next ones are accepted."""
        backlog, _, factory = self.knocked(*[V4] * (AT_ONCE + 5))
        self.assertEqual((len(factory.made), len(backlog.arrivals)), (AT_ONCE, 5))

    def test_turned_away(self) -> None:
        """Who is not wanted is closed."""
        backlog, _, _ = self.knocked(V4, V4, room=1)
        self.assertEqual([sock.closed for sock in backlog.accepted], [False, True])

    def test_gone_already(self) -> None:
        """One who has left while it waited does not keep the others out."""
        _, port, factory = self.knocked(ConnectionAbortedError(errno.ECONNABORTED, "gone"), V4)
        self.assertEqual((len(factory.made), self.reading(port)), (1, True))

    def test_exhausted(self) -> None:
        """With no descriptor left, clients wait in the backlog; the operator is told, now and then, what to raise."""
        events = observe(self)
        none_left = OSError(errno.EMFILE, "Too many open files")
        backlog, port, factory = self.knocked(V4, none_left, none_left, V4)
        self.assertEqual((len(factory.made), self.reading(port)), (1, False))
        self.reactor.advance(PAUSE)
        self.assertTrue(self.reading(port))
        port.doRead()
        self.reactor.advance(PAUSE)
        port.doRead()
        self.assertEqual((len(factory.made), backlog.arrivals), (2, []))
        (told,) = [event for event in events if event["log_level"] is LogLevel.warn]
        self.assertIn("LimitNOFILE", told["log_format"])
        self.assertGreater(told["limit"], 0)
        self.reactor.advance(COMPLAINTS_APART)
        backlog.arrivals.append(none_left)
        port.doRead()
        self.assertEqual(len([event for event in events if event["log_level"] is LogLevel.warn]), 2)

    def test_closed_while_it_rests(self) -> None:
        """A port that is closed meanwhile stays closed."""
        _, port, _ = self.knocked(OSError(errno.ENFILE, "Too many open files in system"))
        port.socket = MemorySocket()
        port.fileno = lambda: 1_000  # type: ignore[method-assign]
        port.connectionLost(Failure(ConnectionDone()))
        self.reactor.advance(2 * PAUSE)
        self.assertFalse(self.reading(port))

    def test_what_nobody_foresaw(self) -> None:
        """Another error is told as one, and does not close the port either."""
        events = observe(self)
        _, port, _ = self.knocked(OSError(errno.EINVAL, "Invalid argument"))
        self.assertEqual([event["log_level"] for event in events], [LogLevel.error])
        self.reactor.advance(PAUSE)
        self.assertTrue(self.reading(port))

    def test_bug(self) -> None:
        """A connection that cannot be set up is closed, and the next one is served."""
        observe(self)
        contexts: Iterator[Any] = iter([None, server_context()])
        factory = Recorders(2)
        port = TLSPort(0, factory, contexts.__next__, 50, "127.0.0.1", self.reactor)
        backlog = Backlog([V4, V4])
        port.socket = backlog
        port.doRead()
        self.assertEqual([sock.closed for sock in backlog.accepted], [True, False])
        self.assertEqual(len(factory.made), 1)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
