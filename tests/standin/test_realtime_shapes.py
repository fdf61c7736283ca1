"""What the events of the Realtime API carry."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai.types.realtime import (
    ConversationItem,
    RealtimeResponseUsage,
    RealtimeSessionCreateRequest,
    RealtimeSessionCreateResponse,
)
from pydantic import TypeAdapter
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.problems import Problem
from openai_relay.standin.realtime_shapes import (
    AUDIO_TOKEN,
    CHANGEABLE,
    Tokens,
    assistant_item,
    audio_tokens,
    cap_of,
    changed_session,
    checked_item,
    new_session,
    sound_length,
    tokens_of,
    usage,
    user_audio,
)

ITEM: TypeAdapter[ConversationItem] = TypeAdapter(ConversationItem)
SESSION = new_session("sess_1", "gpt-realtime", 100)


def message(*parts: Any, role: str = "user") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": list(parts)}


class SessionTests(SynchronousTestCase):
    def refused(self, wanted: dict[str, Any]) -> Problem:
        problem: Problem = self.assertRaises(Problem, changed_session, SESSION, wanted)
        self.assertEqual(problem.status, 400)
        return problem

    def test_new(self) -> None:
        """A new session passes the SDK's own models and names its model."""
        self.assertEqual(RealtimeSessionCreateResponse.model_validate(SESSION).model, "gpt-realtime")
        RealtimeSessionCreateRequest.model_validate(SESSION)

    def test_changes(self) -> None:
        """What a client changes is changed, what it does not name stays, and the old session is not touched."""
        changed = changed_session(SESSION, {"type": "realtime", "instructions": "Be brief.", "max_output_tokens": 5})
        self.assertEqual(changed, SESSION | {"instructions": "Be brief.", "max_output_tokens": 5})
        self.assertEqual(SESSION["instructions"], "")

    def test_model_stays(self) -> None:
        """The model of a session cannot be changed, though it may be named."""
        self.assertEqual(changed_session(SESSION, {"model": "other"}), SESSION)

    def test_unfit(self) -> None:
        """An unknown member and a value that does not fit are named."""
        self.assertEqual(self.refused({"id": "sess_2"}).param, "session.id")
        self.assertEqual(self.refused({"colour": 1}).code, "unknown_parameter")
        self.assertEqual(self.refused({"type": "transcription"}).param, "session.type")
        self.assertEqual(self.refused({"instructions": 3}).param, "session.instructions")
        for cap in (0, -1, True, "many", [1]):
            self.assertEqual(self.refused({"max_output_tokens": cap}).param, "session.max_output_tokens")

    def test_caps(self) -> None:
        """A cap is a number, or there is none."""
        self.assertEqual([cap_of(value, "x") for value in (None, "inf", 7)], [None, None, 7])

    def test_changeable_is_there(self) -> None:
        """Nothing that identifies a session can be changed."""
        self.assertFalse({"id", "object", "type", "model", "expires_at"} & set(CHANGEABLE))


class ItemTests(SynchronousTestCase):
    def test_passes_the_sdk(self) -> None:
        """Items pass the SDK's own model."""
        for item in (assistant_item("i", "in_progress", None), assistant_item("i", "completed", "x"), user_audio("i")):
            ITEM.validate_python(item)

    def test_sound_is_not_repeated(self) -> None:
        """An item loses its sound, and keeps all else."""
        item = message({"type": "input_audio", "audio": "AAAA", "transcript": "x"}, {"type": "input_text", "text": "y"})
        checked = checked_item(item)
        wanted = [{"type": "input_audio", "transcript": "x"}, {"type": "input_text", "text": "y"}]
        self.assertEqual((checked["content"], checked["role"]), (wanted, "user"))
        self.assertIn("audio", item["content"][0])

    def test_other_items(self) -> None:
        """Calls of functions and their outputs are taken as they are."""
        item = {"type": "function_call_output", "call_id": "c", "output": "42"}
        self.assertEqual(checked_item(item), item)

    def test_unfit(self) -> None:
        """What is no item is refused, and the wrong member is named."""
        for item, param in (
            ({}, "item.type"),
            ({"type": ["message"]}, "item.type"),
            ({"type": "sonnet"}, "item.type"),
            ({"type": "message"}, "item.role"),
            ({"type": "message", "role": {}}, "item.role"),
            ({"type": "message", "role": "user"}, "item.content"),
            (message("text"), "item.content"),
            (message() | {"id": 3}, "item.id"),
        ):
            problem = self.assertRaises(Problem, checked_item, item)
            self.assertEqual((problem.status, problem.param), (400, param))


class TokensTests(SynchronousTestCase):
    @given(st.binary(max_size=100))
    def test_length_of_sound(self, data: bytes) -> None:
        """The length of what base64 stands for is known without decoding it."""
        self.assertEqual(sound_length(base64.b64encode(data).decode()), len(data))

    def test_audio(self) -> None:
        """A tenth of a second, begun, is a token."""
        self.assertEqual([audio_tokens(n) for n in (0, 1, AUDIO_TOKEN, AUDIO_TOKEN + 1)], [0, 1, 1, 2])

    def test_of_an_item(self) -> None:
        """Text and sound of an item are counted apart."""
        sound = base64.b64encode(bytes(2 * AUDIO_TOKEN)).decode()
        item = message({"type": "input_text", "text": "12345678"}, {"type": "input_audio", "audio": sound})
        self.assertEqual(tokens_of(item), Tokens(2, 2))
        self.assertEqual(tokens_of({"type": "function_call_output", "output": "1234"}), Tokens(1))

    @given(
        st.builds(Tokens, *[st.integers(0, 50)] * 2), st.builds(Tokens, *[st.integers(0, 50)] * 2), st.integers(0, 9)
    )
    def test_usage_adds_up(self, heard: Tokens, before: Tokens, said: int) -> None:
        """The parts of a usage are its sums, and nothing is cached that was not heard."""
        told = RealtimeResponseUsage.model_validate(usage(heard, before.within(heard), said))
        inputs, cached = (
            told.input_token_details,
            told.input_token_details and told.input_token_details.cached_tokens_details,
        )
        assert inputs is not None and cached is not None and told.output_token_details is not None
        assert inputs.text_tokens is not None and inputs.audio_tokens is not None and inputs.cached_tokens is not None
        assert cached.text_tokens is not None and cached.audio_tokens is not None
        self.assertEqual(told.input_tokens, inputs.text_tokens + inputs.audio_tokens)
        self.assertEqual(inputs.cached_tokens, cached.text_tokens + cached.audio_tokens)
        self.assertLessEqual(cached.text_tokens, inputs.text_tokens)
        self.assertLessEqual(cached.audio_tokens, inputs.audio_tokens)
        self.assertEqual(told.output_tokens, told.output_token_details.text_tokens)
        self.assertEqual(told.total_tokens, heard.total + said)
