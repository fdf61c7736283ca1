"""Answers on their way, without a server that decides about them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.http1.server import HTTPServerFactory, Request
from openai_relay.standin.answer import Answer
from openai_relay.standin.controls import Controls
from openai_relay.standin.counters import Counters
from openai_relay.standin.heads import Heads
from openai_relay.standin.problems import invalid
from openai_relay.standin.reply import Reply
from tests.standin.asking import Answered, ClientTransport, parse_answer


class ReplyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.counters = Counters()
        self.transport = ClientTransport()
        requests: list[Request] = []
        protocol: Any = HTTPServerFactory(requests.append, self.clock).buildProtocol(IPv4Address("TCP", "::1", 1))
        protocol.makeConnection(self.transport)
        protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        self.reply = Reply(requests[0], 1, self.clock, self.counters, Heads())
        self.reply.count("GET /")

    def send(self, answer: Answer, **controls: Any) -> Deferred[None]:
        self.reply.controls = Controls(**controls)
        return Deferred.fromCoroutine(self.reply.send(answer, 0.0))

    def answered(self) -> Answered:
        return parse_answer(self.transport.value())

    def test_whole(self) -> None:
        """A whole answer is sent at once and counted once."""
        self.successResultOf(self.send(Answer(b"a/b", b"body", fields=((b"X-a", b"1"),), status=201)))
        self.assertEqual((self.answered().status, self.answered().body, self.answered()["x-a"]), (201, b"body", "1"))
        self.reply.account()
        self.assertEqual((self.counters.finished, self.counters.bytes_sent), (1, 4))

    def test_blocks_of_known_length(self) -> None:
        """Blocks whose length is known are not chunked."""
        self.successResultOf(self.send(Answer(b"a/b", blocks=iter([b"bo", b"dy"]), length=4)))
        self.assertEqual((self.answered()["content-length"], self.answered().body), ("4", b"body"))

    def test_compressed_blocks_lose_their_length(self) -> None:
        """What is compressed on its way has no length that could be told before."""
        self.successResultOf(self.send(Answer(b"a/b", blocks=iter([b"bo", b"dy"]), length=4), gzip=True))
        self.assertEqual(self.answered()["transfer-encoding"], "chunked")
        self.assertTrue(self.answered().complete)

    def test_bytes_under_way(self) -> None:
        """What a running answer has sent can be counted before its end, and is not counted again then."""
        self.send(Answer(b"a/b", blocks=iter([b"12345"] * 3)), interval_ms=1_000.0)
        self.reply.count_sent()
        self.assertEqual(self.counters.bytes_sent, 5)
        self.clock.pump([1, 1])
        self.reply.account()
        self.assertEqual(self.counters.bytes_sent, 15)

    def test_error_before_the_head(self) -> None:
        """An error that comes before the answer takes its place."""
        self.reply.refuse(invalid("wrong", "n"))
        self.assertEqual((self.answered().status, self.answered().json()["error"]["param"]), (400, "n"))

    def test_error_in_the_body(self) -> None:
        """An error that comes after the head can only cut the answer; its end is not made up."""

        def breaking() -> Iterator[bytes]:
            yield b"x" * 20_000
            raise ZeroDivisionError

        self.failureResultOf(self.send(Answer(b"a/b", blocks=breaking())), ZeroDivisionError)
        self.reply.refuse(invalid("wrong"))
        self.assertFalse(self.answered().complete)
        self.assertTrue(self.transport.disconnecting)
        self.reply.refuse(invalid("again"))
        self.reply.account()
        self.assertEqual((self.counters.cut, self.counters.finished), (1, 0))

    def test_left(self) -> None:
        """An exchange whose client left is counted as that."""
        self.reply.left = True
        self.reply.account()
        self.assertEqual((self.counters.aborted, self.counters.open), (1, 0))
