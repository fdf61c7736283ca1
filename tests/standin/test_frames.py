"""Frames in and out, against wsproto's client."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

from openai_relay.standin.frames import Closed, Frames, Heard, Message, Pinged

MESSAGES = st.builds(Message, st.binary(max_size=300), st.just(True)) | st.builds(
    lambda text: Message(text.encode()), st.text(max_size=300)
)


class FramesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.frames = Frames()
        self.client = Connection(ConnectionType.CLIENT)

    def sent(self, *events: Event) -> bytes:
        return b"".join(bytes(self.client.send(event)) for event in events)

    def heard(self, *events: Event) -> list[Heard]:
        return list(self.frames.receive(self.sent(*events)))

    def received(self, data: bytes) -> list[Event]:
        self.client.receive_data(data)
        return list(self.client.events())

    @given(st.lists(MESSAGES, max_size=4), st.lists(st.integers(0, 2_000)), st.booleans())
    def test_any_cuts(self, messages: list[Message], cuts: list[int], deflated: bool) -> None:
        """However the bytes are cut into blocks, the messages are heard whole and in order."""
        self.setUp()
        if deflated:
            ours, theirs = PerMessageDeflate(), PerMessageDeflate()
            ours.accept("permessage-deflate")
            theirs.finalize("permessage-deflate")
            self.frames, self.client = Frames(ours), Connection(ConnectionType.CLIENT, [theirs])
        data = b""
        for message in messages:
            half = len(message.data) // 2
            if message.binary:
                data += self.sent(BytesMessage(message.data[:half], True, False), BytesMessage(message.data[half:]))
            else:
                data += self.sent(TextMessage(message.data.decode()))
        heard: list[Heard] = []
        for start, end in pairwise([0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]):
            heard += self.frames.receive(data[start:end])
        self.assertEqual(heard, messages)

    @given(st.lists(MESSAGES, max_size=4), st.none() | st.integers(1, 100))
    def test_out_and_back(self, messages: list[Message], fragment: int | None) -> None:
        """What is sent arrives, in frames of the length that was asked for."""
        self.setUp()
        self.frames = Frames(fragment=fragment)
        for message in messages:
            events = self.received(b"".join(self.frames.message(message)))
            self.assertTrue(all(isinstance(event, BytesMessage | TextMessage) for event in events))
            data = [event.data for event in events if isinstance(event, BytesMessage | TextMessage)]
            self.assertEqual(b"".join(p.encode() if isinstance(p, str) else p for p in data), message.data)
            size = len(message.data) if message.binary else len(message.data.decode())
            self.assertEqual(len(data), 1 if fragment is None else max(1, -(-size // fragment)))

    def test_ping(self) -> None:
        """A ping is told with what it carries, between the frames of a message too, and its answer carries that."""
        heard = self.heard(TextMessage("a", True, False), Ping(b"1"), TextMessage("b"))
        self.assertEqual(heard, [Pinged(b"1"), Message(b"ab")])
        self.assertEqual(self.received(self.frames.pong(b"1")), [Pong(b"1")])
        self.assertEqual(self.heard(Pong(b"")), [])

    def test_client_closes(self) -> None:
        """A close frame is answered with its own code, and nothing is heard after it."""
        for code, reason in ((1000, ""), (4321, "enough")):
            self.setUp()
            [closed] = self.heard(CloseConnection(code, reason))
            assert isinstance(closed, Closed)
            self.assertEqual((closed.code, closed.fault), (code, False))
            self.assertEqual(self.received(closed.answer), [CloseConnection(code, reason)])
            self.assertEqual(list(self.frames.receive(b"\x81")), [])
            self.assertEqual(self.frames.pong(b""), b"")

    def test_client_closes_without_a_code(self) -> None:
        """A close frame without a code is 1005, and is answered with one like it."""
        [closed] = self.frames.receive(b"\x88\x80\0\0\0\0")
        self.assertEqual(closed, Closed(1005, b"\x88\x00"))

    def test_we_close(self) -> None:
        """Our own close frame goes out once, and the client's part of it is told."""
        self.assertEqual(self.received(self.frames.close(1001, "away")), [CloseConnection(1001, "away")])
        self.assertTrue(self.frames.closing)
        self.assertEqual(self.frames.close(1000), b"")
        self.assertEqual(self.heard(CloseConnection(1001)), [Closed(1001, b"")])

    def test_heard_while_closing(self) -> None:
        """What the client sent before it saw our close frame is heard."""
        self.frames.close(1000)
        self.assertEqual(self.heard(TextMessage("late")), [Message(b"late")])

    def test_broken(self) -> None:
        """What breaks the protocol ends with its code, told to the client without repeating what it sent."""
        for data, code in (
            (b"\x81\x01a", 1002),  # not masked
            (b"\x83\x80\0\0\0\0", 1002),  # no such opcode
            (b"\xc1\x80\0\0\0\0", 1002),  # a reserved bit
            (b"\x80\x80\0\0\0\0", 1002),  # a continuation of nothing
            (b"\x81\x81\0\0\0\0\xff", 1007),  # not UTF-8
            (b"\x88\x82\0\0\0\0\x03\xed", 1002),  # a code that must not be sent
        ):
            self.setUp()
            [closed] = self.frames.receive(data)
            assert isinstance(closed, Closed)
            self.assertEqual((closed.code, closed.fault), (code, True))
            [event] = self.received(closed.answer)
            assert isinstance(event, CloseConnection)
            self.assertEqual(event.code, code)
            self.assertNotIn("0xff", event.reason or "")
            self.assertEqual(list(self.frames.receive(b"\x81\x80\0\0\0\0")), [])

    def test_too_long(self) -> None:
        """A message over the limit ends with 1009 before it is whole, however small its pieces are."""
        self.frames = Frames(longest=10)
        self.assertEqual(self.heard(BytesMessage(b"x" * 10)), [Message(b"x" * 10, True)])
        self.assertEqual(self.heard(TextMessage("é" * 5, True, False)), [])
        [closed] = self.heard(TextMessage("x", True, False))
        assert isinstance(closed, Closed)
        self.assertEqual((closed.code, closed.fault), (1009, True))

    def test_too_long_when_inflated(self) -> None:
        """It is the length of what comes out of the compression that counts."""
        ours, theirs = PerMessageDeflate(), PerMessageDeflate()
        ours.accept("permessage-deflate")
        theirs.finalize("permessage-deflate")
        self.frames, self.client = Frames(ours, longest=1_000), Connection(ConnectionType.CLIENT, [theirs])
        data = self.sent(BytesMessage(bytes(100_000)))
        self.assertLess(len(data), 1_000)
        [closed] = self.frames.receive(data)
        assert isinstance(closed, Closed)
        self.assertEqual(closed.code, 1009)

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """No bytes whatever make it fail."""
        for deflate in (None, PerMessageDeflate()):
            if deflate is not None:
                deflate.accept("permessage-deflate")
            list(Frames(deflate).receive(data))
