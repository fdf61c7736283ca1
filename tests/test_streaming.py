"""Stream: each block goes on in the call that brought it, and who does not read stops who sends."""

from __future__ import annotations

import gc

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from openai_relay.core.errors import UpstreamClosed
from openai_relay.http1.client import ClientConnection, ClientLimits
from openai_relay.http1.request import Request
from openai_relay.http1.response import Response
from openai_relay.http1.server import HTTPServerFactory
from openai_relay.streaming import ResponseRelay
from tests.doubles import TurningReactor, Wire
from tests.relay_case import STREAM_HEAD, RelayCase, answer, chunk, read_answers, request

blocks = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=20)


class LeftoverTests(RelayCase):
    """What an exchange leaves behind."""

    def test_no_cycles(self) -> None:
        """Neither a stream nor an answer leaves work to the garbage collector, whose pauses everybody would feel."""
        chat = b'{"model":"m","stream":true,"messages":[]}'
        wire = self.asked(request("POST", "/v1/chat/completions", "Content-Type: application/json", body=chat))
        self.upstream_wire().receive(STREAM_HEAD + chunk(b"data: {}\n\n") + chunk(b""))
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for head in (STREAM_HEAD + chunk(b"data: {}\n\n") + chunk(b""), answer(b'{"usage":{"prompt_tokens":1}}')):
            wire.receive(request("POST", "/v1/chat/completions", "Content-Type: application/json", body=chat))
            self.upstream_wire().receive(head)
        self.assertEqual(gc.collect(), 0)


class DownwardTests(RelayCase):
    """From the upstream to the client."""

    def test_head_at_once(self) -> None:
        """The head of a stream goes on when it comes, though no event is there yet."""
        wire = self.asked()
        self.upstream_wire().receive(STREAM_HEAD)
        self.assertEqual(
            self.took(wire),
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nx-request-id: req_1\r\n"
            b"X-Accel-Buffering: no\r\nserver-timing: relay;dur=0.000\r\nx-relay-request-id: rly_0\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n",
        )

    def test_each_block_at_once(self) -> None:
        """Each block is on its way, in one chunk, when the call that brought it returns."""
        wire = self.asked()
        self.upstream_wire().receive(STREAM_HEAD)
        self.took(wire)
        for number in range(5):
            event = b"data: %d\n\n" % number
            self.upstream_wire().receive(chunk(event))
            self.assertEqual(self.took(wire), chunk(event))

    def test_head_and_block_together(self) -> None:
        """A block that comes with the head goes with it, in one write."""
        wire = self.asked()
        self.upstream_wire().receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        written = self.took(wire)
        self.assertTrue(written.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertTrue(written.endswith(b"\r\n\r\n" + chunk(b"data: 1\n\n")))

    def test_part_of_a_chunk(self) -> None:
        """What has come of a chunk goes on, without waiting for the rest of it."""
        wire = self.asked()
        self.upstream_wire().receive(STREAM_HEAD)
        self.took(wire)
        whole = chunk(b"data: a long event\n\n")
        self.upstream_wire().receive(whole[:10])
        self.assertEqual(self.took(wire), chunk(b"data: "))
        self.upstream_wire().receive(whole[10:])
        self.assertEqual(self.took(wire), chunk(b"a long event\n\n"))

    def test_chunks_that_come_together(self) -> None:
        """What comes in one block goes on in one, however the upstream had cut it."""
        wire = self.asked()
        self.upstream_wire().receive(STREAM_HEAD)
        self.took(wire)
        self.upstream_wire().receive(chunk(b"data: 1\n\n") + chunk(b"data: 2\n\n"))
        self.assertEqual(self.took(wire), chunk(b"data: 1\n\ndata: 2\n\n"))

    def test_counted(self) -> None:
        """A counted body goes on as it is, block by block."""
        wire = self.asked()
        self.upstream_wire().receive(answer(b"x" * 10)[:-10])
        self.assertIn(b"Content-Length: 10\r\n", self.took(wire))
        for block in (b"xxx", b"xxxxxx", b"x"):
            self.upstream_wire().receive(block)
            self.assertEqual(self.took(wire), block)
        self.assertRecorded(200, "done")

    def test_no_length(self) -> None:
        """A body that ends with its connection is chunked for the client, and so kept apart from a cut."""
        wire = self.asked()
        self.upstream_wire().receive(b"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\n\r\nabc")
        self.assertTrue(self.took(wire).endswith(b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"abc")))
        self.upstream_wire().lose()
        self.assertEqual(self.took(wire), chunk(b""))
        self.assertRecorded(200, "done")

    def test_trailers(self) -> None:
        """Trailer fields cross, those that could mislead excepted."""
        wire = self.asked()
        self.upstream_wire().receive(STREAM_HEAD + b"0\r\nX-Checksum: abc\r\n\r\n")
        self.assertTrue(self.took(wire).endswith(b"0\r\nX-Checksum: abc\r\n\r\n"))

    def test_buffering_is_for_event_streams(self) -> None:
        """Only a stream of events tells proxies not to hold it back, and only where it does not say so itself."""
        for head, expected in (
            (STREAM_HEAD, 1),
            (STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nx-accel-buffering: yes\r\n\r\n"), 1),
            (STREAM_HEAD.replace(b"text/event-stream", b"application/json"), 0),
        ):
            wire = self.asked()
            self.upstream_wire().receive(head + chunk(b""))
            self.assertEqual(self.took(wire).lower().count(b"x-accel-buffering"), expected)

    @given(blocks, st.data())
    def test_any_cut(self, sent: list[bytes], data: st.DataObject) -> None:
        """However the upstream's bytes are cut, the client reads the same body, and is never behind."""
        stream = STREAM_HEAD + b"".join(map(chunk, sent)) + chunk(b"")
        cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=10)))
        wire = self.asked()
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            self.upstream_wire().receive(stream[start:end])
        (answered,) = read_answers(self.took(wire))
        self.assertEqual((answered.body, answered.complete), (b"".join(sent), True))
        self.assertRecorded(200, "done")
        self.assertEqual(self.closed[-1].bytes_out, len(b"".join(sent)))


