"""Whoever is slow, or says nothing, is cut at its time-out, and nobody else waits for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Final

from tests.integration.attackers import (
    CHAT,
    GET,
    MIB,
    BoundsTestCase,
    Crowd,
    client_hello,
    pause,
    processor_time,
    quick_tls,
)
from tests.integration.by_hand import ClientByHand
from tests.integration.running import wait_for

CROWD: Final = 40
#: Between two bytes of those who are slow: well within every time-out.
APART: Final = 0.04
HEAD: Final = b"POST /v1/standin/digest HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"x" * 10_000
UPLOAD: Final = b"POST /v1/standin/digest HTTP/1.1\r\nHost: localhost\r\n"
HANDSHAKES_FAILED: Final = 'openai_relay_tls_handshakes_total{result="failed"}'


def byte_by_byte(crowd: Crowd, data: bytes) -> int:
    """All of the crowd send a byte now and then, until the relay has closed the last; returns how many each sent."""
    bytes_of: Iterator[int] = iter(data)
    sent = 0

    def one_more() -> bool:
        nonlocal sent
        crowd.say(bytes([next(bytes_of)]))
        sent += 1
        pause(APART)
        return crowd.all_closed()

    wait_for(one_more, "the relay to have had enough")
    return sent


class HandshakeTests(BoundsTestCase):
    def test_silence(self) -> None:
        """Connections on which nothing is said are reset after the handshake's time-out, and counted as failed."""
        failed = self.relay.metric(HANDSHAKES_FAILED)
        with self.bounded(), Crowd(self.relay).connect(CROWD) as crowd:
            self.assert_served()
            self.assertEqual(crowd.open(), CROWD)
            self.wait_until_closed(crowd, "silent connections")
            self.relay.wait_for_metric(HANDSHAKES_FAILED, failed + CROWD)

    def test_hello_in_pieces(self) -> None:
        """A ClientHello that comes byte by byte buys no more time than none."""
        hello = client_hello(quick_tls(self.site))
        with self.bounded(), Crowd(self.relay).connect(CROWD) as crowd:
            self.assertLess(byte_by_byte(crowd, hello), len(hello) // 2)

    def test_half_a_handshake(self) -> None:
        """So is one who takes the relay's certificate, which costs a signature, and then says no more."""
        hello = client_hello(quick_tls(self.site))
        with self.bounded(), Crowd(self.relay).connect(CROWD) as crowd:
            crowd.say(hello)
            self.assert_served()
            self.wait_until_closed(crowd, "half-made connections")


class HeadTests(BoundsTestCase):
    def test_byte_by_byte(self) -> None:
        """A head that comes byte by byte is answered 408 after its time-out, though a byte has just come."""
        with self.bounded(), Crowd(self.relay).greet(self.tls, CROWD) as crowd:
            sent = byte_by_byte(crowd, HEAD)
            self.assertLess(sent, len(HEAD))
            for answer in crowd.answers():
                self.assertTrue(answer.startswith(b"HTTP/1.1 408 "), answer)
                self.assertIn(b"Connection: close\r\n", answer)
            self.assert_served()

    def test_empty_lines(self) -> None:
        """Empty lines before a request, which are passed over, are no way to keep a connection."""
        with self.bounded(), Crowd(self.relay).greet(self.tls, CROWD) as crowd:
            byte_by_byte(crowd, b"\r\n" * 10_000)


class IdleTests(BoundsTestCase):
    def test_kept_connections(self) -> None:
        """Connections that are kept after an answer, and those that never asked, are closed after the time-out."""
        silent, kept = Crowd(self.relay), Crowd(self.relay)
        with self.bounded(), silent.greet(self.tls, CROWD), kept.greet(self.tls, CROWD):
            kept.say(GET % b"/v1/models")
            self.assert_served()
            self.wait_until_closed(kept, "kept connections")
            self.wait_until_closed(silent, "connections without a request")
            for answer in kept.answers():
                self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
                self.assertNotIn(b"Connection: close", answer)
            self.assertEqual(set(silent.answers()), {b""})


class BodyTests(BoundsTestCase):
    def stalled(self, framing: bytes, begun: bytes) -> None:
        """Uploads begin and stall; the upstream has them until the time-out, and then nobody."""
        aborted = self.standin.stats().aborted
        with self.bounded(), Crowd(self.relay).greet(self.tls, CROWD) as crowd:
            crowd.say(UPLOAD + framing + b"\r\n\r\n" + begun)
            wait_for(lambda: self.standin.stats().open == CROWD + 1, "the uploads to arrive")
            self.assert_served()
            self.wait_until_closed(crowd, "stalled uploads")
            wait_for(lambda: self.standin.stats().aborted >= aborted + CROWD, "the upstream to be left")
            self.assertEqual({answer[9:12] for answer in crowd.answers()}, {b"408"})

    def test_counted(self) -> None:
        """An upload that stalls is told so after the time-out, and its request to the upstream is aborted."""
        self.stalled(b"Content-Length: 1000000", b"x" * 10_000)

    def test_chunked(self) -> None:
        """So is a chunked one, wherever it stalls."""
        self.stalled(b"Transfer-Encoding: chunked", b"10000\r\nxxx")

    def test_upload_that_nobody_wants(self) -> None:
        """Who goes on with a refused upload, byte by byte, is left after the time in which the answer can be read."""
        head = b"POST /elsewhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
        with self.bounded(), Crowd(self.relay).greet(self.tls, CROWD) as crowd:
            crowd.say(head)
            byte_by_byte_until_reset(crowd)
            for answer in crowd.answers():
                self.assertTrue(answer.startswith(b"HTTP/1.1 403 "), answer)


def byte_by_byte_until_reset(crowd: Crowd) -> None:
    """As above, where the relay has ended its side already, and still listens for a while."""

    def one_more() -> bool:
        gone = 0
        for each in crowd.sockets:
            try:
                each.send(b"x")
            except OSError:
                gone += 1
        pause(APART)
        return gone == len(crowd.sockets)

    wait_for(one_more, "the relay to stop listening")


class ReaderTests(BoundsTestCase):
    def test_stopped_readers(self) -> None:
        """
        Readers who stop in the middle of endless answers are reset after the time-out, and the upstream left.

        Until then each costs less than a mebibyte.
        """
        readers = 12
        with self.bounded(grows=readers * MIB // 2):
            before, aborted = self.relay.resident, self.standin.stats().aborted
            crowd = [self.stopped() for _ in range(readers)]
            most = 0

            def all_reset() -> bool:
                nonlocal most
                most = max(most, self.relay.resident - before)
                return all(each.has_ended() for each in crowd)

            wait_for(all_reset, "readers that have stopped to be reset")
            self.assertLess(most, readers * MIB)
            wait_for(lambda: self.standin.stats().aborted >= aborted + readers, "the upstream to be left")
            self.assert_served()
            for each in crowd:
                each.leave()

    def stopped(self) -> ClientByHand:
        client = ClientByHand(self.relay, receive_buffer=4_096)
        self.addCleanup(client.leave)
        client.request("GET", "/v1/standin/bytes?standin.endless=1")
        self.assertEqual(client.answer().status, 200)
        return client

    def test_reader_of_a_byte_now_and_then(self) -> None:
        """A reader that is slow, and does read, is not cut: it costs no more than one that has stopped."""
        with self.bounded():
            client = ClientByHand(self.relay, receive_buffer=4_096)
            self.addCleanup(client.leave)
            client.request("POST", "/v1/chat/completions?standin.endless=1&standin.interval_ms=0", CHAT)
            answer = client.answer()
            before, read = self.relay.resident, b""
            for _ in range(100):  # four seconds, so four time-outs
                read += answer.read(8_192)
                pause(APART)
            self.assertLess(self.relay.resident - before, MIB)
            self.assertTrue(json.loads(read.split(b"\n\n")[1].removeprefix(b"data: "))["choices"])
            client.leave()


class SpinTests(BoundsTestCase):
    def test_waiting_costs_nothing(self) -> None:
        """While a crowd waits in every phase that there is, the relay uses next to no processor time."""
        phases: tuple[Callable[[Crowd], object], ...] = (
            lambda crowd: crowd.connect(CROWD),
            lambda crowd: crowd.greet(self.tls, CROWD).say(b"GET / HTT"),
            lambda crowd: crowd.greet(self.tls, CROWD).say(UPLOAD + b"Content-Length: 9\r\n\r\n1"),
        )
        with self.bounded():
            for begin in phases:
                with Crowd(self.relay) as crowd:
                    begin(crowd)
                    used = processor_time(self.relay)
                    pause(0.8)
                    self.assertLess(processor_time(self.relay) - used, 0.4)
