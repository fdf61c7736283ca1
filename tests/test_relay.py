"""The course of an exchange, in memory: each way it can go, and what is recorded of it."""

from __future__ import annotations

import gc
import json

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.errors import RelayError, TooManyConnections, Unauthenticated
from openai_relay.core.exchange import Exchange
from openai_relay.core.settings import LimitSettings, WebSocketSettings
from openai_relay.core.usage import Usage
from openai_relay.tls.transport import TLSTruncated
from tests.doubles import Wire
from tests.relay_case import (
    ALICE,
    BOB,
    CLIENT_KEY,
    KEY,
    SECRET_BODY,
    STREAM_HEAD,
    Answered,
    RelayCase,
    answer,
    chunk,
    read_answers,
    request,
)

CHUNKED = "Transfer-Encoding: chunked"


class DoneTests(RelayCase):
    """Exchanges that go well."""

    def test_unary(self) -> None:
        """A request reaches the upstream with our key and Host, and its answer reaches the client with our id."""
        wire = self.asked(request("POST", "/v1/chat/completions?x=1", "X-Custom: a", body=b'{"n":1}'))
        sent = self.upstream_wire().taken()
        self.assertEqual(
            sent,
            b"POST /v1/chat/completions?x=1 HTTP/1.1\r\n"
            b"Host: api.example\r\n"
            b"Authorization: Bearer " + KEY + b"\r\n"
            b"Content-Length: 7\r\n"
            b"X-Custom: a\r\n"
            b'X-Client-Request-Id: rly_0\r\n\r\n{"n":1}',
        )
        self.upstream_wire().receive(answer(b'{"ok":true}', "200 Fine", "x-request-id: req_1", "X-Other: b"))
        self.assertEqual(
            self.took(wire),
            b"HTTP/1.1 200 Fine\r\nContent-Type: application/json\r\nContent-Length: 11\r\n"
            b"x-request-id: req_1\r\nX-Other: b\r\nserver-timing: relay;dur=0.000\r\n"
            b'x-relay-request-id: rly_0\r\n\r\n{"ok":true}',
        )

    def test_record(self) -> None:
        """The record holds who asked what, how it was answered, how much and how long; no query and no field."""
        wire = self.asked(request("POST", "/v1/chat/completions?key=secret", body=b'{"n":1}'))
        self.clock.advance(2)
        self.upstream_wire().receive(answer(b'{"ok":true}', "201 Created", "x-request-id: req_1")[:-1])
        self.clock.advance(3)
        self.upstream_wire().receive(b"}")
        self.took(wire)
        self.assertEqual(
            self.recorded(),
            Exchange(
                opened_ns=0,
                relay_request_id="rly_0",
                method="POST",
                path="/v1/chat/completions",
                http_version="1.1",
                client_address="192.168.1.1",
                identity=ALICE,
                status=201,
                bytes_in=7,
                bytes_out=11,
                first_byte_ns=2_000_000_000,
                closed_ns=5_000_000_000,
                upstream_request_id="req_1",
                upstream_status=201,
                error=None,
                stage="streamed",
                usage=Usage(2, output_tokens=3, estimated=True),
                cost_micro_usd=0,
                fallback_price=True,
            ),
        )
        self.assertRecorded(201, "done")

    def test_opened_before_anything_is_sent(self) -> None:
        """An exchange is counted as open from its head on, with its identity."""
        self.asked()
        (exchange,) = self.account.opened_exchanges
        self.assertEqual((exchange.identity, exchange.closed_ns), (ALICE, None))
        self.assertEqual(self.relay.running, 1)

    def test_old_client(self) -> None:
        """HTTP/1.0 is spoken with those who speak it, recorded as such, and HTTP/1.1 with the upstream."""
        wire = self.asked(request().replace(b"HTTP/1.1", b"HTTP/1.0"))
        self.assertIn(b"GET /v1/models HTTP/1.1\r\n", self.upstream_wire().taken())
        self.upstream_wire().receive(STREAM_HEAD + chunk(b"data: 1\n\n") + chunk(b""))
        self.assertTrue(self.took(wire).endswith(b"\r\n\r\ndata: 1\n\n"))
        self.assertEqual(wire.ending, "closed")
        self.assertEqual(self.assertRecorded(200, "done").http_version, "1.0")

    def test_errors_of_the_upstream_pass(self) -> None:
        """What the upstream refuses is passed on as it is, and is no error of the relay's."""
        wire = self.asked()
        self.upstream_wire().receive(answer(b'{"error":{}}', "429 Too Many Requests", "retry-after-ms: 20"))
        answered = self.answered(wire)
        self.assertEqual((answered.status, answered.fields["retry-after-ms"]), (429, "20"))
        self.assertRecorded(429, "done")

    def test_bodyless(self) -> None:
        """Answers that have no body end with their head, whatever length they name."""
        cases = [("HEAD", answer(b"")[:-2] + b"X-Size: 9\r\n\r\n"), ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n")]
        cases.append(("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n"))
        wire = self.client()
        for method, from_upstream in cases:
            wire.receive(request(method))
            self.upstream_wire().receive(from_upstream)
            answered = self.answered(wire, method)
            self.assertEqual((answered.body, answered.complete), (b"", True))
            self.assertRecorded(answered.status, "done")
        self.assertEqual(len(self.far_end.connections), 1)

    def test_kept_connections(self) -> None:
        """Exchange after exchange goes over the same two connections, each recorded for itself."""
        wire = self.client()
        for number in range(5):
            wire.receive(request(target=f"/v1/{number}"))
            self.assertIn(b"GET /v1/%d HTTP/1.1" % number, self.upstream_wire().taken())
            self.upstream_wire().receive(answer(b"%d" % number))
            self.assertEqual(self.answered(wire).body, b"%d" % number)
        self.assertEqual(len(self.far_end.connections), 1)
        self.assertEqual([each.path for each in self.closed], [f"/v1/{number}" for number in range(5)])

    def test_pipelined(self) -> None:
        """A request that was sent ahead waits for the answer to the one before it."""
        wire = self.asked(request(target="/v1/1") + request(target="/v1/2"))
        self.assertIn(b"/v1/1", self.upstream_wire().value())
        self.assertNotIn(b"/v1/2", self.upstream_wire().taken())
        self.upstream_wire().receive(answer(b"1"))
        self.assertIn(b"/v1/2", self.upstream_wire().taken())
        self.upstream_wire().receive(answer(b"2"))
        self.assertEqual([each.body for each in read_answers(self.took(wire), "GET", "GET")], [b"1", b"2"])

    def test_several_at_once(self) -> None:
        """Exchanges on several connections run beside each other, and end in any order."""
        wires = [self.asked(request(target=f"/v1/{number}"), who) for number, who in enumerate((ALICE, BOB, ALICE))]
        self.assertEqual((self.relay.running, len(self.far_end.connections)), (3, 3))
        for number in (1, 2, 0):
            self.upstream_wire(number).receive(answer(b"%d" % number))
            self.assertEqual(self.answered(wires[number]).body, b"%d" % number)
        self.assertEqual([each.identity for each in self.closed], [BOB, ALICE, ALICE])

    def test_interim_answers(self) -> None:
        """100 Continue comes from the upstream, and is passed on before the body is asked for."""
        wire = self.asked(request("POST", "/v1/files", "Content-Length: 5", "Expect: 100-continue"))
        self.assertIn(b"Expect: 100-continue\r\n", self.upstream_wire().taken())
        self.upstream_wire().receive(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(self.took(wire), b"HTTP/1.1 100 Continue\r\n\r\n")
        wire.receive(b"hello")
        self.assertEqual(self.upstream_wire().taken(), b"hello")
        self.upstream_wire().receive(answer(b"{}"))
        self.assertEqual(self.answered(wire).status, 200)

    def test_expectation_and_silence(self) -> None:
        """An upstream that neither says 100 Continue nor answers is told as what it is: 504."""
        wire = self.asked(request("POST", "/v1/files", "Content-Length: 5", "Expect: 100-continue"))
        self.clock.pump([0.5] * 122)
        self.assertEqual(self.answered(wire).error["code"], "upstream_timeout")
        self.assertRecorded(504, "timeout", "upstream_timeout")

    def test_stalled_upload(self) -> None:
        """A client that stops in the middle of its upload is told so, and the upstream's request is aborted."""
        wire = self.asked(request("POST", "/v1/files", "Content-Length: 5") + b"he")
        self.clock.pump([0.5] * 42)
        answered = self.answered(wire)
        self.assertEqual((answered.status, answered.error["code"]), (408, "request_timeout"))
        self.assertEqual(answered.fields["connection"], "close")
        self.assertEqual(self.upstream_wire().ending, "aborted")
        self.assertRecorded(408, "timeout", "request_timeout")

    def test_limits_of_the_answer(self) -> None:
        """Unlimited, the upstream's own rate-limit fields are passed on."""
        wire = self.asked()
        self.upstream_wire().receive(answer(b"{}", "200 OK", "x-ratelimit-limit-requests: 7"))
        self.assertEqual(self.answered(wire).fields["x-ratelimit-limit-requests"], "7")


class RefusedTests(RelayCase):
    """Requests that are not forwarded: answered, recorded, and nothing was sent upstream."""

    def refused(self, data: bytes, *, client: object = ALICE, method: str = "GET") -> tuple[Wire, Answered]:
        wire = self.asked(data, client)
        return wire, self.answered(wire, method)

    def assertRefused(
        self, answered: Answered, status: int, code: str, told: str, error_type: str = "invalid_request_error"
    ) -> None:
        """The client reads OpenAI's error object; the upstream was not even connected to; the next request works."""
        self.assertEqual(answered.error, {"message": told, "type": error_type, "param": None, "code": code})
        self.assertEqual(answered.status, status)
        self.assertEqual(answered.fields["content-type"], "application/json")
        self.assertTrue(answered.complete)
        exchange = self.closed[-1]
        self.assertEqual(answered.fields["x-relay-request-id"], exchange.relay_request_id)
        self.assertIsNone(exchange.upstream_status)
        self.assertIsNone(exchange.first_byte_ns)
        self.assertRecorded(status, "limited" if status == 429 else "refused", code)
        self.assertEqual(self.far_end.connections, [])
        self.assertServing()

    def test_no_certificate(self) -> None:
        """Who is not known is told why, in 401, and the connection is closed: it cannot get any better."""
        error = Unauthenticated("X509 error 10", "Your client certificate was refused: it has expired.")
        wire, answered = self.refused(request(), client=error)
        self.assertRefused(
            answered, 401, "client_certificate_required", "Your client certificate was refused: it has expired."
        )
        self.assertEqual(answered.fields["connection"], "close")
        self.assertEqual(wire.ending, "closed")

    def test_expired_since(self) -> None:
        """A certificate that has expired since the handshake is refused at the next request."""
        wire = self.client()
        wire.receive(request())
        self.upstream_wire().receive(answer())
        self.assertEqual(self.answered(wire).status, 200)
        self.upstream_wire().taken()
        self.wall = ALICE.not_after
        wire.receive(request())
        answered = self.answered(wire)
        self.assertEqual((answered.status, answered.error["code"]), (401, "client_certificate_expired"))
        self.assertEqual(self.upstream_wire().taken(), b"")
        self.assertEqual(wire.ending, "closed")
        self.assertRecorded(401, "refused", "client_certificate_expired")

    def test_too_many_connections(self) -> None:
        """A connection over the limit is told so, in 429, and closed: a retry on it would be refused for ever."""
        error = TooManyConnections(1_000_000_000, "Connection limit reached: 2 open at once for this client.")
        wire, answered = self.refused(request(), client=error)
        self.assertEqual(answered.fields["retry-after-ms"], "1000")
        self.assertRefused(answered, 429, "connection_limit_exceeded", error.told, "requests")
        self.assertEqual(wire.ending, "closed")

    def test_path(self) -> None:
        """A path that is not allowed, or denied, is told what is."""
        outside = "The relay does not allow this path. It forwards: /v1/"
        denied = "The relay does not allow this path: its operator has denied it."
        for target, told in (
            ("/", outside),
            ("/dashboard", outside),
            ("/v1/../admin", outside),
            ("/v1/%2e%2e/admin", outside),
            ("/v1/organization/users", denied),
            ("/v1/models/../Organization%2fusers", denied),
        ):
            _, answered = self.refused(request(target=target))
            self.assertEqual((answered.status, answered.error["message"]), (403, told))
            self.assertRecorded(403, "refused", "path_not_allowed")
        self.assertRefused(answered, 403, "path_not_allowed", denied)

    def test_refused_connection_goes_on(self) -> None:
        """A refusal that is about one request leaves the connection to the next."""
        wire, _ = self.refused(request(target="/nowhere"))
        wire.receive(request())
        self.upstream_wire().receive(answer(b"1"))
        self.assertEqual(self.answered(wire).body, b"1")

    def test_methods(self) -> None:
        """TRACE and CONNECT are never forwarded, and a method that nobody knows is not implemented."""
        for method, target in (("TRACE", "/v1/models"), ("CONNECT", "api.openai.com:443")):
            _, answered = self.refused(request(method, target), method=method)
            self.assertEqual(answered.error["message"], "The relay does not forward this method.")
            self.assertRecorded(405, "refused", "method_not_allowed")
        _, answered = self.refused(request("BREW"))
        self.assertRefused(answered, 501, "method_not_implemented", "The relay does not know this method.")

    def test_other_protocols(self) -> None:
        """An upgrade to anything but WebSocket is refused so that clients fall back at once."""
        wire = self.client()
        for asked in ("h2c", "websocket, h2c", "TLS/1.0"):
            wire.receive(request("GET", "/v1/realtime", "Connection: Upgrade", f"Upgrade: {asked}"))
            answered = self.answered(wire)
            self.assertEqual(answered.fields["x-should-retry"], "false")
        self.assertRefused(
            answered, 501, "upgrade_not_supported", "The relay carries no protocol upgrade but WebSocket."
        )

    def test_websocket_with_a_body(self) -> None:
        """A WebSocket is asked for with GET and without a body, or not at all."""
        wire = self.client()
        fields = ("Connection: Upgrade", "Upgrade: websocket")
        for asked in (request("POST", "/v1/realtime", *fields), request("GET", "/v1/realtime", *fields, body=b"x")):
            wire.receive(asked)
            answered = self.answered(wire)
        self.assertRefused(
            answered, 400, "malformed_request", "A WebSocket is asked for with GET and without a body (RFC 6455 §4.1)."
        )

    def test_malformed(self) -> None:
        """A malformed request is told what is wrong with it, and the connection is closed."""
        wire, answered = self.refused(request("POST", "/v1/files", "Host: other.example", body=b"hello"))
        self.assertRefused(answered, 400, "malformed_request", "A request must have exactly one Host field.")
        self.assertEqual(answered.fields["connection"], "close")
        wire.lose()
        exchange = self.closed[0]
        self.assertEqual((exchange.method, exchange.path, exchange.identity), ("", "", ALICE))

    def test_too_large_a_head(self) -> None:
        """A head that is too large is refused with 431."""
        _, answered = self.refused(request("GET", "/v1/models", "X-Large: " + "x" * 70_000))
        self.assertRefused(answered, 431, "head_too_large", "The request's header fields are too large.")

    def test_head_that_does_not_come(self) -> None:
        """A client that does not finish its head in time is told so, with 408."""
        wire = self.asked(request()[:-2])
        self.clock.pump([0.5] * 21)
        answered = self.answered(wire)
        self.assertEqual((answered.status, answered.error["code"]), (408, "request_timeout"))
        self.assertRecorded(408, "timeout", "request_timeout")
        self.assertEqual(self.far_end.connections, [])

    def test_head_request(self) -> None:
        """The refusal of a HEAD has the fields of an error and no body."""
        _, answered = self.refused(request("HEAD", "/nowhere"), method="HEAD")
        self.assertEqual((answered.status, answered.body), (403, b""))
        self.assertRecorded(403, "refused", "path_not_allowed")

    def test_body_of_a_refused_request(self) -> None:
        """Whatever body a refused request has is dropped, and no part of it is taken for a next request."""
        smuggled = request(target="/v1/smuggled")
        wire = self.asked(request("POST", "/nowhere", f"Content-Length: {2 * len(smuggled)}") + smuggled)
        self.assertEqual(self.answered(wire).status, 403)
        wire.receive(smuggled)
        self.clock.settle()
        self.assertEqual((self.took(wire), len(self.closed)), (b"", 1))
        self.assertEqual(self.far_end.connections, [])
        self.assertTrue(wire.half_closed)

    def test_draining(self) -> None:
        """While the relay stops, requests on kept connections are told to come again."""
        wire = self.client()
        self.relay.drain()
        wire.receive(request())
        answered = self.answered(wire)
        self.assertEqual(
            answered.error,
            {
                "message": "The relay is restarting; please try again.",
                "type": "service_unavailable_error",
                "param": None,
                "code": "relay_shutting_down",
            },
        )
        self.assertEqual(answered.status, 503)
        self.assertRecorded(503, "drained", "relay_shutting_down")


class WebSocketsOffTests(RelayCase):
    """A relay whose owner wants none."""

    websocket_settings = WebSocketSettings(enabled=False)

    def test_refused(self) -> None:
        """A WebSocket is refused at once, so that clients fall back, and nothing reaches the upstream."""
        wire = self.asked(request("GET", "/v1/realtime", "Connection: Upgrade", "Upgrade: websocket"))
        answered = self.answered(wire)
        self.assertEqual((answered.status, answered.fields["x-should-retry"]), (501, "false"))
        self.assertEqual(answered.error["message"], "WebSockets are switched off at this relay.")
        self.assertRecorded(501, "refused", "upgrade_not_supported")
        self.assertEqual(self.far_end.connections, [])
        self.assertServing()


class RateTests(RelayCase):
    """The limit of requests: two at once, one a minute."""

    limit_settings = LimitSettings(requests_per_minute=1.0, burst=2)

    def serve(self, who: object = ALICE) -> Answered:
        wire = self.asked(request(), who)
        self.upstream_wire().receive(answer(b"{}", "200 OK", "x-ratelimit-limit-requests: 7"))
        return self.answered(wire)

    def test_fields(self) -> None:
        """Each answer says where the client stands with this relay, in the place of what the upstream says."""
        for remaining in ("1", "0"):
            answered = self.serve()
            self.assertEqual(answered.fields["x-ratelimit-limit-requests"], "2")
            self.assertEqual(answered.fields["x-ratelimit-remaining-requests"], remaining)

    def test_over_the_limit(self) -> None:
        """The third of two is told to wait, as long as SDKs obey; nothing is sent; others are not concerned."""
        self.serve()
        self.serve()
        self.upstream_wire().taken()
        answered = self.answered(self.asked())
        self.assertEqual(
            answered.error,
            {
                "message": "Rate limit reached for requests: 1 per minute for this client. Please try again in 1m0s.",
                "type": "requests",
                "param": None,
                "code": "rate_limit_exceeded",
            },
        )
        self.assertEqual(answered.status, 429)
        self.assertEqual((answered.fields["retry-after-ms"], answered.fields["retry-after"]), ("60000", "60"))
        self.assertEqual(answered.fields["x-ratelimit-remaining-requests"], "0")
        self.assertRecorded(429, "limited", "rate_limit_exceeded")
        self.assertEqual(self.upstream_wire().taken(), b"")
        self.assertEqual(self.serve(BOB).status, 200)

    def test_waiting_helps(self) -> None:
        """After the wait that was told, and not before, the next request passes."""
        self.serve()
        self.serve()
        self.clock.advance(59.9)
        self.assertEqual(self.answered(self.asked()).status, 429)
        self.clock.advance(0.1)
        self.assertEqual(self.serve().status, 200)

    def test_refusals_are_free(self) -> None:
        """A refusal of another kind costs nothing of the rate."""
        for _ in range(5):
            self.assertEqual(self.answered(self.asked(request(target="/nowhere"))).status, 403)
        self.assertEqual(self.serve().fields["x-ratelimit-remaining-requests"], "1")

    def test_own_limits_in_errors(self) -> None:
        """An error of the upstream's connection says where the client stands, too."""
        wire = self.asked()
        self.upstream_wire().lose()
        answered = self.answered(wire)
        self.assertEqual((answered.status, answered.fields["x-ratelimit-remaining-requests"]), (502, "1"))


class ConcurrencyTests(RelayCase):
    """The limit of open exchanges: two."""

    limit_settings = LimitSettings(concurrent=2)

    def test_one_too_many(self) -> None:
        """The third at once is told to wait; when one of the two ends, in whatever way, the next passes."""
        first, second = self.asked(), self.asked()
        answered = self.answered(self.asked())
        self.assertEqual((answered.status, answered.error["code"]), (429, "concurrency_limit_exceeded"))
        self.assertEqual(
            answered.error["message"],
            "Concurrency limit reached: 2 open at once for this client. "
            "Please try again in 1s, or when one of them has ended.",
        )
        self.assertEqual((answered.fields["retry-after-ms"], answered.fields["retry-after"]), ("1000", "1"))
        self.assertEqual(self.closed[-1].end, "limited")
        self.assertEqual(len(self.far_end.connections), 2)
        first.lose()
        third = self.asked()
        self.assertEqual(len(self.far_end.connections), 3)
        self.upstream_wire(1).receive(answer(b"2"))
        self.upstream_wire(2).receive(answer(b"3"))
        self.assertEqual((self.answered(second).body, self.answered(third).body), (b"2", b"3"))
        self.assertRecorded(200, "done")

    def test_connections_do_not_count(self) -> None:
        """A connection on which nothing is asked takes no place."""
        for _ in range(5):
            self.client()
        self.assertServing()


class OneAtATimeTests(RelayCase):
    """The limit of open exchanges: one."""

    limit_settings = LimitSettings(concurrent=1)

    def test_sent_ahead(self) -> None:
        """A request that was sent ahead does not run beside the one before it: that one has given its place back."""
        wire = self.asked(request(target="/v1/1") + request(target="/v1/2") + request(target="/v1/3"))
        for number in (b"1", b"2", b"3"):
            self.upstream_wire().receive(answer(number))
        answered = read_answers(self.took(wire), "GET", "GET", "GET")
        self.assertEqual([(each.status, each.body) for each in answered], [(200, b"1"), (200, b"2"), (200, b"3")])
        self.assertEqual([each.path for each in self.closed], ["/v1/1", "/v1/2", "/v1/3"])

    def test_sent_ahead_of_a_failure(self) -> None:
        """Nor does one that was sent ahead of an exchange that failed."""
        wire = self.asked(request(target="/v1/1") + request(target="/v1/2"))
        self.upstream_wire().lose()
        self.upstream_wire().receive(answer(b"2"))
        answered = read_answers(self.took(wire), "GET", "GET")
        self.assertEqual([each.status for each in answered], [502, 200])


class ClientLeavesTests(RelayCase):
    """The client goes away: the upstream is aborted in the same turn, and nobody is told anything."""

    def assertLeft(self, wire: Wire, status: int, number: int = 0) -> None:
        wire.lose(TLSTruncated())
        self.assertEqual(self.upstream_wire(number).ending, "aborted")
        self.assertRecorded(status, "client_gone", "client_gone")
        self.assertEqual(self.took(wire), b"")
        self.assertServing()

    def test_while_connecting(self) -> None:
        """Nothing is sent to an upstream that is connected to in vain."""
        self.far_end.held = []
        wire = self.asked()
        wire.lose()
        self.assertRecorded(499, "client_gone", "client_gone")
        self.assertEqual([waiting.called for _, waiting in self.far_end.held], [True])
        self.far_end.held = None
        self.assertServing()

    def test_while_waiting_for_the_head(self) -> None:
        """A request whose answer nobody waits for is aborted; it is recorded as 499."""
        self.assertLeft(self.asked(), 499)

    def test_in_the_middle_of_a_head(self) -> None:
        """Half a head of an answer changes nothing."""
        wire = self.asked()
        self.upstream_wire().receive(answer()[:20])
        self.assertLeft(wire, 499)

    def test_in_the_middle_of_a_stream(self) -> None:
        """A stream is aborted, and recorded with the status that the client has read."""
        wire = self.asked()
        self.upstream_wire().receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        self.took(wire)
        self.assertLeft(wire, 200)
        self.assertEqual(self.closed[0].bytes_out, 9)

    def test_in_the_middle_of_an_upload(self) -> None:
        """Half an upload is aborted, never ended as if it were whole."""
        wire = self.asked(request("POST", "/v1/files", CHUNKED) + chunk(b"half"))
        upstream = self.upstream_wire()
        self.assertTrue(upstream.value().endswith(chunk(b"half")))
        self.assertLeft(wire, 499)
        self.assertTrue(upstream.value().endswith(chunk(b"half")))
        self.assertEqual(self.closed[0].bytes_in, 4)

    def test_while_sending_and_receiving(self) -> None:
        """An answer that comes before the upload is complete is aborted with it."""
        wire = self.asked(request("POST", "/v1/files", "Content-Length: 100") + b"x")
        self.upstream_wire().receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        self.took(wire)
        self.assertLeft(wire, 200)

    def test_while_nobody_reads_from_it(self) -> None:
        """A client that leaves while its upload is paused is seen at the next sweep, though its FIN waits unread."""
        wire = self.asked(request("POST", "/v1/files", CHUNKED) + chunk(b"x"))
        self.upstream_wire().stop_reading()
        self.assertEqual(wire.producerState, "paused")
        wire.peer_left = True
        self.clock.pump([0.5, 0])
        self.assertEqual(self.upstream_wire().ending, "aborted")
        self.assertRecorded(499, "client_gone", "client_gone")

    def test_stalled(self) -> None:
        """A client that neither reads nor leaves is dropped in the end, and recorded as a time-out."""
        wire = self.asked()
        self.upstream_wire().receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        wire.stop_reading()
        self.assertEqual(self.upstream_wire().producerState, "paused")
        self.clock.pump([0.5] * 42)
        self.assertEqual((wire.ending, self.upstream_wire().ending), ("aborted", "aborted"))
        self.assertRecorded(200, "timeout", "client_stalled")

    def test_pipelined_request_of_a_client_that_left(self) -> None:
        """What a client sent ahead is not served once it has left."""
        wire = self.asked(request(target="/v1/1") + request(target="/v1/2"))
        self.assertLeft(wire, 499)
        self.assertNotIn("/v1/2", [each.path for each in self.closed])


class UpstreamFailsTests(RelayCase):
    """The upstream does not answer, or not to the end."""

    def assertFailed(self, wire: Wire, status: int, code: str, told: str, end: str = "upstream_error") -> None:
        """An error in OpenAI's shape, on a connection that goes on."""
        answered = self.answered(wire)
        self.assertEqual(answered.error, {"message": told, "type": "upstream_error", "param": None, "code": code})
        self.assertEqual((answered.status, answered.complete, wire.ending), (status, True, ""))
        self.assertRecorded(status, end, code)
        self.assertIsNone(self.closed[-1].upstream_status)
        self.assertServing()

    def test_refused(self) -> None:
        """No connection is 502."""
        self.far_end.held = []
        wire = self.asked()
        self.far_end.held.pop()[1].errback(ConnectionRefusedError())
        self.far_end.held = None
        told = "The relay could not connect to the upstream API."
        self.assertFailed(wire, 502, "upstream_unreachable", told)

    def test_no_connection_in_time(self) -> None:
        """A connection that does not come in time is 504."""
        self.far_end.held = []
        wire = self.asked()
        self.clock.advance(9.9)
        self.assertEqual(self.took(wire), b"")
        self.clock.advance(0.1)
        self.far_end.held = None
        told = "The upstream API did not accept a connection in time."
        self.assertFailed(wire, 504, "upstream_connect_timeout", told, "timeout")

    def test_closed_before_the_head(self) -> None:
        """An upstream that closes without an answer is 502, cleanly or not, and the request is not sent again."""
        for reason in (ConnectionDone(), TLSTruncated()):
            wire = self.asked(request("POST", "/v1/files", body=b"x"))
            count = len(self.far_end.connections)
            self.upstream_wire().lose(reason)
            self.assertEqual(len(self.far_end.connections), count)
            told = "The upstream API closed the connection before its answer was complete."
            self.assertFailed(wire, 502, "upstream_closed", told)
            self.upstream.pool.close_idle()
            self.clock.settle()

    def test_closed_in_the_head(self) -> None:
        """Half a head is none."""
        wire = self.asked()
        self.upstream_wire().receive(answer()[:30])
        self.upstream_wire().lose()
        told = "The upstream API closed the connection before its answer was complete."
        self.assertFailed(wire, 502, "upstream_closed", told)

    def test_malformed(self) -> None:
        """An answer that is no HTTP, or could be read in two ways, is 502; nothing of it reaches the client."""
        for data in (b"SSH-2.0-OpenSSH\r\n", answer(b"{}", "200 OK", "Transfer-Encoding: chunked")):
            wire = self.asked()
            upstream = self.upstream_wire()
            upstream.receive(data)
            self.assertEqual(upstream.ending, "aborted")
            self.assertFailed(wire, 502, "upstream_malformed", "The upstream API sent a malformed answer.")
            self.upstream.pool.close_idle()
            self.clock.settle()

    def test_silence(self) -> None:
        """An upstream that does not answer in time is 504, and its connection is not used again."""
        wire = self.asked()
        upstream = self.upstream_wire()
        self.clock.pump([0.5] * 119)
        self.assertEqual(self.took(wire), b"")
        self.clock.pump([0.5] * 3)
        self.assertEqual(upstream.ending, "aborted")
        self.assertFailed(wire, 504, "upstream_timeout", "The upstream API did not answer in time.", "timeout")

    def test_details_are_for_the_log(self) -> None:
        """What went wrong below is in the record, and the client is not told of hosts and libraries."""
        wire = self.asked()
        self.upstream_wire().lose(TLSTruncated("from api.example:443"))
        self.assertNotIn(b"api.example", self.took(wire))
        self.assertIn("from api.example:443", str(self.recorded().error))


class UpstreamCutsTests(RelayCase):
    """The upstream breaks off in the middle of its answer: the client must see that."""

    def stream(self, *fields: str, version: str = "HTTP/1.1") -> Wire:
        wire = self.asked(request(target="/v1/stream").replace(b"HTTP/1.1", version.encode()))
        head = STREAM_HEAD[:-2] + "".join([f"{line}\r\n" for line in fields]).encode() + b"\r\n"
        self.upstream_wire().receive(head + chunk(b"data: 1\n\n"))
        return wire

    def assertCut(self, wire: Wire, body: bytes, code: str = "upstream_closed", end: str = "upstream_error") -> None:
        """The client has read this and then no end, not in HTTP and not in TLS."""
        answered = self.answered(wire)
        self.assertEqual((answered.body, answered.complete), (body, False))
        self.assertNotIn(b"[DONE]", answered.body)
        self.assertEqual(wire.ending, "cut")
        exchange = self.assertRecorded(200, end, code)
        self.assertEqual(exchange.upstream_status, 200)
        self.assertServing()

    def event(self, code: str, told: str) -> bytes:
        """The error event that both SDKs raise for."""
        error = {"message": told, "type": "upstream_error", "param": None, "code": code}
        payload = {
            "type": "error",
            "code": code,
            "message": told,
            "param": None,
            "sequence_number": 0,
            "error": error,
        }
        return b"\n\nevent: error\ndata: " + json.dumps(payload).encode() + b"\n\n"

    def test_event_stream(self) -> None:
        """A stream of events that is cut ends with an error event, and then without an end."""
        told = "The upstream API closed the connection before its answer was complete."
        for reason in (ConnectionDone(), TLSTruncated()):
            wire = self.stream()
            self.upstream_wire().lose(reason)
            self.assertCut(wire, b"data: 1\n\n" + self.event("upstream_closed", told))
            self.upstream.pool.close_idle()
            self.clock.settle()

    def test_bad_chunk_in_an_event_stream(self) -> None:
        """So does one whose framing breaks."""
        wire = self.stream()
        upstream = self.upstream_wire()
        upstream.receive(b"nonsense\r\n")
        self.assertEqual(upstream.ending, "aborted")
        event = self.event("upstream_malformed", "The upstream API sent a malformed answer.")
        self.assertCut(wire, b"data: 1\n\n" + event, "upstream_malformed")

    def test_silent_event_stream(self) -> None:
        """So does one that falls silent for too long."""
        wire = self.stream()
        upstream = self.upstream_wire()
        self.clock.pump([0.5] * 62)
        self.assertEqual(upstream.ending, "aborted")
        event = self.event("upstream_timeout", "The upstream API did not answer in time.")
        self.assertCut(wire, b"data: 1\n\n" + event, "upstream_timeout", "timeout")

    def test_compressed_event_stream(self) -> None:
        """Into a compressed stream no event can be written: it is cut."""
        wire = self.stream("Content-Encoding: gzip")
        self.upstream_wire().lose()
        self.assertCut(wire, b"data: 1\n\n")

    def test_counted_event_stream(self) -> None:
        """Neither into one whose length is known."""
        wire = self.asked()
        self.upstream_wire().receive(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100\r\n\r\ndata: 1\n\n"
        )
        self.upstream_wire().lose()
        self.assertCut(wire, b"data: 1\n\n")

    def test_other_bodies(self) -> None:
        """Any other body is cut where it broke, whether it was chunked or counted."""
        for framing, block in (("Transfer-Encoding: chunked", chunk(b"half")), ("Content-Length: 8", b"half")):
            wire = self.asked()
            self.upstream_wire().receive(
                f"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n{framing}\r\n\r\n".encode() + block
            )
            self.upstream_wire().lose()
            self.assertCut(wire, b"half")
            self.upstream.pool.close_idle()
            self.clock.settle()

    def test_body_until_close(self) -> None:
        """A body that ends with its connection is complete if TLS says so, and cut if not."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n"
        wire = self.asked()
        self.upstream_wire().receive(head + b"whole")
        self.upstream_wire().lose(ConnectionDone())
        answered = self.answered(wire)
        self.assertEqual((answered.body, answered.complete), (b"whole", True))
        self.assertRecorded(200, "done")
        wire = self.asked()
        self.upstream_wire().receive(head + b"half")
        self.upstream_wire().lose(TLSTruncated())
        self.assertCut(wire, b"half")

    def test_before_the_first_block(self) -> None:
        """A head without a body is passed on and cut: the status was given already."""
        wire = self.asked()
        self.upstream_wire().receive(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
        self.upstream_wire().lose()
        self.assertCut(wire, b"")

    def test_old_client(self) -> None:
        """For HTTP/1.0 the close is the end of a body: a cut is only to be seen in TLS, so it is one there."""
        wire = self.stream(version="HTTP/1.0")
        self.upstream_wire().lose()
        self.assertEqual(wire.ending, "cut")
        self.assertNotIn(b"Transfer-Encoding", self.took(wire))
        self.assertRecorded(200, "upstream_error", "upstream_closed")

    def test_end_that_the_upstream_sent(self) -> None:
        """A stream that ends as the upstream says ends so for the client, with nothing put in."""
        wire = self.stream()
        self.upstream_wire().receive(chunk(b"data: [DONE]\n\n") + chunk(b""))
        answered = self.answered(wire)
        self.assertEqual((answered.body, answered.complete), (b"data: 1\n\ndata: [DONE]\n\n", True))
        self.assertEqual(wire.ending, "")
        self.assertRecorded(200, "done")


class BadUploadTests(RelayCase):
    """The client's own body breaks."""

    def test_bad_chunk(self) -> None:
        """A chunk that is none is told so in 400; the upstream does not take what came before it for a whole."""
        wire = self.asked(request("POST", "/v1/files", CHUNKED) + chunk(b"good"))
        upstream = self.upstream_wire()
        wire.receive(b"bad chunk\r\n")
        self.assertTrue(upstream.value().endswith(chunk(b"good")))
        self.assertEqual(upstream.ending, "aborted")
        answered = self.answered(wire)
        self.assertEqual((answered.status, answered.error["code"]), (400, "malformed_request"))
        self.assertEqual(answered.error["message"], "The request's chunked body is malformed (RFC 9112 §7.1).")
        self.assertEqual(answered.fields["connection"], "close")
        self.assertRecorded(400, "refused", "malformed_request")
        self.assertServing()

    def test_bad_chunk_at_once(self) -> None:
        """A bad chunk that comes with the head is refused before the upstream is connected to."""
        wire = self.asked(request("POST", "/v1/files", CHUNKED) + b"bad chunk\r\n")
        self.assertEqual(self.answered(wire).status, 400)
        self.assertEqual(self.far_end.connections, [])
        self.assertRecorded(400, "refused", "malformed_request")

    def test_bad_chunk_during_the_answer(self) -> None:
        """A bad chunk that comes when the answer is under way cuts it."""
        wire = self.asked(request("POST", "/v1/files", CHUNKED) + chunk(b"good"))
        self.upstream_wire().receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        wire.receive(b"bad chunk\r\n")
        self.assertEqual(self.upstream_wire().ending, "aborted")
        answered = self.answered(wire)
        self.assertFalse(answered.complete)
        self.assertEqual(wire.ending, "cut")
        self.assertRecorded(200, "refused", "malformed_request")

    def test_answer_before_the_end_of_the_upload(self) -> None:
        """An upstream that answers early is heard; what is left of the upload goes nowhere."""
        wire = self.asked(request("POST", "/v1/files", "Content-Length: 100000") + b"x" * 10)
        self.upstream_wire().receive(answer(b'{"error":{}}', "413 Content Too Large"))
        self.assertEqual(self.answered(wire).status, 413)
        self.assertEqual(self.upstream_wire().ending, "aborted")
        self.assertRecorded(413, "done")
        wire.receive(b"x" * 50_000)
        self.assertEqual((self.took(wire), len(self.closed)), (b"", 1))
        self.assertServing()


class BugTests(RelayCase):
    """What nobody foresaw."""

    def test_bug_in_a_stage(self) -> None:
        """A stage that raises is a plain 500 for the client, and a logged failure for us; the next request works."""
        self.limits.broken = RuntimeError("something that nobody foresaw")
        wire = self.asked()
        answered = self.answered(wire)
        self.assertEqual(
            answered.error,
            {
                "message": "The relay failed to handle this request.",
                "type": "relay_error",
                "param": None,
                "code": "relay_bug",
            },
        )
        self.assertEqual((answered.status, answered.fields["x-relay-request-id"]), (500, "rly_0"))
        self.assertRecorded(500, "bug", "relay_bug")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.far_end.connections, [])
        self.limits.broken = None
        self.assertServing()

    def test_bug_in_the_account(self) -> None:
        """An account that raises costs no client the end of its answer, and is logged."""
        wire = self.asked()
        self.upstream_wire().receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        self.account.broken = RuntimeError("something that nobody foresaw")
        self.upstream_wire().receive(chunk(b""))
        self.account.broken = None
        answered = self.answered(wire)
        self.assertEqual((answered.body, answered.complete), (b"data: 1\n\n", True))
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertServing()

    def test_bug_while_refusing(self) -> None:
        """A refusal that cannot even be written cuts the connection, so that no later answer is taken for it."""

        class Unspeakable(RelayError):
            def headers(self) -> list[tuple[bytes, bytes]]:
                raise RuntimeError("something that nobody foresaw")

        self.limits.broken = Unspeakable()
        wire = self.asked()
        self.assertEqual((self.took(wire), wire.ending), (b"", "cut"))
        self.assertEqual(self.limits.out, set())
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.limits.broken = None
        self.assertServing()

    def test_bug_while_connecting(self) -> None:
        """So is an exception out of the libraries below that has no translation."""
        self.far_end.failure = RuntimeError("something that nobody foresaw")
        self.assertEqual(self.answered(self.asked()).status, 500)
        self.assertRecorded(500, "bug", "relay_bug")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.far_end.failure = None
        self.assertServing()


class DrainTests(RelayCase):
    """The relay stops."""

    def drained(self) -> bool:
        return self.relay.drain().called

    def test_idle(self) -> None:
        """With nothing under way it is drained at once."""
        self.assertFalse(self.relay.draining)
        self.assertTrue(self.drained())
        self.assertTrue(self.relay.draining)

    def test_running_exchanges_finish(self) -> None:
        """What runs goes on to its end, and then the relay is drained."""
        first, second = self.asked(), self.asked()
        self.assertFalse(self.drained())
        self.upstream_wire(0).receive(answer(b"1"))
        self.assertFalse(self.drained())
        self.upstream_wire(1).receive(answer(b"2"))
        self.assertTrue(self.drained())
        self.assertEqual([self.answered(wire).body for wire in (first, second)], [b"1", b"2"])

    def test_end_all(self) -> None:
        """What still runs at last is ended, in whatever phase, so that each client can tell and come again."""
        streaming, waiting, sending = (
            self.asked(),
            self.asked(),
            self.asked(request("POST", "/v1/files", CHUNKED) + chunk(b"x")),
        )
        self.upstream_wire(0).receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        self.far_end.held = []
        connecting = self.asked()
        drained = self.relay.drain()
        self.relay.end_all()
        self.assertTrue(drained.called)
        answered = self.answered(streaming)
        self.assertIn(b'"code": "relay_shutting_down"', answered.body)
        self.assertEqual((answered.complete, streaming.ending), (False, "cut"))
        for wire in (waiting, sending, connecting):
            answered = self.answered(wire)
            self.assertEqual((answered.status, answered.error["code"]), (503, "relay_shutting_down"))
        self.assertEqual([wire.ending for wire in self.far_end.connections], ["aborted"] * 3)
        self.assertEqual([each.end for each in self.closed], ["drained"] * 4)
        self.assertEqual([each.status for each in self.closed], [200, 503, 503, 503])

    def test_end_all_with_nothing_under_way(self) -> None:
        """Ending nothing is no error."""
        self.relay.end_all()
        self.assertTrue(self.drained())

    def test_cancelled_from_without(self) -> None:
        """Cancelling a drain that waits is nobody's business but the waiter's: exchanges go on."""
        wire = self.asked()
        drained: Deferred[None] = self.relay.drain()
        drained.addErrback(lambda failure: failure.trap(CancelledError))
        drained.cancel()
        self.upstream_wire().receive(answer(b"1"))
        self.assertEqual(self.answered(wire).body, b"1")


class SecretTests(RelayCase):
    """No key and no body in anything that is said; each test of this file checks it for itself, too."""

    def test_every_ending(self) -> None:
        """Whatever the ending, records, events and refusals hold no key, no body and no query."""
        body = SECRET_BODY * 10
        target = f"/v1/files?key={CLIENT_KEY.decode()}"
        wire = self.asked(request("POST", target, body=body))
        self.upstream_wire().receive(answer(b"{}"))
        self.took(wire)
        for ending in ("lost", "malformed", "left"):
            wire = self.asked(request("POST", target, "Expect: 100-continue", body=body))
            if ending == "lost":
                self.upstream_wire().lose()
            elif ending == "malformed":
                self.upstream_wire().receive(body + KEY)
            else:
                wire.lose()
            self.assertNotIn(SECRET_BODY, self.took(wire))
        self.asked(request("POST", "/nowhere", body=body))
        self.asked(b"POST /v1/files HTTP/1.1\r\nHost: a\r\nAuthorization: " + CLIENT_KEY + b"\n\r\n" + body)
        self.assertEqual([each.path for each in self.closed], ["/v1/files"] * 4 + ["/nowhere", ""])

    def test_bug_with_a_secret_in_it(self) -> None:
        """Not even a bug puts what it was about into a record or an answer."""
        self.limits.broken = RuntimeError("unforeseen")
        wire = self.asked(request("POST", "/v1/files", body=SECRET_BODY))
        self.assertEqual(self.answered(wire).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class CaseTests(SynchronousTestCase):
    """What the tests above rely upon."""

    def test_incomplete_answers_are_seen(self) -> None:
        """An answer without its end is read as incomplete, chunked or counted."""
        for data in (STREAM_HEAD + chunk(b"x"), answer(b"xx")[:-1]):
            (answered,) = read_answers(data)
            self.assertEqual((answered.body, answered.complete), (b"x", False))

    def test_complete_answers_are_seen(self) -> None:
        """Two whole answers are read as two."""
        self.assertEqual(
            [each.complete for each in read_answers(STREAM_HEAD + chunk(b"x") + chunk(b"") + answer(), "GET", "GET")],
            [True, True],
        )
