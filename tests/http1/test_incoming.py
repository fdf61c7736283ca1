"""A body out of blocks cut anywhere: all of it, nothing of what stands behind it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.http1.chunked import MalformedChunks, encode_chunk
from openai_relay.http1.incoming import ALL_THAT_COMES, Incoming
from openai_relay.http1.message import CHUNKED

bodies = st.binary(max_size=60)
cuts = st.lists(st.integers(0, 150), max_size=6)


def fed(incoming: Incoming, data: bytes, places: list[int]) -> tuple[bytes, bytes]:
    """Payload and rest, of the bytes cut at these places; nothing is fed once it is done."""
    payload = b""
    start = 0
    for end in [*sorted(place for place in places if 0 < place < len(data)), len(data)]:
        if incoming.done:
            break
        piece, rest = incoming.feed(data[start:end])
        payload += piece
        start = end - len(rest)
    return payload, data[start:]


class IncomingTests(SynchronousTestCase):
    @given(bodies, bodies, cuts)
    def test_counted(self, body: bytes, behind: bytes, places: list[int]) -> None:
        """A counted body ends with its last byte."""
        incoming = Incoming(len(body), 8)
        self.assertEqual(fed(incoming, body + behind, places), (body, behind))
        self.assertTrue(incoming.done)

    @given(st.lists(st.binary(min_size=1, max_size=20), max_size=4), bodies, cuts)
    def test_chunked(self, chunks: list[bytes], behind: bytes, places: list[int]) -> None:
        """A chunked one with its last chunk and trailers, which are kept."""
        incoming = Incoming(CHUNKED, 8)
        sent = b"".join(map(encode_chunk, chunks)) + b"0\r\nX-Sum: 1\r\n\r\n"
        self.assertEqual(fed(incoming, sent + behind, places), (b"".join(chunks), behind))
        self.assertEqual((incoming.done, incoming.trailers), (True, [(b"X-Sum", b"1")]))

    def test_incomplete(self) -> None:
        """Until then it is not done."""
        for incoming, data in ((Incoming(3, 8), b"ab"), (Incoming(CHUNKED, 8), b"2\r\nab\r\n0\r\n")):
            self.assertEqual((incoming.feed(data), incoming.done), ((b"ab", b""), False))

    def test_nothing(self) -> None:
        """No body is done at once."""
        self.assertTrue(Incoming(0, 8).done)

    def test_endless(self) -> None:
        """What has no end is never done."""
        incoming = Incoming(ALL_THAT_COMES, 0)
        for _ in range(100):
            self.assertEqual(incoming.feed(b"x" * 1_000), (b"x" * 1_000, b""))
        self.assertFalse(incoming.done)

    def test_malformed(self) -> None:
        """What came before a fault is not lost with it."""
        fault = self.assertRaises(MalformedChunks, Incoming(CHUNKED, 8).feed, b"2\r\nab\r\nzz\r\n")
        self.assertEqual(fault.payload, b"ab")

    def test_too_many_trailers(self) -> None:
        """Trailer fields are bounded as the head's are."""
        self.assertRaises(MalformedChunks, Incoming(CHUNKED, 1).feed, b"0\r\nA: 1\r\nB: 2\r\n\r\n")
