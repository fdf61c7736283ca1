"""Chunked bodies come out the same however they are cut, and only if they are well-formed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import h11
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.http1.chunked import LAST_CHUNK, ChunkDecoder, MalformedChunks, encode_chunk, encode_end

Pair = tuple[bytes, bytes]

EXTENSIONS = (b"", b";", b";a", b";a=b", b';a="b c"', b";\xff\t")
TRAILERS: tuple[list[Pair], ...] = ([], [(b"X-Sum", b"abc")], [(b"a", b""), (b"A", b"1"), (b"a", b"\xe9")])


@st.composite
def bodies(draw: st.DrawFn) -> tuple[list[bytes], list[Pair], bytes]:
    """Chunks, trailers, and an encoding of them with sizes and extensions as others write them."""
    chunks = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    trailers = draw(st.sampled_from(TRAILERS))
    encoded = b""
    for chunk in chunks:
        size = draw(st.sampled_from([b"%x", b"%X", b"%04x"])) % len(chunk)
        encoded += b"%b%b\r\n%b\r\n" % (size, draw(st.sampled_from(EXTENSIONS)), chunk)
    zero = draw(st.sampled_from([b"0", b"000"])) + draw(st.sampled_from(EXTENSIONS))
    return chunks, trailers, encoded + zero + encode_end(trailers)[1:]


def cuts(data: st.DataObject, body: bytes) -> Iterator[bytes]:
    """The body in blocks, cut anywhere."""
    places = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    for start, end in itertools.pairwise([0, *places, len(body)]):
        if start < end:
            yield body[start:end]


def decode(blocks: Iterator[bytes] | list[bytes]) -> tuple[bytes, ChunkDecoder]:
    """All that a body has; what follows its end is the rest, whichever block it is in."""
    decoder = ChunkDecoder()
    payload = b""
    rest = b""
    for block in blocks:
        if decoder.done:
            rest += block
        else:
            payload += decoder.feed(block)
    decoder.rest += rest
    return payload, decoder


def decode_damaged(blocks: list[bytes]) -> tuple[bytes, object, bytes]:
    """Payload, whether it is complete or was refused, and what follows."""
    decoder = ChunkDecoder()
    payload = b""
    for number, block in enumerate(blocks):
        try:
            payload += decoder.feed(block)
        except MalformedChunks as error:
            return payload + error.payload, "refused", b""
        if decoder.done:
            return payload, True, decoder.rest + b"".join(blocks[number + 1 :])
    return payload, False, b""


def as_h11_reads(body: bytes) -> bytes:
    """The payload for another reader, which must find the body complete."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    assert isinstance(connection.next_event(), h11.Request)
    payload = b""
    while isinstance(event := connection.next_event(), h11.Data):
        payload += event.data
    assert isinstance(event, h11.EndOfMessage), event
    return payload


