"""The Responses API as a WebSocket, seen with the SDK's own models."""

from __future__ import annotations

from typing import Any

import msgspec
from openai.types.responses import ResponsesServerEvent
from pydantic import TypeAdapter
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.answer import Call
from openai_relay.standin.controls import Controls
from openai_relay.standin.frames import Message
from openai_relay.standin.responses import responses
from openai_relay.standin.responses_websocket import ResponsesConversation
from tests.standin.asking import NOW, call, events

EVENT: TypeAdapter[ResponsesServerEvent] = TypeAdapter(ResponsesServerEvent)
ASKED = {"type": "response.create", "model": "gpt-4o", "input": "Hello"}


class ResponsesConversationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.begin()

    def begin(self, **controls: Any) -> None:
        numbers = iter(range(7, 1_000))
        self.conversation = ResponsesConversation(
            lambda body: Call(Controls(**controls), next(numbers), NOW, body=body)
        )

    def told(self, asked: Any) -> list[Any]:
        data = asked if isinstance(asked, bytes) else msgspec.json.encode(asked)
        return [msgspec.json.decode(message.data) for message in self.conversation.hear(Message(data))]

    def error(self, asked: Any) -> dict[str, Any]:
        [told] = self.told(asked)
        EVENT.validate_python(told)
        self.assertEqual((told["type"], told["status"]), ("error", 400))
        self.assertEqual(set(told["error"]), {"type", "code", "message", "param"})
        error: dict[str, Any] = told["error"]
        return error

    def test_same_events_as_the_stream(self) -> None:
        """The messages are the events of the stream, from created to completed with its usage."""
        streamed = [data for _, data in events(responses(call(ASKED | {"stream": True})))]
        told = self.told(ASKED)
        self.assertEqual(told, streamed)
        self.assertEqual(told[-1]["type"], "response.completed")
        self.assertGreater(told[-1]["response"]["usage"]["total_tokens"], 0)
        for event in told:
            EVENT.validate_python(event)

    def test_text_only(self) -> None:
        """Nothing is said before the client asks, and what is said is text."""
        self.assertEqual(list(self.conversation.opening()), [])
        self.assertFalse(any(message.binary for message in self.conversation.hear(Message(msgspec.json.encode(ASKED)))))

    def test_stream_is_not_asked_for(self) -> None:
        """What the client says of streaming does not matter: there is nothing else."""
        self.assertEqual(len(self.told(ASKED | {"stream": False})), len(self.told(ASKED)))

    def test_one_after_the_other(self) -> None:
        """Each response of a connection has an id of its own."""
        ids = {self.told(ASKED)[0]["response"]["id"] for _ in range(3)}
        self.assertEqual(len(ids), 3)

    def test_lanes(self) -> None:
        """The id of a lane is on each of its events, errors too, whatever characters it has."""
        for lane in ("a", 'q"\\é'):
            for asked in (ASKED, {"type": "response.create", "model": 3}, {"type": "other"}):
                told = self.told(asked | {"stream_id": lane})
                self.assertEqual({event.get("stream_id") for event in told}, {lane})

    def test_controls(self) -> None:
        """Number and length of the pieces of text can be asked for."""
        self.begin(events=5, event_bytes=3)
        deltas = [event["delta"] for event in self.told(ASKED) if event["type"] == "response.output_text.delta"]
        self.assertEqual([len(delta) for delta in deltas], [3] * 5)

    def test_functions_are_called(self) -> None:
        """Tools work as they do over HTTP."""
        tool = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}
        told = self.told(ASKED | {"tools": [tool], "tool_choice": "required"})
        self.assertEqual(told[-1]["response"]["output"][0]["name"], "get_weather")

    def test_errors(self) -> None:
        """What cannot be understood is answered with an error, and the next event is taken."""
        self.assertEqual(self.error({"type": "response.steer"})["code"], "unknown_event")
        self.assertEqual(self.error(ASKED | {"model": 3})["param"], "model")
        for wrong in (b"{", b"[]", b"\xff", b"{}", msgspec.json.encode({"type": "x", "stream_id": "x" * 257})):
            self.assertEqual(self.error(wrong)["type"], "invalid_request_error")
        [told] = self.conversation.hear(Message(msgspec.json.encode(ASKED), binary=True))
        self.assertIn("binary", msgspec.json.decode(told.data)["error"]["message"])
        self.assertEqual(self.told(ASKED)[-1]["type"], "response.completed")