class UpwardTests(RelayCase):
    """From the client to the upstream."""

    def test_each_block_at_once(self) -> None:
        """Each block of an upload is on its way when the call that brought it returns, re-framed by us."""
        wire = self.asked(request("POST", "/v1/files", "Transfer-Encoding: chunked"))
        self.assertTrue(self.upstream_wire().taken().endswith(b"Transfer-Encoding: chunked\r\n\r\n"))
        for number in range(5):
            wire.receive(chunk(b"block %d" % number))
            self.assertEqual(self.upstream_wire().taken(), chunk(b"block %d" % number))
        wire.receive(chunk(b""))
        self.assertEqual(self.upstream_wire().taken(), chunk(b""))
        self.upstream_wire().receive(answer())
        self.took(wire)
        self.assertEqual(self.recorded().bytes_in, 35)

    def test_chunk_extensions(self) -> None:
        """Nothing of the client's framing reaches the upstream."""
        self.asked(
            request("POST", "/v1/files", "Transfer-Encoding: chunked") + b"0005;secret=1\r\nhello\r\n0;x\r\n\r\n"
        )
        self.assertTrue(self.upstream_wire().taken().endswith(b"\r\n\r\n" + chunk(b"hello") + chunk(b"")))

    def test_while_connecting(self) -> None:
        """What comes of an upload while there is no upstream yet waits, bounded, and then goes on in order."""
        self.far_end.held = []
        wire = self.asked(request("POST", "/v1/files", "Content-Length: 300000"))
        sent = 0
        while wire.producerState == "producing":
            wire.receive(b"%05d" % (sent // 5) * 2_000)
            sent += 10_000
        self.assertLessEqual(sent, 80_000)
        upstream = self.far_end.accept()
        self.assertEqual(wire.producerState, "producing")
        while sent < 300_000:
            wire.receive(b"%05d" % (sent // 5) * 2_000)
            sent += 10_000
        expected = b"".join([b"%05d" % (start // 5) * 2_000 for start in range(0, 300_000, 10_000)])
        self.assertTrue(upstream.taken().endswith(b"\r\n\r\n" + expected))
        upstream.receive(answer())
        self.took(wire)
        self.assertEqual(self.recorded().bytes_in, 300_000)

    @given(blocks, st.data())
    def test_any_cut(self, sent: list[bytes], data: st.DataObject) -> None:
        """However the client's bytes are cut, the upstream gets the same body."""
        stream = request("POST", "/v1/files", "Transfer-Encoding: chunked") + b"".join(map(chunk, sent)) + chunk(b"")
        cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=10)))
        wire = self.client()
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            wire.receive(stream[start:end])
        upstream = self.upstream_wire()
        _, _, written = upstream.taken().partition(b"\r\n\r\n")
        (uploaded,) = read_answers(STREAM_HEAD + written)
        self.assertEqual((uploaded.body, uploaded.complete), (b"".join(sent), True))
        upstream.receive(answer())
        self.took(wire)
        self.assertEqual(self.closed[-1].bytes_in, len(b"".join(sent)))


class BackPressureTests(RelayCase):
    """Whoever does not read stops whoever sends."""

    def test_slow_client(self) -> None:
        """A client that does not read stops the upstream being read, until it reads again."""
        wire = self.asked()
        upstream = self.upstream_wire()
        upstream.receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        wire.stop_reading()
        self.assertEqual(upstream.producerState, "paused")
        wire.read_again()
        self.assertEqual(upstream.producerState, "producing")

    def test_slow_client_does_not_stop_others(self) -> None:
        """The upstream connections of other clients go on."""
        slow, quick = self.asked(), self.asked()
        for number in (0, 1):
            self.upstream_wire(number).receive(STREAM_HEAD)
        slow.stop_reading()
        self.took(quick)
        self.upstream_wire(1).receive(chunk(b"data: 1\n\n"))
        self.assertEqual(self.took(quick), chunk(b"data: 1\n\n"))

    def test_slow_upstream(self) -> None:
        """An upstream that does not read stops the client being read, until it reads again."""
        wire = self.asked(request("POST", "/v1/files", "Content-Length: 100") + b"x")
        self.upstream_wire().stop_reading()
        self.assertEqual(wire.producerState, "paused")
        self.upstream_wire().read_again()
        self.assertEqual(wire.producerState, "producing")

    def test_client_that_was_slow_before(self) -> None:
        """A client that still has an answer to read stops the next one from its first block on."""
        wire = self.asked(request() + request())
        wire.stop_reading()
        self.upstream_wire().receive(answer())
        self.assertEqual(self.relay.running, 0)
        wire.read_again()
        self.assertEqual(self.relay.running, 1)
        self.upstream_wire().receive(answer())
        self.assertEqual([each.status for each in read_answers(self.took(wire), "GET", "GET")], [200, 200])

    def test_end_while_nobody_reads(self) -> None:
        """An answer that ends while the client does not read is complete, and its upstream connection is kept."""
        wire = self.asked()
        upstream = self.upstream_wire()
        upstream.receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        wire.stop_reading()
        upstream.resumeProducing()  # the last block was on its way when the pause came
        upstream.receive(chunk(b""))
        self.assertTrue(self.answered(wire).complete)
        self.assertRecorded(200, "done")
        self.assertEqual((self.upstream.pool.idle, upstream.producerState), (1, "producing"))


class ResponseRelayTests(SynchronousTestCase):
    """The relay of one body, by itself."""

    def setUp(self) -> None:
        self.clock = TurningReactor()
        self.requests: list[Request] = []
        factory = HTTPServerFactory(self.requests.append, self.clock)
        self.client = Wire(self.clock)
        server = factory.buildProtocol(None)
        assert server is not None
        self.client.connect(server)
        self.client.receive(request())
        self.upstream = Wire(self.clock)
        self.connection = ClientConnection(ClientLimits(), lambda connection: None)
        self.upstream.connect(self.connection)
        asked = self.connection.request(b"GET", b"/v1/models", [], None)
        self.answers: list[Response] = []
        asked.addCallback(self.answers.append)

    def relayed(self, data: bytes) -> ResponseRelay:
        """A relay of what has come of an answer."""
        self.upstream.receive(data)
        (response,) = self.answers
        self.requests[0].send_head(response.code, response.phrase, response.fields, response.length)
        return ResponseRelay(self.requests[0], response)

    def started(self, data: bytes) -> Deferred[None]:
        rest = self.relayed(data).start()
        assert rest is not None
        return rest

    def test_interface(self) -> None:
        """It is a push producer for the client's connection."""
        verifyObject(IPushProducer, self.relayed(STREAM_HEAD))

    def test_body_that_is_there(self) -> None:
        """A body that came whole with its head has no rest to wait for."""
        self.assertIsNone(self.relayed(answer(b"{}")).start())
        self.assertTrue(self.client.value().endswith(b"{}"))

    def test_empty_body(self) -> None:
        """Neither has an empty one."""
        self.assertIsNone(self.relayed(answer(b"")).start())

    def test_rest(self) -> None:
        """The rest fires once all of it has gone down."""
        rest = self.started(STREAM_HEAD + chunk(b"data: 1\n\n"))
        self.upstream.receive(chunk(b"data: 2\n\n"))
        self.assertNoResult(rest)
        self.upstream.receive(chunk(b""))
        self.successResultOf(rest)

    def test_broken_rest(self) -> None:
        """The rest fails when the upstream breaks off."""
        rest = self.started(STREAM_HEAD)
        self.upstream.lose()
        self.failureResultOf(rest, UpstreamClosed)

    def test_broken_before_it_began(self) -> None:
        """A body that broke off before anybody took it raises as it is taken."""
        relay = self.relayed(STREAM_HEAD + chunk(b"data: 1\n\n"))
        self.upstream.lose()
        self.assertRaises(UpstreamClosed, relay.start)

    def test_cancelled(self) -> None:
        """Cancelling the rest aborts the upstream, once."""
        rest = self.started(STREAM_HEAD)
        rest.cancel()
        self.failureResultOf(rest, CancelledError)
        self.assertEqual(self.upstream.ending, "aborted")
        self.clock.settle()
