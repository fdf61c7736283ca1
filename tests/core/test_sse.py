"""Events out of blocks cut anywhere, and the one event that is taken out."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.sse import LONGEST_EXTRA, Event, EventReader, UsageFilter
from tests.core.transcripts import cuttings, pieces, transcripts

EXTRA = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":1}}'
DELTA = b'data: {"choices":[{"delta":{"content":"a\\"b"}}],"usage":null}'
#: What streams are made of, good and bad.
TOKENS = [EXTRA, EXTRA + b"\n\n", EXTRA + b"\r\n\r\n", EXTRA + b"\r\r", EXTRA[:30], EXTRA[30:], DELTA, DELTA + b"\n\n"]
TOKENS += [
    b"data: ",
    b"data:",
    b"data",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\r\n\r\n",
    b" ",
    b": c",
    b"event: x",
    b"id: 1",
]
TOKENS += [b"\xef\xbb\xbf", b"\xef", b'{"usage":{}}', b'"error"', b"[DONE]", b'{"type":"x.delta","delta":"xy"}']
TOKENS += [b'data: {"choices":[],"usage":null}\n\n', b'data: {"choices" : [ ] , "usage" : {"a":1}}\n\n']
streams = st.lists(st.sampled_from(TOKENS), max_size=16).map(b"".join)
cuts = st.lists(st.integers(0, 1 << 16), max_size=6)


def read(blocks: list[bytes], longest: int = 1 << 16) -> tuple[list[Event], int, int, int]:
    reader = EventReader(longest)
    counted = sum(reader.feed(block) for block in blocks)
    assert counted == reader.events
    return reader.told, reader.events, reader.pieces, reader.text_bytes


def sift(blocks: list[bytes]) -> bytes:
    sieve = UsageFilter()
    return b"".join([*map(sieve.feed, blocks), sieve.end()])


def by_the_book(text: bytes) -> list[bytes]:
    """The data of every event, as the standard's algorithm has it, line by line."""
    lines = re.split(rb"\r\n|\n|\r", text.removeprefix(b"\xef\xbb\xbf"))[:-1]
    events: list[bytes] = []
    data: list[bytes] = []
    for line in lines:
        name, _, value = line.partition(b":")
        if line == b"" and data:
            events.append(b"\n".join(data))
            data = []
        elif name == b"data":
            data.append(value.removeprefix(b" "))
    return events


class ReaderTests(SynchronousTestCase):
    @given(streams, cuts)
    def test_any_cutting(self, text: bytes, where: list[int]) -> None:
        """However a stream is cut, the same events are counted and told, and they are those of the standard."""
        whole = read([text])
        events = by_the_book(text)
        self.assertEqual(whole[1], len(events))
        self.assertTrue({event.data for event in whole[0]} <= set(events))
        self.assertEqual(read(pieces(text, where)), whole)
        self.assertEqual(read([text[at : at + 1] for at in range(len(text))]), whole)

    @given(streams, cuts, st.integers(3, 60))
    def test_any_bound(self, text: bytes, where: list[int], longest: int) -> None:
        """Nor does the cutting matter where events are too long to be looked at whole."""
        whole = read([text], longest)
        self.assertEqual(read(pieces(text, where), longest), whole)
        self.assertEqual(read([text[at : at + 1] for at in range(len(text))], longest), whole)
        self.assertTrue(all(len(event.data) <= longest for event in whole[0]))

    def test_every_cut(self) -> None:
        """Every recorded stream has its events at every single cut."""
        for each in transcripts(".sse"):
            expected = read([each.text])
            self.assertEqual(expected[1], each.events, each.name)
            for blocks in cuttings(each.text):
                self.assertEqual(read(blocks), expected, each.name)

    def test_what_is_told(self) -> None:
        """Only what can say the cost or the end is told; a delta or ``"usage":null`` is not."""
        quiet = [
            DELTA,
            b'data: {"choices":[],"usage":null}',
            b'data: {"type":"response.created"}',
            b": [DONE]",
            b"id: 1",
        ]
        telling = [
            b'{"choices":[{"delta":{"content":"a"},"x":{"usage":null}}],"usage":{"prompt_tokens":1}}',
            b'{"usage": {}}',
            b'{"error":{}}',
            b"[DONE]",
            b'{"type":"response.failed"}',
            b'{"type":"transcript.text.done"}',
        ]
        told, events, *_ = read([b"\n\n".join(quiet + [b"data: " + each for each in telling] + [b""])])
        self.assertEqual([event.data for event in told], telling)
        self.assertEqual(events, 9)

    def test_usage_in_a_delta(self) -> None:
        """An event with text that tells its usage as well is told."""
        event = b'{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}'
        self.assertEqual(read([b"data: " + event + b"\n\n"]), ([Event(event, True)], 1, 1, 1))

    def test_several_lines(self) -> None:
        """Several data lines are one event, joined by line ends."""
        self.assertEqual(read([b'data: {"usage":\rdata:{}}\r\r'])[0], [Event(b'{"usage":\n{}}', True)])

    def test_pieces(self) -> None:
        """Text is counted by piece and length, in each choice; what only repeats or frames it is not."""
        both = b'data: {"choices":[{"delta":{"content":"ab"}},'
        both += b'{"delta":{"tool_calls":[{"function":{"arguments":"{\\"c"}}]}}]}\n\n'
        self.assertEqual(read([both])[1:], (1, 2, 6))
        answer = b'data: {"type":"response.output_text.delta","delta":"ab"}\n\ndata: {"type":"x.done","text":"ab"}\n\n'
        self.assertEqual(read([answer])[1:], (2, 1, 2))

    def test_memory(self) -> None:
        """Of an event without end only a bounded number of bytes is kept."""
        reader = EventReader(100)
        reader.feed(b"data: ")
        for _ in range(1000):
            reader.feed(b"x" * 99)
            self.assertLessEqual(sum(map(len, reader._parts)), 302)
        reader.feed(b'"usage"\n')
        self.assertEqual(reader.feed(b"\n"), 1)
        self.assertEqual(reader.told, [Event(b"x" * 93 + b'"usage"', False)])


