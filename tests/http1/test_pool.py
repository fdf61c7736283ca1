"""Connections are kept for the next request, never lent out twice or broken, and all end in time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent
from zope.interface.verify import verifyObject

from openai_relay.core.errors import UpstreamClosed, UpstreamMalformed, UpstreamTimeout
from openai_relay.http1.fields import FieldLines
from openai_relay.http1.pool import Agent, Pool
from tests.http1.asking import CHUNKED, HOST, LIMITS, OK, Asked, Body
from tests.http1.wire import Turns, Wire

ORIGIN = b"https://api.example"


class PoolCase(SynchronousTestCase):
    """A pool whose connections the test makes; ``wires`` has them."""

    def setUp(self) -> None:
        self.turns = Turns()
        self.connecting: list[Deferred[Any]] = []
        self.cancelled = 0
        self.wires: list[Wire] = []
        self.answer_connect = True
        self.handshaken = True
        self.pool = Pool(self.turns, self.connect, LIMITS)
        self.agent = Agent(ORIGIN, self.pool)

    def connect(self, factory: Factory) -> Deferred[Any]:
        connecting: Deferred[Any] = Deferred(self._cancelled)
        self.connecting.append(connecting)
        if self.answer_connect:
            self.connected()
        return connecting

    def _cancelled(self, _: Deferred[Any]) -> None:
        self.cancelled += 1

    def connected(self) -> Wire:
        """The oldest attempt succeeds."""
        protocol = self.pool.buildProtocol(None)
        wire = Wire(self.turns, protocol, self.handshaken)
        self.wires.append(wire)
        self.connecting.pop(0).callback(protocol)
        return wire

    def ask(self, path: bytes = b"/v1", body: Any = None, late: bool = False) -> Asked:
        asked = Asked(self.agent.request(b"POST", ORIGIN + path, FieldLines(HOST), body), late)
        self.turns.settle()
        return asked


class ReuseTests(PoolCase):
    """Which connection serves which request."""

    def test_kept(self) -> None:
        """A connection is reused once its exchange is complete."""
        for _ in range(3):
            self.ask()
            self.wires[0].send(OK)
            self.assertEqual((len(self.wires), self.pool.idle, self.pool.open), (1, 1, 1))

    def test_one_exchange_each(self) -> None:
        """Requests at the same time go out on connections of their own."""
        asked = [self.ask() for _ in range(3)]
        self.assertEqual((len(self.wires), self.pool.idle, self.pool.open), (3, 0, 3))
        for wire, body in zip(reversed(self.wires), (b"3", b"2", b"1"), strict=True):
            wire.send(OK.replace(b"ok", b"#" + body))
        self.assertEqual([each.sink.body for each in asked], [b"#1", b"#2", b"#3"])

    def test_last_in_first_out(self) -> None:
        """The connection that was used last is used next: the others may grow old and go."""
        for _ in range(3):
            self.ask()
        for number in (1, 0, 2):
            self.wires[number].send(OK)
        for number in (2, 0, 1):
            self.wires[number].taken()
            self.ask()
            self.assertTrue(self.wires[number].taken())

    def test_not_reused(self) -> None:
        """After a close, an error, junk, or an answer that did not wait for its request, a new connection is made."""
        for answer in (
            OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
            OK + b"junk",
            CHUNKED + b"x\r\n",
            b"junk",
        ):
            with self.subTest(answer=answer):
                self.setUp()
                self.ask()
                self.wires[0].send(answer)
                self.assertEqual((self.pool.idle, self.pool.open), (0, 0))
                self.ask()
                self.assertEqual(len(self.wires), 2)
        self.setUp()
        self.ask(body=Body(None, b"a"))
        self.wires[0].send(OK)
        self.assertEqual((self.wires[0].ended, self.pool.idle, self.pool.open), ("reset", 0, 0))

    def test_error_statuses_are_answers(self) -> None:
        """A connection is kept after an answer that reports an error, as after any complete answer."""
        self.ask()
        self.wires[0].send(OK.replace(b"200 OK", b"500 Oh"))
        self.assertEqual(self.pool.idle, 1)

    def test_closed_while_idle(self) -> None:
        """A connection that the upstream closes while it is idle is gone."""
        self.ask()
        self.wires[0].send(OK)
        self.wires[0].leave()
        self.assertEqual((self.pool.idle, self.pool.open), (0, 0))

    def test_not_lent_while_being_reset(self) -> None:
        """A connection that is being reset is not lent out in the turn before that is done."""
        self.ask()
        self.wires[0].send(OK)
        self.wires[0].protocol.dataReceived(b"junk")
        self.assertEqual((self.wires[0].ended, self.wires[0].connected), ("reset", 1))
        self.ask()
        self.assertEqual(len(self.wires), 2)

    def test_close_idle(self) -> None:
        """When all idle connections are closed, the next request, in the same turn, has a new one."""
        for _ in range(2):
            self.ask()
        for wire in self.wires:
            wire.send(OK)
        busy = self.ask()
        self.pool.close_idle()
        asked = Asked(self.agent.request(b"GET", ORIGIN + b"/", None, None), late=False)
        self.turns.settle()
        self.assertEqual([wire.ended for wire in self.wires], ["reset", "", ""])
        self.wires[1].send(OK)
        self.wires[2].send(OK)
        self.assertTrue(busy.sink.complete)
        self.assertTrue(asked.sink.complete)

    def test_no_more_idle_than_allowed(self) -> None:
        """No more connections are kept idle than the limit says."""
        for _ in range(5):
            self.ask()
        for wire in self.wires:
            wire.send(OK)
        self.assertEqual((self.pool.idle, self.pool.open), (LIMITS.max_idle, LIMITS.max_idle))

    def test_wrapped_by_an_endpoint(self) -> None:
        """What an endpoint puts between transport and protocol is taken out of the way."""
        self.answer_connect = False
        asked = self.ask()
        protocol = self.pool.buildProtocol(None)
        wire = Wire(self.turns, protocol)
        wire.protocol = object()
        self.connecting.pop(0).callback(protocol)
        self.assertIs(wire.protocol, protocol)
        wire.send(OK)
        self.assertTrue(asked.sink.complete)


class TimeOutTests(PoolCase):
    """Every wait ends, by one timer."""

    def test_connecting(self) -> None:
        """An attempt to connect that takes too long is cancelled."""
        self.answer_connect = False
        asked = self.ask()
        self.turns.pass_time(LIMITS.connect_timeout - 0.5)
        self.assertFalse(asked.waiting.called)
        self.turns.pass_time(1)
        self.assertIsInstance(asked.failure, DeferredTimeout)
        self.assertEqual(self.cancelled, 1)

    def test_handshake(self) -> None:
        """The time to connect includes the handshake: a connection that does not finish it is reset."""
        self.answer_connect = self.handshaken = False
        asked = self.ask()
        self.turns.pass_time(6)
        wire = self.connected()
        self.assertEqual((wire.taken(), self.pool.open), (b"", 1))
        self.turns.pass_time(3.5)
        self.assertFalse(asked.waiting.called)
        self.turns.pass_time(1)
        self.assertIsInstance(asked.failure, DeferredTimeout)
        self.assertEqual((wire.ended, self.pool.open), ("reset", 0))

    def test_no_timer_left(self) -> None:
        """A connection in time leaves no time-out behind that could strike its request."""
        asked = self.ask()
        self.turns.pass_time(LIMITS.connect_timeout * 3)
        self.wires[0].send(OK)
        self.assertTrue(asked.sink.complete)

    def test_first_byte(self) -> None:
        """The pool looks after its connections' waits."""
        asked = self.ask()
        self.turns.pass_time(LIMITS.first_byte_timeout + 1)
        self.assertIsInstance(asked.failure, UpstreamTimeout)
        self.assertEqual(self.pool.open, 0)

    def test_idle(self) -> None:
        """Idle connections are let go before the upstream does it; then nothing is scheduled any more."""
        self.ask()
        self.wires[0].send(OK)
        self.turns.pass_time(LIMITS.keepalive_timeout - 1)
        self.assertEqual(self.pool.idle, 1)
        self.turns.pass_time(2)
        self.assertEqual((self.pool.idle, self.pool.open), (0, 0))
        self.turns.pass_time(1)
        self.assertEqual(self.turns.getDelayedCalls(), [])


