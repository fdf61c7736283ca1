"""A WebSocket through the relay: bytes both ways as they are, one admission, one ending, one record."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from wsproto.frame_protocol import FrameProtocol

from openai_relay.core.settings import LimitSettings, UpstreamSettings
from openai_relay.core.usage import Usage
from tests.doubles import Wire
from tests.relay_case import CLIENT_KEY, KEY, RelayCase, answer, read_answers, request

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: abc=\r\n%b\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: abc=\r\nserver-timing: relay;dur=0.000\r\n"
    b"x-relay-request-id: rly_0\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
)
DONE = json.dumps({"type": "response.done", "response": {"usage": {"input_tokens": 7, "output_tokens": 5}}})

blocks = st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=50)), max_size=20)


def asking(*fields: str) -> bytes:
    """A request for a WebSocket."""
    return request("GET", "/v1/realtime?model=x", *UPGRADE, *fields)


class Ends:
    """What each end of a WebSocket says."""

    def __init__(self) -> None:
        self.client = FrameProtocol(client=True, extensions=[])
        self.server = FrameProtocol(client=False, extensions=[])

    def up(self, text: str) -> bytes:
        return bytes(self.client.send_data(text, fin=True))

    def down(self, text: str) -> bytes:
        return bytes(self.server.send_data(text, fin=True))


class TunnelCase(RelayCase):
    """A WebSocket that stands."""

    def setUp(self) -> None:
        super().setUp()
        self.ends = Ends()

    def open(self, *fields: str, extensions: bytes = b"") -> Wire:
        wire = self.asked(asking(*fields))
        self.upstream_wire().receive(SWITCH % extensions)
        return wire

    def pass_time(self, seconds: int) -> None:
        self.clock.pump([0.5] * (2 * seconds))

    def opened(self) -> tuple[Wire, Wire]:
        """Both ends, with what was said until now taken."""
        wire = self.open()
        self.took(wire)
        upstream = self.upstream_wire()
        upstream.taken()
        return wire, upstream


class OpeningTests(TunnelCase):
    def test_request(self) -> None:
        """The upstream is asked for a WebSocket with our key and our Connection, and all else as it came."""
        self.asked(asking("Sec-WebSocket-Extensions: permessage-deflate", "X-Forwarded-For: 192.0.2.1"))
        head = self.upstream_wire().taken()
        self.assertEqual(
            head,
            b"GET /v1/realtime?model=x HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer %b\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
            b"X-Client-Request-Id: rly_0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" % KEY,
        )

    def test_answer(self) -> None:
        """The client gets the upstream's 101, with what comes right behind it."""
        wire = self.asked(asking())
        first = self.ends.down('{"type":"session.created"}')
        self.upstream_wire().receive(SWITCH % b"" + first)
        self.assertEqual(self.took(wire), SWITCHED + first)

    def test_early_bytes(self) -> None:
        """What a client sends before the 101 waits for it, and goes up then."""
        early = self.ends.up("early")
        wire = self.asked(asking() + early)
        upstream = self.upstream_wire()
        self.assertTrue(upstream.taken().endswith(b"\r\n\r\n"))
        wire.receive(early)
        self.assertEqual(upstream.taken(), b"")
        upstream.receive(SWITCH % b"")
        self.assertEqual(upstream.taken(), early * 2)

    def test_secret_protocols(self) -> None:
        """Keys and accounts that hide among the subprotocols are taken off: ours is in Authorization."""
        key = f"openai-insecure-api-key.{CLIENT_KEY.decode()}"
        self.asked(asking(f"Sec-WebSocket-Protocol: realtime, {key}, openai-beta.x, openai-project.p"))
        self.assertIn(b"\r\nSec-WebSocket-Protocol: realtime, openai-beta.x\r\n", self.upstream_wire().taken())
        self.asked(asking(f"Sec-WebSocket-Protocol: {key.upper()}"))
        self.assertNotIn(b"protocol", self.upstream_wire().taken().lower())

    def test_protocols_as_they_are(self) -> None:
        """A list without a secret is not touched."""
        self.asked(asking("Sec-WebSocket-Protocol: realtime,  v2"))
        self.assertIn(b"\r\nSec-WebSocket-Protocol: realtime,  v2\r\n", self.upstream_wire().taken())

    def test_refused_by_the_upstream(self) -> None:
        """An upstream that gives another answer is heard, and the connection goes on as HTTP."""
        wire = self.asked(asking())
        self.upstream_wire().receive(answer(b'{"error":{}}', "403 Forbidden"))
        self.assertEqual(self.answered(wire).status, 403)
        self.assertRecorded(403, "done")
        wire.receive(request())
        self.upstream_wire().receive(answer())
        self.assertEqual(self.answered(wire).status, 200)
        self.assertEqual(len(self.far_end.connections), 1)

    def test_another_protocol(self) -> None:
        """An upstream that switches to what was not asked for is malformed, and no byte of it is passed on."""
        for line in (b"Upgrade: h2c", b"X-Upgrade: websocket"):
            wire = self.asked(asking())
            self.upstream_wire().receive(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n%b\r\n\r\nbytes" % line
            )
            self.assertEqual(self.answered(wire).error["code"], "upstream_malformed")

    def test_unasked(self) -> None:
        """A 101 to a request that asked for none is malformed."""
        wire = self.asked()
        self.upstream_wire().receive(SWITCH % b"")
        self.assertEqual(self.answered(wire).error["code"], "upstream_malformed")
        self.assertRecorded(502, "upstream_error", "upstream_malformed")

    def test_http_1_0(self) -> None:
        """HTTP/1.0 knows no upgrade: the request is one like any other."""
        self.asked(asking().replace(b"HTTP/1.1", b"HTTP/1.0"))
        self.assertNotIn(b"Upgrade", self.upstream_wire().taken())


