"""The Realtime API, seen with the SDK's own models."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.answer import Call
from openai_relay.standin.controls import Controls
from openai_relay.standin.frames import Message
from openai_relay.standin.realtime import Realtime
from openai_relay.standin.realtime_shapes import AUDIO_TOKEN
from tests.standin.asking import NOW
from tests.standin.test_routes import ANYTHING

EVENT: TypeAdapter[RealtimeServerEvent] = TypeAdapter(RealtimeServerEvent)
#: The events of a response, its deltas as one.
COURSE = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
    "rate_limits.updated",
]


def text_item(text: str, role: str = "user", **members: Any) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    item = {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
    return {"type": "conversation.item.create", "item": item | members}


def sound(length: int) -> dict[str, Any]:
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(length)).decode()}


class RealtimeCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.begin()

    def begin(self, model: str | None = "gpt-realtime", **controls: Any) -> None:
        numbers = iter(range(7, 1_000))
        query = () if model is None else (("model", model),)
        self.realtime = Realtime(lambda body: Call(Controls(**controls), next(numbers), NOW, query=query, body=body))

    def hear(self, asked: Any) -> Iterator[Any]:
        """What answers an event, one by one as it is taken, each checked with the SDK's model."""
        data = asked if isinstance(asked, bytes) else msgspec.json.encode(asked)
        for message in self.realtime.hear(Message(data)) or ():
            self.assertFalse(message.binary)
            told = msgspec.json.decode(message.data)
            EVENT.validate_python(told)
            yield told

    def told(self, asked: Any) -> list[Any]:
        return list(self.hear(asked))

    def response(self, **wanted: Any) -> Any:
        """The response as its last event tells it."""
        return self.told({"type": "response.create", "response": wanted})[-2]["response"]

    def error(self, asked: Any) -> dict[str, Any]:
        [told] = self.told(asked)
        self.assertEqual(told["type"], "error")
        error: dict[str, Any] = told["error"]
        return error


class SessionTests(RealtimeCase):
    def test_created(self) -> None:
        """The session is told at once, with the model of the query, or a usual one."""
        for model, wanted in (("gpt-4o-realtime-preview", "gpt-4o-realtime-preview"), (None, "gpt-realtime")):
            self.begin(model)
            [message] = self.realtime.opening()
            told = msgspec.json.decode(message.data)
            EVENT.validate_python(told)
            self.assertEqual((told["type"], told["session"]["model"]), ("session.created", wanted))

    def test_updated(self) -> None:
        """An update is answered with the session as it is then; a wrong one changes nothing."""
        [told] = self.told({"type": "session.update", "session": {"type": "realtime", "instructions": "Be brief."}})
        self.assertEqual((told["type"], told["session"]["instructions"]), ("session.updated", "Be brief."))
        self.error({"type": "session.update", "session": {"instructions": "x", "max_output_tokens": 0}})
        [told] = self.told({"type": "session.update", "session": {}})
        self.assertEqual(told["session"]["instructions"], "Be brief.")

    def test_event_ids(self) -> None:
        """No two events have one id."""
        told = self.told(text_item("a")) + self.told({"type": "response.create"}) + self.told({"type": "x"})
        self.assertEqual(len({event["event_id"] for event in told}), len(told))


