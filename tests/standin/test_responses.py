"""The Responses API, seen with the SDK's own models."""

from __future__ import annotations

import inspect
from collections.abc import Generator
from typing import Any, cast

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.problems import Problem
from openai_relay.standin.prose import LONGEST_TEXT
from openai_relay.standin.responses import responses
from tests.standin.asking import call, events, unary

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


def asked(question: Any = "Hello there", **members: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "input": question} | members


class UnaryTests(SynchronousTestCase):
    def whole(self, request: dict[str, Any], **controls: Any) -> Response:
        return Response.model_validate(unary(responses(call(request, **controls))))

    def test_satisfies_the_sdk(self) -> None:
        """A response passes the SDK's own model, quotes the input and has usage that adds up."""
        response = self.whole(asked())
        self.assertIn("Hello there", response.output_text)
        self.assertEqual(response.status, "completed")
        assert response.usage is not None
        usage = response.usage
        self.assertEqual(usage.total_tokens, usage.input_tokens + usage.output_tokens)

    def test_input_as_items(self) -> None:
        """The last item of a list is what is answered."""
        items = [
            {"role": "user", "content": "first"},
            {"role": "user", "content": [{"type": "input_text", "text": "last"}]},
        ]
        self.assertIn("You said: last", self.whole(asked(items)).output_text)

    def test_cap_on_tokens(self) -> None:
        """A response that reaches the client's cap is incomplete, and says why."""
        response = self.whole(asked(max_output_tokens=2))
        self.assertEqual((response.status, response.output_text), ("incomplete", "This is"))
        assert response.incomplete_details is not None
        self.assertEqual(response.incomplete_details.reason, "max_output_tokens")

    def test_function_call(self) -> None:
        """A demanded function is called; its answer is then answered with text."""
        [item] = self.whole(asked(tools=[WEATHER], tool_choice="required")).output
        assert item.type == "function_call"
        self.assertEqual((item.name, item.arguments), ("get_weather", '{"city":"stand-in"}'))
        items = [
            {"role": "user", "content": "x"},
            {"type": "function_call_output", "call_id": "x", "output": "get_weather"},
        ]
        self.assertTrue(self.whole(asked(items, tools=[WEATHER])).output_text)

    def test_structured_output(self) -> None:
        """A JSON schema is answered with JSON that fits it."""
        format_ = {"type": "json_schema", "name": "x", "schema": {"properties": {"n": {"type": "integer"}}}}
        self.assertEqual(self.whole(asked(text={"format": format_})).output_text, '{"n":1}')

    def test_wrong_requests(self) -> None:
        """What does not fit is refused by name."""
        for request, param in ((asked(3), "input"), (asked(max_output_tokens=0), "max_output_tokens")):
            problem = self.assertRaises(Problem, responses, call(request))
            self.assertEqual((problem.status, problem.param), (400, param))


class StreamTests(SynchronousTestCase):
    def stream(self, request: dict[str, Any], **controls: Any) -> list[Any]:
        found = events(responses(call(request | {"stream": True}, **controls)))
        for name, data in found:
            self.assertEqual(name, data["type"])
        self.assertEqual([data["sequence_number"] for _, data in found], list(range(len(found))))
        return [EVENT.validate_python(data) for _, data in found]

    def test_order(self) -> None:
        """Each thing is opened before its content comes and closed after it, and no ``[DONE]`` ends the stream."""
        told = self.stream(asked(), events=2)
        self.assertEqual(
            [event.type for event in told],
            [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.content_part.added",
                "response.output_text.delta",
                "response.output_text.delta",
                "response.output_text.done",
                "response.content_part.done",
                "response.output_item.done",
                "response.completed",
            ],
        )

    def test_completed_tells_all(self) -> None:
        """The last event holds the whole text and the usage, as the unary answer does."""
        last = self.stream(asked())[-1].response
        whole = unary(responses(call(asked())))
        self.assertEqual(last.output_text, whole["output"][0]["content"][0]["text"])
        assert last.usage is not None
        self.assertEqual(last.usage.output_tokens, whole["usage"]["output_tokens"])

    def test_incomplete(self) -> None:
        """A stream that reaches the cap ends with ``response.incomplete``."""
        self.assertEqual(self.stream(asked(max_output_tokens=2))[-1].type, "response.incomplete")

    def test_function_call(self) -> None:
        """A call streams its arguments and ends completed."""
        told = self.stream(asked(tools=[WEATHER], tool_choice="required"))
        deltas = [event.delta for event in told if event.type == "response.function_call_arguments.delta"]
        self.assertEqual("".join(deltas), '{"city":"stand-in"}')
        self.assertEqual(told[-1].response.output[0].arguments, '{"city":"stand-in"}')

    def test_endless_stream_keeps_no_text(self) -> None:
        """An endless stream goes on, and what it would have to repeat at its end is not kept."""
        blocks = responses(call(asked(stream=True), endless=True, event_bytes=LONGEST_TEXT // 4)).blocks
        assert blocks is not None
        deltas = [block for block in (next(blocks) for _ in range(10)) if b"output_text.delta" in block[:40]]
        self.assertEqual(len(deltas), 6)
        kept = inspect.getgeneratorlocals(cast("Generator[bytes]", blocks))["said"]
        self.assertLessEqual(len("".join(kept)), LONGEST_TEXT)
