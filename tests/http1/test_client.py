"""One connection to the upstream: answers are read strictly, and nothing that breaks off looks complete."""

from __future__ import annotations

import itertools

import h11
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from openai_relay.core.errors import BadRequest, UpstreamClosed, UpstreamMalformed, UpstreamTimeout
from openai_relay.http1.client import MAX_HEAD, MAX_INTERIM, StaleConnection
from openai_relay.tls.transport import TLSTruncated
from tests.http1.asking import CHUNKED, HOST, LIMITS, OK, UNTIL_CLOSE, Asked, Body, ClientCase
from tests.http1.wire import Wire

HEAD = b"POST /v1 HTTP/1.1\r\nHost: api.example\r\n"


class RequestTests(ClientCase):
    """What goes out."""

    def test_interfaces(self) -> None:
        """It is told when its handshake is done."""
        verifyObject(IHandshakeListener, self.connect().protocol)

    def test_ready(self) -> None:
        """Requests can be sent at once on plain TCP, and after the handshake on TLS."""
        self.successResultOf(self.connect().protocol.ready)
        connection = self.connect(handshaken=False).protocol
        self.assertNoResult(connection.ready)
        connection.handshakeCompleted()
        self.successResultOf(connection.ready)

    def test_lost_in_the_handshake(self) -> None:
        """A connection that is lost in its handshake is never ready, and says why."""
        wire = self.connect(handshaken=False)
        error = ConnectionLost("no certificate that we trust")
        wire.leave(error)
        self.assertIs(self.failureResultOf(wire.protocol.ready).value, error)

    def test_nobody_waits_for_the_handshake(self) -> None:
        """Who no longer waits for the handshake resets the connection."""
        wire = self.connect(handshaken=False)
        wire.protocol.ready.cancel()
        self.turns.settle()
        self.assertEqual((wire.ended, wire.connected), ("reset", 0))
        self.failureResultOf(wire.protocol.ready, CancelledError)

    def test_without_a_body(self) -> None:
        """A request without a body is one write: its line and its fields as they are."""
        wire = self.connect()
        self.ask(wire, b"GET", fields=[(b"HOST", b"a"), (b"x-A", b"1"), (b"X-a", b"")])
        self.assertEqual(wire.blocks, [b"GET /v1 HTTP/1.1\r\nHOST: a\r\nx-A: 1\r\nX-a: \r\n\r\n"])

    def test_with_a_length(self) -> None:
        """A body with a length goes out as it is; the head takes what is there of it along in one write."""
        wire = self.connect()
        body = Body(10, b"he")
        self.ask(wire, b"POST", body, [*HOST, (b"Content-Length", b"10")])
        self.assertEqual(wire.blocks, [HEAD + b"Content-Length: 10\r\n\r\nhe"])
        body.consumer.write(b"llo")
        body.consumer.write(b"world")
        body.whole.callback(None)
        self.assertEqual(wire.blocks[1:], [b"llo", b"world"])

    def test_head_first(self) -> None:
        """A head does not wait for a body that is yet to come."""
        wire = self.connect()
        self.ask(wire, b"POST", Body(10), [*HOST, (b"Content-Length", b"10")])
        self.assertEqual(wire.taken(), HEAD + b"Content-Length: 10\r\n\r\n")

    def test_chunked(self) -> None:
        """A body without a length is chunked: one chunk for each block, and the last one only when it is complete."""
        wire = self.connect()
        body = Body(None, b"hello")
        self.ask(wire, b"POST", body)
        self.assertEqual(wire.blocks, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"])
        body.consumer.write(b"")
        body.consumer.write(b"x" * 16)
        self.assertEqual(wire.blocks[1:], [b"10\r\n" + b"x" * 16 + b"\r\n"])
        body.whole.callback(None)
        self.assertEqual(wire.blocks[2:], [b"0\r\n\r\n"])

    def test_trailers(self) -> None:
        """The trailers that the body has at its end go out behind it."""
        wire = self.connect()
        body = Body(None, b"a")
        self.ask(wire, b"POST", body)
        body.trailers = [(b"X-Sum", b"1")]
        body.whole.callback(None)
        self.assertEqual(wire.blocks[1:], [b"0\r\nX-Sum: 1\r\n\r\n"])

    def test_whole_body_at_once(self) -> None:
        """A body that is there already goes out with the head, and nobody is registered to be paused."""
        for length, rest in ((5, b"\r\nhello"), (None, b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")):
            with self.subTest(length=length):
                wire = self.connect()
                self.ask(wire, b"POST", Body(length, b"hello", complete=True))
                self.assertEqual(wire.taken(), HEAD + rest)
                self.assertIsNone(wire.producer)

    def test_taken_whole(self) -> None:
        """A body that says that it is there as a whole is not asked to produce: head, body and end are one write."""

        class Whole(Body):
            def take_whole(self) -> bytes | None:
                return b"".join(self._blocks)

        for length, block, rest in (
            (5, b"hello", b"\r\nhello"),
            (None, b"hello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: b\r\n\r\n"),
            (None, b"", b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: b\r\n\r\n"),
        ):
            with self.subTest(rest=rest):
                wire = self.connect()
                body = Whole(length, block)
                body.trailers = [(b"X-A", b"b")]
                asked = self.ask(wire, b"POST", body)
                self.assertEqual((wire.blocks, body.consumer, wire.producer), ([HEAD + rest], None, None))
                wire.send(OK)
                self.assertEqual((asked.sink.complete, body.told, self.free.pop()), (True, [], True))

    def test_not_there_as_a_whole(self) -> None:
        """A body that says that it is not there as a whole is asked to produce."""

        class Partial(Body):
            def take_whole(self) -> bytes | None:
                return None

        wire = self.connect()
        body = Partial(None, b"a")
        self.ask(wire, b"POST", body)
        body.whole.callback(None)
        self.assertTrue(wire.taken().endswith(b"\r\n\r\n1\r\na\r\n0\r\n\r\n"))

    @given(st.lists(st.binary(max_size=40), max_size=5), st.booleans(), st.integers(0, 5))
    def test_h11_reads_it(self, blocks: list[bytes], chunked: bool, early: int) -> None:
        """Whatever is sent, another reader finds the same body, and its end."""
        self.setUp()
        wire = self.connect()
        whole = b"".join(blocks)
        body = Body(None if chunked else len(whole), *blocks[:early])
        self.ask(wire, b"POST", body, [*HOST, *([] if chunked else [(b"Content-Length", b"%d" % len(whole))])])
        for block in blocks[early:]:
            body.consumer.write(block)
        body.whole.callback(None)
        reader = h11.Connection(h11.SERVER)
        reader.receive_data(wire.taken())
        self.assertIsInstance(reader.next_event(), h11.Request)
        read = b""
        while isinstance(event := reader.next_event(), h11.Data):
            read += event.data
        self.assertEqual(read, whole)
        self.assertIsInstance(event, h11.EndOfMessage)

    def test_upstream_paces_the_body(self) -> None:
        """An upstream that does not read pauses the body, until it does."""
        wire = self.connect()
        wire.room = 0
        body = Body(None, b"a")
        asked = self.ask(wire, b"POST", body)
        body.consumer.write(b"x" * 100_000)
        self.assertEqual(body.told, ["pause"])
        wire.make_room()
        self.assertEqual(body.told, ["pause", "resume"])
        body.whole.callback(None)
        wire.send(OK)
        self.assertEqual((asked.sink.body, body.told, wire.producer), (b"ok", ["pause", "resume"], None))


class BrokenRequestTests(ClientCase):
    """Bodies that break off: the upstream must not take them for complete."""

    def assertReset(self, wire: Wire) -> None:
        self.turns.settle()
        self.assertEqual((wire.ended, wire.connected), ("reset", 0))
        self.assertNotIn(True, self.free)
        self.assertNotIn(b"0\r\n\r\n", b"".join(wire.blocks))

    def test_while_waiting(self) -> None:
        """A body that breaks off before the answer fails the request with the same error, and resets."""
        wire = self.connect()
        body = Body(None, b"hello")
        asked = self.ask(wire, b"POST", body)
        body.whole.errback(BadRequest())
        self.assertIsInstance(asked.failure, BadRequest)
        self.assertReset(wire)
        self.assertEqual(body.told, [])

    def test_at_once(self) -> None:
        """A body that is broken from the start sends nothing at all, not even a head."""
        wire = self.connect()
        asked = self.ask(wire, b"POST", Body(None, error=BadRequest()))
        self.assertIsInstance(asked.failure, BadRequest)
        self.assertEqual(wire.taken(), b"")
        self.assertReset(wire)

    def test_during_the_answer(self) -> None:
        """A body that breaks off during the answer ends that with the same error, and is told to who takes it."""
        wire = self.connect()
        body = Body(None, b"hello")
        asked = self.ask(wire, b"POST", body)
        wire.send(CHUNKED + b"1\r\na\r\n")
        body.whole.errback(BadRequest())
        self.assertEqual(asked.sink.body, b"a")
        self.assertIsInstance(asked.sink.reasons[0].value, BadRequest)
        self.assertReset(wire)

    def test_before_the_answer_is_taken(self) -> None:
        """A body that breaks off between the answer's head and its taker: who comes to take it is told."""
        wire = self.connect()
        body = Body(None, b"hello")
        asked = self.ask(wire, b"POST", body, late=True)
        wire.send(CHUNKED + b"1\r\na\r\n")
        body.whole.errback(BadRequest())
        asked.head.deliverBody(asked.sink)
        self.assertEqual((asked.sink.body, asked.sink.complete), (b"", False))
        self.assertEqual(len(asked.sink.reasons), 1)
        self.assertReset(wire)

    def test_after_the_connection_was_lost(self) -> None:
        """A body that breaks off or ends after the connection was lost changes nothing any more."""
        for ending in ("errback", "callback"):
            with self.subTest(ending=ending):
                wire = self.connect()
                body = Body(None, b"hello")
                asked = self.ask(wire, b"POST", body)
                wire.leave()
                blocks = list(wire.blocks)
                body.consumer.write(b"more")
                if ending == "errback":
                    body.whole.errback(BadRequest())
                else:
                    body.whole.callback(None)
                self.assertIsInstance(asked.failure, UpstreamClosed)
                self.assertEqual((wire.blocks, body.told), (blocks, ["stop"]))


class AnswerTests(ClientCase):
    """What comes back."""

    def test_head(self) -> None:
        """The head is told as soon as it is there: status, reason, version, and fields in order and case."""
        wire = self.connect()
        asked = self.ask(wire)
        wire.send(b"HTTP/1.0 429 Slow  down\r\nX-a: 1\r\nx-A: 2\r\nContent-Length: 5\r\n\r\n")
        head = asked.head
        self.assertEqual((head.code, head.phrase, head.version), (429, b"Slow  down", (b"HTTP", 1, 0)))
        self.assertEqual(head.fields, [(b"X-a", b"1"), (b"x-A", b"2"), (b"Content-Length", b"5")])
        self.assertEqual((head.length, asked.sink.reasons), (5, []))

    def test_blocks_as_they_come(self) -> None:
        """Each block of the body is passed on in the turn in which it came, whatever the framing."""
        for head, blocks in (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", [b"hello", b"world"]),
            (CHUNKED, [b"5\r\nhello\r\n", b"5\r\nworld\r\n"]),
            (UNTIL_CLOSE, [b"hello", b"world"]),
        ):
            with self.subTest(head=head):
                wire = self.connect()
                asked = self.ask(wire)
                wire.send(head + blocks[0])
                self.assertEqual(asked.sink.blocks, [b"hello"])
                wire.send(blocks[1])
                self.assertEqual(asked.sink.blocks, [b"hello", b"world"])

    @given(st.sampled_from([b"length", b"chunked", b"close", b"none"]), st.data())
    def test_any_cutting(self, framing: bytes, data: st.DataObject) -> None:
        """Interim answers, head, body, trailers and end are the same wherever the blocks are cut."""
        self.setUp()
        body = data.draw(st.binary(max_size=30)) if framing != b"none" else b""
        encoded = {
            b"length": b"Content-Length: %d\r\n\r\n%b" % (len(body), body),
            b"chunked": b"Transfer-Encoding: chunked\r\n\r\n%b0\r\nX-T: u\r\n\r\n"
            % (b"%x\r\n%b\r\n" % (len(body), body) if body else b""),
            b"close": b"X-A: b\r\n\r\n" + body,
            b"none": b"Content-Length: 0\r\n\r\n",
        }[framing]
        sent = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n" + encoded
        wire = self.connect()
        told: list[int] = []
        asked = self.ask(wire, interim=lambda status, reason, fields: told.append(status))
        places = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
        for start, end in itertools.pairwise([0, *places, len(sent)]):
            if start < end:
                wire.send(sent[start:end])
        if framing == b"close":
            self.assertEqual(asked.sink.reasons, [])
            wire.leave(ConnectionDone())
        self.assertEqual((told, asked.sink.body, asked.sink.complete), ([103], body, True))
        self.assertEqual(asked.head.trailers, [(b"X-T", b"u")] if framing == b"chunked" else [])
        self.assertEqual(self.free, [framing != b"close"])

    def test_reused(self) -> None:
        """After a complete exchange the connection is free for the next, which finds nothing of the one before."""
        wire = self.connect()
        for answer, body in ((OK, b"ok"), (CHUNKED + b"1\r\na\r\n0\r\nX-T: u\r\n\r\n", b"a"), (OK, b"ok")):
            asked = self.ask(wire)
            self.assertFalse(asked.waiting.called)
            wire.send(answer)
            self.assertEqual((asked.sink.body, asked.sink.complete), (body, True))
        self.assertEqual((self.free, wire.protocol.used, wire.protocol.lost), ([True] * 3, True, False))
        self.assertEqual(asked.head.trailers, [])

    def test_no_body(self) -> None:
        """
        Answers to HEAD, and 204 and 304, are complete with their head, whatever their fields say.

        A 204 may not say that (RFC 9110 §8.6): who sends it may send a body, too, so its connection ends.
        """
        for method, status in ((b"HEAD", 200), (b"GET", 204), (b"GET", 304)):
            for line in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
                with self.subTest(method=method, status=status, line=line):
                    wire = self.connect()
                    asked = self.ask(wire, method)
                    wire.send(b"HTTP/1.1 %d X\r\n%b\r\n\r\n" % (status, line))
                    self.assertEqual((asked.sink.body, asked.sink.complete), (b"", True))
                    self.assertEqual(self.free.pop(), status != 204)

    def test_not_reused(self) -> None:
        """A connection is reset after an answer that says close, is HTTP/1.0, or is followed by bytes of no answer."""
        for answer in (
            OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
            OK.replace(b"1.1", b"1.0"),
            OK + b"x",
            OK + OK,
            CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + OK,
            CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n") + b"2\r\nok\r\n0\r\n\r\n",
        ):
            with self.subTest(answer=answer):
                self.free.clear()
                wire = self.connect()
                asked = self.ask(wire)
                wire.send(answer)
                self.assertEqual((asked.sink.body, asked.sink.complete), (b"ok", True))
                self.assertEqual((wire.ended, wire.connected, self.free), ("reset", 0, [False]))

    def test_leftover_behind_no_body(self) -> None:
        """Bytes behind an answer that has no body are nobody's, and the connection is not used again."""
        wire = self.connect()
        asked = self.ask(wire, b"HEAD")
        wire.send(OK)
        self.assertEqual((asked.sink.body, asked.sink.complete, wire.ended), (b"", True, "reset"))

    def test_unasked_bytes(self) -> None:
        """An idle connection on which something comes is reset: nobody ever sees what it was."""
        for answered in (False, True):
            with self.subTest(answered=answered):
                wire = self.connect()
                if answered:
                    self.ask(wire)
                    wire.send(OK)
                wire.send(OK)
                self.assertEqual((wire.ended, wire.protocol.lost), ("reset", True))

    def test_lost_at_once(self) -> None:
        """A connection that is being reset says so before its transport does: nobody may ask on it meanwhile."""
        wire = self.connect()
        wire.protocol.dataReceived(b"x")
        self.assertEqual((wire.connected, wire.protocol.lost), (1, True))

    def test_next_request_from_within(self) -> None:
        """Who asks again as soon as an answer is complete, on the same connection, gets the next answer."""
        wire = self.connect()
        first = self.ask(wire, late=True)
        again: list[Asked] = []

        def answered(reason: object) -> None:
            again.append(Asked(wire.protocol.request(b"GET", b"/2", HOST, None), late=False))

        first.sink.connectionLost = answered  # type: ignore[assignment,method-assign]
        first.waiting.addCallback(lambda _: first.head.deliverBody(first.sink))
        wire.send(OK)
        self.assertTrue(wire.reads)
        wire.send(OK)
        self.assertEqual((again[0].sink.body, again[0].sink.complete), (b"ok", True))


class LateBodyTests(ClientCase):
    """Bodies that are taken a while after the head."""

    def test_waits(self) -> None:
        """Until somebody takes the body nothing more is read."""
        wire = self.connect()
        asked = self.ask(wire, late=True)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel")
        wire.send(b"lo")
        self.assertEqual((wire.reads, wire.unread), (False, 2))
        asked.head.deliverBody(asked.sink)
        self.assertEqual(asked.sink.blocks, [b"hel"])
        self.turns.settle()
        wire.send(b"world")
        self.assertEqual((asked.sink.body, asked.sink.complete, self.free), (b"helloworld", True, [True]))

    def test_everything_has_come(self) -> None:
        """A body that was complete before anybody took it is given whole, and the connection is free then."""
        for answer in (OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n", b"HTTP/1.1 204 X\r\n\r\n"):
            with self.subTest(answer=answer):
                self.free.clear()
                wire = self.connect()
                asked = self.ask(wire, late=True)
                wire.send(answer)
                self.assertEqual((self.free, asked.sink.reasons), ([], []))
                asked.head.deliverBody(asked.sink)
                self.assertEqual((asked.sink.body, asked.sink.complete), (b"" if b"204" in answer else b"ok", True))
                self.assertEqual((self.free, wire.reads), ([True], True))

    def test_pauses_with_its_first_block(self) -> None:
        """Who takes a body may pause it with the first block, and gets no more."""
        wire = self.connect()
        asked = self.ask(wire, late=True)
        wire.send(CHUNKED + b"1\r\na\r\n")
        wire.send(b"1\r\nb\r\n")
        asked.sink.then = asked.head.pauseProducing
        asked.head.deliverBody(asked.sink)
        self.turns.settle()
        self.assertEqual((asked.sink.body, wire.reads), (b"a", False))
        asked.sink.then = None
        asked.head.resumeProducing()
        self.turns.settle()
        self.assertEqual(asked.sink.body, b"ab")

    def test_pauses_with_its_last_block(self) -> None:
        """Who pauses a body with its last block has got it all, and leaves no paused connection behind."""
        wire = self.connect()
        asked = self.ask(wire)
        wire.send(CHUNKED)
        asked.sink.then = asked.head.pauseProducing
        wire.send(b"2\r\nok\r\n0\r\n\r\n")
        self.assertEqual((asked.sink.complete, self.free, wire.reads), (True, [True], True))

    def lost_before_it_was_taken(self, answer: bytes, reason: Exception) -> Asked:
        wire = self.connect()
        asked = self.ask(wire, late=True)
        wire.send(answer)
        wire.connectionLost(Failure(reason))
        asked.head.deliverBody(asked.sink)
        self.assertEqual(len(asked.sink.reasons), 1)
        return asked

    def test_lost_after_it_was_complete(self) -> None:
        """A connection that was lost after the body had come takes nothing away from it."""
        for answer in (OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n"):
            asked = self.lost_before_it_was_taken(answer, ConnectionLost())
            self.assertEqual((asked.sink.body, asked.sink.complete), (b"ok", True))

    def test_lost_before_it_was_complete(self) -> None:
        """A connection that was lost before the body had come fails it, after what there was."""
        for answer, reason in ((CHUNKED + b"1\r\na\r\n", ConnectionDone()), (UNTIL_CLOSE + b"a", TLSTruncated())):
            asked = self.lost_before_it_was_taken(answer, reason)
            self.assertEqual((asked.sink.body, asked.sink.complete), (b"a", False))
            asked.sink.reasons[0].trap(UpstreamClosed)

    def test_ended_by_the_close(self) -> None:
        """A body that its connection's close ends is complete if that was in good order."""
        asked = self.lost_before_it_was_taken(UNTIL_CLOSE + b"a", ConnectionDone())
        self.assertEqual((asked.sink.body, asked.sink.complete), (b"a", True))


class InterimTests(ClientCase):
    """1xx answers."""

    def test_passed_on(self) -> None:
        """Interim answers are passed on as they come, and the final one is waited for."""
        wire = self.connect()
        told: list[tuple[int, bytes, object]] = []
        asked = self.ask(wire, interim=lambda *interim: told.append(interim))
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n")
        self.assertEqual(told, [(100, b"Continue", []), (103, b"Early", [(b"Link", b"x")])])
        self.assertFalse(asked.waiting.called)
        wire.send(OK)
        self.assertEqual((asked.head.code, asked.sink.complete, self.free), (200, True, [True]))

    def test_nobody_wants_them(self) -> None:
        """Without anybody to tell they are passed over."""
        wire = self.connect()
        asked = self.ask(wire)
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
        self.assertEqual(asked.head.code, 200)

    def test_flood(self) -> None:
        """Sixteen are passed over; one more is refused, in one block or in many."""
        interim = b"HTTP/1.1 102 Processing\r\n\r\n"
        wire = self.connect()
        asked = self.ask(wire)
        wire.send(interim * MAX_INTERIM + OK)
        self.assertEqual(asked.head.code, 200)
        for blocks in ([interim * (MAX_INTERIM + 1)], [interim] * (MAX_INTERIM + 1)):
            wire = self.connect()
            asked = self.ask(wire)
            for block in blocks:
                wire.send(block)
            self.assertIsInstance(asked.failure, UpstreamMalformed)
            self.assertEqual(wire.ended, "reset")

    def test_unasked_upgrade(self) -> None:
        """101 is refused: nobody asked for another protocol."""
        wire = self.connect()
        told: list[object] = []
        asked = self.ask(wire, interim=lambda *interim: told.append(interim))
        wire.send(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nGET")
        self.assertIsInstance(asked.failure, UpstreamMalformed)
        self.assertEqual((told, wire.ended), ([], "reset"))


class CutTests(ClientCase):
    """Answers that are malformed or break off."""

    def assertFailed(self, wire: Wire, asked: Asked, error: type[Exception]) -> None:
        self.assertIs(type(asked.failure), error)
        self.assertEqual((wire.connected, wire.protocol.lost), (0, True))
        self.assertNotIn(True, self.free)

    def assertCut(self, asked: Asked, body: bytes, error: type[Exception]) -> None:
        self.assertEqual(asked.sink.body, body)
        self.assertEqual([reason.type for reason in asked.sink.reasons], [error])
        self.assertNotIn(True, self.free)

    def test_malformed_head(self) -> None:
        """A malformed head fails the request and resets the connection."""
        for head in (
            b"HTTP/1.1 1000 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 20 OK\r\n\r\n",
        ):
            with self.subTest(head=head):
                wire = self.connect()
                asked = self.ask(wire)
                wire.send(head)
                self.assertFailed(wire, asked, UpstreamMalformed)

    def test_not_http(self) -> None:
        """What does not begin as HTTP/1 is refused at its first bytes, not at an end that may never come."""
        for start in (b"220 mail.example ESMTP\r\n", b"<", b"HTTP/2", b"\x15\x03\x01", b"\r\n", b"HTTP/1,"):
            with self.subTest(start=start):
                wire = self.connect()
                asked = self.ask(wire)
                wire.send(start)
                self.assertFailed(wire, asked, UpstreamMalformed)

    def test_long_head_byte_by_byte(self) -> None:
        """A long head is read however small the pieces are that it comes in, one after an interim answer too."""
        head = b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\n" + b"X-A: bcd\r\n" * 200 + b"Content-Length: 0\r\n\r\n"
        wire = self.connect()
        asked = self.ask(wire)
        for i in range(len(head)):
            wire.send(head[i : i + 1], at_once=False)
        self.turns.settle()
        self.assertEqual((len(asked.head.fields), asked.sink.complete), (201, True))

    def test_bare_line_end_at_a_cut(self) -> None:
        """A head with a bare line end is refused before its end, wherever the blocks are cut."""
        for blocks in ([b"HTTP/1.1 200 OK\nA: b\n"], [b"HTTP/1.1 200 OK", b"\n"], [b"HTTP/1.1 200 OK\r", b"A"]):
            with self.subTest(blocks=blocks):
                wire = self.connect()
                asked = self.ask(wire)
                for block in blocks:
                    wire.send(block)
                self.assertFailed(wire, asked, UpstreamMalformed)

    def test_too_large_head(self) -> None:
        """A head of 64 KiB passes; a longer one is refused, complete or not."""
        filled = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: "
        filled += b"b" * (MAX_HEAD - len(filled) - 4)
        wire = self.connect()
        asked = self.ask(wire)
        wire.send(filled + b"\r\n\r\n")
        self.assertEqual(asked.head.code, 200)
        self.free.clear()
        for head in (filled + b"b\r\n\r\n", filled + b"bbbbb"):
            wire = self.connect()
            asked = self.ask(wire)
            wire.send(head)
            self.assertFailed(wire, asked, UpstreamMalformed)

    def test_lost_before_the_answer(self) -> None:
        """A connection that is lost before the answer, or in its head, fails the request."""
        for start in (b"", b"HT", b"HTTP/1.1 200 OK\r\nA: b\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"):
            with self.subTest(start=start):
                wire = self.connect()
                asked = self.ask(wire)
                wire.send(start)
                wire.leave()
                self.assertFailed(wire, asked, UpstreamClosed)

    def test_stale(self) -> None:
        """Only a kept connection that gave not one byte is stale: only then was surely nothing answered."""
        for start, error in (
            (b"", StaleConnection),
            (b"H", UpstreamClosed),
            (b"HTTP/1.1 100 Continue\r\n\r\n", UpstreamClosed),
        ):
            for reason in (ConnectionDone(), ConnectionLost(), TLSTruncated()):
                with self.subTest(start=start, reason=reason):
                    wire = self.connect()
                    self.ask(wire)
                    wire.send(OK)
                    self.free.clear()
                    asked = self.ask(wire)
                    wire.send(start)
                    wire.leave(reason)
                    self.assertFailed(wire, asked, error)

    def test_cut_in_the_body(self) -> None:
        """A body that its framing says is not complete fails when the connection is lost, however politely."""
        for answer, body in (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", b"hell"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b""),
            (CHUNKED, b""),
            (CHUNKED + b"5\r\nhell", b"hell"),
            (CHUNKED + b"5\r\nhello\r\n", b"hello"),
            (CHUNKED + b"5\r\nhello\r\n0\r\n", b"hello"),
            (CHUNKED + b"5\r\nhello\r\n0\r\nX-A: b\r\n", b"hello"),
        ):
            for reason in (ConnectionDone(), ConnectionLost()):
                with self.subTest(answer=answer, reason=reason):
                    wire = self.connect()
                    asked = self.ask(wire)
                    wire.send(answer)
                    self.assertEqual(asked.sink.reasons, [])
                    wire.leave(reason)
                    self.assertCut(asked, body, UpstreamClosed)

    def test_ended_by_the_close(self) -> None:
        """A body that the close ends is complete when that was in good order, and cut when it was not."""
        for reason, complete in (
            (ConnectionDone(), True),
            (TLSTruncated("no close_notify"), False),
            (ConnectionLost(), False),
        ):
            with self.subTest(reason=reason):
                wire = self.connect()
                asked = self.ask(wire)
                wire.send(UNTIL_CLOSE + b"hello")
                wire.leave(reason)
                self.assertEqual((asked.sink.body, asked.sink.complete), (b"hello", complete))
                if not complete:
                    self.assertCut(asked, b"hello", UpstreamClosed)

    def test_malformed_chunks(self) -> None:
        """A malformed body fails where it goes wrong; what was good before has been passed on."""
        for rest in (b"x\r\n", b"5\nhello\r\n", b"-1\r\n", b"0\r\nContent-Length: 5\r\n\r\n"):
            with self.subTest(rest=rest):
                wire = self.connect()
                asked = self.ask(wire)
                wire.send(CHUNKED + b"1\r\na\r\n")
                wire.send(rest)
                self.assertCut(asked, b"a", UpstreamMalformed)
                self.assertEqual(wire.ended, "reset")


class EarlyAnswerTests(ClientCase):
    """Answers that do not wait for the whole request."""

    def test_complete(self) -> None:
        """An answer that is complete before the request is taken; the rest of that is stopped, the connection reset."""
        wire = self.connect()
        body = Body(None, b"hello")
        asked = self.ask(wire, b"POST", body)
        wire.send(OK)
        self.assertEqual((asked.sink.body, asked.sink.complete), (b"ok", True))
        self.assertEqual((body.told, wire.ended, self.free), (["stop"], "reset", [False]))
        body.consumer.write(b"more")
        body.whole.callback(None)
        self.assertNotIn(b"0\r\n\r\n", b"".join(wire.blocks))

    def test_stopped_at_once(self) -> None:
        """The rest of the request is stopped in the same turn: nothing of it is written behind the end."""
        wire = self.connect()
        body = Body(None, b"hello")
        self.ask(wire, b"POST", body)
        wire.protocol.dataReceived(OK)
        self.assertEqual((wire.connected, body.told), (1, ["stop"]))

    def test_only_its_beginning(self) -> None:
        """An answer that begins before the request is complete, and ends after it, is as good as any."""
        wire = self.connect()
        body = Body(None, b"hello")
        asked = self.ask(wire, b"POST", body)
        wire.send(CHUNKED + b"1\r\na\r\n")
        body.consumer.write(b"world")
        body.whole.callback(None)
        wire.send(b"0\r\n\r\n")
        self.assertEqual((asked.sink.body, asked.sink.complete, self.free), (b"a", True, [True]))
        self.assertTrue(wire.taken().endswith(b"0\r\n\r\n"))


class AbortTests(ClientCase):
    """Who asked does not want the answer any more."""

    def test_waiting(self) -> None:
        """Cancelling while the head is waited for resets the connection, and stops the body."""
        wire = self.connect()
        body = Body(None, b"hello")
        asked = self.ask(wire, b"POST", body)
        asked.waiting.cancel()
        self.assertEqual((wire.ended, body.told), ("reset", ["stop"]))
        self.assertIsInstance(asked.failure, CancelledError)
        self.turns.settle()
        self.assertEqual((wire.connected, body.told, self.free), (0, ["stop"], [False]))

    def test_in_the_body(self) -> None:
        """Stopping the body resets the connection and stops the request's body; its taker is told nothing more."""
        wire = self.connect()
        body = Body(None, b"hello")
        asked = self.ask(wire, b"POST", body)
        wire.send(CHUNKED + b"1\r\na\r\n")
        asked.head.stopProducing()
        wire.protocol.dataReceived(b"1\r\nb\r\n")
        self.turns.settle()
        self.assertEqual((asked.sink.body, asked.sink.reasons), (b"a", []))
        self.assertEqual((wire.ended, body.told, self.free), ("reset", ["stop"], [False]))

    def test_with_the_last_block(self) -> None:
        """Stopping the body from within its last block is no end of it."""
        for answer in (OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n"):
            with self.subTest(answer=answer):
                self.free.clear()
                wire = self.connect()
                asked = self.ask(wire, late=True)
                asked.sink.then = lambda asked=asked: asked.head.stopProducing()
                wire.send(answer)
                asked.head.deliverBody(asked.sink)
                self.turns.settle()
                self.assertEqual((asked.sink.body, asked.sink.reasons), (b"ok", []))
                self.assertEqual((wire.ended, self.free), ("reset", [False]))

    def test_before_it_was_taken(self) -> None:
        """An answer that was aborted before its body was taken has none to give."""
        wire = self.connect()
        asked = self.ask(wire, late=True)
        wire.send(OK)
        asked.head.stopProducing()
        asked.head.deliverBody(asked.sink)
        self.assertEqual(asked.sink.body, b"")
        asked.sink.reasons[0].trap(UpstreamClosed)
        self.assertEqual(wire.ended, "reset")


class TimeOutTests(ClientCase):
    """Every wait for the upstream ends."""

    def assertTimedOut(self, wire: Wire) -> None:
        self.assertEqual((wire.ended, wire.connected), ("reset", 0))
        self.assertNotIn(True, self.free)

    def test_first_byte(self) -> None:
        """A head that does not come in time fails the request."""
        wire = self.connect()
        asked = self.ask(wire)
        self.sweep(wire, LIMITS.first_byte_timeout - 1)
        self.assertFalse(asked.waiting.called)
        self.sweep(wire, 2)
        self.assertIsInstance(asked.failure, UpstreamTimeout)
        self.assertTimedOut(wire)

    def test_first_byte_after_an_upload(self) -> None:
        """The wait for the head begins when the request has been sent, however long that took."""
        wire = self.connect()
        body = Body(None, b"hello")
        asked = self.ask(wire, b"POST", body)
        self.sweep(wire, 3 * LIMITS.first_byte_timeout)
        self.assertFalse(asked.waiting.called)
        body.whole.callback(None)
        self.sweep(wire, LIMITS.first_byte_timeout - 1)
        self.assertFalse(asked.waiting.called)
        self.sweep(wire, 2)
        self.assertIsInstance(asked.failure, UpstreamTimeout)
        self.assertEqual(body.told, [])

    def test_upstream_does_not_read(self) -> None:
        """An upstream that does not take the request is given up: the body is stopped, the request fails."""
        wire = self.connect()
        wire.room = 0
        body = Body(None, b"hello")
        asked = self.ask(wire, b"POST", body)
        body.consumer.write(b"x" * 100_000)
        self.sweep(wire, LIMITS.first_byte_timeout + 1)
        self.assertIsInstance(asked.failure, UpstreamTimeout)
        self.assertEqual(body.told, ["pause", "stop"])
        self.assertTimedOut(wire)

    def test_silence_in_the_body(self) -> None:
        """A body that stops coming is given up: who takes it is told."""
        wire = self.connect()
        asked = self.ask(wire)
        wire.send(CHUNKED + b"1\r\na\r\n")
        for _ in range(3):
            self.sweep(wire, LIMITS.idle_timeout - 1)
            wire.send(b"1\r\nb\r\n")
        self.assertEqual(asked.sink.reasons, [])
        self.sweep(wire, LIMITS.idle_timeout + 1)
        self.assertEqual(asked.sink.body, b"abbb")
        asked.sink.reasons[0].trap(UpstreamTimeout)
        self.assertTimedOut(wire)

    def test_paused_by_us(self) -> None:
        """While it is we who do not read, the upstream is not blamed; its time begins when we read again."""
        wire = self.connect()
        asked = self.ask(wire)
        wire.send(CHUNKED + b"1\r\na\r\n")
        asked.head.pauseProducing()
        self.sweep(wire, 3 * LIMITS.idle_timeout)
        self.assertEqual(asked.sink.reasons, [])
        asked.head.resumeProducing()
        self.sweep(wire, LIMITS.idle_timeout - 1)
        self.assertEqual(asked.sink.reasons, [])
        self.sweep(wire, 2)
        asked.sink.reasons[0].trap(UpstreamTimeout)

    def test_upload_during_the_answer(self) -> None:
        """An upstream that has begun its answer, and waits for the rest of the request, is not blamed either."""
        wire = self.connect()
        body = Body(None, b"hello")
        asked = self.ask(wire, b"POST", body)
        wire.send(CHUNKED + b"1\r\na\r\n")
        self.sweep(wire, 3 * LIMITS.idle_timeout)
        self.assertEqual(asked.sink.reasons, [])
        body.whole.callback(None)
        self.sweep(wire, LIMITS.idle_timeout + 1)
        asked.sink.reasons[0].trap(UpstreamTimeout)

    def test_idle(self) -> None:
        """A connection on which nothing is asked is let go before the upstream would do it."""
        wire = self.connect()
        self.ask(wire)
        wire.send(OK)
        self.sweep(wire, LIMITS.keepalive_timeout - 1)
        self.assertEqual(wire.ended, "")
        self.sweep(wire, 2)
        self.assertEqual((wire.ended, self.free), ("reset", [True, False]))

    def test_busy(self) -> None:
        """A connection that is always seen idle, but after another exchange each time, is kept."""
        wire = self.connect()
        for _ in range(300):
            self.ask(wire)
            wire.send(OK)
            self.sweep(wire, 0.5)
        self.assertEqual(wire.ended, "")

    def test_busy_with_equal_waits(self) -> None:
        """A connection that is always seen waiting for an equal answer is not taken for one that waits all the time."""
        wire = self.connect()
        for _ in range(300):
            asked = self.ask(wire)
            self.sweep(wire, 0.5)
            wire.send(OK)
            self.assertTrue(asked.sink.complete)
        self.assertEqual(wire.ended, "")
