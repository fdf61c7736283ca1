"""How a request becomes a WebSocket, or does not, in memory and in virtual time."""

from __future__ import annotations

from openai_relay.core.settings import Secret
from openai_relay.standin.server import StandInOptions
from tests.standin.caller import ACCEPTED, OPENING
from tests.standin.websocket_case import ECHO, REALTIME, RESPONSES, WebSocketCase


class OpeningTests(WebSocketCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = self.connect()

    def test_switches(self) -> None:
        """The 101 accepts the client's key, and has the fields of the API and those that were asked for."""
        answered = self.client.open(ECHO + "?standin.field=X-A:%20b&standin.reason=So")
        self.assertEqual((answered.status, answered.reason), (101, "So"))
        self.assertEqual((answered["sec-websocket-accept"], answered["x-a"]), (ACCEPTED, "b"))
        self.assertEqual((answered["upgrade"], answered["connection"]), ("websocket", "Upgrade"))
        self.assertIn("x-request-id", answered)
        self.assertNotIn("content-type", answered)
        self.assertEqual((self.counters.websockets, self.counters.by_status), (1, {"101": 1}))

    def test_protocol(self) -> None:
        """Of the subprotocols only ``realtime`` is selected, and only there."""
        offered = "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.sk-1"
        self.assertEqual(self.client.open(REALTIME, offered)["sec-websocket-protocol"], "realtime")
        self.assertNotIn("sec-websocket-protocol", self.connect().open(ECHO, offered))

    def test_ordinary_requests(self) -> None:
        """Without an upgrade a WebSocket's path is 426, or what it is otherwise; elsewhere an upgrade does nothing."""
        asker = self.client.asker
        for path, status in ((REALTIME, 426), (ECHO, 426), (RESPONSES, 405)):
            self.assertEqual(asker.ask("GET", path).status, status)
        self.assertEqual(asker.ask("GET", REALTIME)["upgrade"], "websocket")
        self.assertEqual(self.client.open("/v1/models").json()["object"], "list")
        self.assertEqual(self.connect().open(ECHO + "?standin.echo=1").json()["object"], "standin.echo")

    def test_bad_handshake(self) -> None:
        """A handshake that is incomplete is 400, one of another version 426, and the connection stays."""
        asker = self.client.asker
        base = ("Connection: Upgrade", "Upgrade: websocket")
        self.assertEqual(asker.ask("GET", ECHO, *base).status, 400)
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        answered = asker.ask("GET", ECHO, *base, key, "Sec-WebSocket-Version: 7")
        self.assertEqual((answered.status, answered["sec-websocket-version"]), (426, "13"))
        answered = asker.ask("GET", ECHO, *base, key, "Sec-WebSocket-Version: 13", body=b"x")
        self.assertEqual(answered.status, 400)
        self.assertEqual(self.client.open(ECHO).status, 101)

    def test_refused_on_demand(self) -> None:
        """The upgrade can be refused with any status: an error as elsewhere, or an answer that is no error."""
        for path in (ECHO, REALTIME, RESPONSES):
            answered = self.client.open(f"{path}{'&' if '?' in path else '?'}standin.status=429")
            self.assertEqual((answered.status, answered.json()["error"]["code"]), (429, "rate_limit_exceeded"))
            self.assertIn("retry-after-ms", answered)
        answered = self.client.open(ECHO + "?standin.status=200")
        self.assertEqual((answered.status, answered.json()["upgraded"]), (200, False))
        self.assertEqual(self.counters.websockets, 0)

    def test_fails_first(self) -> None:
        """The first upgrades with a key can fail."""
        target = ECHO + "?standin.fail_times=1&standin.status=503"
        self.assertEqual([self.client.open(target).status for _ in range(2)], [503, 101])

    def test_late(self) -> None:
        """The 101 can be late, and what is said first too."""
        self.client.asker.request("GET", REALTIME + "&standin.delay_ms=1000&standin.first_byte_ms=500", *OPENING)
        self.assertEqual(self.client.transport.value(), b"")
        self.clock.advance(1)
        self.assertEqual(self.client.answer().status, 101)
        self.assertEqual(self.client.events(), [])
        self.clock.advance(0.5)
        self.assertEqual(self.client.told()[0]["type"], "session.created")

    def test_never(self) -> None:
        """The upgrade can be left without an answer, or be cut in its head."""
        self.client.asker.request("GET", ECHO + "?standin.hang=1", *OPENING)
        self.clock.advance(100)
        self.assertEqual(self.client.transport.value(), b"")
        self.client.asker.leave()
        client = self.connect()
        client.asker.request("GET", ECHO + "?standin.cut_in_head=1", *OPENING)
        self.assertEqual(client.transport.value(), b"HTTP/1.1 200 O")
        self.assertEqual((self.counters.aborted, self.counters.cut, self.counters.open), (1, 1, 0))


class KeyTests(WebSocketCase):
    options = StandInOptions(expected_key=Secret(b"sk-right"))

    def setUp(self) -> None:
        super().setUp()
        self.client = self.connect()

    def test_key(self) -> None:
        """No key, or another one, is 401 before the upgrade."""
        for key in ("", "sk-wrong"):
            answered = self.client.open(REALTIME, key=key)
            self.assertEqual((answered.status, self.counters.websockets), (401, 0))
        self.assertEqual(self.client.open(REALTIME, key="sk-right").status, 101)

    def test_key_as_a_protocol(self) -> None:
        """A key may come as a subprotocol, as browsers bring it; it is counted, compared and never repeated."""
        offered = "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key."
        answered = self.client.open(REALTIME, offered + "sk-wrong", key="")
        self.assertEqual(answered.status, 401)
        self.assertNotIn(b"sk-wrong", answered.body)
        answered = self.client.open(REALTIME, offered + "sk-right", key="")
        self.assertEqual((answered.status, answered["sec-websocket-protocol"]), (101, "realtime"))
        self.assertEqual((self.counters.keys_in_protocols, self.counters.keys_wrong), (2, 1))

    def test_the_field_wins(self) -> None:
        """Where there is an Authorization field, it is the one that counts."""
        offered = "Sec-WebSocket-Protocol: openai-insecure-api-key.sk-right"
        self.assertEqual(self.client.open(REALTIME, offered, key="sk-wrong").status, 401)

    def test_not_for_ordinary_requests(self) -> None:
        """A subprotocol is no key for what is not a WebSocket."""
        offered = "Sec-WebSocket-Protocol: openai-insecure-api-key.sk-right"
        self.assertEqual(self.client.asker.ask("GET", "/v1/models", offered, key="").status, 401)
