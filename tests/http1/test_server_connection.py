"""One client's connection: requests one after the other, bounded in bytes and in time."""

from __future__ import annotations

import gc
import itertools
import weakref

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from openai_relay.core.errors import (
    BadRequest,
    ClientGone,
    ClientStalled,
    ExpectationFailed,
    HeadTooLarge,
    MethodNotAllowed,
    RequestTimeout,
)
from openai_relay.http1.patience import FAIR_SHARE, LINGER, LINGER_BYTES, READ_AHEAD
from tests.http1.serving import (
    CHUNKED_POST,
    CLOSE,
    GET,
    GET_1_0,
    KEEP,
    LIMITS,
    ServerCase,
    Source,
    Taker,
    answer,
    answered,
    get,
    post,
)
from tests.http1.wire import Wire


class RequestsTests(ServerCase):
    """What is handed up, and when."""

    def test_interface(self) -> None:
        """The transport tells it when a handshake is done."""
        verifyObject(IHandshakeListener, self.connection(self.connect()))

    def test_handed_up_with_its_head(self) -> None:
        """A request is handed up when its head is there, before its body."""
        request = self.request(
            self.connect(), b"PUT /v1/x?y HTTP/1.1\r\nHOST: a\r\nx-A: b\r\nContent-Length: 5\r\n\r\n"
        )
        self.assertEqual((request.method, request.target, request.version), (b"PUT", b"/v1/x?y", b"1.1"))
        self.assertEqual(request.fields, [(b"HOST", b"a"), (b"x-A", b"b"), (b"Content-Length", b"5")])
        self.assertEqual((request.length, request.receiving, request.fault), (5, True, None))

    def test_client_address(self) -> None:
        """A connection knows where it came from."""
        self.assertEqual(self.connection(self.connect()).client_address, "192.0.2.7")

    @given(st.data())
    def test_any_cutting(self, data: st.DataObject) -> None:
        """The same requests and bodies come out of the same bytes, wherever they are cut."""
        self.setUp()
        taken: list[Taker] = []
        self.then = lambda request: taken.append(Taker(request))
        sent = b"\r\n" + GET + post(5) + b"hello" + CHUNKED_POST + b"2\r\nhi\r\n0\r\nX-A: b\r\n\r\n\r\n\r\n" + GET
        places = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=12)))
        wire = self.connect()
        for start, end in itertools.pairwise([0, *places, len(sent)]):
            if start < end:
                wire.send(sent[start:end])
                for request, taker in zip(self.requests, taken, strict=True):
                    if taker.ended and not request.finished:
                        answer(request)
        while not self.requests[-1].finished:
            answer(self.requests[-1])
        self.assertEqual([request.method for request in self.requests], [b"GET", b"POST", b"POST", b"GET"])
        self.assertEqual([taker.body for taker in taken], [b"", b"hello", b"hi", b""])
        self.assertEqual(self.requests[2].trailers, [(b"X-A", b"b")])
        self.assertEqual(wire.taken(), answered() * 4)

    def test_empty_lines_before_a_request(self) -> None:
        """Empty lines before a request are passed over, however they come; a bare line feed is not one."""
        for before in ([b"\r\n"], [b"\r\n\r\n\r\n"], [b"\r", b"\n"], [b"\r\n", b"\r\n"], [b"\r\n\r", b"\n"]):
            with self.subTest(before=before):
                wire = self.connect()
                for data in before:
                    wire.send(data)
                self.assertIsNone(self.request(wire).fault)
        for before in ([b"\n"], [b"\r\n\n"], [b"\r", b"\r\n"]):
            with self.subTest(before=before):
                wire = self.connect()
                for data in before:
                    wire.send(data)
                self.assertIsInstance(self.requests[-1].fault, BadRequest)

    def test_long_head_byte_by_byte(self) -> None:
        """A long head is read however small the pieces are that it comes in."""
        head = get(b"/v1", *[b"X-%d: %b" % (i, b"v" * 50) for i in range(200)])
        wire = self.connect()
        for i in range(len(head)):
            wire.send(head[i : i + 1], at_once=False)
        self.turns.settle()
        self.assertEqual(len(self.requests[0].fields), 201)

    def test_one_at_a_time(self) -> None:
        """Pipelined requests wait until the one before is answered, and are answered in their order."""
        wire = self.connect()
        wire.send(get(b"/1") + get(b"/2") + get(b"/3"))
        for number, path in enumerate([b"/1", b"/2", b"/3"], start=1):
            self.assertEqual([len(self.requests), self.requests[-1].target], [number, path])
            answer(self.requests[-1], path)
        self.assertEqual(wire.taken(), b"".join(map(answered, [b"/1", b"/2", b"/3"])))
        self.assertLives(wire)

    def test_pipelined_behind_a_body(self) -> None:
        """The next request begins where the body ends, in the same block or not."""
        for body in (post(5) + b"hello", CHUNKED_POST + b"5\r\nhello\r\n0\r\n\r\n"):
            with self.subTest(body=body):
                wire = self.connect()
                request = self.request(wire, body + get(b"/next"))
                self.assertEqual(Taker(request).body, b"hello")
                answer(request)
                self.assertEqual(self.requests[-1].target, b"/next")

    def test_read_ahead_is_bounded(self) -> None:
        """While an exchange runs, no more than 64 KiB and one block of what follows is read; the rest waits unread."""
        wire = self.connect()
        first = self.request(wire, get(b"/1"))
        block = get(b"/n") * 100
        for _ in range(100):
            wire.send(block)
        self.assertFalse(wire.reads)
        self.assertGreater(wire.unread, 100 * len(block) - READ_AHEAD - 2 * len(block))
        self.then = answer
        answer(first)
        self.turns.settle()
        self.assertEqual(len(self.requests), 10_001)
        self.assertEqual(wire.taken(), answered() * 10_001)

    def test_many_answered_at_once(self) -> None:
        """Thousands of pipelined requests, each answered as it comes, are served in a loop, not one inside another."""
        self.then = answer
        wire = self.connect()
        wire.send(GET * 5_000)
        self.assertEqual(len(self.requests), 5_000)

    def test_answers_nobody_reads(self) -> None:
        """Whoever asks and asks and reads no answer is asked to wait: what is kept for it stays bounded."""
        self.then = lambda request: answer(request, b"x" * 1000)
        wire = self.connect()
        wire.room = 0
        for _ in range(100):
            wire.send(GET * 100)
        self.assertLess(wire.unsent, 65_536 + 2_000)
        self.assertFalse(wire.reads)
        self.assertLess(len(self.requests), 100)
        wire.make_room()
        self.assertEqual(len(self.requests), 10_000)
        self.assertEqual(wire.taken(), answered(b"x" * 1000) * 10_000)
        self.assertEqual(wire.ended, "")

    def test_answers_nobody_reads_one_by_one(self) -> None:
        """The same when each request comes only after the one before was answered."""
        self.then = lambda request: answer(request, b"x" * 30_000)
        wire = self.connect()
        wire.room = 0
        for _ in range(10):
            wire.send(GET)
        self.assertEqual(len(self.requests), 3)
        self.turns.pass_time(LIMITS.idle_timeout + 5)
        wire.make_room()
        self.assertEqual(len(self.requests), 10)


