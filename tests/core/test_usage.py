"""What an answer cost, out of the events that say it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.usage import Usage, usage_of_event

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


class SumTests(SynchronousTestCase):
    @given(*[st.builds(Usage, counts, counts, counts, counts, counts, counts)] * 2)
    def test_sum(self, one: Usage, other: Usage) -> None:
        """Each kind of token is added to its own."""
        both = one + other
        for name in Usage.__slots__:
            self.assertEqual(getattr(both, name), getattr(one, name) + getattr(other, name))