class FailureTests(PoolCase):
    """Connections that do not come about, and requests that nobody wants any more."""

    def test_refused(self) -> None:
        """What connecting fails with is what the request fails with."""
        self.answer_connect = False
        asked = self.ask()
        self.connecting[0].errback(ConnectionRefusedError())
        self.assertIsInstance(asked.failure, ConnectionRefusedError)

    def test_handshake_fails(self) -> None:
        """What the handshake fails with is what the request fails with; nothing of that was sent."""
        self.handshaken = False
        asked = self.ask()
        error = ValueError("another name in the certificate")
        self.wires[0].leave(error)
        self.assertIs(asked.failure, error)
        self.assertEqual((self.wires[0].taken(), self.pool.open), (b"", 0))

    def test_lost_before_it_was_told(self) -> None:
        """A connection that was lost before the endpoint told of it fails the request, and is not counted."""
        self.answer_connect = False
        asked = self.ask()
        protocol = self.pool.buildProtocol(None)
        Wire(self.turns, protocol).leave()
        self.connecting.pop(0).callback(protocol)
        self.assertIsInstance(asked.failure, UpstreamClosed)
        self.assertEqual(self.pool.open, 0)
        self.successResultOf(self.pool.close())

    def test_handshake(self) -> None:
        """The request goes out when the handshake is done."""
        self.handshaken = False
        asked = self.ask()
        self.assertEqual(self.wires[0].taken(), b"")
        self.wires[0].protocol.handshakeCompleted()
        self.assertTrue(self.wires[0].taken().startswith(b"POST /v1 HTTP/1.1\r\n"))
        self.wires[0].send(OK)
        self.assertTrue(asked.sink.complete)

    def test_cancelled_while_connecting(self) -> None:
        """Cancelling while connecting cancels that."""
        self.answer_connect = False
        asked = self.ask()
        asked.waiting.cancel()
        self.assertIsInstance(asked.failure, CancelledError)
        self.assertEqual(self.cancelled, 1)

    def test_cancelled_in_the_handshake(self) -> None:
        """Cancelling in the handshake resets the connection; nothing was sent, and no error is left over."""
        self.handshaken = False
        body = Body(None, b"a")
        asked = self.ask(body=body)
        asked.waiting.cancel()
        self.turns.settle()
        self.assertIsInstance(asked.failure, CancelledError)
        self.assertEqual((self.wires[0].ended, self.wires[0].blocks, self.pool.open), ("reset", [], 0))
        self.assertIsNone(body.consumer)

    def test_cancelled_while_waiting(self) -> None:
        """Cancelling while the head is waited for resets the connection, a new one or a kept one."""
        for kept in (False, True):
            with self.subTest(kept=kept):
                self.setUp()
                if kept:
                    self.ask()
                    self.wires[0].send(OK)
                asked = self.ask()
                asked.waiting.cancel()
                self.turns.settle()
                self.assertIsInstance(asked.failure, CancelledError)
                self.assertEqual((self.wires[0].ended, self.pool.open, self.pool.idle), ("reset", 0, 0))

    def test_malformed(self) -> None:
        """An answer that is malformed concerns its own request only."""
        good, bad = self.ask(), self.ask()
        self.wires[1].send(b"junk")
        self.assertIsInstance(bad.failure, UpstreamMalformed)
        self.wires[0].send(OK)
        self.assertTrue(good.sink.complete)


