"""Bodies as they come in."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.intake import LONGEST_WHOLE, Whole
from openai_relay.standin.problems import Problem
from tests.standin.asking import InMemory


class WholeTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """Blocks are put together again."""
        whole = Whole()
        whole.feed(b"ab")
        whole.feed(b"c")
        self.assertEqual(whole.body(), b"abc")

    def test_too_long(self) -> None:
        """A body without end is refused, and what came of it is let go."""
        whole = Whole()
        whole.feed(b"x" * LONGEST_WHOLE)
        self.assertEqual(self.assertRaises(Problem, whole.feed, b"x").status, 413)
        self.assertEqual(whole.body(), b"")


class IntakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.standin = InMemory()
        self.client = self.standin.connect()

    def head(self, target: str, *fields: str) -> None:
        lines = [f"POST {target} HTTP/1.1", "Host: h", "Authorization: Bearer k", *fields, "", ""]
        self.client.send("\r\n".join(lines).encode())

    def test_continue_is_sent_to_who_asks(self) -> None:
        """A client that waits for 100 gets it, and its final answer after its body."""
        self.head("/v1/standin/digest", "Content-Length: 3", "Expect: 100-continue")
        self.assertEqual(self.client.transport.value(), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.client.transport.clear()
        self.client.send(b"abc")
        self.assertEqual(self.client.answered().json()["bytes"], 3)

    def test_wrong_body_is_read_to_its_end(self) -> None:
        """After a body that turns out to be wrong, the connection serves the next request."""
        kind = "Content-Type: multipart/form-data; boundary=x"
        self.head("/v1/files", kind, "Content-Length: 2000000")
        self.client.send(b"\r\n--x\r\nnonsense" + b"y" * 1_000_000)
        self.assertEqual(self.client.transport.value(), b"")
        self.client.send(b"y" * (1_000_000 - 15))
        answered = self.client.answered()
        self.assertEqual((answered.status, answered.json()["error"]["code"]), (400, "invalid_multipart"))
        self.assertEqual(self.client.ask("GET", "/v1/models").status, 200)

    def test_stall(self) -> None:
        """Told to, it stops reading after so many bytes, and never answers."""
        self.head("/v1/standin/digest?standin.stall_after=10", "Content-Length: 1000")
        self.client.send(b"x" * 9)
        self.assertEqual(self.client.transport.producerState, "producing")
        self.client.send(b"x")
        self.assertEqual(self.client.transport.producerState, "paused")
        self.standin.clock.advance(60)
        self.assertEqual(self.client.transport.value(), b"")
        self.assertEqual((self.standin.counters.open, self.standin.counters.bytes_received), (1, 10))

    def test_stall_at_once(self) -> None:
        """With nothing to be read at all, it does not begin."""
        self.head("/v1/standin/digest?standin.stall_after=0", "Content-Length: 1000")
        self.assertEqual(self.client.transport.producerState, "paused")
