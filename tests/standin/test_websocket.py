"""Whole conversations, in memory and in virtual time."""

from __future__ import annotations

import hashlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from openai_relay.standin.frames import LONGEST_MESSAGE
from openai_relay.standin.pump import NEXT_TURN, PER_TURN
from openai_relay.standin.server import StandInOptions
from openai_relay.standin.websocket import CLOSE_WITHIN, MOST_UNANSWERED
from tests.standin.asking import InMemory
from tests.standin.caller import OPENING
from tests.standin.websocket_case import ECHO, ENDLESS, REALTIME, RESPONSES, SPEAK, WebSocketCase


class TalkingTests(WebSocketCase):
    def test_realtime(self) -> None:
        """A session is there at once, and a response comes when it is asked for."""
        self.open(REALTIME)
        self.assertEqual([event["type"] for event in self.client.told()], ["session.created"])
        self.client.say(SPEAK)
        told = self.client.told()
        self.assertEqual([event["type"] for event in (told[0], told[-2])], ["response.created", "response.done"])

    def test_responses(self) -> None:
        """Several responses come one after the other, asked for one by one or all at once."""
        self.open(RESPONSES)
        ask = TextMessage('{"type":"response.create","model":"gpt-4o","input":"Hello"}')
        for asks in ([ask], [ask, ask]):
            self.client.send(*asks)
            kinds = [event["type"] for event in self.client.told()]
            self.assertEqual(kinds.count("response.completed"), len(asks))
            self.assertEqual(kinds[-1], "response.completed")
        self.client.say({"type": "other"})
        self.assertEqual([event["type"] for event in self.client.told()], ["error"])

    @given(st.lists(st.text(max_size=200) | st.binary(max_size=200), max_size=5), st.integers(0, 50), st.booleans())
    def test_echo(self, messages: list[str | bytes], fragment: int, deflate: bool) -> None:
        """Messages come back as they were, text as text and binary as binary, in frames of any length."""
        self.setUp()
        self.open(f"{ECHO}?standin.fragment={fragment}&standin.deflate={int(deflate)}", deflate=deflate)
        for message in messages:
            half = len(message) // 2
            if isinstance(message, str):
                self.client.send(TextMessage(message[:half], True, False), TextMessage(message[half:]))
            else:
                self.client.send(BytesMessage(message[:half], True, False), BytesMessage(message[half:]))
        self.clock.advance(NEXT_TURN)
        self.assertEqual(self.client.messages(), messages)

    def test_long_message(self) -> None:
        """A message of megabytes comes back whole."""
        data = bytes(range(256)) * 20_000
        self.open()
        self.client.send(BytesMessage(data))
        self.clock.pump([NEXT_TURN] * 3)
        [back] = self.client.messages()
        assert isinstance(back, bytes)
        self.assertEqual(hashlib.sha256(back).digest(), hashlib.sha256(data).digest())

    def test_sent_with_the_opening(self) -> None:
        """What a client sends before it has seen the 101 is heard."""
        frame = b"\x81\x82\0\0\0\0hi"
        self.client = self.connect()
        request = "\r\n".join([f"GET {ECHO} HTTP/1.1", "Host: h", "Authorization: Bearer k", *OPENING, "", ""])
        self.client.asker.send(request.encode() + frame)
        self.assertEqual(self.client.answer().status, 101)
        self.assertEqual(self.client.messages(), ["hi"])

    def test_compression(self) -> None:
        """What is compressed is shorter on the wire; without being asked, nothing is compressed."""
        lengths = []
        for asked in (0, 1):
            self.open(f"{ECHO}?standin.deflate={asked}", deflate=True)
            self.client.send(TextMessage("x" * 10_000))
            lengths.append(len(self.client.transport.value()))
            self.assertEqual(self.client.messages(), ["x" * 10_000])
        self.assertLess(lengths[1], 100)
        self.assertGreater(lengths[0], 10_000)

    def test_ping(self) -> None:
        """A ping is answered with what it carries, also between the events of a response."""
        self.open(REALTIME + "&standin.interval_ms=100")
        self.client.say(SPEAK)
        self.client.events()
        self.client.send(Ping(b"there?"))
        self.assertEqual(self.client.events(), [Pong(b"there?")])
        self.assertEqual(self.counters.pings, 1)

    def test_interval(self) -> None:
        """Events come one by one in their interval."""
        self.open(REALTIME + "&standin.interval_ms=100&standin.events=2")
        self.client.told()
        self.client.say(SPEAK)
        counts = []
        for _ in range(12):
            counts.append(len(self.client.told()))
            self.clock.advance(0.1)
        self.assertEqual(counts, [1] * 12)

    def test_usual_interval(self) -> None:
        """The stand-in's own pace is that of its WebSockets too."""
        self.standin = InMemory(StandInOptions(interval_ms=50))
        self.open(REALTIME)
        self.client.told()
        self.client.say(SPEAK)
        self.assertEqual(len(self.client.told()), 1)

    def test_cancel(self) -> None:
        """A response that runs is cancelled while it runs."""
        self.open(ENDLESS + "&standin.interval_ms=10")
        self.client.say(SPEAK)
        self.clock.pump([0.01] * 20)
        self.client.say({"type": "response.cancel"})
        self.clock.pump([0.01] * 20)
        done = self.client.told()[-2]
        self.assertEqual((done["type"], done["response"]["status"]), ("response.done", "cancelled"))

    def test_sound_while_speaking(self) -> None:
        """Sound is heard while a response runs, however much it is, and makes nobody wait."""
        self.open(ENDLESS + "&standin.interval_ms=10")
        self.client.say(SPEAK)
        for _ in range(20):
            self.client.say({"type": "input_audio_buffer.append", "audio": "A" * 100_000})
        self.assertEqual(self.client.transport.producerState, "producing")

    def test_counted(self) -> None:
        """Messages are counted both ways, and bytes."""
        self.open()
        self.client.send(TextMessage("a"), BytesMessage(b"b"))
        self.assertEqual((self.counters.messages_received, self.counters.messages_sent), (2, 2))
        self.assertEqual(self.counters.bytes_received, 2 * 7)
        self.client.send(CloseConnection(1000))
        self.assertEqual(self.counters.bytes_sent, 2 * 3 + 4)


