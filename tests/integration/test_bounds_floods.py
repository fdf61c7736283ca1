"""Floods: requests by the thousand, heads and bodies without an end; each has its bound, and others their turn."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import ClassVar, Final

from tests.integration.attackers import (
    GET,
    MIB,
    BoundsTestCase,
    Crowd,
    read_to_end,
    say_for_ever,
    send_and_read,
    send_until_stuck,
)
from tests.integration.by_hand import ClientByHand
from tests.integration.running import WITHIN, wait_for

#: Answered by the relay itself, and the connection is kept: nothing is cheaper to ask for.
REFUSED: Final = GET % b"/elsewhere"
LAST: Final = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
CHUNKED: Final = b"POST /v1/standin/digest HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")
#: No bound lets so much through.
TOO_MUCH: Final = 64 * MIB


class PipelineTests(BoundsTestCase):
    #: These read slowly on a busy machine, and that is not what is asked here.
    more: ClassVar[Mapping[str, Mapping[str, object]]] = {"listen": {"stall_timeout": 30, "idle_timeout": 5}}

    def test_answered_in_order(self) -> None:
        """A thousand requests sent at once, some forwarded and some refused, are answered each, in their order."""
        asked = [b"/v1/standin/echo?n=%d" % n if n % 3 else b"/elsewhere" for n in range(1_000)]
        with self.bounded():
            told = send_and_read(self.client(), b"".join([GET % target for target in asked]) + LAST)
            statuses = STATUS.findall(told)
            self.assertEqual(statuses, [b"200" if n % 3 else b"403" for n in range(1_000)] + [b"200"])
            echoed = [int(n) for n in re.findall(rb'"target":\s*"/v1/standin/echo\?n=(\d+)"', told)]
            self.assertEqual(echoed, [n for n in range(1_000) if n % 3])

    def test_others_have_their_turn(self) -> None:
        """While one client has thousands of cheap requests answered without a pause, another is served as well."""
        with self.bounded():
            flooder, total = self.client(), 10_000
            told = bytearray()
            reader = threading.Thread(target=lambda: told.extend(send_and_read(flooder, REFUSED * total + LAST)))
            refused = self.refused()
            reader.start()
            wait_for(lambda: self.refused() > refused, "the flood to begin")
            for _ in range(3):
                self.assert_served()
            self.assertLess(self.refused() - refused, total, "the flood was over before anybody else was served")
            reader.join(WITHIN)
            self.assertEqual(len(STATUS.findall(bytes(told))), total + 1)

    def refused(self) -> float:
        return self.relay.metric('openai_relay_requests_total{client="alice",code="403",endpoint="other"}')

    def test_answers_that_nobody_reads(self) -> None:
        """Who asks and asks and reads no answer is read no further, at no cost of memory but the ledger's rows."""
        with self.bounded(grows=20 * MIB):
            crowd = [ClientByHand(self.relay, receive_buffer=4_096) for _ in range(5)]
            before = None
            for size, each in zip((16, 1, 16, 100, 1_400), crowd, strict=True):
                self.addCleanup(each.leave)
                # What does not go out any more waits in the kernel's buffers, which take some mebibytes.
                self.assertLess(send_until_stuck(each, REFUSED * size, 24 * MIB), 24 * MIB)
                # The first one's rows make the ledger take what it needs; it keeps that.
                before = before or self.relay.resident
            self.assertLess(self.relay.resident - (before or 0), 4 * MIB)
            self.assert_served()
            for each in crowd:
                each.leave()

    def test_nothing_after_a_fault(self) -> None:
        """Behind a malformed request nothing is served, however many were sent with it."""
        asked = self.standin.stats().by_path.get("GET /v1/files", 0)
        with self.bounded():
            client = self.client()
            told = send_and_read(client, b"GET / HTTP/9.9\r\n\r\n" + (GET % b"/v1/files") * 2_000)
            client.leave()
            self.assertEqual(STATUS.findall(told), [b"400"])
        self.assertEqual(self.standin.stats().by_path.get("GET /v1/files", 0), asked)


