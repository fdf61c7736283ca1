"""What goes through ``openai-relay connect`` is passed on at once, and paced; no ending is made up."""

from __future__ import annotations

import http.client

from tests.integration.by_hand import send_until_paused
from tests.integration.connecting import BetweenTestCase
from tests.integration.running import wait_for
from tests.integration.test_disconnect import CHAT, ENDINGS, SOON
from tests.integration.test_streams import EVENTS


class StreamTests(BetweenTestCase):
    def test_each_event_at_once(self) -> None:
        """Each event is with the tool before the next one is sent, the first one and the head among them."""
        tool = self.tool()
        tool.request("POST", "/v1/chat/completions", b"{}")
        upstream = self.accept()
        upstream.read_head()
        upstream.begin_events()
        answer = tool.answer()
        for event in EVENTS:
            upstream.chunk(event)
            self.assertEqual(answer.read(len(event)), event)
        upstream.chunk(b"")
        self.assertEqual(answer.read(), b"")

    def test_upload_at_once(self) -> None:
        """A block of a request is with the upstream before the next one is sent."""
        tool = self.tool()
        tool.send(b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n\r\n")
        upstream = self.accept()
        upstream.read_head()
        for number in range(4):
            block = b"%d" % number * 1_000
            tool.send(block)
            self.assertEqual(upstream.read(1_000), block)
        upstream.answer()
        self.assertEqual(tool.answer().read(), b"{}")

    def test_tool_leaves(self) -> None:
        """A tool that hangs up, in whatever way, ends its request at the upstream: before an answer, and within."""
        for end in ENDINGS:
            for begun in (False, True):
                tool = self.tool()
                tool.request("POST", "/v1/chat/completions", CHAT)
                upstream = self.accept()
                upstream.read_head()
                if begun:
                    upstream.begin_events()
                    upstream.chunk(EVENTS[0])
                    self.assertEqual(tool.answer().read(len(EVENTS[0])), EVENTS[0])
                end(tool)
                wait_for(upstream.has_ended, f"the upstream to be left after {end.__name__}", SOON)

    def test_tool_leaves_while_it_is_not_read(self) -> None:
        """So does one that hangs up while its upload is held back."""
        tool = self.tool()
        tool.send(b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n")
        upstream = self.accept()
        upstream.read_head()
        send_until_paused(tool, b"x" * 65_536, 60_000_000)
        tool.leave()
        wait_for(lambda: "/v1/files 499 " in self.connecting.errors, "the exchange to be over", SOON)

    def test_upstream_breaks_off(self) -> None:
        """A stream that the upstream cuts is cut for the tool, behind the relay's error event."""
        tool = self.tool()
        tool.request("POST", "/v1/chat/completions", CHAT)
        upstream = self.accept()
        upstream.read_head()
        upstream.begin_events()
        upstream.chunk(EVENTS[0])
        answer = tool.answer()
        self.assertEqual(answer.read(len(EVENTS[0])), EVENTS[0])
        upstream.reset()
        with self.assertRaises(http.client.IncompleteRead) as caught:
            answer.read()
        self.assertIn(b"event: error", caught.exception.partial)
        self.assertIn(b"upstream_closed", caught.exception.partial)

    def test_no_end_is_made_up(self) -> None:
        """To HTTP/1.0, where the end of the connection is that of the body, a cut is a reset."""
        tool = self.tool()
        tool.send(b"GET /v1/files/f/content HTTP/1.0\r\nHost: localhost\r\n\r\n")
        upstream = self.accept()
        upstream.read_head()
        upstream.begin_events()
        upstream.chunk(EVENTS[0])
        tool.read_head()
        self.assertEqual(tool.read(len(EVENTS[0])), EVENTS[0])
        upstream.reset()
        self.assertRaises(ConnectionResetError, tool.read_to_end)

    def test_slow_tool(self) -> None:
        """A tool that does not read pauses the upstream, and then gets everything."""
        tool = self.tool()
        tool.request("GET", "/v1/files/f/content")
        upstream = self.accept()
        upstream.read_head()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        upstream.socket.settimeout(1.0)
        sent = 0
        with self.assertRaises(TimeoutError):
            while sent < 100_000_000:
                sent += upstream.socket.send(b"x" * 65_536)
        self.assertLess(sent, 60_000_000)
        tool.read_head()
        self.assertEqual(len(tool.read(sent)), sent)

    def test_slow_upstream(self) -> None:
        """An upstream that does not read pauses the tool."""
        tool = self.tool()
        tool.send(b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n")
        upstream = self.accept()
        upstream.read_head()
        sent = send_until_paused(tool, b"x" * 65_536, 60_000_000)
        self.assertEqual(len(upstream.read(sent)), sent)

    def test_authorization(self) -> None:
        """What a tool sends as Authorization goes on to the relay, which puts its own key in its place."""
        tool = self.tool()
        tool.request("GET", "/v1/models", fields="Authorization: Bearer sk-of-the-tool\r\n")
        upstream = self.accept()
        self.assertIn(f"\r\nAuthorization: Bearer {self.site.api_key}", upstream.read_head())
        upstream.answer()
        self.assertEqual(tool.answer().status, 200)
