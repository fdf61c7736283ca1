"""The course of a local tool's exchange: it goes to the relay as it is, comes back as it is, and ends in one way."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.logger import eventAsText
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.connect.course import PATIENCE, Course
from openai_relay.core.errors import RelayError, UpstreamError
from openai_relay.core.exchange import Exchange
from openai_relay.core.local_requests import LocalRequests
from openai_relay.core.settings import UpstreamSettings
from openai_relay.http1.server import HTTPServerFactory, ServerLimits
from tests.doubles import TurningReactor, Wire, observe
from tests.relay_case import ALICE, BOB, STREAM_HEAD, Answered, FarEnd, MemoryUpstream, answer, chunk, read_answers

KEY = b"Authorization: Bearer sk-canary-of-the-tool"
EVENT = b"data: 1\n\n"


def request(method: str = "GET", *fields: str, body: bytes | None = None, version: str = "1.1") -> bytes:
    lines = [f"{method} /v1/models?a=b HTTP/{version}", "Host: localhost:8088", KEY.decode(), *fields]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


WEBSOCKET = request("GET", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s\r\n\r\n"
)


class Loud(RelayError):
    """An error whose words were looked for."""

    status = 502
    code = "loud"
    end = "upstream_error"


class CourseCase(SynchronousTestCase):
    """A course between tools and a relay, both in memory."""

    pass_authorization = True

    def setUp(self) -> None:
        self.events = observe(self)
        self.clock = TurningReactor()
        self.far_end = FarEnd(self.clock)
        settings = UpstreamSettings(
            url="https://relay.example:8443",
            authorization="passthrough",
            first_byte_timeout=PATIENCE,
            idle_timeout=PATIENCE,
        )
        self.upstream = MemoryUpstream(self.clock, settings, self.far_end)
        self.closed: list[Exchange] = []
        self.course = Course(
            LocalRequests(),
            self.upstream,
            ALICE,
            self.in_words,
            self.closed.append,
            lambda: round(self.clock.seconds() * 1_000_000_000),
            lambda: "con_1",
            pass_authorization=self.pass_authorization,
        )
        self.factory = HTTPServerFactory(self.course, self.clock, ServerLimits(stall_timeout=PATIENCE))
        self.addCleanup(self.over)

    def in_words(self, error: RelayError) -> RelayError:
        return Loud(str(error), f"In words: {error.code}.") if isinstance(error, UpstreamError) else error

    def over(self) -> None:
        """Nothing is left, and no key was said."""
        self.clock.settle()
        self.assertEqual(self.course.running, 0)
        for event in self.events:
            self.assertNotIn("canary", eventAsText(event))
        self.assertNotIn("canary", repr(self.closed))

    def asked(self, data: bytes) -> Wire:
        wire = Wire(self.clock)
        connection = self.factory.buildProtocol(None)
        assert connection is not None
        wire.connect(connection)
        wire.receive(data)
        return wire

    def forwarded(self, data: bytes) -> tuple[Wire, Wire]:
        """A tool, and the relay's end with the request taken."""
        tool = self.asked(data)
        relay = self.far_end.connections[-1]
        self.head = relay.taken()
        return tool, relay

    def answered(self, tool: Wire, method: str = "GET") -> Answered:
        (found,) = read_answers(tool.taken(), method)
        return found

    def assertClosed(self, status: int, end: str, code: str | None = None) -> Exchange:
        (exchange,) = self.closed
        found = None if exchange.error is None else exchange.error.code
        self.assertEqual((exchange.status, exchange.end, found), (status, end, code))
        return exchange