class CloseTests(PoolCase):
    """The end of a pool."""

    def close(self) -> list[None]:
        closed: list[None] = []
        self.pool.close().addCallback(closed.append)
        return closed

    def test_nothing_open(self) -> None:
        """Without connections a pool is closed at once."""
        self.assertEqual(self.close(), [None])

    def test_resets(self) -> None:
        """Idle connections are reset, running exchanges fail; the end comes when all are gone."""
        self.ask()
        self.wires[0].send(OK)
        asked, streaming = self.ask(), self.ask()
        self.wires[1].send(CHUNKED + b"1\r\na\r\n")
        self.ask()
        self.wires[2].send(OK)
        closed = self.close()
        self.assertEqual(closed, [])
        self.turns.settle()
        self.assertEqual([wire.ended for wire in self.wires], ["reset"] * 3)
        self.assertEqual((closed, self.pool.open, self.pool.idle), ([None], 0, 0))
        self.assertIsInstance(asked.failure, UpstreamClosed)
        streaming.sink.reasons[0].trap(UpstreamClosed)

    def test_in_the_handshake(self) -> None:
        """A connection in its handshake is reset too."""
        self.handshaken = False
        asked = self.ask()
        closed = self.close()
        self.turns.settle()
        self.assertEqual((closed, self.wires[0].ended), ([None], "reset"))
        self.assertTrue(asked.waiting.called)

    def test_connected_afterwards(self) -> None:
        """A connection that comes about after the end is reset, and its request fails."""
        for handshaken in (True, False):
            with self.subTest(handshaken=handshaken):
                self.setUp()
                self.answer_connect = False
                self.handshaken = handshaken
                asked = self.ask()
                self.assertEqual(self.close(), [None])
                wire = self.connected()
                self.turns.settle()
                self.assertEqual((wire.ended, wire.blocks, self.pool.open), ("reset", [], 0))
                self.assertTrue(isinstance(asked.failure, Exception))

    def test_freed_afterwards(self) -> None:
        """Nothing is kept idle after the end."""
        self.ask()
        self.pool.close()
        self.wires[0].protocol.dataReceived(OK)
        self.assertEqual(self.pool.idle, 0)
        self.turns.settle()
        self.assertEqual(self.pool.open, 0)

    def test_twice(self) -> None:
        """Closing twice waits for the same end."""
        self.assertIs(self.pool.close(), self.pool.close())


