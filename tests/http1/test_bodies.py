"""Bodies that go up in the place of a request's own, and the look at one before it goes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IConsumer
from twisted.web.iweb import IBodyProducer
from zope.interface.verify import verifyObject

from openai_relay.core.errors import ClientGone, ModelHidden, RelayError, RequestTimeout
from openai_relay.http1.bodies import Given, Watched
from openai_relay.http1.request import Request
from tests.http1.serving import CHUNKED_POST, ServerCase, Taker, answer, post

EXPECT = b"Expect: 100-continue"


class Looked:
    """Looks at a request, and remembers how that ended."""

    def __init__(self, request: Request, size: int) -> None:
        self.ended: list[Any] = []
        arriving = request.look(size)
        self.waits = arriving is not None
        if arriving is not None:
            arriving.addBoth(self.ended.append)


class LookTests(ServerCase):
    """What has come of a body is looked at, and taken afterwards as if nobody had."""

    def test_here_already(self) -> None:
        """Nothing is waited for where the whole body is here, where enough is, and where there is none."""
        for data, size in ((post(5) + b"hello", 100), (post(10) + b"hello", 5), (post(0), 5)):
            with self.subTest(data=data):
                self.assertFalse(Looked(self.request(self.connect(), data), size).waits)

    def test_waits(self) -> None:
        """It waits for so many bytes, or for the end."""
        wire = self.connect()
        request = self.request(wire, post(90_000) + b"hel")
        looked = Looked(request, 80_000)
        self.assertEqual((looked.waits, looked.ended, request.peek()), (True, [], (b"hel", False)))
        wire.send(b"l" * 80_000)
        self.assertEqual((looked.ended, request.peek()), ([None], (b"hel" + b"l" * 80_000, False)))
        looked = Looked(request, 100_000)
        wire.send(b"o" * 9_997)
        self.assertEqual((looked.ended, request.peek()[1]), ([None], True))

    def test_held_back(self) -> None:
        """What is longer than what is looked at is read no further until it is taken."""
        wire = self.connect()
        request = self.request(wire, CHUNKED_POST)
        Looked(request, 200_000)
        for _ in range(20):
            wire.send(b"8000\r\n" + b"x" * 0x8000 + b"\r\n", at_once=False)
        self.turns.settle()
        self.assertFalse(wire.reads)
        self.assertLess(len(request.peek()[0]), 300_000)
        taker = Taker(request)
        self.turns.settle()
        self.assertEqual(len(taker.body), 20 * 0x8000)

    def test_client_that_waits(self) -> None:
        """A client that holds its body back is told to go on, once, by whoever looks; it is not told again."""
        wire = self.connect()
        request = self.request(wire, post(5, EXPECT))
        looked = Looked(request, 100)
        self.assertEqual(wire.taken(), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertTrue(request.continued)
        wire.send(b"hello")
        self.assertEqual(looked.ended, [None])
        request.send_interim(100, b"Continue", [])
        self.assertFalse(request.awaits_continue)

    def test_breaks_off(self) -> None:
        """A body that breaks off ends the look with the reason."""
        wire = self.connect()
        looked = Looked(self.request(wire, CHUNKED_POST), 100)
        wire.send(b"nonsense\r\n")
        (failure,) = looked.ended
        self.assertIsInstance(failure.value, RelayError)

    def test_client_leaves(self) -> None:
        """A client that leaves meanwhile is noticed at once."""
        wire = self.connect()
        Looked(self.request(wire, post(10) + b"hel"), 100)
        wire.leave()
        ((_, error),) = self.gone
        self.assertIsInstance(error, ClientGone)

    def test_client_stalls(self) -> None:
        """A client that sends no more while it is waited for is not waited for without end."""
        wire = self.connect()
        Looked(self.request(wire, post(10) + b"hel"), 100)
        self.turns.pass_time(self.limits.stall_timeout + 1)
        ((_, error),) = self.gone
        self.assertIsInstance(error, RequestTimeout)

    @given(st.binary(max_size=400), st.lists(st.integers(1, 60), max_size=30), st.integers(1, 500))
    def test_taken_as_it_came(self, body: bytes, cuts: list[int], size: int) -> None:
        """However a body is cut and however much of it is looked at, what is taken afterwards is all of it."""
        self.setUp()
        wire = self.connect()
        request = self.request(wire, post(len(body)))
        looked = Looked(request, size)
        taker = None
        at = 0
        for cut in [*cuts, len(body) + 1]:
            wire.send(body[at : at + cut])
            at += cut
            if taker is None and (not looked.waits or looked.ended):
                self.assertTrue(body.startswith(request.peek()[0]))
                taker = Taker(request)
        assert taker is not None
        self.assertEqual((taker.body, taker.ended), (body, [None]))


class GivenTests(ServerCase):
    """A body that is there as a whole."""

    def given(self, data: bytes = b"other") -> tuple[Request, Given]:
        request = self.request(self.connect(), post(5) + b"hello")
        return request, Given(request, data)

    def test_in_the_place_of_its_own(self) -> None:
        """It goes up whole, with its own length; the request's own is dropped."""
        request, given_body = self.given()
        verifyObject(IBodyProducer, given_body)
        taker = Taker(given_body)  # type: ignore[arg-type]
        self.assertEqual((taker.body, taker.ended, given_body.length), (b"other", [None], 5))
        self.assertEqual(request.peek(), (b"", True))
        self.assertTrue(request.taken)

    def test_at_once(self) -> None:
        """It is handed over in one piece to who asks for that, and has no trailers."""
        _, given_body = self.given()
        self.assertEqual((given_body.take_whole(), given_body.trailers), (b"other", []))

    def test_paced(self) -> None:
        """Pausing, resuming and stopping it touch nothing: there is no more to come."""
        _, given_body = self.given()
        given_body.pauseProducing()
        given_body.resumeProducing()
        given_body.stopProducing()
        self.assertEqual(given_body.take_whole(), b"other")

    def test_next_request(self) -> None:
        """The connection serves the next request when the answer is over."""
        wire = self.connect()
        request = self.request(wire, post(5) + b"hello")
        Given(request, b"other").take_whole()
        answer(request)
        self.assertLives(wire)