class PassingTests(CourseCase):
    def test_whole(self) -> None:
        """A request goes on with its target, its key and the relay's name; its answer comes back as it is."""
        tool, relay = self.forwarded(request("POST", "X-Own: a", body=b"{}"))
        self.assertTrue(self.head.startswith(b"POST /v1/models?a=b HTTP/1.1\r\nHost: relay.example:8443\r\n"))
        self.assertIn(KEY, self.head)
        self.assertIn(b"\r\nX-Own: a\r\n", self.head)
        self.assertTrue(self.head.endswith(b"\r\n\r\n{}"))
        relay.receive(
            answer(
                b"[1]", "429 Slow Down", "retry-after: 7", "x-ratelimit-limit-requests: 1", "x-relay-request-id: rly_7"
            )
        )
        found = self.answered(tool)
        self.assertEqual((found.status, found.reason, found.body), (429, "Slow Down", b"[1]"))
        fields = found.fields
        self.assertEqual((fields["retry-after"], fields["x-ratelimit-limit-requests"]), ("7", "1"))
        self.assertEqual(fields["x-relay-request-id"], "rly_7")
        exchange = self.assertClosed(429, "done")
        self.assertEqual((exchange.method, exchange.path, exchange.identity), ("POST", "/v1/models", ALICE))
        self.assertEqual((exchange.bytes_in, exchange.bytes_out), (2, 3))

    def test_without_an_identifier(self) -> None:
        """An answer without the relay's identifier gets one of this end."""
        tool, relay = self.forwarded(request())
        relay.receive(answer())
        self.assertEqual(self.answered(tool).fields["x-relay-request-id"], "con_1")

    def test_stream(self) -> None:
        """Each event goes down as it comes, and a slow tool pauses the relay."""
        tool, relay = self.forwarded(request())
        relay.receive(STREAM_HEAD + chunk(EVENT))
        self.assertIn(EVENT, tool.taken())
        tool.stop_reading()
        self.assertEqual(relay.producerState, "paused")
        tool.read_again()
        relay.receive(chunk(EVENT) + chunk(b""))
        self.assertEqual(tool.taken(), chunk(EVENT) + b"0\r\n\r\n")
        self.assertClosed(200, "done")

    def test_patience(self) -> None:
        """A relay that is silent for hours is waited for: its own time-outs are the ones that count."""
        tool, relay = self.forwarded(request())
        self.clock.pump([0.5] * 2)
        self.clock.advance(7_200)
        relay.receive(answer())
        self.assertEqual(self.answered(tool).status, 200)

    def test_renewed_identity(self) -> None:
        """An exchange is recorded with whom the relay knew when it began."""
        tool, relay = self.forwarded(request())
        self.course.identity = BOB
        relay.receive(answer())
        self.asked(request())
        self.far_end.connections[-1].receive(answer())
        self.assertEqual([exchange.identity for exchange in self.closed], [ALICE, BOB])
        self.assertEqual(self.answered(tool).status, 200)

    def test_websocket(self) -> None:
        """A WebSocket is a tunnel, and is recorded with its messages."""
        tool, relay = self.forwarded(WEBSOCKET)
        relay.receive(SWITCH)
        self.assertTrue(tool.taken().startswith(b"HTTP/1.1 101 Switching Protocols\r\n"))
        tool.receive(b"\x81\x80\0\0\0\0")
        self.assertEqual(relay.taken(), b"\x81\x80\0\0\0\0")
        relay.receive(b"\x81\x01a\x88\x02\x03\xe8")
        relay.lose()
        self.assertEqual(tool.taken(), b"\x81\x01a\x88\x02\x03\xe8")
        exchange = self.assertClosed(101, "done")
        self.assertEqual((exchange.messages_in, exchange.messages_out, exchange.close_code), (1, 1, 1_000))


class DroppingTests(CourseCase):
    pass_authorization = False

    def test_key_is_kept(self) -> None:
        """Where it is asked for, a tool's key stays on this machine."""
        tool, relay = self.forwarded(request())
        self.assertNotIn(b"canary", self.head)
        relay.receive(answer())
        self.assertEqual(self.answered(tool).status, 200)


