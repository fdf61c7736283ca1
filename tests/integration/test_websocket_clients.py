"""WebSockets through the relay, with the ``websockets`` library and the official SDK, which hold but a certificate."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import ssl
from typing import Any

from openai import AsyncOpenAI, OpenAI
from openai.resources.realtime.realtime import RealtimeConnectionManager
from openai.types.realtime import RealtimeServerEvent
from openai.types.responses import ResponsesServerEvent
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from openai_relay.standin.counters import Counters
from tests.integration.running import WITHIN, RelayTestCase, wait_for

ECHO = "/v1/standin/websocket"
REALTIME = "/v1/realtime?model=gpt-realtime"
QUESTION = "Name three rivers."
#: A key that a browser's client would bring, which must not go any further than the relay.
OWN_KEY = "openai-insecure-api-key.ek-canary-of-the-client"
BIG = bytes(range(256)) * 20_000


class WebSocketTestCase(RelayTestCase):
    """Clients on WebSockets of a relay."""

    def setUp(self) -> None:
        self.before = self.standin.stats()

    def open(self, target: str, **options: Any) -> ClientConnection:
        """A WebSocket that is closed with the test."""
        # With a time-out for closing the library makes its socket non-blocking while its other thread reads TLS
        # from it, which then now and then takes that for the time-out. The relay has its own for what hangs.
        patience = {"open_timeout": WITHIN, "close_timeout": None}
        options = {"ssl": self.site.client_tls(), "proxy": None, "max_size": None} | patience | options
        client = connect(f"wss://{self.relay.url.removeprefix('https://')}{target}", **options)
        self.addCleanup(self.leave, client)
        return client

    def leave(self, client: ClientConnection) -> None:
        """
        Be gone without a word.

        Not by `close_socket`: the thread that reads would then read from whoever gets the descriptor next.
        """
        with contextlib.suppress(OSError):
            client.socket.shutdown(socket.SHUT_RDWR)
        self.closed(client)

    def closed(self, client: ClientConnection) -> tuple[Close | None, Close | None]:
        """Wait for the end; the close frames that were received and sent."""
        try:
            while True:
                client.recv(WITHIN)
        except ConnectionClosed as end:
            return end.rcvd, end.sent

    def stats_when(self, wanted: str, **more: int) -> Counters:
        """The stand-in's counters, once each of these has grown so much since the test began."""

        def look() -> Counters | None:
            now = self.standin.stats()
            grown = {name: getattr(now, name) - getattr(self.before, name) for name in more}
            return now if grown == more else None

        return wait_for(look, f"the stand-in to have counted {wanted}")


