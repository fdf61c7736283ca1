"""The factory: a bounded number of connections, drained and ended together."""

from __future__ import annotations

from openai_relay.http1.patience import LAST_MOMENT
from openai_relay.http1.server import HTTPServerFactory, ServerConnection
from tests.http1.serving import CLOSE, GET, LIMITS, ServerCase, answer, answered, get, post


class FactoryTests(ServerCase):
    def test_counts_connections(self) -> None:
        """A connection is known from its beginning to its end."""
        one, two = self.connect(), self.connect(handshaken=False)
        self.assertEqual(self.factory.connections, {one.protocol, two.protocol})
        one.leave()
        two.leave()
        self.assertEqual(self.factory.connections, set())

    def test_too_many(self) -> None:
        """More connections than allowed are turned away as they come; when one has gone there is room again."""
        factory = HTTPServerFactory(self.serve, self.turns, LIMITS, max_connections=2)
        self.factory = factory
        first, _ = self.connect(), self.connect()
        self.assertIsNone(factory.buildProtocol(None))
        first.leave()
        self.assertIsInstance(factory.buildProtocol(None), ServerConnection)
        self.assertIsNone(factory.buildProtocol(None))

    def test_strangers_give_way(self) -> None:
        """Of too many, the oldest whose handshake is not done, or was refused, goes, and not the one that comes."""
        self.factory = HTTPServerFactory(self.serve, self.turns, LIMITS, max_connections=3)
        wires = [self.connect(handshaken=False) for _ in range(3)]
        self.connection(wires[0]).handshakeCompleted()
        self.connection(wires[1]).handshakeRefused(ValueError("no certificate"))
        newest = self.connect(handshaken=False)
        self.assertEqual([wire.ended for wire in (*wires, newest)], ["", "reset", "", ""])
        self.turns.settle()
        self.connect(handshaken=False)
        self.assertEqual([wire.ended for wire in (*wires, newest)], ["", "reset", "reset", ""])
        self.turns.settle()
        self.connection(newest).handshakeCompleted()
        wires[0].leave()
        self.connect(handshaken=False)
        self.assertEqual((newest.ended, len(self.factory.connections)), ("", 3))

    def test_tells_of_handshakes(self) -> None:
        """Each finished handshake is told, with why it was refused."""
        told: list[tuple[ServerConnection, Exception | None]] = []
        good, bad = self.connect(handshaken=False).protocol, self.connect(handshaken=False).protocol
        good.handshakeCompleted()  # nobody wants to know: nothing happens
        self.factory.on_handshake = lambda connection, error: told.append((connection, error))
        error = ValueError("no certificate")
        good.handshakeCompleted()
        bad.handshakeRefused(error)
        self.assertEqual(told, [(good, None), (bad, error)])

    def test_tells_of_lost_connections(self) -> None:
        """Each connection's end is told once, when it is no longer counted."""
        told: list[tuple[ServerConnection, int]] = []
        self.factory.on_lost = lambda connection: told.append((connection, len(self.factory.connections)))
        wire = self.connect()
        wire.leave()
        self.assertEqual(told, [(wire.protocol, 0)])

    def test_no_connections_no_timer(self) -> None:
        """Without connections nothing is scheduled: a service can stop and a test can end."""
        wire = self.connect()
        self.assertEqual(len(self.turns.getDelayedCalls()), 1)
        wire.leave()
        self.turns.pass_time(1)
        self.assertEqual(self.turns.getDelayedCalls(), [])

    def test_drain(self) -> None:
        """Draining closes idle connections at once, each other one after its exchange, and lets newcomers ask once."""
        idle, busy, new = self.connect(), self.connect(), self.connect()
        answer(self.request(idle))
        idle.taken()
        request = self.request(busy)
        self.factory.drain()
        self.turns.settle()
        self.assertEqual((idle.connected, busy.connected, new.connected), (0, 1, 1))
        self.assertEqual(self.factory.newcomers, 1)
        answer(request)
        self.assertEqual(busy.taken(), answered(connection=CLOSE))
        self.assertEqual(busy.connected, 0)
        answer(self.request(new))
        self.assertEqual(new.taken(), answered(connection=CLOSE))
        self.assertEqual((self.factory.connections, self.factory.newcomers), (set(), 0))


class CloseTests(ServerCase):
    def close(self) -> list[None]:
        closed: list[None] = []
        self.factory.close().addCallback(closed.append)
        return closed

    def test_nothing_open(self) -> None:
        """With no connection the server is closed at once."""
        self.assertEqual(self.close(), [None])

    def test_resets(self) -> None:
        """Idle connections and running exchanges are reset; the end comes when all are gone."""
        wires = [self.connect(), self.connect(handshaken=False), self.connect()]
        self.request(wires[2])
        closed = self.close()
        self.assertEqual(closed, [])
        self.turns.settle()
        self.assertEqual([wire.ended for wire in wires], ["reset"] * 3)
        self.assertEqual(closed, [None])
        self.assertEqual(len(self.gone), 1)

    def test_twice(self) -> None:
        """Closing twice waits for the same end."""
        wire = self.connect()
        self.assertIs(self.factory.close(), self.factory.close())
        self.turns.settle()
        self.assertEqual(wire.connected, 0)
        self.successResultOf(self.factory.close())

    def test_last_answer_is_delivered(self) -> None:
        """An answer that is being delivered as the server closes is delivered, and not reset."""
        wire = self.connect()
        request = self.request(wire, get(b"/", b"Connection: close"))
        wire.room = 0
        answer(request, b"x" * 1000)
        closed = self.close()
        self.turns.settle()
        self.assertEqual((wire.ended, closed), ("closed", []))
        wire.make_room()
        self.assertEqual((wire.taken(), wire.connected), (answered(b"x" * 1000, CLOSE), 0))
        self.assertEqual(closed, [None])

    def test_last_moment(self) -> None:
        """A client that does not take its last answer, or does not hang up, holds the end up for two seconds."""
        for data in (get(b"/", b"Connection: close"), post(5)):
            with self.subTest(data=data):
                self.setUp()
                wire = self.connect()
                request = self.request(wire, data)
                wire.room = 0
                answer(request)
                self.turns.settle()
                closed = self.close()
                self.turns.pass_time(LAST_MOMENT - 0.5)
                self.assertEqual(closed, [])
                self.turns.pass_time(1)
                self.assertEqual((wire.ended, closed), ("reset", [None]))

    def test_several(self) -> None:
        """The end comes once, with the last connection."""
        wires = [self.connect() for _ in range(3)]
        for wire in wires[:2]:
            wire.send(GET)
            answer(self.requests[-1])
        closed = self.close()
        self.turns.settle()
        self.assertEqual(closed, [None])