class WatchedTests(ServerCase):
    """A body that is read on its way."""

    def setUp(self) -> None:
        super().setUp()
        self.read: list[bytes] = []
        self.refused = b"never"

    def reader(self, block: bytes) -> None:
        if self.refused in block:
            raise ModelHidden()
        self.read.append(block)

    def watched(self, data: bytes = b"") -> tuple[Any, Request, Watched]:
        wire = self.connect()
        request = self.request(wire, post(20) + data)
        return wire, request, Watched(request, self.reader)

    def test_interfaces(self) -> None:
        """It is a body's producer, and the consumer of the request's own."""
        _, _, watched = self.watched()
        verifyObject(IBodyProducer, watched)
        verifyObject(IConsumer, watched)
        self.assertEqual(watched.length, 20)

    def test_read_before_it_goes_on(self) -> None:
        """Each block is read, and goes on as it came."""
        wire, _, watched = self.watched(b"hello ")
        taker = Taker(watched)  # type: ignore[arg-type]
        wire.send(b"dear wor")
        wire.send(b"ld!!!!")
        self.assertEqual((taker.body, taker.ended), (b"hello dear world!!!!", [None]))
        self.assertEqual(b"".join(self.read), taker.body)

    def test_refused(self) -> None:
        """A block that is refused stays here with all behind it, and the body fails with the reason."""
        self.refused = b"bad"
        wire, _, watched = self.watched(b"hello ")
        taker = Taker(watched)  # type: ignore[arg-type]
        wire.send(b"bad!")
        wire.send(b"0123456789")
        self.assertEqual(taker.body, b"hello ")
        (failure,) = taker.ended
        self.assertIsInstance(failure.value, ModelHidden)

    def test_refused_at_once(self) -> None:
        """So does what had come before anybody took it."""
        self.refused = b"bad"
        _, _, watched = self.watched(b"bad hello")
        taker = Taker(watched)  # type: ignore[arg-type]
        self.assertEqual(taker.body, b"")
        self.assertIsInstance(taker.ended[0].value, ModelHidden)

    def test_breaks_off(self) -> None:
        """A client that leaves in its midst fails it."""
        wire, _, watched = self.watched(b"hello ")
        taker = Taker(watched)  # type: ignore[arg-type]
        wire.leave()
        self.assertIsInstance(taker.ended[0].value, ClientGone)

    def test_nobody_wants_the_rest(self) -> None:
        """Stopped, it passes nothing more on and is not told as failed."""
        wire, _, watched = self.watched(b"hello ")
        taker = Taker(watched)  # type: ignore[arg-type]
        watched.stopProducing()
        wire.send(b"dear world!!!!")
        self.assertEqual((taker.body, taker.ended), (b"hello ", []))

    def test_cancelled(self) -> None:
        """Whoever took it may cancel what it waits for."""
        wire, _, watched = self.watched(b"hello ")
        taker = Taker(watched)  # type: ignore[arg-type]
        taker.whole.cancel()
        wire.send(b"dear world!!!!")
        self.assertEqual(taker.body, b"hello ")

    def test_paced(self) -> None:
        """Pausing it stops reading from the client."""
        wire, _, watched = self.watched(b"hello ")
        Taker(watched)  # type: ignore[arg-type]
        watched.pauseProducing()
        self.assertFalse(wire.reads)
        watched.resumeProducing()
        self.assertTrue(wire.reads)

    def test_what_it_tells_of_the_request(self) -> None:
        """Trailers and expectations are the request's."""
        wire = self.connect()
        watched = Watched(self.request(wire, post(5, EXPECT)), self.reader)
        self.assertTrue(watched.awaits_continue)
        self.assertEqual(watched.trailers, [])
