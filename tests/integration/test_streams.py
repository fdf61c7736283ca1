"""
What the upstream sends reaches the client before anything else is sent, and as it was sent.

The test holds both ends.  A block that the relay held back would never be
followed by another one, and the test's bound would end it.
"""

from __future__ import annotations

import json
from typing import ClassVar

from tests.integration.by_hand import ClientByHand, Conversation, UpstreamByHand
from tests.integration.running import Relay, RelayTestCase, SiteTestCase

EVENTS = [b'data: {"choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % number for number in range(50)]


class ByHandTestCase(SiteTestCase):
    """A relay between two ends that the test holds."""

    upstream: ClassVar[UpstreamByHand]
    relay: ClassVar[Relay]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.upstream = UpstreamByHand(cls.site)
        cls.addClassCleanup(cls.upstream.close)
        cls.relay = Relay.configured(cls.site, cls.upstream.url)
        cls.addClassCleanup(cls.relay.close)

    def client(self) -> ClientByHand:
        client = ClientByHand(self.relay)
        self.addCleanup(client.leave)
        return client

    def accept(self) -> Conversation:
        conversation = self.upstream.accept()
        self.addCleanup(conversation.leave)
        return conversation


class BlockTests(ByHandTestCase):
    def test_each_event_at_once(self) -> None:
        """Each event is with the client before the next one is sent, the first one and the head among them."""
        client = self.client()
        client.request("POST", "/v1/chat/completions", b"{}")
        upstream = self.accept()
        upstream.read_head()
        upstream.begin_events()
        answer = client.answer()
        self.assertEqual(answer.status, 200)
        for event in EVENTS:
            upstream.chunk(event)
            self.assertEqual(answer.read(len(event)), event)
        upstream.chunk(b"data: [DONE]\n\n")
        upstream.chunk(b"")
        self.assertEqual(answer.read(), b"data: [DONE]\n\n")

    def test_half_an_event_at_once(self) -> None:
        """A block is passed on wherever it was cut: within an event, a line, a character, or a chunk."""
        client = self.client()
        client.request("POST", "/v1/responses", b"{}")
        upstream = self.accept()
        upstream.read_head()
        upstream.begin_events()
        answer = client.answer()
        event = 'event: response.output_text.delta\ndata: {"delta":"größer"}\n\n'.encode()
        upstream.send(b"%x\r\n" % len(event))
        for place in range(len(event)):
            upstream.send(event[place : place + 1])
            self.assertEqual(answer.read(1), event[place : place + 1])

    def test_body_with_a_length_at_once(self) -> None:
        """So is a block of a body that is no stream of events and has a length."""
        client = self.client()
        client.request("GET", "/v1/files/file-1/content")
        upstream = self.accept()
        upstream.read_head()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\nConnection: close\r\n\r\n")
        answer = client.answer()
        for number in range(4):
            block = b"%d" % number * 100
            upstream.send(block)
            self.assertEqual(answer.read(100), block)

    def test_upload_at_once(self) -> None:
        """A block of a request is with the upstream before the next one is sent, the head even before the first."""
        client = self.client()
        client.send(b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n\r\n")
        upstream = self.accept()
        self.assertIn("\r\nContent-Length: 4000", upstream.read_head())
        for number in range(4):
            block = b"%d" % number * 1_000
            client.send(block)
            self.assertEqual(upstream.read(1_000), block)
        upstream.answer()
        self.assertEqual(client.answer().read(), b"{}")

    def test_answer_before_the_upload_is_complete(self) -> None:
        """Both directions flow at once: an answer may begin while the request is still being sent."""
        client = self.client()
        client.send(b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        upstream = self.accept()
        self.assertIn("\r\nTransfer-Encoding: chunked", upstream.read_head())
        upstream.begin_events()
        answer = client.answer()
        for event in EVENTS[:5]:
            client.send(b"3\r\nabc\r\n")
            self.assertEqual(upstream.read(8), b"3\r\nabc\r\n")
            upstream.chunk(event)
            self.assertEqual(answer.read(len(event)), event)
        client.send(b"0\r\n\r\n")
        self.assertEqual(upstream.read(5), b"0\r\n\r\n")
        upstream.chunk(b"")
        self.assertEqual(answer.read(), b"")

    def test_no_done_is_made_up(self) -> None:
        """A stream that ends well without ``[DONE]`` ends so for the client: the relay adds nothing."""
        client = self.client()
        client.request("POST", "/v1/chat/completions", b"{}")
        upstream = self.accept()
        upstream.read_head()
        upstream.begin_events()
        upstream.chunk(EVENTS[0])
        upstream.chunk(b"")
        self.assertEqual(client.answer().read(), EVENTS[0])


class PacedTests(RelayTestCase):
    def test_paced_events(self) -> None:
        """Of a stream that the stand-in sends event by event, the client has the first before the last is sent."""
        connection = self.connect()
        body = json.dumps({"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "Hi"}]})
        finished = self.standin.stats().finished
        connection.request("POST", "/v1/chat/completions?standin.events=20&standin.interval_ms=50", body.encode())
        answer = connection.getresponse()
        first = answer.readline()
        # The stand-in has a second's worth of events left to send.
        self.assertEqual(self.standin.stats().finished, finished)
        self.assertTrue(first.startswith(b'data: {"id":'))
        rest = answer.read()
        self.assertEqual(rest.count(b"data: {"), 21)
        self.assertTrue(rest.endswith(b"data: [DONE]\n\n"))