class ChunkDecoderTests(SynchronousTestCase):
    def assertRefused(self, body: bytes) -> None:
        """Refused in one block, and byte by byte."""
        self.assertRaises(ValueError, decode, [body])
        self.assertRaises(ValueError, decode, [body[i : i + 1] for i in range(len(body))])

    @given(bodies(), st.binary(max_size=20), st.data())
    def test_any_cutting(self, body: tuple[list[bytes], list[Pair], bytes], rest: bytes, data: st.DataObject) -> None:
        """Payload, trailers and what follows are the same wherever the blocks are cut."""
        chunks, trailers, encoded = body
        payload, decoder = decode(cuts(data, encoded + rest))
        self.assertTrue(decoder.done)
        self.assertEqual(payload, b"".join(chunks))
        self.assertEqual(decoder.trailers, trailers)
        self.assertEqual(decoder.rest, rest)

    @given(bodies())
    def test_byte_by_byte(self, body: tuple[list[bytes], list[Pair], bytes]) -> None:
        """Every byte of payload comes out with the block that brings it: none is held back."""
        chunks, trailers, encoded = body
        decoder = ChunkDecoder()
        blocks = [decoder.feed(encoded[i : i + 1]) for i in range(len(encoded))]
        self.assertEqual(b"".join(blocks), b"".join(chunks))
        self.assertTrue(all(block in (b"", encoded[i : i + 1]) for i, block in enumerate(blocks)))
        self.assertEqual((decoder.done, decoder.trailers), (True, trailers))

    @given(bodies(), st.data())
    def test_not_done_early(self, body: tuple[list[bytes], list[Pair], bytes], data: st.DataObject) -> None:
        """A body that is cut short, anywhere, is never done."""
        encoded = body[2]
        decoder = ChunkDecoder()
        decoder.feed(encoded[: data.draw(st.integers(0, len(encoded) - 1))])
        self.assertFalse(decoder.done)

    @given(st.binary(max_size=60), st.data())
    def test_any_bytes(self, body: bytes, data: st.DataObject) -> None:
        """Whatever comes, nothing but the declared error is raised."""
        try:
            decode(cuts(data, body))
        except ValueError:
            pass

    @given(bodies(), st.data())
    def test_damaged(self, body: tuple[list[bytes], list[Pair], bytes], data: st.DataObject) -> None:
        """A body with some bytes changed is refused, unfinished, or one that h11 reads as we do."""
        damaged = bytearray(body[2])
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(damaged)))
            damaged[at : at + data.draw(st.integers(0, 2))] = data.draw(
                st.binary(max_size=2) | st.sampled_from([b"\r\n", b"\n", b"\r", b" ", b"+", b"0x", b"0", b";"])
            )
        try:
            payload, decoder = decode(cuts(data, bytes(damaged)))
        except ValueError:
            return
        if decoder.done:
            self.assertEqual(as_h11_reads(bytes(damaged)), payload)

    @given(bodies(), st.data())
    def test_refusal_does_not_depend_on_cuts(
        self, body: tuple[list[bytes], list[Pair], bytes], data: st.DataObject
    ) -> None:
        """A damaged body is refused, or not, wherever the blocks are cut."""
        damaged = bytearray(body[2])
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        whole = decode_damaged([bytes(damaged)])
        self.assertEqual(decode_damaged(list(cuts(data, bytes(damaged)))), whole)
        self.assertEqual(decode_damaged([bytes([byte]) for byte in damaged]), whole)

    def test_good_before_a_fault(self) -> None:
        """What was good before a fault is given, though the fault stands in the same block."""
        for fault in (b"x", b"5\r\nhello!", b"0\r\nHost: a\r\n\r\n", b"0\r\na b: c\r\n\r\n", b"-1\r\n"):
            with self.subTest(fault=fault):
                body = b"3\r\nabc\r\n2\r\nde\r\n" + fault
                good = b"abcdehello" if b"hello" in fault else b"abcde"
                self.assertEqual(self.assertRaises(MalformedChunks, ChunkDecoder().feed, body).payload, good)
                self.assertEqual(decode_damaged([body]), (good, "refused", b""))
        self.assertEqual(self.assertRaises(MalformedChunks, ChunkDecoder().feed, b"zz\r\n").payload, b"")

    def test_trailers_in_a_block_of_their_own(self) -> None:
        """Trailers may come after the block with the last chunk, and in pieces."""
        payload, decoder = decode([b"1\r\na\r\n0\r\n", b"X", b"-Sum: ", b"b\r", b"\n\r", b"\nrest"])
        self.assertEqual((payload, decoder.trailers, decoder.rest), (b"a", [(b"X-Sum", b"b")], b"rest"))
        payload, decoder = decode([b"0\r\n", b"\r", b"\n"])
        self.assertEqual((payload, decoder.done, decoder.trailers), (b"", True, []))

    def test_payload_that_looks_like_a_chunk(self) -> None:
        """A block of payload that has the form of a chunk is payload all the same."""
        payload, decoder = decode([b"14\r\n", b"5\r\nhello\r\n", b"5\r\nworld\r\n", b"\r\n", b"0\r\n\r\n"])
        self.assertEqual((payload, decoder.done), (b"5\r\nhello\r\n5\r\nworld\r\n", True))

    def test_sizes(self) -> None:
        """A size is one to fifteen hexadecimal digits and nothing else."""
        for size in (
            b"+5",
            b"-5",
            b"0x5",
            b"5x",
            b"",
            b" 5",
            b"5 ",
            b"5\t",
            b"5 ;a",
            b"5_0",
            b"g",
            b"\xb2",
            b"5\0",
            b"0" * 15 + b"5",
            b"F" * 16,
            b"1" + b"0" * 16,
        ):
            with self.subTest(size=size):
                self.assertRefused(size + b"\r\nhello\r\n0\r\n\r\n")
        self.assertEqual(decode([b"0" * 14 + b"5\r\nhello\r\n0\r\n\r\n"])[0], b"hello")

    def test_number_of_trailers(self) -> None:
        """More trailer fields than allowed are refused."""
        self.assertEqual(len(decode([b"0\r\n" + b"a:\r\n" * 256 + b"\r\n"])[1].trailers), 256)
        self.assertRefused(b"0\r\n" + b"a:\r\n" * 257 + b"\r\n")
        self.assertRaises(ValueError, ChunkDecoder(1).feed, b"0\r\na: b\r\nc: d\r\n\r\n")

    def test_huge_size(self) -> None:
        """The largest size that passes is taken for what it is: it never wraps around."""
        payload, decoder = decode([b"f" * 15 + b"\r\n0\r\n\r\n"])
        self.assertEqual((payload, decoder.done), (b"0\r\n\r\n", False))

    def test_line_ends(self) -> None:
        """Sizes and chunks end with CRLF and nothing else."""
        for body in (
            b"5\nhello\r\n0\r\n\r\n",
            b"5\rhello\r\n0\r\n\r\n",
            b"5\r\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello\r0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhello!\r\n0\r\n\r\n",
            b"5\r\nhello\r\n\r\n0\r\n\r\n",
            b"\r\n5\r\nhello\r\n0\r\n\r\n",
            b"5;a\nb\r\nhello\r\n0\r\n\r\n",
            b"5;a\rb\r\nhello\r\n0\r\n\r\n",
            b"5;a\0b\r\nhello\r\n0\r\n\r\n",
        ):
            with self.subTest(body=body):
                self.assertRefused(body)

    def test_extensions(self) -> None:
        """Extensions are dropped, whatever they say; they are bounded, and keep to one line."""
        self.assertEqual(decode([b'1;a="0\\r\\n";b\r\nx\r\n' + LAST_CHUNK])[0], b"x")
        self.assertEqual(decode([b"1;" + b"a" * 1024 + b"\r\nx\r\n" + LAST_CHUNK])[0], b"x")
        self.assertRefused(b"1;" + b"a" * 1025 + b"\r\nx\r\n" + LAST_CHUNK)

    def test_malformed_trailers(self) -> None:
        """Trailers are refused when they are no fields, or fields that may not stand there."""
        for section in (b"a b: c", b"a : b", b" a: b", b"a", b"a: b\n", b"a: \0", b"Content-Length: 5", b"Host: b"):
            with self.subTest(section=section):
                self.assertRefused(b"0\r\n" + section + b"\r\n\r\n")

    def test_trailers_that_cannot_become_good(self) -> None:
        """A bare line end in the trailers is refused before their end has come."""
        for section in (b"a: b\n", b"a: b\n\n", b"\n", b"a: b\rc", b"\rX", b"a: b\r\nc: d\n"):
            with self.subTest(section=section):
                self.assertRefused(b"0\r\n" + section)
        for section in (b"a: b\r", b"\r", b"a: b\r\n", b"a: b\r\n\r"):
            with self.subTest(section=section):
                self.assertFalse(decode([b"0\r\n" + section])[1].done)

    def test_too_long_trailers(self) -> None:
        """A trailer section of more than 16 KiB is refused, complete or not."""
        fits = b"a: " + b"b" * (16_384 - 7)
        payload, decoder = decode([b"0\r\n" + fits + b"\r\n\r\n"])
        self.assertEqual((payload, len(decoder.trailers)), (b"", 1))
        self.assertRefused(b"0\r\n" + fits + b"b\r\n\r\n")
        self.assertRefused(b"0\r\n" + fits + b"b" * 5)

    def test_held_bytes_are_bounded(self) -> None:
        """Whoever sends a line that never ends is refused before much of it is held."""
        for endless, limit in ((b"0", 16), (b"5;" + b"a" * 5, 1100), (b"0\r\n" + b"a: b\r\n" * 10, 16_500)):
            with self.subTest(endless=endless[:5]):
                decoder = ChunkDecoder()
                fed = 0
                with self.assertRaises(ValueError):
                    for byte in itertools.chain(endless, itertools.repeat(endless[-1])):
                        decoder.feed(bytes([byte]))
                        fed += 1
                        self.assertLess(fed, limit)

    def test_payload_is_not_copied(self) -> None:
        """A block in the middle of a long chunk is passed on as it is."""
        decoder = ChunkDecoder()
        decoder.feed(b"fffff\r\n")
        block = b"x" * 1000
        self.assertIs(decoder.feed(block), block)


class EncodeTests(SynchronousTestCase):
    @given(st.lists(st.binary(min_size=1, max_size=300)), st.sampled_from(TRAILERS))
    def test_read_back(self, blocks: list[bytes], trailers: list[Pair]) -> None:
        """What is encoded is read back, by our decoder and by h11."""
        encoded = b"".join(map(encode_chunk, blocks)) + encode_end(trailers)
        payload, decoder = decode([encoded])
        self.assertEqual((payload, decoder.trailers, decoder.rest), (b"".join(blocks), trailers, b""))
        self.assertEqual(as_h11_reads(encoded), payload)

    def test_form(self) -> None:
        """Sizes are plain hexadecimal, without extensions."""
        self.assertEqual(encode_chunk(b"x" * 31), b"1f\r\n" + b"x" * 31 + b"\r\n")
        self.assertEqual(encode_end([]), b"0\r\n\r\n")
        self.assertEqual(encode_end([(b"X-A", b"b")]), b"0\r\nX-A: b\r\n\r\n")