class PassingTests(TunnelCase):
    @given(blocks)
    def test_any_bytes(self, said: list[tuple[bool, bytes]]) -> None:
        """Whatever either end sends reaches the other as it is, at once, whether it is a WebSocket or not."""
        wire, upstream = self.opened()
        for is_up, block in said:
            (wire if is_up else upstream).receive(block)
            self.assertEqual((upstream.taken(), wire.taken()), (block, b"") if is_up else (b"", block))

    def test_client_that_does_not_read(self) -> None:
        """A client that does not read pauses the upstream, until it reads again."""
        wire, upstream = self.opened()
        wire.stop_reading()
        self.assertEqual(upstream.producerState, "paused")
        wire.read_again()
        self.assertEqual(upstream.producerState, "producing")

    def test_upstream_that_does_not_read(self) -> None:
        """An upstream that does not read pauses the client, until it reads again."""
        wire, upstream = self.opened()
        upstream.stop_reading()
        self.assertEqual(wire.producerState, "paused")
        upstream.read_again()
        self.assertEqual(wire.producerState, "producing")


class EndingTests(TunnelCase):
    def test_closed_by_both(self) -> None:
        """A WebSocket that was closed in the orderly way is done: messages, code and usage are recorded."""
        wire, upstream = self.opened()
        wire.receive(self.ends.up("hello"))
        upstream.receive(self.ends.down(DONE) + self.ends.down(DONE))
        wire.receive(bytes(self.ends.client.close(1000)))
        goodbye = bytes(self.ends.server.close(1000))
        upstream.receive(goodbye)
        self.assertTrue(self.took(wire).endswith(goodbye))
        upstream.lose()
        exchange = self.assertRecorded(101, "done")
        self.assertEqual((exchange.messages_in, exchange.messages_out, exchange.close_code), (1, 2, 1000))
        self.assertEqual(exchange.usage, Usage(14, output_tokens=10))
        self.assertEqual((exchange.bytes_in, exchange.bytes_out > 150), (len(self.ends.up("hello")) + 8, True))
        self.assertTrue(wire.half_closed)
        self.assertServing()

    def test_client_closes_first(self) -> None:
        """A client that hangs up once it was told goodbye is not one that left."""
        wire, upstream = self.opened()
        upstream.receive(bytes(self.ends.server.close(1001, "bye")))
        wire.lose()
        exchange = self.assertRecorded(101, "done")
        self.assertEqual((exchange.close_code, exchange.usage), (1001, None))
        self.assertEqual(upstream.ending, "closed")

    def test_last_words(self) -> None:
        """What a client says before it hangs up with a close frame goes up to its last byte, and is not cut off."""
        wire, upstream = self.opened()
        last = self.ends.up("last words") + bytes(self.ends.client.close(1000))
        wire.receive(last)
        wire.lose()
        self.assertEqual((upstream.taken(), upstream.ending), (last, "closed"))
        self.assertRecorded(101, "done")

    def test_who_said_so(self) -> None:
        """The code that is recorded is that of whoever said first that it is over."""
        wire, upstream = self.opened()
        upstream.receive(bytes(self.ends.server.close(1011)))
        wire.receive(bytes(self.ends.client.close(1000)))
        upstream.lose()
        self.assertEqual(self.assertRecorded(101, "done").close_code, 1011)

    def test_nobody_hangs_up(self) -> None:
        """Where both have said goodbye and nobody closes, the relay does, and it is an end like any other."""
        wire, upstream = self.opened()
        wire.receive(bytes(self.ends.client.close(1000)))
        upstream.receive(bytes(self.ends.server.close(1000)))
        self.pass_time(17)
        self.assertRecorded(101, "done")
        self.assertEqual((wire.half_closed, upstream.ending), (True, "closed"))

    def test_goodbye_that_nobody_reads(self) -> None:
        """A client that does not read the upstream's goodbye was cut, not served to the end."""
        wire, upstream = self.opened()
        upstream.receive(bytes(self.ends.server.close(1000)))
        wire.stop_reading()
        self.pass_time(17)
        self.assertRecorded(101, "timeout", "client_stalled")

    def test_expectation(self) -> None:
        """A client that also expected 100 Continue has no longer a time than others."""
        wire = self.open("Expect: 100-continue")
        self.pass_time(17)
        self.assertRecorded(101, "timeout", "websocket_idle")
        self.assertTrue(wire.half_closed)

    def test_client_gone(self) -> None:
        """A client that hangs up without a word has its upstream aborted at once."""
        wire, upstream = self.opened()
        wire.lose()
        self.assertEqual(upstream.ending, "aborted")
        self.assertRecorded(101, "client_gone", "client_gone")

    def test_client_gone_before_the_answer(self) -> None:
        """So does one that hangs up before there is a WebSocket."""
        wire = self.asked(asking())
        wire.lose()
        self.assertEqual(self.upstream_wire().ending, "aborted")
        self.assertRecorded(499, "client_gone", "client_gone")

    def test_upstream_gone(self) -> None:
        """An upstream that closes without a close frame has broken off: the client is cut, and told nothing made up."""
        wire, upstream = self.opened()
        upstream.receive(self.ends.down("half")[:3])
        said = self.took(wire)
        upstream.lose(ConnectionDone())
        self.assertEqual((said, self.took(wire), wire.ending), (self.ends.down("half")[:3], b"", "cut"))
        self.assertRecorded(101, "upstream_error", "upstream_closed")

    def test_upstream_gone_at_once(self) -> None:
        """One that closes right behind its 101, too."""
        wire = self.asked(asking())
        upstream = self.upstream_wire()
        upstream.receive(SWITCH % b"")
        upstream.lose(ConnectionDone())
        self.assertEqual((self.took(wire), wire.ending), (SWITCHED, "cut"))
        self.assertRecorded(101, "upstream_error", "upstream_closed")

    def test_not_understood(self) -> None:
        """Where the bytes are no WebSocket, the end of the connection is the end."""
        wire, upstream = self.opened()
        upstream.receive(b"something else")
        upstream.lose(ConnectionDone())
        self.assertEqual(self.took(wire), b"something else")
        exchange = self.assertRecorded(101, "done")
        self.assertEqual((exchange.messages_out, exchange.close_code), (0, None))

    def test_idle(self) -> None:
        """When neither side sends anything for long, the client is told so with a close frame."""
        wire, upstream = self.opened()
        self.pass_time(10)
        wire.receive(self.ends.up("ping"))
        self.pass_time(10)
        upstream.receive(self.ends.down("pong"))
        self.assertEqual(self.took(wire), self.ends.down("pong"))
        self.pass_time(17)
        goodbye = self.took(wire)
        self.assertEqual(goodbye[2:4], (1001).to_bytes(2))
        self.assertIn(b"Nothing was sent", goodbye)
        self.assertEqual((wire.half_closed, upstream.ending), (True, "aborted"))
        self.assertRecorded(101, "timeout", "websocket_idle")

    def test_stopping(self) -> None:
        """When the relay stops, the client is told to come back; inside a frame it is only cut."""
        for begun in (b"", self.ends.down("half")[:3]):
            wire, upstream = self.opened()
            upstream.receive(begun)
            self.took(wire)
            self.relay.end_all()
            said = self.took(wire)
            self.assertEqual(said[2:4], b"" if begun else (1012).to_bytes(2))
            self.assertEqual((wire.ending, wire.half_closed), ("cut", False) if begun else ("", True))
            self.assertEqual(upstream.ending, "aborted")
            self.assertRecorded(101, "drained", "relay_shutting_down")

    def test_no_reader(self) -> None:
        """A client that reads nothing and sends nothing is cut: it could not be told anyway."""
        wire, upstream = self.opened()
        wire.stop_reading()
        self.pass_time(17)
        self.assertEqual((wire.ending, upstream.ending), ("aborted", "aborted"))
        self.assertRecorded(101, "timeout", "client_stalled")


class AdmissionTests(TunnelCase):
    limit_settings = LimitSettings(requests_per_minute=60, burst=2, concurrent=1)

    def test_one_exchange(self) -> None:
        """A WebSocket takes one request and one place, and gives the place back when it ends."""
        wire = self.open()
        self.assertIn(b"x-ratelimit-remaining-requests: 1\r\n", self.took(wire))
        (refused,) = read_answers(self.took(self.asked(asking())))
        self.assertEqual((refused.status, refused.error["code"]), (429, "concurrency_limit_exceeded"))
        self.assertEqual(len(self.far_end.connections), 1)
        wire.lose()
        self.open()
        self.assertEqual(len(self.far_end.connections), 2)


class PassthroughTests(TunnelCase):
    upstream_settings = UpstreamSettings(url="https://api.example", authorization="passthrough")

    def test_own_key(self) -> None:
        """Where clients bring their own keys, those among the subprotocols pass, too."""
        self.asked(asking("Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.own"))
        self.assertIn(b": realtime, openai-insecure-api-key.own\r\n", self.upstream_wire().taken())