class LibraryTests(WebSocketTestCase):
    def test_echo(self) -> None:
        """Messages of every kind and length come back byte for byte, whole or in fragments, each way."""
        messages: list[str | bytes] = ["", b"", "text", b"\0\xff", "é\N{GRINNING FACE}" * 50_000, BIG, b"x" * 65_536]
        for fragment in (0, 1_000, 70_000):
            client = self.open(f"{ECHO}?standin.fragment={fragment}")
            for message in messages:
                client.send(message)
                self.assertEqual(client.recv(WITHIN), message)
            client.send(message[start : start + 999] for message in [BIG] for start in range(0, len(BIG), 999))
            self.assertEqual(client.recv(WITHIN), BIG)
            client.close()
        self.stats_when("all messages", messages_received=24, messages_sent=24, finished=3)

    def test_many_at_once(self) -> None:
        """Messages that are sent without waiting come back in their order."""
        client = self.open(ECHO, max_queue=None)
        wanted = [f"message {number}" for number in range(2_000)]
        for message in wanted:
            client.send(message)
        self.assertEqual([client.recv(WITHIN) for _ in wanted], wanted)

    def test_compression(self) -> None:
        """Compression is agreed on by the two ends, and the relay has no part in it."""
        for asked, wanted in ((0, 0), (1, 1)):
            client = self.open(f"{ECHO}?standin.deflate={asked}")
            self.assertEqual(len(client.protocol.extensions), wanted)
            for message in (BIG, "x" * 1_000_000):
                client.send(message)
                self.assertEqual(client.recv(WITHIN), message)

    def test_ping(self) -> None:
        """A ping reaches the upstream, and its answer the client, also while a response runs."""
        for target in (ECHO, f"{REALTIME}&standin.endless=1&standin.interval_ms=10"):
            client = self.open(target, max_queue=None)
            client.send('{"type":"response.create"}')
            client.recv(WITHIN)
            self.assertTrue(client.ping("there?").wait(WITHIN))
            self.leave(client)
        self.stats_when("two pings", pings=2)

    def test_client_closes(self) -> None:
        """Code and reason of the client's close frame reach the upstream, whose answer comes back."""
        for code in (1000, 3999, 4321):
            client = self.open(ECHO)
            client.close(code, "enough")
            self.assertEqual(self.closed(client)[0], Close(code, "enough"))
        closes = self.stats_when("all ends", finished=3).closes
        self.assertEqual((closes["3999"], closes["4321"]), (1, 1))

    def test_upstream_closes(self) -> None:
        """Code and reason of the upstream's close frame reach the client, whose answer goes back."""
        for code in (1000, 1011, 4001):
            client = self.open(f"{ECHO}?standin.close_after=1&standin.close_code={code}&standin.close_reason=bye")
            client.send("last words")
            self.assertEqual(self.closed(client), (Close(code, "bye"), Close(code, "bye")))
        closes = self.stats_when("all ends", finished=3).closes
        self.assertEqual(closes["4001"], 1)

    def test_upstream_cuts(self) -> None:
        """An upstream that ends without a close frame, or inside a message, does so for the client too."""
        for cut in ("cut_after=1", "cut_after_bytes=3"):
            client = self.open(f"{ECHO}?standin.{cut}")
            client.send("hello")
            received, _ = self.closed(client)
            self.assertIsNone(received)
        self.stats_when("two cuts", cut=2)
        self.assert_serving()

    def test_client_cuts(self) -> None:
        """A client that is gone without a word is gone for the upstream too, whatever was going on."""
        for number, target in enumerate((ECHO, f"{REALTIME}&standin.endless=1"), start=1):
            client = self.open(target)
            client.send('{"type":"response.create"}')
            client.recv(WITHIN)
            self.leave(client)
            self.stats_when("the client's leaving", aborted=number, open=0)

    def test_client_that_does_not_read(self) -> None:
        """A client that does not read stops the upstream, and goes on where it stopped."""
        client = self.open(f"{REALTIME}&standin.endless=1&standin.event_bytes=10000", max_queue=1)
        client.send('{"type":"response.create"}')
        resident = self.relay.resident

        def still() -> int | None:
            looks = {self.standin.stats().bytes_sent for _ in range(25)}
            return looks.pop() if len(looks) == 1 else None

        sent = wait_for(still, "the upstream to stop") - self.before.bytes_sent
        self.assertLess(sent, 32 << 20)
        self.assertLess(self.relay.resident - resident, 16 << 20)
        deltas = [event for event in itertools.islice(self.events(client), 2_000) if event["type"].endswith(".delta")]
        self.assertGreater(len(deltas), 1_900)
        self.assertEqual({len(event["delta"]) for event in deltas}, {10_000})

    def events(self, client: ClientConnection) -> Any:
        while True:
            yield json.loads(client.recv(WITHIN))

    def refused(self, target: str, **options: Any) -> Response:
        error: InvalidStatus = self.assertRaises(InvalidStatus, self.open, target, **options)
        return error.response

    def test_upstream_refuses(self) -> None:
        """An upstream that refuses the upgrade does so for the client, with its own status, fields and body."""
        codes = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}
        for status, code in codes.items():
            response = self.refused(f"{REALTIME}&standin.status={status}&standin.retry_after_ms=250")
            error = json.loads(response.body or b"")["error"]
            self.assertEqual((response.status_code, error["code"]), (status, code))
            self.assertEqual((response.headers["retry-after-ms"], response.headers["retry-after"]), ("250", "1"))
        response = self.refused("/v1/nothing")
        self.assertEqual(
            (response.status_code, json.loads(response.body or b"")["error"]["code"]), (404, "unknown_url")
        )
        self.assertEqual(self.refused(f"{ECHO}?standin.status=200").status_code, 200)
        self.assert_serving()

    def test_key_of_the_client(self) -> None:
        """A key among the client's subprotocols goes no further than the relay, whose own key is sent instead."""
        client = self.open(REALTIME, subprotocols=[Subprotocol("realtime"), Subprotocol(OWN_KEY)])
        self.assertEqual(client.subprotocol, "realtime")
        self.assertEqual(json.loads(client.recv(WITHIN))["type"], "session.created")
        client.close()
        now = self.stats_when("the end", finished=1, websockets=1, keys_matched=1)
        self.assertEqual(now.keys_in_protocols, self.before.keys_in_protocols)
        seen = self.refused(f"{ECHO}?standin.echo=1", subprotocols=[Subprotocol("realtime"), Subprotocol(OWN_KEY)])
        offered = [
            value for name, value in json.loads(seen.body or b"")["fields"] if name.lower() == "sec-websocket-protocol"
        ]
        self.assertEqual(offered, ["realtime"])
        for output in (self.relay.output, self.relay.errors, self.standin.output, self.standin.errors):
            self.assertNotIn("ek-canary-of-the-client", output)

    def test_no_certificate(self) -> None:
        """Without a certificate there is no WebSocket, and nothing reaches the upstream."""
        strangers = ssl.create_default_context(cafile=str(self.site.ca))
        refusals: Any = (ssl.SSLError, ConnectionError, ConnectionClosed, InvalidMessage)
        self.assertRaises(refusals, self.open, ECHO, ssl=strangers)
        self.assertEqual(self.standin.stats().requests, self.before.requests)

    def test_accounted(self) -> None:
        """A WebSocket is one exchange, which ends with it."""
        start = self.relay.lines_until_now()
        client = self.open(ECHO)
        client.send("hello")
        client.recv(WITHIN)
        wait_for(lambda: self.relay.active() == 1, "one exchange to be open")
        client.close()
        [line] = self.relay.lines_after(start)
        self.assertEqual((line["status"], line["path"]), (101, ECHO))
        wait_for(lambda: self.relay.active() == 0, "no exchange to be open")