class KeepAliveTests(ServerCase):
    """How long a connection goes on."""

    def test_goes_on(self) -> None:
        """HTTP/1.1 goes on, without saying so."""
        wire = self.connect()
        for _ in range(3):
            answer(self.request(wire))
            self.assertEqual(wire.taken(), answered())
        self.assertLives(wire)

    def test_client_says_close(self) -> None:
        """A client that says close is answered with close, and the connection is closed in good order."""
        wire = self.connect()
        answer(self.request(wire, get(b"/", b"Connection: close")))
        self.assertEqual(wire.taken(), answered(connection=CLOSE))
        self.assertEqual((wire.ended, wire.connected), ("closed", 0))

    def test_1_0(self) -> None:
        """HTTP/1.0 ends after each answer, unless the client says keep-alive and is told the same."""
        wire = self.connect()
        answer(self.request(wire, GET_1_0))
        self.assertEqual((wire.taken(), wire.ended), (answered(connection=CLOSE), "closed"))
        wire = self.connect()
        for _ in range(2):
            answer(self.request(wire, get(b"/", b"Connection: keep-alive", version=b"1.0")))
            self.assertEqual(wire.taken(), answered(connection=KEEP))
        self.assertLives(wire)

    def test_nothing_served_after_close(self) -> None:
        """What is pipelined behind a request that says close is not served; the answer still arrives."""
        wire = self.connect()
        request = self.request(wire, get(b"/1", b"Connection: close") + get(b"/2"))
        answer(request)
        wire.send(get(b"/3"))
        self.assertEqual(len(self.requests), 1)
        self.assertEqual(wire.taken(), answered(connection=CLOSE))
        # Closing with bytes unread would send a reset, which can take the answer with it.
        self.assertEqual(wire.ended, "half")

    def test_close_reaches_a_slow_client(self) -> None:
        """An answer that ends the connection is delivered whole to a client that did not read for a while."""
        for data, last in ((get(b"/", b"Connection: close"), "closed"), (post(5, b"Connection: close"), "half")):
            with self.subTest(last=last):
                wire = self.connect()
                request = self.request(wire, data)
                wire.room = 0
                answer(request, b"x" * 200_000)
                self.assertEqual(wire.ended, last)
                wire.make_room(100_000)
                self.assertEqual(wire.connected, 1)
                wire.make_room()
                self.assertEqual(wire.taken(), answered(b"x" * 200_000, CLOSE))
                self.assertEqual(wire.connected, 0 if last == "closed" else 1)


