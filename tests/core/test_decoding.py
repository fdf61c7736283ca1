"""A copy without its content coding, however it is cut, and never more of it than anybody would look at."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable
from typing import Final

import brotli  # type: ignore[import-untyped]
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.decoding import MOST_AT_ONCE, MOST_IN_ALL, MOST_MEMBERS, Decoder, decoder_for
from tests.core.transcripts import pieces

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def bare(text: bytes) -> bytes:
    """Deflate without a wrapper."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(text) + compressor.flush()


def brotlied(text: bytes) -> bytes:
    """As br."""
    return bytes(brotli.compress(text))


def zstandard(text: bytes) -> bytes:
    """As zstd."""
    return zstd.compress(text)


Encode = Callable[[bytes], bytes]
#: Each coding by its name, with each way to write it.
WAYS: Final[list[tuple[bytes, Encode]]] = [
    (b"gzip", gzip.compress),
    (b"x-gzip", gzip.compress),
    (b"gzip", lambda text: gzip.compress(text[:9]) + gzip.compress(text[9:]) + gzip.compress(b"")),
    (b"deflate", zlib.compress),
    (b"deflate", bare),
    (b"br", brotlied),
    (b"zstd", zstd.compress),
    (b"zstd", lambda text: zstd.compress(text[:9]) + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstd.compress(text[9:])),
    (b"gzip, zstd", lambda text: zstd.compress(gzip.compress(text))),
    (b"Deflate ,\tBR", lambda text: brotlied(bare(text))),
]
#: Those that decode in one layer, each once.
PLAIN: Final = [way for way in WAYS if way[1] in (gzip.compress, zlib.compress, brotlied, zstd.compress)]
ways = st.sampled_from(WAYS)
cuts = st.lists(st.integers(0, 1 << 16), max_size=8)


def begun(coding: bytes) -> Decoder:
    decoder = decoder_for(coding)
    assert decoder is not None
    return decoder


def fed(coding: bytes, blocks: list[bytes]) -> tuple[bytes, bool, bool]:
    decoder = begun(coding)
    text = b"".join(map(decoder.feed, blocks))
    return text, decoder.ended, decoder.lost