class AgentTests(PoolCase):
    """The agent: one origin, and nothing done that was not asked for."""

    def test_interface(self) -> None:
        """It is Twisted's agent, for treq to stand on."""
        verifyObject(IAgent, self.agent)

    def test_target(self) -> None:
        """The target is what follows the origin, untouched."""
        for target in (b"/", b"/v1/x?y=%zz&a[]=b", b"//v1", b"/v1/../v2", b"*"):
            with self.subTest(target=target):
                self.setUp()
                self.ask(target)
                self.assertEqual(self.wires[0].taken().split(b"\r\n")[0], b"POST %b HTTP/1.1" % target)

    def test_other_origins(self) -> None:
        """A request to anywhere else is refused, and no connection made for it."""
        for uri in (
            b"https://other.example/v1",
            b"http://api.example/v1",
            b"https://api.example.evil/v1",
            b"https://bpi.example/v1",
            b"https://API.example/v1",
            b"https://api.example@evil/v1",
            b"https://api.example:444/v1",
            b"https://api.example",
            b"https://api.example?x",
            b"/v1",
            b"",
        ):
            with self.subTest(uri=uri):
                self.failureResultOf(self.agent.request(b"GET", uri, Headers()), ValueError)
        self.assertEqual((self.wires, self.connecting), ([], []))

    def test_headers(self) -> None:
        """Fields go out as they are given: lines in order and case, any `Headers`, or none."""
        for headers, written in (
            (FieldLines([(b"x-b", b"1"), (b"X-A", b"2"), (b"x-b", b"3")]), b"x-b: 1\r\nX-A: 2\r\nx-b: 3\r\n"),
            (Headers({b"x-a": [b"1", b"2"]}), b"X-A: 1\r\nX-A: 2\r\n"),
            (None, b""),
        ):
            with self.subTest(headers=headers):
                self.setUp()
                self.agent.request(b"GET", ORIGIN + b"/", headers)
                self.assertEqual(self.wires[0].taken(), b"GET / HTTP/1.1\r\n" + written + b"\r\n")

    def test_bodies(self) -> None:
        """A body of no bytes is none; one without a length is chunked."""
        empty = Body(0)
        self.ask(body=empty)
        self.assertEqual((self.wires[0].taken()[-4:], empty.consumer), (b"\r\n\r\n", None))
        self.ask(body=Body(None, b"a", complete=True))
        self.assertTrue(self.wires[1].taken().endswith(b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"))

    def test_interim_answers(self) -> None:
        """A body that wants to know of interim answers is told, an empty one too."""
        for body in (Body(0), Body(None, b"a")):
            self.setUp()
            self.ask(body=body)
            self.wires[0].send(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n")
            self.assertEqual(body.interim, [(103, b"Early", [(b"Link", b"x")])])

    def test_follows_nothing(self) -> None:
        """A redirect is an answer like any other, and so is one that sets a cookie or is compressed."""
        for line in (b"Location: https://other.example/", b"Set-Cookie: a=b", b"Content-Encoding: gzip"):
            with self.subTest(line=line):
                self.setUp()
                asked = self.ask()
                self.wires[0].send(b"HTTP/1.1 302 Found\r\n%b\r\nContent-Length: 2\r\n\r\nok" % line)
                self.assertEqual((asked.head.code, asked.sink.body, len(self.wires)), (302, b"ok", 1))
                self.assertIn(tuple(line.split(b": ")), asked.head.fields)
                self.ask()
                self.assertNotIn(b"a=b", b"".join(self.wires[0].blocks))


class RenewalTests(PoolCase):
    """Connections that were made with what has been replaced serve nobody any more."""

    def test_idle(self) -> None:
        """An idle connection closes, and the next request makes a new one, which is kept."""
        self.ask()
        self.wires[0].send(OK)
        self.pool.renew()
        self.turns.settle()
        self.assertEqual((self.pool.idle, self.pool.open), (0, 0))
        for _ in range(2):
            self.ask()
            self.wires[1].send(OK)
        self.assertEqual((len(self.wires), self.pool.idle), (2, 1))

    def test_busy(self) -> None:
        """One that is in use completes its exchange, and closes then."""
        asked = self.ask()
        self.pool.renew()
        self.wires[0].send(OK)
        self.turns.settle()
        self.assertEqual((asked.sink.body, self.pool.idle, self.pool.open), (b"ok", 0, 0))

    def test_connecting(self) -> None:
        """One that was being made serves the request that it was made for, and no other."""
        self.answer_connect = False
        asked = self.ask()
        self.pool.renew()
        self.connected().send(OK)
        self.turns.settle()
        self.assertEqual((asked.sink.body, self.pool.idle, self.pool.open), (b"ok", 0, 0))