class FaultTests(ServerCase):
    """Malformed requests."""

    def test_malformed(self) -> None:
        """A malformed request is handed up with its fault; what follows it is dropped; the answer closes."""
        wire = self.connect()
        request = self.request(wire, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + GET)
        self.assertIsInstance(request.fault, BadRequest)
        self.assertEqual((request.method, request.target, request.fields), (b"", b"", []))
        wire.send(GET)
        answer(request, status=400)
        wire.send(GET)
        self.assertEqual(len(self.requests), 1)
        self.assertIn(CLOSE, wire.taken())
        self.assertEqual(wire.ended, "half")

    def test_others_are_not_harmed(self) -> None:
        """A malformed request on one connection leaves the others alone."""
        good, bad = self.connect(), self.connect()
        answer(self.request(bad, b"\0"), status=400)
        self.assertLives(good)

    def test_behind_a_good_one(self) -> None:
        """A malformed request behind a good one is looked at when that has been answered."""
        wire = self.connect()
        first = self.request(wire, GET + b"GET\0")
        self.assertIsNone(first.fault)
        answer(first)
        self.assertIsInstance(self.requests[1].fault, BadRequest)

    def test_each_fault_keeps_its_cause(self) -> None:
        """The fault says what was wrong, with the status that fits it."""
        for data, error in (
            (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", MethodNotAllowed),
            (get(b"/", b"Expect: magic"), ExpectationFailed),
            (b"GET / HTTP/2.0\r\n\r\n", BadRequest),
        ):
            with self.subTest(data=data):
                self.assertIsInstance(self.request(self.connect(), data).fault, error)

    def test_refused_before_its_end(self) -> None:
        """A head that can no longer become good is refused before it is complete."""
        for start in (b"GET / HTTP/1.1\nHost: a\n", b"GET /\0", b"GET / HTTP/1.1\r\nHost: a\rX"):
            with self.subTest(start=start):
                self.assertIsInstance(self.request(self.connect(), start).fault, BadRequest)

    def test_bare_line_end_at_a_cut(self) -> None:
        """A bare line end is seen when it comes in a block of its own, or first in one."""
        for blocks in ([b"GET / HTTP/1.1", b"\n"], [b"GET /\r", b"X"], [b"GET / HTTP/1.1\r\nA: b", b"\nC: d"]):
            with self.subTest(blocks=blocks):
                wire = self.connect()
                for block in blocks:
                    wire.send(block)
                self.assertIsInstance(self.requests[-1].fault, BadRequest)

    def test_head_too_large(self) -> None:
        """A head of 64 KiB passes; one byte more is refused, complete or not."""
        fits = get(b"/", b"X-A: " + b"b" * (LIMITS.max_head - len(get(b"/", b"X-A: "))))
        self.assertEqual(len(fits), 65_536)
        self.assertIsNone(self.request(self.connect(), fits).fault)
        larger = fits.replace(b"b\r\n", b"bb\r\n")
        self.assertIsInstance(self.request(self.connect(), larger).fault, HeadTooLarge)
        self.assertIsInstance(self.request(self.connect(), fits[:-4] + b"bbbbb").fault, HeadTooLarge)

    def test_malformed_body_at_once(self) -> None:
        """A body that is malformed in its first block is the request's fault: it need not be forwarded at all."""
        request = self.request(self.connect(), CHUNKED_POST + b"+5\r\nhello\r\n0\r\n\r\n")
        self.assertIsInstance(request.fault, BadRequest)

    def test_malformed_body_before_it_is_taken(self) -> None:
        """A body that turns out malformed before anybody takes it fails as soon as somebody does."""
        wire = self.connect()
        request = self.request(wire, CHUNKED_POST + b"5\r\nhello\r\n")
        wire.send(b"x\r\n")
        taker = Taker(request)
        self.assertEqual(taker.body, b"")
        taker.ended[0].trap(BadRequest)

    def test_malformed_body_while_it_is_taken(self) -> None:
        """A body that turns out malformed later fails; nothing after that is read, and the answer closes."""
        wire = self.connect()
        request = self.request(wire, CHUNKED_POST + b"5\r\nhello\r\n")
        taker = Taker(request)
        wire.send(b"x\r\n")
        wire.send(GET)
        self.assertEqual(taker.body, b"hello")
        taker.ended[0].trap(BadRequest)
        answer(request, status=400)
        wire.send(GET)
        self.assertEqual(len(self.requests), 1)
        self.assertIn(CLOSE, wire.taken())
        self.assertEqual(wire.ended, "half")


class LingerTests(ServerCase):
    """Closing on a client that is still sending."""

    def linger(self) -> Wire:
        wire = self.connect()
        answer(self.request(wire, post(1 << 40)), status=413)
        self.assertIn(CLOSE, wire.taken())
        self.assertEqual((wire.ended, wire.connected), ("half", 1))
        return wire

    def test_reads_on(self) -> None:
        """What the client still sends is taken and dropped, so that no reset takes the answer away."""
        wire = self.linger()
        wire.send(b"x" * 100_000 + GET)
        self.assertEqual((wire.unread, len(self.requests)), (0, 1))
        wire.leave()
        self.assertEqual(wire.connected, 0)

    def test_ends(self) -> None:
        """A client that does not hang up is reset after five seconds."""
        wire = self.linger()
        self.turns.pass_time(LINGER - 1)
        wire.send(b"x")
        self.assertEqual(wire.ended, "half")
        self.turns.pass_time(1.5)
        self.assertEqual((wire.ended, wire.connected), ("reset", 0))

    def test_ends_after_too_much(self) -> None:
        """A client that sends on and on is reset after 16 MiB."""
        wire = self.linger()
        for _ in range(LINGER_BYTES // (1 << 20)):
            wire.send(bytes(1 << 20))
        self.assertEqual(wire.ended, "half")
        wire.send(b"x")
        self.assertEqual(wire.ended, "reset")

    def test_paused_upload(self) -> None:
        """An upload that was paused when the answer came is read again, to be dropped."""
        wire = self.connect()
        request = self.request(wire, post(1 << 40))
        wire.send(b"x" * 70_000)
        self.assertFalse(wire.reads)
        answer(request, status=413)
        self.assertTrue(wire.reads)


class LeavingTests(ServerCase):
    """A client that goes away, in each phase."""

    def test_idle(self) -> None:
        """Leaving before a request is nobody's business."""
        for data in (b"", b"GET / HT"):
            with self.subTest(data=data):
                wire = self.connect()
                wire.send(data)
                wire.leave()
                self.assertEqual((self.requests, wire.connected), ([], 0))

    def test_waiting(self) -> None:
        """Leaving while the answer is waited for is told once; what is then written goes nowhere."""
        wire = self.connect()
        request = self.request(wire)
        wire.leave(ConnectionLost())
        self.assertEqual(self.gone[0][0], request)
        self.assertIs(type(self.gone[0][1]), ClientGone)
        self.assertTrue(request.finished)
        request.write(b"x")
        request.flush()
        request.finish()
        request.cut()
        self.assertEqual((len(self.gone), wire.blocks), (1, []))

    def test_uploading(self) -> None:
        """Leaving in the middle of an upload fails its body, once."""
        for start in (post(10) + b"hello", CHUNKED_POST + b"f\r\nhello"):
            with self.subTest(start=start):
                self.gone.clear()
                wire = self.connect()
                request = self.request(wire, start)
                taker = Taker(request)
                wire.leave()
                self.assertEqual((len(self.gone), taker.body, len(taker.ended)), (1, b"hello", 1))
                taker.ended[0].trap(ClientGone)

    def test_streaming(self) -> None:
        """Leaving in the middle of the answer is told once; its producer is let go."""
        wire = self.connect()
        request = self.request(wire)
        request.send_head(200, b"OK", [], None)
        source = Source()
        request.registerProducer(source, True)
        request.write(b"x")
        wire.leave()
        self.assertEqual((len(self.gone), source.told), (1, []))

    def test_after_the_answer(self) -> None:
        """Leaving after the answer is complete is told to nobody."""
        wire = self.connect()
        answer(self.request(wire))
        wire.leave()
        self.assertEqual(self.gone, [])

    def test_with_requests_unread(self) -> None:
        """A client that left behind unread requests is noticed within a second, though nobody reads."""
        wire = self.connect()
        self.request(wire)
        for _ in range(3):
            wire.send(GET * 1000)
        self.assertFalse(wire.reads)
        wire.leave()
        self.assertEqual(self.gone, [])
        self.turns.pass_time(1)
        self.assertEqual((len(self.gone), wire.connected), (1, 0))

    def test_on_a_transport_that_cannot_tell(self) -> None:
        """On a transport that cannot see past unread bytes a paused client is simply not seen to leave."""
        wire = self.connect()
        wire.peer_has_closed = None  # type: ignore[assignment,method-assign]
        del wire.peer_has_closed
        request = self.request(wire, post(1 << 20))
        wire.send(bytes(70_000))
        self.turns.pass_time(2)
        self.assertFalse(request.finished)

    def test_cancelled_from_within(self) -> None:
        """Who is told that the client left may drop the body there and then."""
        wire = self.connect()
        request = self.request(wire, post(10))
        taker = Taker(request)
        request.on_gone = lambda _: request.stopProducing()
        wire.leave()
        self.assertEqual(len(taker.ended), 1)
        taker.ended[0].trap(ClientGone)


class TimeOutTests(ServerCase):
    """Every wait for a client ends."""

    def test_handshake(self) -> None:
        """A handshake that is not done in time is reset."""
        wire = self.connect(handshaken=False)
        self.turns.pass_time(6.5)
        self.assertEqual(wire.connected, 1)
        self.turns.pass_time(1)
        self.assertEqual((wire.ended, wire.connected), ("reset", 0))

    def test_after_the_handshake(self) -> None:
        """Once the handshake is done the wait for a request begins anew."""
        wire = self.connect(handshaken=False)
        self.turns.pass_time(6)
        self.connection(wire).handshakeCompleted()
        self.turns.pass_time(60)
        self.assertLives(wire)

    def test_refused_handshake(self) -> None:
        """A client whose certificate is refused gets the handshake's time to read that and hang up."""
        wire = self.connect(handshaken=False)
        self.connection(wire).handshakeRefused(ValueError())
        self.turns.pass_time(8)
        self.assertEqual(wire.ended, "reset")

    def test_head(self) -> None:
        """A head that is not complete in time is a fault, answered and closed."""
        wire = self.connect()
        wire.send(b"GET / HTTP/1.1\r\n")
        self.turns.pass_time(9.5)
        self.assertEqual(self.requests, [])
        self.turns.pass_time(1)
        self.assertIsInstance(self.requests[0].fault, RequestTimeout)
        answer(self.requests[0], status=408)
        self.assertIn(CLOSE, wire.taken())
        self.assertEqual(wire.ended, "half")

    def test_head_byte_by_byte(self) -> None:
        """A head that comes byte by byte has no more time than any other."""
        wire = self.connect()
        wire.send(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(21):
            wire.send(b"x")
            self.turns.pass_time(0.5)
        self.assertIsInstance(self.requests[0].fault, RequestTimeout)

    def test_each_head_has_its_time(self) -> None:
        """Requests whose heads each take a while, but not too long, are all served."""
        wire = self.connect()
        for _ in range(10):
            wire.send(GET[:10])
            self.turns.pass_time(8)
            answer(self.request(wire, GET[10:]))
        self.assertLives(wire)

    def test_idle(self) -> None:
        """An idle connection is closed in good order, whether it has served a request or none."""
        for served in (False, True):
            with self.subTest(served=served):
                wire = self.connect()
                if served:
                    answer(self.request(wire))
                self.turns.pass_time(LIMITS.idle_timeout - 1)
                self.assertEqual(wire.ended, "")
                self.turns.pass_time(2)
                self.assertEqual((wire.ended, wire.connected), ("closed", 0))

    def test_empty_lines_are_no_request(self) -> None:
        """A client that sends nothing but empty lines is idle."""
        wire = self.connect()
        for _ in range(80):
            wire.send(b"\r\n")
            self.turns.pass_time(1)
        self.assertEqual((wire.ended, self.requests), ("closed", []))

    def test_close_that_cannot_be_delivered(self) -> None:
        """A closing connection whose client does not read is reset in the end."""
        wire = self.connect()
        wire.room = 0
        answer(self.request(wire, get(b"/", b"Connection: close")), b"x" * 1000)
        self.turns.pass_time(LIMITS.idle_timeout - 1)
        self.assertEqual(wire.ended, "closed")
        self.turns.pass_time(2)
        self.assertEqual((wire.ended, wire.connected), ("reset", 0))

    def test_waiting_for_the_upstream(self) -> None:
        """While the client is the one who waits, no time runs out for it."""
        wire = self.connect()
        request = self.request(wire)
        self.turns.pass_time(3 * LIMITS.stall_timeout)
        answer(request)
        self.assertLives(wire)

    def test_stalled_upload(self) -> None:
        """A client that stops sending what it announced is given up; if it is not answered then, it is reset."""
        wire = self.connect()
        request = self.request(wire, post(10) + b"hello")
        taker = Taker(request)
        self.turns.pass_time(LIMITS.stall_timeout - 1)
        self.assertEqual(self.gone, [])
        self.turns.pass_time(2)
        self.assertEqual((len(self.gone), len(taker.ended), wire.ended), (1, 1, "reset"))
        self.assertIsInstance(self.gone[0][1], RequestTimeout)
        taker.ended[0].trap(ClientStalled)

    def test_refused_at_once(self) -> None:
        """A body that is larger than what is held, and whose request is answered at once, leaves nothing paused."""
        self.then = answer
        wire = self.connect()
        wire.send(post(200_000) + b"x" * 200_000)
        self.assertEqual(wire.taken(), answered())
        self.assertTrue(wire.reads)
        self.assertLives(wire)

    def test_stalled_upload_answered(self) -> None:
        """A client that stops sending, but reads, can be told so."""
        wire = self.connect()
        request = self.request(wire, post(10) + b"hello")
        Taker(request)
        request.on_gone = lambda _: answer(request)
        self.turns.pass_time(LIMITS.stall_timeout + 1)
        self.assertEqual((wire.taken(), wire.ended), (answered(connection=CLOSE), "half"))

    def test_waiting_for_the_word(self) -> None:
        """A client that waits for 100 Continue before it sends is not the one that is waited for; then it is."""
        wire = self.connect()
        request = self.request(wire, post(10, b"Expect: 100-continue"))
        Taker(request)
        self.turns.pass_time(3 * LIMITS.stall_timeout)
        self.assertEqual(self.gone, [])
        request.send_interim(100, b"Continue", [])
        self.turns.pass_time(LIMITS.stall_timeout + 1)
        self.assertIsInstance(self.gone[0][1], RequestTimeout)

    def test_slow_upload(self) -> None:
        """A client that sends on, however slowly, is not given up."""
        wire = self.connect()
        taker = Taker(self.request(wire, post(10)))
        for _ in range(10):
            self.turns.pass_time(LIMITS.stall_timeout - 1)
            wire.send(b"x")
        self.assertEqual((taker.body, self.gone), (b"x" * 10, []))

    def test_paused_upload(self) -> None:
        """A client is not blamed for sending nothing while the upstream makes it wait."""
        wire = self.connect()
        request = self.request(wire, post(10) + b"hello")
        taker = Taker(request)
        request.pauseProducing()
        self.turns.pass_time(2 * LIMITS.stall_timeout)
        self.assertEqual(self.gone, [])
        request.resumeProducing()
        wire.send(b"hello")
        self.assertEqual(taker.ended, [None])

    def test_stalled_reader(self) -> None:
        """A client that stops reading its answer is given up."""
        wire = self.connect()
        request = self.request(wire)
        wire.room = 0
        request.send_head(200, b"OK", [], None)
        request.write(b"x" * 100_000)
        self.turns.pass_time(LIMITS.stall_timeout - 1)
        self.assertEqual(self.gone, [])
        self.turns.pass_time(2)
        self.assertIsInstance(self.gone[0][1], ClientStalled)
        self.assertEqual(wire.ended, "reset")

    def test_slow_reader(self) -> None:
        """A client that reads on, however slowly, is not given up."""
        wire = self.connect()
        request = self.request(wire)
        wire.room = 0
        request.send_head(200, b"OK", [], None)
        for _ in range(5):
            request.write(b"x" * 100_000)
            self.turns.pass_time(LIMITS.stall_timeout - 1)
            wire.make_room(200_000)
        self.assertEqual(self.gone, [])

    def test_drop_by_drop(self) -> None:
        """Nor is one that reads so slowly that the queue in between does not get short; when it stops, it is."""
        wire = self.connect()
        request = self.request(wire)
        wire.room = 0
        request.send_head(200, b"OK", [], None)
        request.write(b"x" * 500_000)
        for _ in range(10):
            self.turns.pass_time(LIMITS.stall_timeout - 1)
            wire.make_room(100)
        self.assertEqual(self.gone, [])
        self.turns.pass_time(LIMITS.stall_timeout + 1)
        self.assertIsInstance(self.gone[0][1], ClientStalled)

    def test_last_answer_drop_by_drop(self) -> None:
        """A closing connection delivers its answer to whoever reads it, however long that takes."""
        for last, patience in ((GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), 75.0), (post(10), LINGER)):
            wire = self.connect()
            wire.room = 0
            answer(self.request(wire, last), b"x" * 2_000)
            for _ in range(20):
                self.turns.pass_time(patience - 1)
                wire.make_room(50)
            self.assertTrue(wire.connected)
            self.turns.pass_time(patience + 1)
            self.assertEqual(wire.ended, "reset")

    def test_stalled_between_answers(self) -> None:
        """A client that has not read its last answer, and has left more requests, is given up as a stalled one."""
        self.then = lambda request: answer(request, b"x" * 70_000)
        wire = self.connect()
        wire.room = 0
        wire.send(GET * 5)
        self.turns.pass_time(LIMITS.stall_timeout - 1)
        self.assertEqual(wire.ended, "")
        self.turns.pass_time(2)
        self.assertEqual(wire.ended, "closed")
        self.turns.pass_time(LIMITS.idle_timeout + 1)
        self.assertEqual((wire.ended, wire.connected), ("reset", 0))

    def test_busy(self) -> None:
        """A connection that is always seen in the same phase, but in another exchange, is never ended."""
        for part in (0, 10, len(GET)):
            with self.subTest(part=part):
                wire = self.connect()
                wire.send(GET[:part])
                for _ in range(800):
                    self.turns.pass_time(0.5)
                    if part < len(GET):
                        wire.send(GET[part:], at_once=False)
                        self.turns.settle()
                    answer(self.requests[-1])
                    wire.send(GET[:part])
                self.assertEqual((wire.ended, self.gone), ("", []))
                wire.abortConnection()
                self.turns.settle()

    def test_busy_with_large_answers(self) -> None:
        """Equal answers, each seen when its client is just not reading, do not add up to one stalled client."""
        wire = self.connect()
        for _ in range(700):
            request = self.request(wire)
            wire.room = 0
            request.send_head(200, b"OK", [], None)
            request.write(b"x" * 70_000)
            self.turns.pass_time(0.5)
            wire.make_room()
            request.finish()
            wire.taken()
            del request, self.requests[:]
        self.assertEqual((wire.ended, self.gone), ("", []))


class EndingTests(ServerCase):
    """Ways in which the server itself ends a connection."""

    def test_cut(self) -> None:
        """Over TLS a cut answer is sent without a close_notify; on plain TCP there is only the missing end."""
        for tls, ended in ((True, "cut"), (False, "closed")):
            with self.subTest(tls=tls):
                wire = self.connect(tls=tls)
                request = self.request(wire)
                request.send_head(200, b"OK", [], None)
                request.write(b"hello")
                request.cut()
                self.assertEqual((wire.ended, wire.connected), (ended, 1))
                self.assertTrue(wire.taken().endswith(b"\r\n\r\n5\r\nhello\r\n"))
                self.assertEqual(wire.connected, 0)

    def test_nothing_served_after_a_cut(self) -> None:
        """What was pipelined behind an answer that is cut is not served."""
        self.then = lambda request: request.cut()
        wire = self.connect()
        wire.send(GET * 3)
        wire.send(GET)
        self.assertEqual(len(self.requests), 1)

    def test_cut_reaches_a_slow_client(self) -> None:
        """What was written before a cut is still delivered to a client that did not read for a while."""
        wire = self.connect()
        request = self.request(wire)
        wire.room = 0
        request.send_head(200, b"OK", [(b"Content-Length", b"200000")], 200_000)
        request.write(b"x" * 100_000)
        request.finish()
        self.assertEqual(wire.ended, "cut")
        wire.make_room()
        self.assertEqual(wire.connected, 0)
        self.assertTrue(wire.taken().endswith(b"x" * 100_000))

    def test_drained_when_idle(self) -> None:
        """A draining connection is closed at once when it is idle."""
        wire = self.connect()
        answer(self.request(wire))
        self.connection(wire).drain()
        self.turns.settle()
        self.assertEqual((wire.ended, wire.connected), ("closed", 0))

    def test_drained_in_an_exchange(self) -> None:
        """A draining connection finishes its exchange, says close, and serves no other."""
        wire = self.connect()
        request = self.request(wire, GET + GET)
        self.connection(wire).drain()
        answer(request)
        self.assertEqual(wire.taken(), answered(connection=CLOSE))
        self.assertEqual((wire.ended, len(self.requests)), ("half", 1))

    def test_drained_after_the_head_of_the_answer(self) -> None:
        """A stream that runs when draining begins is finished, and then closed."""
        wire = self.connect()
        request = self.request(wire)
        request.send_head(200, b"OK", [], None)
        request.write(b"a")
        self.connection(wire).drain()
        request.write(b"b")
        request.finish()
        self.assertTrue(wire.taken().endswith(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"))
        self.assertEqual((wire.ended, wire.connected), ("closed", 0))

    def test_drained_in_a_head(self) -> None:
        """A request whose head has begun is still served, as the last."""
        wire = self.connect()
        wire.send(GET[:10])
        self.connection(wire).drain()
        answer(self.request(wire, GET[10:]))
        self.assertEqual((wire.taken(), wire.ended), (answered(connection=CLOSE), "closed"))

    def test_drained_in_the_handshake(self) -> None:
        """A connection that is drained before its handshake is done, or before it has asked, may ask once."""
        wire = self.connect(handshaken=False)
        self.connection(wire).drain()
        self.connection(wire).handshakeCompleted()
        self.turns.settle()
        self.assertEqual((wire.ended, self.connection(wire).is_new), ("", True))
        request = self.request(wire, GET + GET)
        self.assertFalse(self.connection(wire).is_new)
        answer(request)
        self.assertEqual(wire.taken(), answered(connection=CLOSE))
        self.assertEqual((wire.ended, len(self.requests)), ("half", 1))


class FloodTests(ServerCase):
    """A client that asks and asks costs the others nothing."""

    def test_read_ahead_is_bounded_between_exchanges(self) -> None:
        """However much a client pipelines while its answers take a while, no more than a bound is read ahead."""
        wire = self.connect()
        for _ in range(50):
            wire.send(GET * 400)
        most = 0
        for _ in range(50):
            self.assertFalse(self.requests[-1].finished)
            answer(self.requests[-1])
            self.turns.settle()
            most = max(most, len(self.connection(wire)._buffer))
        self.assertLessEqual(most, 2 * READ_AHEAD)

    def test_answered_at_once_in_shares(self) -> None:
        """Requests that are answered at once give way to others after a few, and all are answered in the end."""
        wire = self.connect()
        self.then = answer
        connection = self.connection(wire)
        connection.dataReceived(GET * (3 * FAIR_SHARE))
        self.assertEqual(len(self.requests), FAIR_SHARE)
        self.turns.settle()
        self.assertEqual(len(self.requests), 3 * FAIR_SHARE)

    def test_lost_between_two_shares(self) -> None:
        """A client that leaves while its requests wait for their turn has no more of them served."""
        wire = self.connect()
        self.then = answer
        connection = self.connection(wire)
        connection.dataReceived(GET * (3 * FAIR_SHARE))
        connection.connectionLost(Failure(ConnectionLost()))
        self.turns.advance(0)
        self.assertEqual(len(self.requests), FAIR_SHARE)

    def test_nothing_is_left_of_a_closed_connection(self) -> None:
        """A closed connection is freed at once, without waiting for the collector: it holds memory of OpenSSL's."""
        self.then = answer
        connection = self.factory.buildProtocol(None)
        assert connection is not None
        transport = StringTransport()
        connection.makeConnection(transport)
        connection.dataReceived(GET)
        connection.connectionLost(Failure(ConnectionLost()))
        left = weakref.ref(connection)
        self.requests.clear()
        transport.unregisterProducer()
        gc.disable()
        self.addCleanup(gc.enable)
        del connection
        self.assertIsNone(left())