class DecoderTests(SynchronousTestCase):
    @given(ways, st.binary(max_size=200) | st.binary(min_size=1, max_size=9).map(lambda text: text * 5000), cuts)
    def test_any_cutting(self, way: tuple[bytes, Encode], text: bytes, where: list[int]) -> None:
        """What was encoded comes out whole, in whatever pieces it came, and it is known to be whole."""
        coding, encode = way
        coded = encode(text)
        for blocks in ([coded], pieces(coded, where), [coded[at : at + 1] for at in range(len(coded))]):
            self.assertEqual(fed(coding, blocks), (text, True, False))

    @given(ways, st.binary(min_size=20, max_size=200), st.integers(0, 1 << 16))
    def test_broken_off(self, way: tuple[bytes, Encode], text: bytes, at: int) -> None:
        """Of what broke off the beginning comes out, and it is not taken for whole unless it is."""
        coding, encode = way
        coded = encode(text)
        got, ended, lost = fed(coding, [coded[: at % len(coded)]])
        self.assertTrue(text.startswith(got))
        self.assertFalse(lost)
        # Between two members, and before the first, nothing says that another one follows.
        self.assertTrue(not ended or got in (text, text[:9]))

    @given(st.sampled_from([b"gzip", b"deflate", b"br", b"zstd", b"br, gzip", b"gzip, zstd"]), st.binary(), cuts)
    @example(b"gzip", gzip.compress(b"x")[:10] + b"\xff" * 50, [])
    @example(b"br", b"\x11\xff\xff", [])
    def test_any_bytes(self, coding: bytes, noise: bytes, where: list[int]) -> None:
        """Whatever comes, nothing is raised, and once it is lost it stays so and gives nothing more."""
        decoder = begun(coding)
        for block in pieces(noise, where):
            was_lost = decoder.lost
            text = decoder.feed(block)
            self.assertFalse(was_lost and not decoder.lost)
            self.assertFalse(decoder.lost and (text or decoder.ended))

    @given(ways, st.binary(min_size=1, max_size=99), st.integers(0, 1 << 16), st.integers(1, 255))
    def test_one_byte_wrong(self, way: tuple[bytes, Encode], text: bytes, at: int, flip: int) -> None:
        """A byte that is wrong raises nothing."""
        coded = bytearray(way[1](text))
        coded[at % len(coded)] ^= flip
        fed(way[0], [bytes(coded)])

    def test_behind_the_end(self) -> None:
        """What follows the end and is no member of its own makes all of it suspect: it is given up."""
        for coding, encode in PLAIN:
            coded = encode(b"text")
            self.assertEqual(fed(coding, [coded + b"behind"]), (b"", False, True), coding)
            self.assertEqual(fed(coding, [coded, b"behind"]), (b"text", False, True), coding)

    def test_nothing(self) -> None:
        """An empty block changes nothing, at the beginning, within, and at the end."""
        for coding, encode in WAYS:
            self.assertEqual(fed(coding, [b""]), (b"", False, False))
            coded = encode(b"text")
            self.assertEqual(fed(coding, [b"", coded[:3], b"", coded[3:], b""]), (b"text", True, False), coding)

    def test_as_much_as_allowed(self) -> None:
        """Of one block as much comes out as is allowed; a byte more, and it is given up."""
        for coding, encode in PLAIN:
            text = bytes(MOST_AT_ONCE)
            self.assertEqual(fed(coding, [encode(text)]), (text, True, False), coding)
            self.assertEqual(fed(coding, [encode(text + b"x")]), (b"", False, True), coding)

    def test_bombs(self) -> None:
        """A few bytes that stand for very many give no more than is allowed at once, and in all."""
        for coding, encode in (*PLAIN, (b"gzip, gzip", lambda text: gzip.compress(gzip.compress(text)))):
            bomb = encode(bytes(MOST_IN_ALL + MOST_AT_ONCE))
            for size in (1, 64, len(bomb)):
                decoder = begun(coding)
                total = 0
                for at in range(0, len(bomb), size):
                    text = decoder.feed(bomb[at : at + size])
                    total += len(text)
                    self.assertLessEqual(len(text), MOST_AT_ONCE)
                    if decoder.lost:
                        break
                self.assertTrue(decoder.lost, (coding, size))
                self.assertLessEqual(total, MOST_IN_ALL)

    def test_in_all_exactly(self) -> None:
        """All that is allowed in all comes out, piece by piece, and nothing behind it."""
        decoder = begun(b"gzip")
        member = gzip.compress(bytes(MOST_AT_ONCE))
        for _ in range(MOST_IN_ALL // MOST_AT_ONCE):
            self.assertEqual(len(decoder.feed(member)), MOST_AT_ONCE)
        self.assertTrue(decoder.ended)
        self.assertEqual((decoder.feed(gzip.compress(b"x")), decoder.lost), (b"", True))

    def test_between_two_codings(self) -> None:
        """What a first coding gives counts, though the second makes little of it."""
        empty = gzip.compress(b"")
        self.assertEqual(fed(b"gzip, zstd", [zstd.compress(empty * 100_000)]), (b"", False, True))
        idle = zlib.compressobj()  # a stored block without a byte is five bytes
        body = (
            idle.compress(b"") + b"".join(idle.flush(zlib.Z_FULL_FLUSH) for _ in range(2)) + b"\0\0\0\xff\xff" * 300_000
        )
        self.assertEqual(fed(b"deflate, zstd", [zstd.compress(body)]), (b"", False, True))

    def test_many_members(self) -> None:
        """Members cost time though they are empty: a block holds a limited number of them."""
        for coding, member in ((b"gzip", gzip.compress(b"")), (b"zstd", zstd.compress(b""))):
            self.assertEqual(fed(coding, [member * MOST_MEMBERS]), (b"", True, False))
            self.assertEqual(fed(coding, [member * (MOST_MEMBERS + 1)]), (b"", False, True))

    def test_wide_window(self) -> None:
        """A zstd frame that wants more memory than a browser would give is given up at its head."""
        wide: dict[int, int] = {
            zstd.CompressionParameter.window_log: 24,
            zstd.CompressionParameter.enable_long_distance_matching: 1,
        }
        compressor = zstd.ZstdCompressor(options=wide)
        self.assertEqual(fed(b"zstd", [compressor.compress(b"x") + compressor.flush()]), (b"", False, True))


class NameTests(SynchronousTestCase):
    def test_unknown(self) -> None:
        """A coding nobody knows, alone or among others, and a list too long, have no decoder."""
        for coding in (
            b"compress",
            b"gzip, foo",
            b"gzip,",
            b"gzip, gzip, gzip",
            b"gzip;q=1",
            b"\xff",
            b",",
            b"aes128gcm",
        ):
            self.assertIsNone(decoder_for(coding), coding)