class HeadTests(BoundsTestCase):
    def refusals(self, head: bytes, status: bytes) -> None:
        """Forty clients send this at once; each is told, and the relay is no larger for doing it again."""
        for grows in (8 * MIB, 2 * MIB):
            with self.bounded(grows), Crowd(self.relay).greet(self.tls, 40) as crowd:
                crowd.say(head)
                for answer in crowd.answers():
                    self.assertEqual(STATUS.findall(answer), [status], answer)

    def test_huge_field(self) -> None:
        """A field that never ends is answered 431 at the bound."""
        self.refusals(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Bomb: " + b"x" * 100_000, b"431")

    def test_huge_target(self) -> None:
        """So is a target."""
        self.refusals(b"GET /" + b"x" * 100_000, b"431")

    def test_tiny_fields(self) -> None:
        """Thousands of fields, each of which is made an object, are refused though they fit into the bytes."""
        self.refusals(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n" + b"a:\r\n" * 10_000 + b"\r\n", b"431")

    def test_fields_at_the_bound(self) -> None:
        """Two hundred fields pass; with one more than the bound the request is refused, by the relay itself."""
        for more, status in ((200, b"200"), (255, b"431")):
            fields = b"".join([b"x-%d: 1\r\n" % n for n in range(more)])
            told = send_and_read(
                self.client(),
                b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + fields + b"\r\n",
            )
            self.assertEqual(STATUS.findall(told), [status])
            self.assertEqual(b"head_too_large" in told, status == b"431")

    def test_heads_without_an_end(self) -> None:
        """Many heads that are long and not yet too long cost what they are long, until their time-out."""
        crowd_size, size = 40, 60_000
        head = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Bomb: ".ljust(size, b"x")
        with self.bounded(), Crowd(self.relay).greet(self.tls, crowd_size) as crowd:
            before = self.relay.resident
            crowd.say(head)
            self.assert_served()
            self.assertLess(self.relay.resident - before, 3 * crowd_size * size)
            self.wait_until_closed(crowd, "half-sent heads")


class ChunkTests(BoundsTestCase):
    def endless(self, beginning: bytes, block: bytes) -> None:
        """Several clients say this without an end, until they are told that it is too much."""
        aborted = self.standin.stats().aborted
        with self.bounded():
            for _ in range(8):
                client = self.client()
                client.send(CHUNKED + beginning)
                self.assertLess(say_for_ever(client, block, TOO_MUCH), TOO_MUCH)
                self.assertEqual(STATUS.findall(read_to_end(client.socket)), [b"400"])
                client.leave()
            wait_for(lambda: self.standin.stats().open == 1, "the broken uploads to be ended")
        self.assertGreaterEqual(self.standin.stats().aborted, aborted)

    def test_extension(self) -> None:
        """A chunk extension without an end is a 400 at its bound."""
        self.endless(b"5;", b"x" * 4_096)

    def test_extension_byte_by_byte(self) -> None:
        """So is one that comes in small pieces."""
        self.endless(b"5;", b"x" * 64)

    def test_trailers(self) -> None:
        """Trailers without an end are a 400 at their bound."""
        self.endless(b"5\r\nhello\r\n0\r\n", b"X-Trailer: more\r\n" * 64)

    def test_size(self) -> None:
        """A chunk's size of any number of digits is a 400."""
        self.endless(b"", b"0" * 4_096)

    def test_tiny_chunks(self) -> None:
        """A body of a hundred thousand chunks, each of one byte, arrives whole, and others are served meanwhile."""
        with self.bounded():
            client = self.client()
            told = bytearray()
            body = b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
            reader = threading.Thread(
                target=lambda: told.extend(send_and_read(client, CHUNKED + body + LAST)),
            )
            reader.start()
            self.assert_served()
            reader.join(WITHIN)
            self.assertEqual(STATUS.findall(bytes(told)), [b"200", b"200"])
            self.assertIn(b"100000", told)
