"""Whoever leaves stops paying: in every phase the upstream's part of the exchange ends with the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.integration.by_hand import (
    SYN_SENT,
    ClientByHand,
    UpstreamByHand,
    send_until_paused,
    tcp_connections,
)
from tests.integration.running import Relay, RelayTestCase, SiteTestCase, wait_for
from tests.integration.test_streams import EVENTS, ByHandTestCase

#: The promise is a second; the rest is for a machine that has other things to do.
SOON: Final = 3.0
#: The ways in which a client is gone: its process has ended, or its machine says that it knows of no connection.
ENDINGS: Final[tuple[Callable[[ClientByHand], None], ...]] = (ClientByHand.leave, ClientByHand.reset)
CHAT: Final = b'{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
BLOCK: Final = b"x" * 65_536


class Leaving:
    """What is the same in every phase: how the end is looked for at the relay."""

    relay: Relay

    def assert_ended(self, before: int, status: int) -> dict[str, object]:
        """The client's exchange is over and logged once, as the client's doing; returns its line."""
        self.relay.wait_for_metric('openai_relay_streams_active{client="alice"}', 0)
        (line,) = self.relay.lines_after(before)
        told = (line["end"], line["error"], line["status"])
        if told != ("client_gone", "client_gone", status):
            raise AssertionError(f"the log says {line}")
        if self.relay.lines_until_now() != before + 1:
            raise AssertionError(f"more than one line: {self.relay.lines()[before:]}")
        return line


class StandInTests(Leaving, RelayTestCase):
    """The stand-in is the upstream: it counts the exchanges that it was left in."""

    def check(self, begin: Callable[[ClientByHand], None], status: int) -> None:
        """Begin, leave, and look whether the stand-in and the relay know of it; for each way of leaving."""
        for end in ENDINGS:
            before, left = self.relay.lines_until_now(), self.standin.stats().aborted
            client = ClientByHand(self.relay)
            self.addCleanup(client.leave)
            begin(client)
            wait_for(lambda: self.standin.stats().open == 1, "the stand-in to be asked")
            end(client)
            wait_for(
                lambda left=left: self.standin.stats().aborted == left + 1,  # type: ignore[misc]
                f"the stand-in to be left after {end.__name__}",
                SOON,
            )
            self.assert_ended(before, status)
            self.assertEqual(self.standin.stats().open, 0)
            self.assert_serving()

    def test_waiting_for_the_head(self) -> None:
        """A client that leaves before there is any answer ends the request at the upstream."""
        self.check(lambda client: client.request("POST", "/v1/chat/completions?standin.hang=1", CHAT), 499)

    def test_within_a_stream(self) -> None:
        """A client that leaves a stream ends it at the upstream, between two events."""

        def begin(client: ClientByHand) -> None:
            client.request("POST", "/v1/chat/completions?standin.endless=1&standin.interval_ms=20", CHAT)
            self.assertTrue(client.answer().readline().startswith(b"data: {"))

        self.check(begin, 200)

    def test_silent_stream(self) -> None:
        """So it is when no further event comes that would find out."""

        def begin(client: ClientByHand) -> None:
            client.request("POST", "/v1/chat/completions?standin.endless=1&standin.interval_ms=600000", CHAT)
            self.assertTrue(client.answer().readline().startswith(b"data: {"))

        self.check(begin, 200)

    def test_stream_that_is_not_read(self) -> None:
        """A client that had stopped reading before it left is missed as soon."""

        def begin(client: ClientByHand) -> None:
            client.request("GET", "/v1/standin/bytes?standin.endless=1")
            client.read(10_000)
            sent = -1
            while (now := self.standin.stats().bytes_sent) != sent:  # until the stand-in is paused
                sent = now

        self.check(begin, 200)

    def test_upload_that_is_read(self) -> None:
        """A client that leaves in the middle of its request ends it there, and it is not taken as whole."""

        def begin(client: ClientByHand) -> None:
            received = self.standin.stats().bytes_received
            client.send(
                b"POST /v1/standin/digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n" + BLOCK
            )
            wait_for(lambda: self.standin.stats().bytes_received == received + len(BLOCK), "the upload's beginning")

        self.check(begin, 499)

    def test_chunked_upload_that_is_read(self) -> None:
        """The same holds where only the last chunk would tell that the request is whole."""

        def begin(client: ClientByHand) -> None:
            received = self.standin.stats().bytes_received
            client.send(b"POST /v1/standin/digest HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.send(b"10000\r\n" + BLOCK + b"\r\n")
            wait_for(lambda: self.standin.stats().bytes_received == received + len(BLOCK), "the upload's beginning")

        self.check(begin, 499)

    def test_upload_that_is_not_read(self) -> None:
        """A client that leaves while the upstream does not take its request is missed, though nobody reads from it."""

        def begin(client: ClientByHand) -> None:
            client.send(
                b"POST /v1/standin/digest?standin.stall_after=0 HTTP/1.1\r\n"
                b"Host: localhost\r\nContent-Length: 1000000000\r\n\r\n"
            )
            send_until_paused(client, BLOCK, 100_000_000)

        self.check(begin, 499)

    def test_requests_sent_ahead(self) -> None:
        """A client that has sent more requests ahead than the relay reads is missed too, and none of them is served."""

        def begin(client: ClientByHand) -> None:
            ahead = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200
            client.request("POST", "/v1/chat/completions?standin.hang=1", CHAT)
            send_until_paused(client, ahead, 10_000_000)

        asked = self.standin.stats().by_path.get("GET /v1/models", 0)
        self.check(begin, 499)
        self.assertEqual(self.standin.stats().by_path["GET /v1/models"] - asked, len(ENDINGS))  # of assert_serving


class UpstreamTests(Leaving, ByHandTestCase):
    """The test is the upstream, and looks at its connection."""

    def test_handshake(self) -> None:
        """A client that leaves while the upstream does not answer the TLS handshake ends the attempt."""
        for end in ENDINGS:
            before = self.relay.lines_until_now()
            client = self.client()
            client.request("POST", "/v1/chat/completions", CHAT)
            upstream = self.upstream.accept_bare()
            self.addCleanup(upstream.close)
            self.assertTrue(upstream.recv(65_536))  # the ClientHello
            end(client)
            upstream.settimeout(SOON)
            self.assertEqual(self.rest_of(upstream), b"")
            self.assert_ended(before, 499)

    def rest_of(self, upstream: object) -> bytes:
        """What comes until the end, be it a reset."""
        try:
            data = upstream.recv(65_536)  # type: ignore[attr-defined]
        except ConnectionResetError:
            return b""
        assert isinstance(data, bytes)
        return data

    def test_stream(self) -> None:
        """The upstream's connection itself is closed, in a stream and before it."""
        for end in ENDINGS:
            for answered in (False, True):
                before = self.relay.lines_until_now()
                client = self.client()
                client.request("POST", "/v1/chat/completions", CHAT)
                upstream = self.accept()
                upstream.read_head()
                if answered:
                    upstream.begin_events()
                    upstream.chunk(EVENTS[0])
                    self.assertEqual(client.answer().read(len(EVENTS[0])), EVENTS[0])
                self.assertFalse(upstream.has_ended())
                end(client)
                wait_for(upstream.has_ended, "the upstream's connection to end", SOON)
                self.assert_ended(before, 200 if answered else 499)

    def test_half_closed_upload(self) -> None:
        """The upstream's connection is closed without the end of a body that the client did not end."""
        for end in ENDINGS:
            before = self.relay.lines_until_now()
            client = self.client()
            client.send(
                b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
            )
            upstream = self.accept()
            upstream.read_head()
            self.assertEqual(upstream.read(10), b"5\r\nhello\r\n")
            end(client)
            wait_for(upstream.has_ended, "the upstream's connection to end", SOON)
            self.assertEqual(self.rest_of(upstream.socket), b"")
            line = self.assert_ended(before, 499)
            self.assertEqual(line["bytes_in"], 5)


class BlackHoleTests(Leaving, SiteTestCase):
    """An upstream that does not even answer SYN."""

    def setUp(self) -> None:
        self.upstream = UpstreamByHand(self.site, backlog=0)
        self.addCleanup(self.upstream.close)
        for filler in self.upstream.fill():
            self.addCleanup(filler.close)
        self.relay = Relay.configured(self.site, self.upstream.url)
        self.addCleanup(self.relay.close)

    def attempts(self) -> int:
        """How many connections the relay is trying to make."""
        return sum(each.state == SYN_SENT and each.ports[1] == self.upstream.port for each in tcp_connections())

    def test_connecting(self) -> None:
        """A client that leaves while the relay is still connecting ends the attempt."""
        for end in ENDINGS:
            before = self.relay.lines_until_now()
            client = ClientByHand(self.relay)
            self.addCleanup(client.leave)
            client.request("POST", "/v1/chat/completions", CHAT)
            wait_for(lambda: self.attempts() == 1, "the relay to connect")
            end(client)
            wait_for(lambda: self.attempts() == 0, "the relay to give up", SOON)
            self.assert_ended(before, 499)
