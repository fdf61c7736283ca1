"""Reading along in a WebSocket: what is counted and seen, and that nothing in it can do harm."""

from __future__ import annotations

import zlib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameProtocol

from openai_relay.core.websocket import LONGEST_TEXT, NO_CODE, MessageReader, close_frame

DEFLATE = b"permessage-deflate"

texts = st.text(max_size=300)
messages = st.lists(st.tuples(texts | st.binary(max_size=300), st.integers(1, 4)), max_size=6)
cuts = st.lists(st.integers(0, 3_000), max_size=8)


def deflated() -> PerMessageDeflate:
    """Compression as both ends have agreed on it."""
    extension = PerMessageDeflate()
    extension.finalize("permessage-deflate")
    return extension


def spoken(said: list[tuple[str | bytes, int]], *, client: bool, deflate: bool = False) -> bytes:
    """Messages as they are sent, each in so many fragments."""
    protocol = FrameProtocol(client=client, extensions=[deflated()] if deflate else [])
    out = bytearray()
    for message, fragments in said:
        size = len(message) // fragments + 1
        for number in range(fragments):
            piece = message[number * size : (number + 1) * size]
            out += protocol.send_data(piece, fin=number == fragments - 1)
            out += protocol.ping(b"still there?") if number else b""
    return bytes(out)


def pieces(data: bytes, places: list[int]) -> list[bytes]:
    """The same bytes, cut at these places."""
    borders = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(borders)]


class Seen:
    """A reader of what the upstream says, and the texts that it saw."""

    def __init__(self, extensions: bytes = b"") -> None:
        self.texts: list[bytes] = []
        self.reader = MessageReader(from_client=False, extensions=extensions, on_text=self.texts.append)


class MessageTests(SynchronousTestCase):
    @given(messages, cuts, st.booleans())
    def test_any_cutting(self, said: list[tuple[str | bytes, int]], places: list[int], deflate: bool) -> None:
        """However the bytes are cut, the same messages are counted and the same texts seen, compressed or not."""
        seen = Seen(DEFLATE if deflate else b"")
        for piece in pieces(spoken(said, client=False, deflate=deflate), places):
            seen.reader.feed(piece)
        self.assertEqual(seen.reader.messages, len(said))
        self.assertEqual(seen.texts, [text.encode() for text, _ in said if isinstance(text, str)])
        self.assertEqual((seen.reader.lost, seen.reader.missed, seen.reader.between_frames), (False, False, True))

    @given(messages, cuts, st.booleans())
    def test_from_the_client(self, said: list[tuple[str | bytes, int]], places: list[int], deflate: bool) -> None:
        """A client's messages are masked, and counted as well."""
        reader = MessageReader(from_client=True, extensions=DEFLATE if deflate else b"")
        for piece in pieces(spoken(said, client=True, deflate=deflate), places):
            reader.feed(piece)
        self.assertEqual((reader.messages, reader.lost), (len(said), False))

    def test_without_takeover(self) -> None:
        """Where each message is compressed by itself, each is inflated by itself."""
        agreed = "permessage-deflate; server_no_context_takeover"
        extension = PerMessageDeflate(server_no_context_takeover=True)
        extension.finalize(agreed)
        protocol = FrameProtocol(client=False, extensions=[extension])
        seen = Seen(agreed.encode())
        for _ in range(3):
            seen.reader.feed(bytes(protocol.send_data("the same words, the same words", fin=True)))
        self.assertEqual(seen.texts, [b"the same words, the same words"] * 3)

    def test_between_frames(self) -> None:
        """Only where one frame has ended and the next not begun could another stand."""
        seen = Seen()
        frame = spoken([("hello", 1)], client=False)
        states = []
        for number in range(len(frame)):
            states.append(seen.reader.between_frames)
            seen.reader.feed(frame[number : number + 1])
        self.assertEqual(states, [True] + [False] * (len(frame) - 1))
        self.assertTrue(seen.reader.between_frames)


class CloseTests(SynchronousTestCase):
    def test_code(self) -> None:
        """The code of a close frame is kept; what follows it is nothing any more."""
        seen = Seen()
        seen.reader.feed(close_frame(1008, "No.") + spoken([("late", 1)], client=False))
        seen.reader.feed(spoken([("later", 1)], client=False))
        self.assertEqual((seen.reader.close_code, seen.reader.messages, seen.texts), (1008, 0, []))
        self.assertFalse(seen.reader.between_frames)

    def test_without_a_code(self) -> None:
        """A close frame that gives no code is told as the RFC tells it."""
        seen = Seen()
        seen.reader.feed(bytes(FrameProtocol(client=False, extensions=[]).close()))
        self.assertEqual(seen.reader.close_code, NO_CODE)

    def test_own(self) -> None:
        """Our own close frame carries code and reason, and is cut to what fits."""
        reader = FrameProtocol(client=True, extensions=[])
        reader.receive_bytes(close_frame(1012, "The relay is restarting. " * 20))
        (frame,) = reader.received_frames()
        assert isinstance(frame.payload, tuple)
        self.assertEqual(frame.payload[0], CloseReason.SERVICE_RESTART)
        self.assertTrue(frame.payload[1].startswith("The relay is restarting. The relay"))
        self.assertLessEqual(len(frame.payload[1]), 123)


