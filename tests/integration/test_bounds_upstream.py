"""An upstream that never comes to the end of its head, its interim answers or its framing is cut at a bound."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import ClassVar, Final

from tests.integration.attackers import CHAT, MIB, descriptors
from tests.integration.by_hand import ClientByHand, Conversation, UpstreamByHand
from tests.integration.running import Relay, SiteTestCase, wait_for
from tests.integration.test_streams import EVENTS

#: No bound lets so much through.
TOO_MUCH: Final = 32 * MIB


class EndlessUpstreamTests(SiteTestCase):
    upstream: ClassVar[UpstreamByHand]
    relay: ClassVar[Relay]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.upstream = UpstreamByHand(cls.site)
        cls.addClassCleanup(cls.upstream.close)
        cls.relay = Relay.configured(cls.site, cls.upstream.url)
        cls.addClassCleanup(cls.relay.close)

    def asked(self) -> tuple[ClientByHand, Conversation]:
        """A client that has asked, and the upstream's end, which has read the head."""
        client = ClientByHand(self.relay)
        self.addCleanup(client.leave)
        client.request("POST", "/v1/chat/completions", CHAT)
        conversation = self.upstream.accept()
        self.addCleanup(conversation.leave)
        conversation.read_head()
        return client, conversation

    def assert_good(self) -> None:
        """The next exchange, on connections of its own, is as ever."""
        client, conversation = self.asked()
        conversation.answer()
        self.assertEqual(client.answer().read(), b"{}")
        client.leave()
        conversation.leave()

    def attacked(self, attack: Callable[[ClientByHand, Conversation], None]) -> None:
        """Eight such exchanges beside a good stream, which goes on; no memory, descriptor or connection is left."""
        self.assert_good()
        self.relay.wait_for_metric("openai_relay_connections", 0)
        before, resident = descriptors(self.relay), self.relay.resident
        reader, good = self.asked()
        good.begin_events()
        good.chunk(EVENTS[0])
        events = reader.answer()
        self.assertEqual(events.read(len(EVENTS[0])), EVENTS[0])
        for _ in range(8):
            client, conversation = self.asked()
            attack(client, conversation)
            client.leave()
            conversation.leave()
            good.chunk(EVENTS[1])
            self.assertEqual(events.read(len(EVENTS[1])), EVENTS[1])
        good.chunk(b"")
        self.assertEqual(events.read(), b"")
        reader.leave()
        good.leave()
        self.assert_good()
        self.relay.wait_for_metric("openai_relay_connections", 0)
        self.assertEqual(self.relay.active(), 0)
        wait_for(lambda: descriptors(self.relay) <= before, f"at most {before} descriptors")
        self.assertLess(self.relay.resident - resident, 4 * MIB)

    def in_the_head(self, beginning: bytes, block: bytes) -> None:
        """A head that begins so and then goes on like that is a 502, long before it has cost much."""

        def attack(client: ClientByHand, conversation: Conversation) -> None:
            self.assertLess(self.send_until_cut(conversation, beginning, block), TOO_MUCH)
            answer = client.answer()
            while answer.status < 200:
                answer = client.answer()
            self.assertEqual(answer.status, 502)
            self.assertEqual(json.loads(answer.read())["error"]["code"], "upstream_malformed")

        self.attacked(attack)

    def in_the_body(self, block: bytes, beginning: bytes = b"") -> None:
        """Framing that goes on like this breaks the stream off: with an error event, and without an end."""

        def attack(client: ClientByHand, conversation: Conversation) -> None:
            conversation.begin_events()
            conversation.chunk(EVENTS[0])
            self.assertLess(self.send_until_cut(conversation, beginning, block), TOO_MUCH)
            head, _, rest = client.read_to_end().partition(b"\r\n\r\n")
            self.assertIn(b" 200 ", head)
            self.assertIn(EVENTS[0], rest)
            self.assertIn(b'"code": "upstream_malformed"', rest)
            self.assertFalse(rest.endswith(b"0\r\n\r\n"))

        self.attacked(attack)

    def send_until_cut(self, conversation: Conversation, beginning: bytes, block: bytes) -> int:
        """Send it until the relay has had enough; returns how much went out."""
        sent = 0
        try:
            conversation.send(beginning)
            while sent < TOO_MUCH and not conversation.has_ended():
                conversation.send(block)
                sent += len(block)
        except OSError:
            pass
        return sent

    def test_huge_field(self) -> None:
        """A field of a head that never ends is a 502."""
        self.in_the_head(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 4_096)

    def test_fields_without_an_end(self) -> None:
        """So are tiny fields without an end."""
        self.in_the_head(b"HTTP/1.1 200 OK\r\n", b"a:\r\n" * 256)

    def test_too_many_fields(self) -> None:
        """A head that does end, and holds thousands of fields, is one too."""
        self.in_the_head(b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * 9_000 + b"\r\n", b"x")

    def test_reason(self) -> None:
        """So is a status line that never ends."""
        self.in_the_head(b"HTTP/1.1 200 ", b"O" * 4_096)

    def test_interim_answers(self) -> None:
        """Interim answers without an end are a 502 after a few of them."""
        self.in_the_head(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")

    def test_large_interim_answers(self) -> None:
        """So they are when each is as large as a head may be."""
        self.in_the_head(b"", b"HTTP/1.1 103 Early Hints\r\nX: " + b"x" * 60_000 + b"\r\n\r\n")

    def test_chunk_extension(self) -> None:
        """A chunk extension that never ends cuts the stream."""
        self.in_the_body(b"x" * 4_096, b"5;")

    def test_chunk_size(self) -> None:
        """So does a chunk's size."""
        self.in_the_body(b"0" * 4_096)

    def test_trailers(self) -> None:
        """So do trailers."""
        self.in_the_body(b"X-Trailer: more\r\n" * 64, b"0\r\n")