class ClosingTests(WebSocketCase):
    def test_client_closes(self) -> None:
        """A close frame is answered with its code, ends what is being said, and then the connection ends in order."""
        for code, reason in ((1000, ""), (4242, "enough")):
            self.open(ENDLESS + "&standin.interval_ms=100")
            self.client.say(SPEAK)
            self.client.events()
            self.client.send(CloseConnection(code, reason))
            self.assertEqual(self.client.closed(), (code, reason))
            self.assertEnded()
            self.assertTrue(self.client.transport.half_closed)
            self.assertNoTimers()
        self.assertEqual(self.counters.closes, {"1000": 1, "4242": 1})
        self.assertEqual((self.counters.finished, self.counters.aborted), (2, 0))

    def test_closes_on_demand(self) -> None:
        """After so many messages it closes with the code that was asked for, and waits for the client's part."""
        self.open(f"{REALTIME}&standin.close_after=3&standin.close_code=4001&standin.close_reason=bye")
        self.client.say(SPEAK)
        events = self.client.events()
        self.assertEqual((len(events), events[-1]), (4, CloseConnection(4001, "bye")))
        self.assertFalse(self.client.transport.disconnecting)
        self.client.asker.send(b"\x81\x82\0\0\0\0hi")  # on its way already
        self.client.send(CloseConnection(4001))
        self.assertEqual(self.client.transport.value(), b"")
        self.assertEnded()
        self.assertNoTimers()

    def test_closes_at_once(self) -> None:
        """A code alone closes before anything is said."""
        self.open(f"{REALTIME}&standin.close_code=3000")
        self.assertEqual(self.client.closed(), (3000, ""))

    def test_client_does_not_answer(self) -> None:
        """A close frame that is not answered ends the connection after a while."""
        self.open(f"{ECHO}?standin.close_after=0")
        self.assertEqual(self.client.closed(), (1000, ""))
        self.clock.advance(CLOSE_WITHIN - 0.1)
        self.assertFalse(self.client.transport.disconnecting)
        self.clock.advance(0.1)
        self.assertEnded()
        self.assertNoTimers()

    def test_broken_frames(self) -> None:
        """What breaks the protocol is told with its close code, and the connection ends."""
        for data, code in ((b"\x81\x01a", 1002), (b"\x81\x81\0\0\0\0\xff", 1007)):
            self.open(REALTIME)
            self.client.asker.send(data)
            self.assertEqual(self.client.closed()[0], code)
            self.assertEnded()
        self.assertEqual(self.counters.closes, {})

    def test_too_long(self) -> None:
        """A message that is too long is told with 1009 as soon as it is."""
        self.open()
        piece = bytes(LONGEST_MESSAGE // 4)
        self.client.send(*[BytesMessage(piece, True, False)] * 4)
        self.assertEqual(self.client.events(), [])
        self.client.send(BytesMessage(b"x", True, False))
        self.assertEqual(self.client.closed()[0], 1009)
        self.assertEnded()

    def test_cut(self) -> None:
        """The connection can end without a close frame, after a message or inside one."""
        self.open(f"{REALTIME}&standin.cut_after=2")
        self.client.say(SPEAK)
        self.assertEqual(len(self.client.messages()), 2)
        self.assertEnded()
        self.assertFalse(self.client.transport.half_closed)
        self.open(f"{ECHO}?standin.cut_after_bytes=5")
        self.client.send(TextMessage("hello"))
        self.assertEqual(self.client.transport.value(), b"\x81\x05hel")
        self.assertEnded()
        self.assertEqual((self.counters.cut, self.counters.finished), (2, 0))

    def test_silence(self) -> None:
        """It can say nothing more, answer no ping and no close frame, and yet read."""
        self.open(f"{REALTIME}&standin.silent_after=1")
        self.assertEqual(len(self.client.told()), 1)
        self.client.say(SPEAK)
        self.client.send(Ping(b""), CloseConnection(1000))
        self.clock.advance(100)
        self.assertEqual((self.client.transport.value(), self.client.transport.disconnecting), (b"", False))
        self.assertEqual(self.client.transport.producerState, "producing")
        self.client.asker.leave()
        self.assertEqual((self.counters.aborted, self.counters.open), (1, 0))


class PacedByTheClientTests(WebSocketCase):
    def paused(self) -> Any:
        """Let the client stop reading; what makes it go on."""
        producer = self.client.transport.producer
        assert producer is not None
        producer.pauseProducing()
        self.client.transport.clear()
        return producer

    def test_endless_response(self) -> None:
        """A client that does not read stops the response, at any pace, until it reads again."""
        for pace in ("", "&standin.interval_ms=10"):
            self.open(ENDLESS + pace)
            self.client.say(SPEAK)
            self.assertLess(len(self.client.transport.value()), 2 * PER_TURN)
            producer = self.paused()
            self.clock.pump([0.1] * 50)
            self.assertEqual(self.client.transport.value(), b"")
            producer.resumeProducing()
            self.clock.advance(0.01)
            self.assertGreater(len(self.client.transport.value()), 0)
            self.client.asker.leave()

    def test_unread_echoes(self) -> None:
        """A client that sends and does not read is not read any further, until it reads."""
        self.open()
        producer = self.paused()
        sent = 0
        while self.client.transport.producerState == "producing" and sent < 1_000:
            self.client.send(BytesMessage(bytes(1_000)))
            sent += 1
        self.assertLess(sent * 1_000, 2 * MOST_UNANSWERED)
        self.assertEqual(self.client.transport.value(), b"")
        producer.resumeProducing()
        self.clock.pump([NEXT_TURN] * 3)
        self.assertEqual(len(self.client.messages()), sent)
        self.assertEqual(self.client.transport.producerState, "producing")

    def test_small_messages_count_too(self) -> None:
        """Empty messages do not come for free."""
        self.open()
        self.paused()
        for _ in range(1_000):
            self.client.send(BytesMessage(b""))
        self.assertEqual(self.client.transport.producerState, "paused")

    def test_pings_while_not_reading(self) -> None:
        """Of many pings of a client that does not read, the last one is answered."""
        self.open()
        producer = self.paused()
        self.client.send(*[Ping(b"%d" % number) for number in range(100)])
        self.assertEqual(self.client.transport.value(), b"")
        producer.resumeProducing()
        self.assertEqual(self.client.events(), [Pong(b"99")])

    def test_stall(self) -> None:
        """It can stop reading after so many bytes, for good."""
        self.open(ECHO + "?standin.stall_after=10")
        self.client.send(TextMessage("abc"))
        self.assertEqual(self.client.transport.producerState, "producing")
        self.client.send(TextMessage("abc"))
        self.assertEqual((self.client.messages(), self.client.transport.producerState), (["abc"] * 2, "paused"))
        self.open(ECHO + "?standin.stall_after=0")
        self.assertEqual(self.client.transport.producerState, "paused")


class LeavingTests(WebSocketCase):
    def test_client_leaves(self) -> None:
        """A client that is gone ends everything, whatever was going on, and is counted as having left."""
        for number, target in enumerate((ECHO, REALTIME, ENDLESS + "&standin.interval_ms=10", ENDLESS), start=1):
            self.open(target)
            if target is not ECHO:
                self.client.say(SPEAK)
            self.clock.pump([0.01] * 5)
            self.assertNoTimers()
            self.assertEqual((self.counters.open, self.counters.aborted), (0, number))

    def test_client_leaves_while_closing(self) -> None:
        """A client that is gone instead of answering a close frame ends it at once."""
        self.open(f"{ECHO}?standin.close_after=0")
        self.assertNoTimers()
        self.assertEqual((self.counters.open, self.counters.aborted), (0, 1))

    def test_client_leaves_while_paused(self) -> None:
        """So does one that had stopped reading before."""
        self.open(ENDLESS)
        self.client.say(SPEAK)
        producer = self.client.transport.producer
        assert producer is not None
        producer.pauseProducing()
        self.assertNoTimers()
        self.assertEqual(self.counters.open, 0)