class FilterTests(SynchronousTestCase):
    @given(streams, cuts)
    def test_any_cutting(self, text: bytes, where: list[int]) -> None:
        """However a stream is cut, the same bytes come out."""
        whole = sift([text])
        self.assertEqual(sift(pieces(text, where)), whole)
        self.assertEqual(sift([text[at : at + 1] for at in range(len(text))]), whole)

    @given(st.lists(st.sampled_from([DELTA, EXTRA, b": c", b"event: x\n" + EXTRA, b"data: [DONE]"])), cuts)
    def test_nothing_else(self, events: list[bytes], where: list[int]) -> None:
        """Exactly the extra event is removed, wherever it stands, with the blank line behind it."""
        for end in (b"\n\n", b"\r\n\r\n"):
            text = b"".join(event + end for event in events)
            rest = b"".join(event + end for event in events if event != EXTRA)
            self.assertEqual(sift(pieces(text, where)), rest)

    def test_every_cut(self) -> None:
        """Every recorded stream comes out byte for byte at every single cut, without the extra event if it has one."""
        for each in transcripts(".sse"):
            expected = each.text
            if each.extra:
                events = each.text.split(b"\n\n")
                expected = b"\n\n".join(events[:-3] + events[-2:])
                self.assertIn(b'"choices":[]', events[-3])
            for blocks in cuttings(each.text):
                self.assertEqual(sift(blocks), expected, each.name)

    def test_nothing_is_held(self) -> None:
        """No byte of an event waits once it cannot be the extra one, and no whole event waits at all."""
        sieve = UsageFilter()
        for block in (DELTA + b"\n\n", DELTA[:40], DELTA[40:], b"\n\n", b"data: [", b"DONE]\n\n", b": ping", b"\n"):
            self.assertEqual(sieve.feed(block), block)
        self.assertEqual(sieve.end(), b"")

    def test_held_until_known(self) -> None:
        """What may become the extra event waits, and goes out when it turns out to be another."""
        for rest in (b'{"index":0}]}', b'],"usage":null}', b"],\nid: 1"):
            sieve = UsageFilter()
            self.assertEqual(sieve.feed(EXTRA[:27]), b"")
            self.assertEqual(sieve.feed(rest), EXTRA[:27] + rest)

    def test_empty_block(self) -> None:
        """An empty block changes nothing: an event that is passed in part is passed to its end."""
        blocks = [b"event: x", b"", b"\n" + EXTRA + b"\n\n"]
        self.assertEqual(sift(blocks), b"".join(blocks))

    def test_broken_off(self) -> None:
        """An extra event that broke off goes out as it came; a whole one at the very end does not."""
        for text in (EXTRA[:50], EXTRA, EXTRA + b"\n"):
            self.assertEqual(sift([text]), text)
        self.assertEqual(sift([EXTRA + b"\n\r"]), b"")

    def test_not_the_extra_one(self) -> None:
        """An event that is no such object, has no usage in it, or is too long stays."""
        long = b'data: {"choices":[],"usage":{"a":"%b"}}' % (b"x" * LONGEST_EXTRA)
        for event in (
            long,
            b'data: {"x":{"choices":[]},"usage":{"a":1}}',
            EXTRA[:-1],
            b'data: {"choices":[],"usage":{}}',
        ):
            self.assertEqual(sift([event + b"\n\n"]), event + b"\n\n")
            self.assertEqual(sift([event, b"\n\n"]), event + b"\n\n")