class HarmTests(SynchronousTestCase):
    """What a broken or hostile end may send."""

    @given(st.binary(max_size=200), st.booleans(), st.sampled_from([b"", DEFLATE]))
    def test_any_bytes(self, noise: bytes, from_client: bool, extensions: bytes) -> None:
        """Any bytes are taken without an exception."""
        reader = MessageReader(from_client=from_client, extensions=extensions, on_text=lambda _: None)
        reader.feed(noise)
        reader.feed(noise)

    def test_lost(self) -> None:
        """What is no frame makes the reader give up for good, not guess."""
        for noise in (b"\x83\x00", b"\xc1\x00", b"\x81\x80aaaa", b"\x09\x00", b"\x88\x7e\x00\x80", b"HTTP/1.1 200 OK"):
            seen = Seen()
            seen.reader.feed(noise)
            self.assertTrue(seen.reader.lost, noise)
            seen.reader.feed(spoken([("hello", 1)], client=False))
            self.assertEqual((seen.reader.messages, seen.texts, seen.reader.between_frames), (0, [], False))

    def test_whoever_looks_fails(self) -> None:
        """An error of whoever looks at a text is not the tunnel's."""

        def fail(text: bytes) -> None:
            raise ValueError(text)

        reader = MessageReader(from_client=False, on_text=fail)
        reader.feed(spoken([("hello", 1)], client=False))
        self.assertTrue(reader.lost)

    def test_long_text(self) -> None:
        """A text that is too long is counted and not kept; the next one is seen again."""
        seen = Seen()
        seen.reader.feed(spoken([("x" * (LONGEST_TEXT + 1), 3), ("hello", 1)], client=False))
        self.assertEqual((seen.reader.messages, seen.reader.missed, seen.texts), (2, True, [b"hello"]))

    def test_longest_text(self) -> None:
        """One of just that length is seen."""
        seen = Seen()
        seen.reader.feed(spoken([("x" * LONGEST_TEXT, 2)], client=False))
        self.assertEqual((len(seen.texts[0]), seen.reader.missed), (LONGEST_TEXT, False))

    def test_long_text_compressed(self) -> None:
        """So it is with one that is compressed: those behind it refer to it, and are seen all the same."""
        said: list[tuple[str | bytes, int]] = [
            ("abc", 1),
            ("x" * (LONGEST_TEXT + 1), 3),
            (b"y" * (2 * LONGEST_TEXT), 1),
        ]
        seen = Seen(DEFLATE)
        seen.reader.feed(spoken([*said, ("abc", 1)], client=False, deflate=True))
        self.assertEqual((seen.reader.messages, seen.reader.missed, seen.reader.lost), (4, True, False))
        self.assertEqual(seen.texts, [b"abc", b"abc"])

    def test_final_blocks(self) -> None:
        """A sender may end each message's compression for good, and begin anew with the next (RFC 7692 §7.2.3.4)."""
        seen = Seen(DEFLATE)
        for _ in range(3):
            packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
            payload = packer.compress(b"hello") + packer.flush() + b"\0"
            seen.reader.feed(b"\xc1" + bytes([len(payload)]) + payload)
        self.assertEqual((seen.texts, seen.reader.lost), ([b"hello"] * 3, False))

    def test_bomb(self) -> None:
        """A few bytes that stand for a gigabyte are not inflated beyond the bound, and reading ends there."""
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        bomb = b"".join([packer.compress(bytes(1 << 20)) for _ in range(64)]) + packer.flush(zlib.Z_SYNC_FLUSH)
        header = b"\xc1\x7f" + len(bomb).to_bytes(8)
        seen = Seen(DEFLATE)
        seen.reader.feed(header + bomb)
        self.assertEqual((seen.reader.lost, seen.reader.messages, seen.texts), (True, 0, []))

    def test_compressed_messages_that_nobody_looks_at(self) -> None:
        """In the direction that is only counted nothing is inflated at all."""
        reader = MessageReader(from_client=True, extensions=DEFLATE)
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        bomb = packer.compress(bytes(4 << 20)) + packer.flush(zlib.Z_SYNC_FLUSH)
        reader.feed(b"\xc1\xfe" + len(bomb).to_bytes(2) + bytes(4) + bomb)
        self.assertEqual((reader.messages, reader.lost), (1, False))
