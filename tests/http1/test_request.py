"""A request: its body goes up to who takes it, its answer is framed for the client."""

from __future__ import annotations

import h11
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IConsumer
from twisted.web.iweb import IBodyProducer
from zope.interface.verify import verifyObject

from openai_relay.http1.request import Request
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

HELD = 65_536


class BodyTests(ServerCase):
    """The body, upwards."""

    def test_interfaces(self) -> None:
        """It is the producer of its own body and the consumer of its answer."""
        request = self.request(self.connect())
        verifyObject(IBodyProducer, request)
        verifyObject(IConsumer, request)

    def test_none(self) -> None:
        """A request without a body is complete at once."""
        request = self.request(self.connect())
        self.assertEqual((request.length, request.receiving), (0, False))
        self.assertEqual(Taker(request).ended, [None])

    def test_passed_on_as_it_comes(self) -> None:
        """Each block goes on in the turn in which it came, and the end is told with the last."""
        for head, blocks in (
            (post(10), [b"hello", b"world"]),
            (CHUNKED_POST, [b"5\r\nhello\r\n", b"5\r\nworld\r\n0\r\n\r\n"]),
        ):
            with self.subTest(head=head):
                wire = self.connect()
                request = self.request(wire, head)
                taker = Taker(request)
                wire.send(blocks[0])
                self.assertEqual((taker.body, taker.ended), (b"hello", []))
                wire.send(blocks[1])
                self.assertEqual((taker.body, taker.ended), (b"helloworld", [None]))
                self.assertEqual((request.bytes_in, request.receiving), (10, False))

    def test_length(self) -> None:
        """The length is known unless the body is chunked."""
        self.assertEqual(self.request(self.connect(), post(10)).length, 10)
        self.assertIsNone(self.request(self.connect(), CHUNKED_POST).length)

    def test_came_with_the_head(self) -> None:
        """What came with the head is given to who takes the body, who may come later."""
        wire = self.connect()
        request = self.request(wire, post(10) + b"hello")
        wire.send(b"wor")
        taker = Taker(request)
        self.assertEqual(taker.body, b"hellowor")
        wire.send(b"ld")
        self.assertEqual((taker.body, taker.ended), (b"helloworld", [None]))

    def test_whole_body_waits(self) -> None:
        """A body that is complete before it is taken is complete at once."""
        wire = self.connect()
        request = self.request(wire, CHUNKED_POST + b"5\r\nhello\r\n0\r\nX-A: b\r\n\r\n")
        taker = Taker(request)
        self.assertEqual((taker.body, taker.ended), (b"hello", [None]))
        self.assertEqual(request.trailers, [(b"X-A", b"b")])

    def test_taken_whole(self) -> None:
        """A body that is complete before it is taken can be taken as one block."""
        for data, body in (
            (GET, b""),
            (post(5) + b"hello", b"hello"),
            (CHUNKED_POST + b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
            (CHUNKED_POST + b"5\r\nhe", b"hello"),
        ):
            with self.subTest(data=data):
                wire = self.connect()
                request = self.request(wire, data)
                if request.receiving:
                    wire.send(b"llo\r\n0\r\n\r\n")
                self.assertEqual(request.take_whole(), body)
                answer(request)
                self.assertLives(wire)

    def test_not_taken_whole(self) -> None:
        """A body that has still to come, or broke, cannot be taken as one block, and is there for who takes it so."""
        wire = self.connect()
        request = self.request(wire, post(5) + b"he")
        self.assertIsNone(request.take_whole())
        self.assertEqual(Taker(request).body, b"he")
        self.assertIsNone(self.request(self.connect(), CHUNKED_POST + b"x\r\n").take_whole())

    def test_taken_whole_after_a_pause(self) -> None:
        """A large body that made its client wait, and is complete, can be taken as one; the client may go on."""
        wire = self.connect()
        request = self.request(wire, post(70_000))
        wire.send(b"x" * 65_000)
        wire.send(b"x" * 5_000)
        self.assertFalse(wire.reads)
        self.assertEqual(request.take_whole(), b"x" * 70_000)
        self.assertTrue(wire.reads)

    def test_trailers_are_chosen(self) -> None:
        """Who forwards the body may choose which trailer fields go with it; all that came are known."""
        request = self.request(self.connect(), CHUNKED_POST + b"0\r\nX-A: b\r\nX-C: d\r\n\r\n")
        request.select_trailers = lambda pairs: pairs[1:]
        self.assertEqual(request.trailers, [(b"X-C", b"d")])
        self.assertEqual(request.received_trailers, [(b"X-A", b"b"), (b"X-C", b"d")])

    def test_held_bytes_are_bounded(self) -> None:
        """While nobody has taken the body, no more than 64 KiB and one block of it are read."""
        wire = self.connect()
        request = self.request(wire, post(10_000_000))
        for _ in range(100):
            wire.send(b"x" * 10_000)
        self.assertFalse(wire.reads)
        self.assertLessEqual(request.bytes_in, HELD + 10_000)
        taker = Taker(request)
        self.assertEqual(len(taker.body), request.bytes_in)
        self.turns.settle()
        self.assertEqual(len(taker.body), 1_000_000)

    def test_pauses_the_client(self) -> None:
        """Whoever takes the body pauses and resumes the client."""
        wire = self.connect()
        request = self.request(wire, post(100))
        taker = Taker(request)
        request.pauseProducing()
        wire.send(b"hello")
        self.assertEqual((taker.body, wire.unread), (b"", 5))
        request.resumeProducing()
        self.turns.settle()
        self.assertEqual((taker.body, wire.unread), (b"hello", 0))

    def test_nobody_wants_the_rest(self) -> None:
        """A body that nobody wants any more is read on, but kept nowhere, and its end is told to nobody."""
        wire = self.connect()
        request = self.request(wire, post(1_000_000))
        taker = Taker(request)
        request.pauseProducing()
        request.stopProducing()
        wire.send(b"x" * 1_000_000)
        self.assertEqual((taker.body, taker.ended, wire.unread), (b"", [], 0))
        answer(request)
        self.assertLives(wire)

    def test_cancelled(self) -> None:
        """Cancelling the wait for the body's end is to want no more of it."""
        wire = self.connect()
        request = self.request(wire, post(10))
        taker = Taker(request)
        taker.whole.cancel()
        wire.send(b"helloworld")
        self.assertEqual(taker.body, b"")

    def test_answered_early(self) -> None:
        """An answer that does not wait for the body, which nobody took, says close and closes."""
        wire = self.connect()
        answer(self.request(wire, post(10) + b"hello"))
        self.assertEqual((wire.taken(), wire.ended), (answered(connection=CLOSE), "half"))

    def test_answered_early_while_taken(self) -> None:
        """An answer that is complete before the body, though that was taken, closes too."""
        wire = self.connect()
        request = self.request(wire, post(10) + b"hello")
        taker = Taker(request)
        answer(request)
        wire.send(b"world" + GET)
        self.assertEqual((wire.taken(), wire.ended, taker.body), (answered(connection=CLOSE), "half", b"hello"))
        self.assertEqual(len(self.requests), 1)

    def test_body_after_the_answers_head(self) -> None:
        """An answer may begin while the body is still coming, and says at once that the connection closes after it."""
        wire = self.connect()
        request = self.request(wire, post(10) + b"hello")
        taker = Taker(request)
        request.send_head(200, b"OK", [(b"Content-Length", b"2")], 2)
        request.flush()
        wire.send(b"world")
        request.write(b"ok")
        request.finish()
        self.assertEqual((taker.body, taker.ended), (b"helloworld", [None]))
        self.assertEqual((wire.taken(), wire.ended), (answered(connection=CLOSE), "closed"))

    def test_late_words_from_the_last_exchange(self) -> None:
        """What a finished request is told to do does not touch the exchange that runs now."""
        wire = self.connect()
        first = self.request(wire)
        answer(first)
        second = self.request(wire, post(10))
        taker = Taker(second)
        first.pauseProducing()
        self.assertTrue(wire.reads)
        second.pauseProducing()
        first.resumeProducing()
        first.stopProducing()
        self.assertFalse(wire.reads)
        second.resumeProducing()
        wire.send(b"helloworld")
        self.assertEqual(taker.ended, [None])


BLOCKS = st.lists(st.binary(max_size=50), max_size=6)


class FramingTests(ServerCase):
    """The answer, downwards: how its end is told."""

    def written(self, wire: Wire) -> bytes:
        self.turns.settle()
        return b"".join(wire.blocks)

    def test_length(self) -> None:
        """With a length the body goes out as it is; head and first block leave in one write."""
        wire = self.connect()
        request = self.request(wire)
        request.send_head(200, b"All right", [(b"content-LENGTH", b"10"), (b"X-A", b"b")], 10)
        self.assertEqual(wire.blocks, [])
        request.write(b"hello")
        request.write(b"world")
        request.finish()
        head = b"HTTP/1.1 200 All right\r\ncontent-LENGTH: 10\r\nX-A: b\r\n\r\n"
        self.assertEqual(wire.blocks, [head + b"hello", b"world"])
        self.assertEqual(request.bytes_out, 10)
        self.assertLives(wire)

    def test_chunked(self) -> None:
        """Without a length the body is chunked: one chunk for each block, the first in one write with the head."""
        wire = self.connect()
        request = self.request(wire)
        request.send_head(200, b"OK", [(b"X-A", b"b")], None)
        request.write(b"hello")
        request.write(b"x" * 16)
        request.finish()
        head = b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.assertEqual(wire.blocks, [head + b"5\r\nhello\r\n", b"10\r\n" + b"x" * 16 + b"\r\n", b"0\r\n\r\n"])
        self.assertEqual(request.bytes_out, 21)
        self.assertLives(wire)

    def test_until_close(self) -> None:
        """HTTP/1.0 knows no chunks: without a length the close is the end, whatever the client asked for."""
        for data in (GET_1_0, get(b"/", b"Connection: keep-alive", version=b"1.0")):
            with self.subTest(data=data):
                wire = self.connect()
                request = self.request(wire, data)
                request.send_head(200, b"OK", [], None)
                request.write(b"hello")
                request.write(b"world")
                request.finish()
                self.assertEqual(self.written(wire), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhelloworld")
                self.assertEqual((wire.ended, wire.connected), ("closed", 0))

    def test_empty(self) -> None:
        """An empty answer is one write, with its end."""
        for length, rest in ((0, b"Content-Length: 0\r\n\r\n"), (None, b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")):
            with self.subTest(length=length):
                wire = self.connect()
                request = self.request(wire)
                request.send_head(200, b"OK", [(b"Content-Length", b"0")] if length == 0 else [], length)
                request.finish()
                self.assertEqual(wire.blocks, [b"HTTP/1.1 200 OK\r\n" + rest])
                self.assertLives(wire)

    def test_empty_block(self) -> None:
        """An empty block is no chunk, which would be the end."""
        wire = self.connect()
        request = self.request(wire)
        request.send_head(200, b"OK", [], None)
        request.write(b"")
        self.assertEqual(wire.blocks, [])
        request.write(b"a")
        request.write(b"")
        request.finish()
        self.assertTrue(self.written(wire).endswith(b"\r\n\r\n1\r\na\r\n0\r\n\r\n"))

    def test_no_body(self) -> None:
        """Answers to HEAD, and 204 and 304, have no body: what is written as one is dropped; their length may stand."""
        head = GET.replace(b"GET", b"HEAD")
        for data, status, length in (
            (head, 200, 5),
            (head, 200, None),
            (GET, 204, None),
            (GET, 304, 5),
            (GET, 304, None),
        ):
            with self.subTest(status=status, length=length):
                wire = self.connect()
                request = self.request(wire, data)
                fields = [(b"Content-Length", b"5")] if length else []
                request.send_head(status, b"X", fields, length)
                request.write(b"hello")
                request.finish([(b"X-A", b"b")])
                line = b"Content-Length: 5\r\n" if length else b""
                self.assertEqual(wire.blocks, [b"HTTP/1.1 %d X\r\n%b\r\n" % (status, line)])
                self.assertEqual(request.bytes_out, 0)
                self.assertLives(wire)

    def test_trailers(self) -> None:
        """Trailers go behind a chunked body, and nowhere else."""
        wire = self.connect()
        request = self.request(wire)
        request.send_head(200, b"OK", [], None)
        request.write(b"a")
        request.finish([(b"X-A", b"b")])
        self.assertTrue(self.written(wire).endswith(b"1\r\na\r\n0\r\nX-A: b\r\n\r\n"))
        wire = self.connect()
        request = self.request(wire)
        request.send_head(200, b"OK", [(b"Content-Length", b"1")], 1)
        request.write(b"a")
        request.finish([(b"X-A", b"b")])
        self.assertEqual(self.written(wire), answered(b"a"))

    def test_flush(self) -> None:
        """The head can go out before any body, once."""
        wire = self.connect()
        request = self.request(wire)
        request.send_head(200, b"OK", [], None)
        request.flush()
        request.flush()
        request.write(b"a")
        self.assertEqual(wire.blocks, [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"])

    def test_connection_field(self) -> None:
        """An answer says close when it is the last; keep-alive only to HTTP/1.0 that asked for it."""
        for data, line in (
            (GET, b""),
            (get(b"/", b"Connection: close"), CLOSE),
            (GET_1_0, CLOSE),
            (get(b"/", b"Connection: keep-alive", version=b"1.0"), KEEP),
        ):
            with self.subTest(data=data):
                wire = self.connect()
                answer(self.request(wire, data))
                self.assertEqual(self.written(wire), answered(connection=line))

    def test_closing_by_choice(self) -> None:
        """Whoever answers may make it the last answer on this connection."""
        wire = self.connect()
        request = self.request(wire)
        request.connection.close_after()
        answer(request)
        self.assertEqual((wire.taken(), wire.ended), (answered(connection=CLOSE), "closed"))

    @given(BLOCKS, st.sampled_from(["length", "chunked", "1.0"]))
    def test_h11_reads_it(self, blocks: list[bytes], framing: str) -> None:
        """Whatever is written, another reader finds the same body, and its end."""
        self.setUp()
        wire = self.connect()
        body = b"".join(blocks)
        request = self.request(wire, GET_1_0 if framing == "1.0" else GET)
        if framing == "length":
            request.send_head(200, b"OK", [(b"Content-Length", b"%d" % len(body))], len(body))
        else:
            request.send_head(200, b"OK", [], None)
        for block in blocks:
            request.write(block)
        request.finish()
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        reader.send(h11.EndOfMessage())
        reader.receive_data(wire.taken())
        if not wire.connected:
            reader.receive_data(b"")
        self.assertIsInstance(reader.next_event(), h11.Response)
        read = b""
        while isinstance(event := reader.next_event(), h11.Data):
            read += event.data
        self.assertEqual(read, body)
        self.assertIsInstance(event, h11.EndOfMessage)

    # Endings that are none.

    def test_owed_bytes(self) -> None:
        """An answer that owes bytes is cut, however it is ended, and nothing is put behind it to complete it."""
        for ending in (Request.finish, Request.cut):
            with self.subTest(ending=ending):
                wire = self.connect()
                request = self.request(wire, GET + GET)
                handed_up = len(self.requests)
                request.send_head(200, b"OK", [(b"Content-Length", b"10")], 10)
                request.write(b"hello")
                ending(request)
                self.assertTrue(self.written(wire).endswith(b"\r\n\r\nhello"))
                self.assertEqual((wire.ended, request.finished, len(self.requests)), ("cut", True, handed_up))

    def test_cut(self) -> None:
        """A cut answer has no last chunk, and its head goes out if it had not yet."""
        wire = self.connect()
        request = self.request(wire)
        request.send_head(200, b"OK", [], None)
        request.cut()
        request.cut()
        request.finish()
        request.write(b"x")
        self.assertEqual(self.written(wire), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.assertEqual(wire.ended, "cut")

    def test_too_much(self) -> None:
        """More body than the length says is a bug of who writes it, and never reaches the client."""
        request = self.request(self.connect())
        request.send_head(200, b"OK", [(b"Content-Length", b"2")], 2)
        self.assertRaises(AssertionError, request.write, b"abc")

    def test_after_the_end(self) -> None:
        """What is written after the end goes nowhere, and a second end is none."""
        wire = self.connect()
        request = self.request(wire)
        answer(request)
        request.write(b"x")
        request.flush()
        request.finish()
        request.cut()
        self.assertEqual(wire.taken(), answered())
        self.assertLives(wire)


class InterimTests(ServerCase):
    """1xx answers."""

    def test_passed_on(self) -> None:
        """An interim answer goes out at once, before the final one."""
        wire = self.connect()
        request = self.request(wire, post(2, b"Expect: 100-continue"))
        self.assertTrue(request.expects_continue)
        request.send_interim(100, b"Continue", [])
        request.send_interim(103, b"Early Hints", [(b"Link", b"</x>")])
        self.assertEqual(wire.taken(), b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        taker = Taker(request)
        wire.send(b"hi")
        self.assertEqual(taker.ended, [None])
        answer(request)
        self.assertEqual(wire.taken(), answered())

    def test_not_in_1_0(self) -> None:
        """HTTP/1.0 has no interim answers: it is sent none."""
        wire = self.connect()
        self.request(wire, GET_1_0).send_interim(100, b"Continue", [])
        self.assertEqual(wire.taken(), b"")

    def test_too_late(self) -> None:
        """Once the final answer has begun, or the client has left, none is sent."""
        wire = self.connect()
        request = self.request(wire)
        request.send_head(200, b"OK", [], None)
        request.send_interim(100, b"Continue", [])
        request.finish()
        request.send_interim(100, b"Continue", [])
        self.assertNotIn(b"100", wire.taken())


class PacingTests(ServerCase):
    """The client paces whoever produces its answer."""

    def streaming(self) -> tuple[Wire, Request, Source]:
        wire = self.connect()
        request = self.request(wire)
        request.send_head(200, b"OK", [], None)
        source = Source()
        request.registerProducer(source, True)
        return wire, request, source

    def test_paused_and_resumed(self) -> None:
        """When more than 64 KiB wait for the client, the producer is paused until they are gone."""
        wire, request, source = self.streaming()
        wire.room = 0
        request.write(b"x" * 60_000)
        self.assertEqual(source.told, [])
        request.write(b"x" * 10_000)
        self.assertEqual(source.told, ["pause"])
        self.assertTrue(request.waits_for_client)
        wire.make_room(69_000)
        self.assertEqual(source.told, ["pause"])
        wire.make_room()
        self.assertEqual(source.told, ["pause", "resume"])
        self.assertFalse(request.waits_for_client)

    def test_joins_late(self) -> None:
        """A producer that joins when too much is waiting already is paused at once."""
        wire = self.connect()
        request = self.request(wire)
        wire.room = 0
        request.send_head(200, b"OK", [], None)
        request.write(b"x" * 100_000)
        source = Source()
        request.registerProducer(source, True)
        self.assertEqual(source.told, ["pause"])
        wire.make_room()
        self.assertEqual(source.told, ["pause", "resume"])

    def test_done(self) -> None:
        """A producer that is done is told nothing more."""
        wire, request, source = self.streaming()
        request.unregisterProducer()
        request.unregisterProducer()
        wire.room = 0
        request.write(b"x" * 100_000)
        request.finish()
        wire.make_room()
        self.assertEqual(source.told, [])
        self.assertLives(wire)

    def test_answer_is_over(self) -> None:
        """The end of the answer lets go of its producer; the next answer has its own."""
        wire, request, source = self.streaming()
        request.finish()
        second = self.request(wire)
        second.send_head(200, b"OK", [], None)
        other = Source()
        second.registerProducer(other, True)
        wire.room = 0
        second.write(b"x" * 100_000)
        self.assertEqual((source.told, other.told), ([], ["pause"]))

    def test_comes_too_late(self) -> None:
        """A producer for an answer that is over, as its client has left, is stopped at once."""
        wire = self.connect()
        request = self.request(wire)
        wire.leave()
        source = Source()
        request.registerProducer(source, True)
        self.assertEqual(source.told, ["stop"])

    def test_waits_for_client(self) -> None:
        """It is the client that is waited for when it does not read, or does not send what somebody wants."""
        wire = self.connect()
        request = self.request(wire, post(10))
        self.assertFalse(request.waits_for_client)
        Taker(request)
        self.assertTrue(request.waits_for_client)
        request.pauseProducing()
        self.assertFalse(request.waits_for_client)
        request.resumeProducing()
        wire.send(b"helloworld")
        self.assertFalse(request.waits_for_client)

    def test_endless_answer_is_bounded(self) -> None:
        """A producer that stops when it is told to keeps no more than 64 KiB and one block waiting, whatever it has."""
        wire, request, source = self.streaming()
        wire.room = 50_000
        for _ in range(1000):
            if source.told[-1:] == ["pause"]:
                break
            request.write(b"x" * 10_000)
            self.turns.settle()
        self.assertEqual(source.told, ["pause"])
        self.assertLess(wire.unsent, 65_536 + 11_000)
        self.turns.pass_time(LIMITS.stall_timeout - 1)
        self.assertEqual(self.gone, [])