class RefusingTests(CourseCase):
    def refused(self, data: bytes, method: str = "GET") -> Answered:
        tool = self.asked(data)
        found = self.answered(tool, method)
        self.assertEqual(self.far_end.connections, [])
        return found

    def test_foreign(self) -> None:
        """What a web page sends is answered with 403 and goes nowhere; the connection serves on."""
        tool = self.asked(request("GET", "Origin: https://evil.example"))
        self.assertEqual(self.answered(tool).error["code"], "origin_not_allowed")
        tool.receive(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        self.assertEqual(self.answered(tool).error["code"], "host_not_allowed")
        self.assertEqual((self.far_end.connections, [each.status for each in self.closed]), ([], [403, 403]))

    def test_malformed(self) -> None:
        """What is no HTTP is answered with 400, and the connection ends."""
        tool = self.asked(b"NO HTTP\r\n\r\n")
        self.assertEqual(self.answered(tool).status, 400)
        self.assertEqual(tool.ending or tool.half_closed, True)

    def test_upgrades(self) -> None:
        """No other upgrade is carried, and a WebSocket asked for in a wrong way is refused."""
        other = request("GET", "Connection: Upgrade", "Upgrade: h2c")
        self.assertEqual(self.refused(other).error["code"], "upgrade_not_supported")
        bad = request("POST", "Connection: Upgrade", "Upgrade: websocket", body=b"{}")
        self.assertEqual(self.refused(bad, "POST").status, 400)

    def test_stopping(self) -> None:
        """Once it drains nothing new goes out."""
        self.successResultOf(self.course.drain())
        found = self.refused(request())
        self.assertEqual((found.status, found.error["code"]), (503, "relay_shutting_down"))
        self.assertIn("`openai-relay connect` is stopping", found.error["message"])


class FailingTests(CourseCase):
    def test_no_relay(self) -> None:
        """What the relay's end fails with is told in words, in OpenAI's shape."""
        self.far_end.failure = ConnectionRefusedError()
        found = self.answered(self.asked(request()))
        self.assertEqual((found.status, found.error["message"]), (502, "In words: upstream_unreachable."))
        self.assertClosed(502, "upstream_error", "loud")

    def test_cut_stream(self) -> None:
        """A stream that breaks off ends with an error event and a cut, and no end is made up."""
        tool, relay = self.forwarded(request())
        relay.receive(STREAM_HEAD + chunk(EVENT))
        relay.lose(ConnectionLost())
        data = tool.taken()
        self.assertIn(b"event: error", data)
        self.assertIn(b"In words: upstream_closed.", data)
        self.assertFalse(data.endswith(b"0\r\n\r\n"))
        self.assertEqual(tool.ending, "cut")
        self.assertClosed(200, "upstream_error", "loud")

    def test_cut_bodies(self) -> None:
        """What is no plain stream of events is cut without another word, be it text or compressed events."""
        for head in (
            STREAM_HEAD.replace(b"text/event-stream", b"text/plain"),
            STREAM_HEAD.replace(b"x-request-id: req_1", b"Content-Encoding: gzip"),
        ):
            tool, relay = self.forwarded(request())
            relay.receive(head + chunk(EVENT))
            relay.lose(ConnectionLost())
            self.assertTrue(tool.taken().endswith(chunk(EVENT)))
            self.assertEqual(tool.ending, "cut")

    def test_cut_for_http_1_0(self) -> None:
        """Where the end of the connection is the end of the body, only a reset says that it is none."""
        tool, relay = self.forwarded(request(version="1.0"))
        relay.receive(STREAM_HEAD + chunk(EVENT))
        relay.lose(ConnectionLost())
        self.assertEqual(tool.ending, "aborted")

    def test_broken_tunnel(self) -> None:
        """A WebSocket that breaks is cut."""
        tool, relay = self.forwarded(WEBSOCKET)
        relay.receive(SWITCH)
        relay.lose(ConnectionLost())
        self.assertEqual(tool.ending, "cut")
        self.assertClosed(101, "upstream_error", "loud")

    def test_tool_leaves(self) -> None:
        """A tool that leaves takes the request to the relay with it: before the answer, and within."""
        for begun in (False, True):
            tool, relay = self.forwarded(request())
            if begun:
                relay.receive(STREAM_HEAD + chunk(EVENT))
            tool.lose()
            self.assertEqual(relay.ending, "aborted")
        self.assertEqual(
            [(each.status, each.end) for each in self.closed], [(499, "client_gone"), (200, "client_gone")]
        )

    def test_end_all(self) -> None:
        """What is still running at the end is told, and the end is known."""
        tool, relay = self.forwarded(request())
        relay.receive(STREAM_HEAD)
        waiting, _ = self.forwarded(request())
        drained = self.course.drain()
        self.assertNoResult(drained)
        self.course.end_all()
        self.successResultOf(drained)
        self.assertIn(b"`openai-relay connect` has stopped.", tool.taken())
        self.assertEqual(self.answered(waiting).status, 503)

    def test_bug(self) -> None:
        """What nobody foresaw is logged, and told without a detail."""

        def broken(*_: Any) -> Any:
            raise ZeroDivisionError("canary")

        self.upstream.forward = broken  # type: ignore[method-assign, assignment]
        found = self.answered(self.asked(request()))
        self.assertEqual((found.status, found.error["code"]), (500, "relay_bug"))
        self.assertNotIn("canary", found.error["message"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.events.clear()  # the log says what it was, as it must

    def test_late_request(self) -> None:
        """A request whose head never ends is answered with 408, and its connection is closed."""
        tool = self.asked(b"GET /")
        self.clock.pump([0.5] * 21)
        self.assertEqual(self.answered(tool).status, 408)