class ItemTests(RealtimeCase):
    def test_created(self) -> None:
        """An item is added and done, after the one before it, under its own id or a new one."""
        first = self.told(text_item("a", id="mine"))
        second = self.told(text_item("b"))
        for told, item_id, after in ((first, "mine", None), (second, second[0]["item"]["id"], "mine")):
            self.assertEqual([event["type"] for event in told], ["conversation.item.added", "conversation.item.done"])
            self.assertEqual({(event["item"]["id"], event["previous_item_id"]) for event in told}, {(item_id, after)})
        self.assertNotEqual(second[0]["item"]["id"], "mine")

    def test_sound(self) -> None:
        """Sound is counted silently, and becomes an item when it is committed."""
        self.assertIsNone(self.realtime.hear(Message(msgspec.json.encode(sound(100_000)))))
        self.told(sound(20_000))
        committed, added, done = self.told({"type": "input_audio_buffer.commit"})
        self.assertEqual(committed["type"], "input_audio_buffer.committed")
        self.assertEqual([committed["item_id"]] * 2, [added["item"]["id"], done["item"]["id"]])
        usage = self.response()["usage"]
        self.assertEqual(usage["input_token_details"]["audio_tokens"], 120_000 // AUDIO_TOKEN)

    def test_no_sound(self) -> None:
        """An empty buffer cannot be committed, nor one that was cleared or committed before."""
        commit = {"type": "input_audio_buffer.commit"}
        self.assertEqual(self.error(commit)["code"], "input_audio_buffer_commit_empty")
        self.told(sound(10))
        [cleared] = self.told({"type": "input_audio_buffer.clear"})
        self.assertEqual(cleared["type"], "input_audio_buffer.cleared")
        self.assertEqual(self.error(commit)["code"], "input_audio_buffer_commit_empty")
        self.told(sound(10))
        self.assertEqual(len(self.told(commit)), 3)
        self.error(commit)


class ResponseTests(RealtimeCase):
    def test_course(self) -> None:
        """The events of a response come in the API's order, its text in several deltas that join to it."""
        self.told(text_item("Hello there"))
        told = self.told({"type": "response.create"})
        kinds = [event["type"] for event in told]
        self.assertEqual(list(dict.fromkeys(kinds)), COURSE)
        deltas = [event["delta"] for event in told if event["type"] == "response.output_text.delta"]
        self.assertGreater(len(deltas), 3)
        text = "".join(deltas)
        self.assertIn("You said: Hello there", text)
        response = told[-2]["response"]
        self.assertEqual((response["status"], response["output"][0]["content"][0]["text"]), ("completed", text))
        self.assertEqual(response["usage"]["output_tokens"], len(deltas))

    def test_usage_grows(self) -> None:
        """What an earlier response had as its input is cached in the next, and its own text is input then."""
        self.told(text_item("x" * 400))
        first, second = self.response()["usage"], self.response()["usage"]
        self.assertEqual(first["input_token_details"]["cached_tokens"], 0)
        self.assertEqual(second["input_token_details"]["cached_tokens"], first["input_tokens"])
        self.assertEqual(second["input_tokens"], first["input_tokens"] + first["output_tokens"])

    def test_instructions_count(self) -> None:
        """Instructions of the session count, and those of the response instead of them."""
        self.told({"type": "session.update", "session": {"instructions": "x" * 400}})
        self.assertEqual(self.response()["usage"]["input_tokens"], 103)
        self.begin()
        self.assertEqual(self.response(instructions="x" * 40)["usage"]["input_tokens"], 13)

    def test_cap(self) -> None:
        """A response that reaches the cap of the session, or its own, is incomplete."""
        self.told({"type": "session.update", "session": {"max_output_tokens": 2}})
        for wanted, said in (({}, 2), ({"max_output_tokens": 1}, 1)):
            response = self.response(**wanted)
            self.assertEqual((response["status"], response["usage"]["output_tokens"]), ("incomplete", said))
            self.assertEqual(response["status_details"]["reason"], "max_output_tokens")
        self.assertEqual(self.response(max_output_tokens="inf")["status"], "completed")
        self.assertEqual(
            self.error({"type": "response.create", "response": {"max_output_tokens": 0}})["type"],
            "invalid_request_error",
        )

    def test_out_of_band(self) -> None:
        """A response outside of the conversation adds nothing to it, and may have input of its own."""
        wanted = {"conversation": "none", "input": [text_item("Only this")["item"]], "metadata": {"a": "b"}}
        told = self.told({"type": "response.create", "response": wanted})
        self.assertFalse([event for event in told if event["type"].startswith("conversation.")])
        response = told[-2]["response"]
        self.assertIn("You said: Only this", response["output"][0]["content"][0]["text"])
        self.assertEqual((response["conversation_id"], response["metadata"]), (None, {"a": "b"}))
        self.assertEqual(self.response()["usage"]["input_tokens"], 3)

    def test_controls(self) -> None:
        """Number and length of the pieces can be asked for, and an endless response goes on."""
        self.begin(events=4, event_bytes=10)
        self.assertEqual(self.response()["usage"]["output_tokens"], 4)
        self.begin(endless=True)
        telling = self.hear({"type": "response.create"})
        self.assertEqual(len([next(telling) for _ in range(1_000)]), 1_000)

    def test_cancel(self) -> None:
        """A response that runs can be cancelled, though it be endless; then it is told as cancelled."""
        self.begin(endless=True)
        telling = self.hear({"type": "response.create"})
        for _ in range(10):
            next(telling)
        self.assertEqual(self.told({"type": "response.cancel"}), [])
        *_, done, _ = telling
        self.assertEqual((done["type"], done["response"]["status"]), ("response.done", "cancelled"))
        self.assertEqual(done["response"]["output"][0]["status"], "incomplete")

    def test_nothing_to_cancel(self) -> None:
        """Without a response that runs there is nothing to cancel."""
        self.assertEqual(self.error({"type": "response.cancel"})["code"], "response_cancel_not_active")
        self.response()
        self.assertEqual(self.error({"type": "response.cancel"})["code"], "response_cancel_not_active")


class ErrorTests(RealtimeCase):
    def test_unknown_event(self) -> None:
        """An unknown event is an error that names the client's event, and what there is."""
        error = self.error({"type": "session.destroy", "event_id": "mine"})
        self.assertEqual((error["event_id"], error["param"]), ("mine", "type"))
        self.assertIn("session.update", error["message"])

    def test_unreadable(self) -> None:
        """What is no JSON, has another shape or is binary is an error, and the next event is taken."""
        for wrong in (
            b"{",
            b"\xff",
            b"[]",
            b"{}",
            b'{"type":"session.update"}',
            b'{"type":"input_audio_buffer.append"}',
        ):
            self.assertEqual(self.error(wrong)["type"], "invalid_request_error")
        [told] = list(self.realtime.hear(Message(b'{"type":"response.create"}', binary=True)) or ())
        self.assertIn("binary", msgspec.json.decode(told.data)["error"]["message"])
        self.assertEqual(self.response()["status"], "completed")

    @given(
        st.sampled_from(
            ["session.update", "conversation.item.create", "response.create", "input_audio_buffer.append", "x"]
        ),
        ANYTHING,
        ANYTHING,
    )
    def test_any_event(self, kind: str, inner: Any, item: Any) -> None:
        """Whatever an event holds, it is answered, or refused as an error; nothing fails by itself."""
        self.setUp()
        for asked in (
            {"type": kind, "session": inner, "item": inner, "response": inner, "audio": inner},
            {"type": kind, "item": item if isinstance(item, dict) else {"type": item}, "response": {"input": [inner]}},
        ):
            for message in self.realtime.hear(Message(msgspec.json.encode(asked))) or ():
                self.assertIn("type", msgspec.json.decode(message.data))