class DrainTests(WebSocketTestCase):
    def test_upstream_stops(self) -> None:
        """An upstream that is being stopped closes with 1001, and the client hears it."""
        client = self.open(ECHO)
        client.send("hello")
        self.assertEqual(client.recv(WITHIN), "hello")
        self.standin.process.terminate()
        received, _ = self.closed(client)
        assert received is not None
        self.assertEqual(received.code, 1001)


class SDKTests(WebSocketTestCase):
    """The official package; of TLS it knows what ``websockets`` knows."""

    def setUp(self) -> None:
        super().setUp()
        self.options: Any = {"ssl": self.site.client_tls(), "proxy": None}
        self.asynchronous_options: Any = {"ssl": self.site.client_tls(), "proxy": None}
        self.client = OpenAI(base_url=f"{self.relay.url}/v1", api_key="unused")
        self.addCleanup(self.client.close)

    def realtime(self, **options: Any) -> RealtimeConnectionManager:
        return self.client.realtime.connect(model="gpt-realtime", websocket_connection_options=self.options, **options)

    def asynchronous(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.relay.url}/v1", api_key="unused")

    def assertSpoken(self, events: list[RealtimeServerEvent]) -> None:
        """A whole answer of the Realtime API to the question."""
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        self.assertGreater(len(deltas), 3)
        self.assertIn(f"You said: {QUESTION}", "".join(deltas))
        [done] = [event for event in events if event.type == "response.done"]
        usage = done.response.usage
        assert usage is not None and usage.input_tokens is not None and usage.output_tokens is not None
        self.assertEqual((usage.output_tokens, usage.total_tokens), (len(deltas), usage.input_tokens + len(deltas)))
        assert usage.input_token_details is not None
        self.assertEqual(usage.input_token_details.text_tokens, usage.input_tokens)

    def assertAnswered(self, events: list[ResponsesServerEvent]) -> None:
        """A whole answer of the Responses API to the question."""
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        self.assertIn(f"You said: {QUESTION}", "".join(deltas))
        last = events[-1]
        assert last.type == "response.completed" and last.response.usage is not None
        self.assertEqual(last.response.output_text, "".join(deltas))
        self.assertEqual(last.response.usage.output_tokens, len(deltas))

    def test_realtime(self) -> None:
        """A session, an item, sound and a response with its usage, over the Realtime API."""
        with self.realtime() as connection:
            self.assertEqual(connection.recv().type, "session.created")
            connection.session.update(session={"type": "realtime", "instructions": "Be brief."})
            updated = connection.recv()
            assert updated.type == "session.updated" and updated.session.type == "realtime"
            self.assertEqual(updated.session.instructions, "Be brief.")
            connection.input_audio_buffer.append(audio="A" * (1 << 20))
            connection.input_audio_buffer.commit()
            self.assertEqual(connection.recv().type, "input_audio_buffer.committed")
            connection.conversation.item.create(
                item={"type": "message", "role": "system", "content": [{"type": "input_text", "text": QUESTION}]}
            )
            connection.response.create(response={"conversation": "none", "input": [_question()]})
            events: list[RealtimeServerEvent] = []
            while not events or events[-1].type != "rate_limits.updated":
                events.append(connection.recv())
            self.assertSpoken(events)
        self.stats_when("the end", finished=1, keys_matched=1)

    def test_realtime_error(self) -> None:
        """An error of the upstream is an event, and the session goes on."""
        with self.realtime() as connection:
            connection.recv()
            connection.response.cancel()
            error = connection.recv()
            assert error.type == "error"
            self.assertEqual(error.error.code, "response_cancel_not_active")
            connection.session.update(session={"type": "realtime"})
            self.assertEqual(connection.recv().type, "session.updated")

    def test_realtime_asynchronous(self) -> None:
        """The same with the SDK's asynchronous client."""

        async def speak() -> list[RealtimeServerEvent]:
            events: list[RealtimeServerEvent] = []
            async with (
                self.asynchronous() as client,
                client.realtime.connect(
                    model="gpt-realtime", websocket_connection_options=self.asynchronous_options
                ) as connection,
            ):
                await connection.conversation.item.create(item=_question())
                await connection.response.create()
                async for event in connection:
                    events.append(event)
                    if event.type == "response.done":
                        break
            return events

        events = asyncio.run(asyncio.wait_for(speak(), WITHIN))
        self.assertEqual(events[0].type, "session.created")
        self.assertSpoken(events)

    def test_responses(self) -> None:
        """Several responses one after the other on one connection of the Responses API, and an error between them."""
        with self.client.responses.connect(websocket_connection_options=self.options) as connection:
            for number in range(3):
                connection.response.create(model="gpt-4o", input=QUESTION)
                events: list[ResponsesServerEvent] = []
                while not events or events[-1].type != "response.completed":
                    events.append(connection.recv())
                self.assertAnswered(events)
                if not number:
                    connection.send({"type": "response.create", "max_output_tokens": 0})
                    error = connection.recv()
                    assert error.type == "error"
                    self.assertEqual(getattr(error, "status", None), 400)
        self.stats_when("the end", finished=1, websockets=1)

    def test_responses_asynchronous(self) -> None:
        """The same with the SDK's asynchronous client."""

        async def ask() -> list[ResponsesServerEvent]:
            events: list[ResponsesServerEvent] = []
            async with (
                self.asynchronous() as client,
                client.responses.connect(websocket_connection_options=self.asynchronous_options) as connection,
            ):
                await connection.response.create(model="gpt-4o", input=QUESTION)
                async for event in connection:
                    events.append(event)
                    if event.type == "response.completed":
                        break
            return events

        self.assertAnswered(asyncio.run(asyncio.wait_for(ask(), WITHIN)))

    def test_reconnects(self) -> None:
        """A cut or a close that passes by itself lets the SDK connect anew, with what the relay passed on."""
        attempts: list[int] = []

        def again(event: Any) -> Any:
            attempts.append(event.close_code)
            return {"extra_query": {}}

        closing = {"standin.close_after": "1", "standin.close_code": "1012"}
        with self.realtime(extra_query=closing, on_reconnecting=again, initial_delay=0.01) as connection:
            first, second = itertools.islice(connection, 2)
            self.assertEqual((first.type, second.type), ("session.created", "session.created"))
        self.assertEqual(attempts, [1012])

    def test_refused(self) -> None:
        """A refusal of the upstream is an error with its status."""
        error = self.assertRaises(InvalidStatus, self.realtime(extra_query={"standin.status": "429"}).enter)
        self.assertEqual(error.response.status_code, 429)


def _question() -> Any:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": QUESTION}]}
