"""What an answer cost, out of the events that say it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.usage import (
    LONGEST_BODY,
    BodyMeter,
    StreamMeter,
    Usage,
    estimate,
    usage_at_end,
    usage_of_body,
    usage_of_event,
)
from tests.core.transcripts import Transcript, cuttings, pieces, transcripts

REALTIME = {
    "type": "response.done",
    "response": {
        "id": "resp_1",
        "usage": {
            "total_tokens": 253,
            "input_tokens": 132,
            "output_tokens": 121,
            "input_token_details": {"text_tokens": 119, "audio_tokens": 13, "cached_tokens": 64},
            "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
        },
    },
}
RESPONSES = {
    "type": "response.completed",
    "response": {
        "usage": {
            "input_tokens": 36,
            "input_tokens_details": {"cached_tokens": 8},
            "output_tokens": 87,
            "output_tokens_details": {"reasoning_tokens": 60},
            "total_tokens": 123,
        },
    },
}

counts = st.integers(0, 10**9)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def told(event: object) -> Usage | None:
    return usage_of_event(json.dumps(event).encode())


class EventTests(SynchronousTestCase):
    def test_realtime(self) -> None:
        """A Realtime response says text and audio, and how much of its input was cached."""
        self.assertEqual(told(REALTIME), Usage(132, 64, 13, 121, 0, 91))

    def test_responses(self) -> None:
        """A response says what it thought and what was cached."""
        self.assertEqual(told(RESPONSES), Usage(36, 8, 0, 87, 60, 0))

    def test_every_way_to_end(self) -> None:
        """A response that failed or was broken off has cost something, too."""
        for name in ("response.incomplete", "response.failed", "response.cancelled"):
            self.assertEqual(told(RESPONSES | {"type": name}), Usage(36, 8, 0, 87, 60, 0))

    def test_events_that_end_nothing(self) -> None:
        """An event in the middle of a response does not count, though it repeats what there is of it."""
        for name in ("response.created", "response.in_progress", "session.updated", ""):
            self.assertIsNone(told(RESPONSES | {"type": name}))

    def test_nothing_told(self) -> None:
        """Without usage nothing is known, which is not the same as nothing used."""
        events: list[object] = [
            {"type": "response.done", "response": {"usage": None}},
            {"type": "response.done"},
            [],
            1,
        ]
        for event in events:
            self.assertIsNone(told(event))

    def test_members_that_are_missing(self) -> None:
        """What is absent, null or below nothing counts as nothing."""
        usage = {"input_tokens": 5, "output_tokens": None, "input_tokens_details": {"cached_tokens": -3}}
        self.assertEqual(told({"type": "response.completed", "response": {"usage": usage}}), Usage(5))

    def test_no_json(self) -> None:
        """What only looks like an event is passed over."""
        for text in (b'{"usage"', b'"usage"\xff', b'{"type":1,"usage":{}}', b'{"type":"response.done","usage":1e999}'):
            self.assertIsNone(usage_of_event(text))

    def test_nested_without_measure(self) -> None:
        """What is nested deeper than anybody would is no usage, and no error."""
        deep = b"[" * 50_000 + b"]" * 50_000
        self.assertIsNone(usage_of_event(b'{"type":"response.done","response":{"usage":null},"usage":%b}' % deep))

    @given(st.binary(max_size=100))
    def test_any_bytes(self, noise: bytes) -> None:
        """Whatever stands in a message, looking at it raises nothing."""
        usage_of_event(b'"usage"' + noise)

    @given(json_values, json_values)
    def test_any_shape(self, response: object, usage: object) -> None:
        """Nor does any JSON in any place."""
        told({"type": "response.done", "response": response, "usage": usage})
        told({"type": "response.done", "response": {"usage": usage}})

    def test_other_places_and_names(self) -> None:
        """Chat says it beside its choices, audio by seconds; a total alone is the input."""
        self.assertEqual(told({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}), Usage(3, output_tokens=4))
        self.assertEqual(
            told({"type": "x.completed", "usage": {"type": "duration", "seconds": 1.5}}), Usage(seconds=1.5)
        )
        self.assertEqual(told({"usage": {"total_tokens": 9}}), Usage(9))
        self.assertIsNone(told({"usage": {}}))

    def test_numbers_without_measure(self) -> None:
        """No number is too large to be counted further, and none is below nothing."""
        huge = told({"usage": {"prompt_tokens": 10**400, "completion_tokens": -5, "seconds": 10**400}})
        self.assertEqual(huge, Usage(1 << 40, seconds=float(1 << 40)))

    def test_too_deep(self) -> None:
        """What is nested without measure tells nothing."""
        deep = b'{"usage":{"prompt_tokens":1},"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        self.assertIsNone(usage_of_event(deep))
        self.assertIsNone(usage_of_body(deep))


class StreamTests(SynchronousTestCase):
    def test_recorded(self) -> None:
        """Every recorded stream says what it cost and how it ended, at every single cut."""
        for each in transcripts(".sse"):
            for blocks in cuttings(each.text):
                meter = StreamMeter()
                counted = sum(map(meter.feed, blocks))
                self.assertEqual((counted, meter.events), (each.events, each.events), each.name)
                self.assertEqual(
                    (meter.usage, meter.ended, meter.failed), (each.usage, each.ended, each.failed), each.name
                )
                if each.estimate is not None:
                    guessed = estimate(25, meter.pieces, meter.text_bytes)
                    self.assertEqual(guessed, Usage(25, output_tokens=each.estimate, estimated=True), each.name)

    @given(st.sampled_from(list(transcripts(".sse"))), st.lists(st.integers(0, 1 << 16), max_size=20))
    def test_any_cutting(self, each: Transcript, cuts: list[int]) -> None:
        """Nor does it matter into how many blocks it is cut."""
        meter = StreamMeter()
        for block in pieces(each.text, cuts):
            meter.feed(block)
        self.assertEqual((meter.usage, meter.ended, meter.failed), (each.usage, each.ended, each.failed))

    def test_long_event(self) -> None:
        """An event too long to be kept still says its usage, which stands at its end."""
        meter = StreamMeter()
        meter.feed(b'data: {"type":"response.completed","response":{"output":"')
        for _ in range(100):
            meter.feed(b"x" * 10_000)
        meter.feed(
            b'","usage":{"input_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"output_tokens":7}}}\n\n'
        )
        self.assertEqual(meter.usage, Usage(5, output_tokens=7, reasoning_tokens=2))
        self.assertTrue(meter.ended)

    def test_long_event_without(self) -> None:
        """One that says none leaves what was known."""
        meter = StreamMeter()
        meter.feed(b'data: {"usage":{"prompt_tokens":1}}\n\ndata: ' + b"x" * 100_000 + b"\n\n")
        self.assertEqual(meter.usage, Usage(1))
        self.assertFalse(meter.ended)

    def test_no_json(self) -> None:
        """An event that cannot be read says nothing."""
        meter = StreamMeter()
        self.assertEqual(meter.feed(b'data: {"usage":{\n\n'), 1)
        self.assertIsNone(meter.usage)


class BodyTests(SynchronousTestCase):
    def test_recorded(self) -> None:
        """Every recorded body says what it cost, at every single cut."""
        for each in transcripts(".json"):
            for blocks in cuttings(each.text):
                meter = BodyMeter()
                for block in blocks:
                    meter.feed(block)
                self.assertEqual((meter.usage, meter.size), (each.usage, len(each.text)), each.name)

    def test_long_body(self) -> None:
        """A body of any length is kept to a bound, and its usage, near the end, is found."""
        meter = BodyMeter()
        meter.feed(b'{"data":[{"b64_json":"')
        for _ in range(1000):
            meter.feed(b"x" * 4096)
            self.assertLessEqual(sum(map(len, meter._parts)), 2 * LONGEST_BODY)
        meter.feed(b'"}],"usage":{"input_tokens":12,"input_tokens_details":{"text_tokens":2},"output_tokens":9}}')
        self.assertEqual(meter.usage, Usage(12, output_tokens=9))

    def test_nothing_told(self) -> None:
        """Where nothing is told, all that came is an estimate's measure."""
        meter = BodyMeter()
        self.assertEqual(meter.feed(b"x" * 41), 0)
        self.assertEqual((meter.usage, meter.pieces, meter.text_bytes), (None, 0, 41))

    def test_at_the_end(self) -> None:
        """A usage that is text, in text, or no count is passed over for the one before it."""
        real = b'"usage" : {"prompt_tokens":3}'
        for behind in (
            b"",
            b',"metadata":{"usage":"x"}',
            b',"a":"\\"usage\\":{}"',
            b',"usage":{"a":{}}',
            b',"usage":{"prompt',
        ):
            self.assertEqual(usage_at_end(b"xx" + real + behind + b"}"), Usage(3), behind)
        self.assertIsNone(usage_at_end(b'"usage":null'))

    def test_not_json(self) -> None:
        """What is no JSON object says nothing."""
        for text in (b"", b'"usage"', b'{"usage":', b'{"usage":1}', b'[{"usage":{}}]', b'"usage"\xff'):
            self.assertIsNone(usage_of_body(text))

    @given(st.binary(max_size=60))
    def test_any_bytes(self, noise: bytes) -> None:
        """Whatever stands in a body, looking at it raises nothing."""
        usage_of_body(b'{"usage":' + noise)
        usage_at_end(b'{"usage":{' + noise + b"}}")


class EstimateTests(SynchronousTestCase):
    def test_estimate(self) -> None:
        """The larger of pieces and length counts, and it says that it is one."""
        self.assertEqual(estimate(3, 10, 39), Usage(3, output_tokens=10, estimated=True))
        self.assertEqual(estimate(0, 10, 60), Usage(0, output_tokens=10, estimated=True))
        self.assertEqual(estimate(0, 10, 400), Usage(0, output_tokens=100, estimated=True))
        self.assertEqual(estimate(0, 0, 40), Usage(0, output_tokens=10, estimated=True))


class SumTests(SynchronousTestCase):
    @given(*[st.builds(Usage, *[counts] * 6, counts.map(float), st.booleans())] * 2)
    def test_sum(self, one: Usage, other: Usage) -> None:
        """Each kind is added to its own; a sum with an estimate in it is one."""
        both = one + other
        for name in set(Usage.__struct_fields__) - {"estimated"}:
            self.assertEqual(getattr(both, name), getattr(one, name) + getattr(other, name))
        self.assertEqual(both.estimated, one.estimated or other.estimated)


class RepeatedTests(SynchronousTestCase):
    """What a client sends, and the API repeats in its events, neither costs time nor counts as told."""

    def test_time(self) -> None:
        """However often a usage and braces stand in an event, the tries to read one are bounded."""
        unit = b'"usage":{' + b"}" * 200 + b","
        self.assertIsNone(usage_at_end(unit * 300))

    def test_null_is_the_last_word(self) -> None:
        """A usage that is null behind one that was repeated says that nothing is told yet."""
        repeated = b'{"tools":[{"usage":{"input_tokens":0,"output_tokens":0}}],"usage":null,"metadata":{}}'
        self.assertIsNone(usage_at_end(repeated))

    def test_first_event(self) -> None:
        """What the first event repeats of the request settles nothing for those behind it."""
        for first in (
            b'data: {"type":"response.created","tools":[{"default":{"choices":[1]}}]}\n\n',
            b'data: {"type":"ping"}\n\n',
        ):
            meter = StreamMeter()
            meter.feed(first)
            meter.feed(b'data: {"type":"response.output_text.delta","delta":"word"}\n\n' * 10)
            self.assertEqual(meter.pieces, 10, first)
