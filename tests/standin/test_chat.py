"""Chat completions, seen with the SDK's own models."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.chat import chat
from openai_relay.standin.problems import Problem
from tests.standin.asking import NOW, call, events, unary

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time"}}


def asked(question: str = "Hello there", **members: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": question}]} | members


class UnaryTests(SynchronousTestCase):
    def whole(self, request: dict[str, Any], **controls: Any) -> ChatCompletion:
        return ChatCompletion.model_validate(unary(chat(call(request, **controls))), strict=True)

    def test_satisfies_the_sdk(self) -> None:
        """A completion passes the SDK's own model, quotes the question and has usage that adds up."""
        completion = self.whole(asked())
        self.assertIn("Hello there", str(completion.choices[0].message.content))
        self.assertEqual((completion.created, completion.model), (NOW, "gpt-4o"))
        self.assertEqual(completion.choices[0].finish_reason, "stop")
        assert completion.usage is not None
        usage = completion.usage
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        self.assertGreater(usage.prompt_tokens, 0)

    def test_several_choices(self) -> None:
        """``n`` gives as many choices, each of which costs tokens."""
        completion = self.whole(asked(n=3), events=5)
        self.assertEqual([choice.index for choice in completion.choices], [0, 1, 2])
        assert completion.usage is not None
        self.assertEqual(completion.usage.completion_tokens, 15)

    def test_cap_on_tokens(self) -> None:
        """A cap on tokens is kept and told as the reason to finish."""
        for name in ("max_tokens", "max_completion_tokens"):
            completion = self.whole(asked() | {name: 4})
            self.assertEqual(completion.choices[0].finish_reason, "length")
            self.assertEqual(completion.choices[0].message.content, "This is the stand-in")

    def test_function_is_called_when_demanded(self) -> None:
        """A demanded function is called with arguments that fit its parameters."""
        for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
            [told] = self.whole(asked(tools=[WEATHER, CLOCK], tool_choice=choice)).choices
            self.assertEqual(told.finish_reason, "tool_calls")
            [called] = told.message.tool_calls or []
            assert called.type == "function"
            self.assertEqual(called.function.name, "get_weather")
            self.assertEqual(called.function.arguments, '{"city":"stand-in","days":1}')

    def test_function_is_called_when_named(self) -> None:
        """Free to choose, the stand-in calls the function that the question names, or any when it says "tool"."""
        named = self.whole(asked("use get_time please", tools=[WEATHER, CLOCK])).choices[0].message.tool_calls
        either = self.whole(asked("call a tool", tools=[WEATHER, CLOCK])).choices[0].message.tool_calls
        for calls, name in ((named, "get_time"), (either, "get_weather")):
            assert calls is not None and calls[0].type == "function"
            self.assertEqual(calls[0].function.name, name)

    def test_function_is_not_called_otherwise(self) -> None:
        """No call comes when none is wanted, when it is forbidden, or after a tool's answer."""
        result = {"role": "tool", "tool_call_id": "x", "content": "call get_weather"}
        for request in (
            asked(tools=[WEATHER]),
            asked("call get_weather", tools=[WEATHER], tool_choice="none"),
            asked(tools=[WEATHER], messages=[{"role": "user", "content": "x"}, result]),
        ):
            self.assertIsNone(self.whole(request).choices[0].message.tool_calls)

    def test_structured_output(self) -> None:
        """A JSON schema is answered with JSON that fits it."""
        schema = {"type": "object", "properties": {"done": {"type": "boolean"}}}
        format_ = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        [told] = self.whole(asked(response_format=format_)).choices
        self.assertEqual(told.message.content, '{"done":true}')

    def test_wrong_requests(self) -> None:
        """What the API refuses is refused with the parameter's name."""
        for request, param in (
            ({"messages": [{"role": "user"}]}, "model"),
            ({"model": "m"}, "messages"),
            ({"model": "m", "messages": []}, "messages"),
            (asked(n=0), "n"),
            (asked(stream="yes"), "stream"),
        ):
            problem = self.assertRaises(Problem, chat, call(request))
            self.assertEqual((problem.status, problem.param), (400, param))


class StreamTests(SynchronousTestCase):
    def chunks(self, request: dict[str, Any], **controls: Any) -> list[ChatCompletionChunk]:
        found = events(chat(call(request | {"stream": True}, **controls)))
        self.assertEqual(found[-1], (None, "[DONE]"))
        self.assertEqual({name for name, _ in found}, {None})
        return [ChatCompletionChunk.model_validate(data, strict=True) for _, data in found[:-1]]

    def text(self, chunks: list[ChatCompletionChunk], index: int = 0) -> str:
        deltas = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.index == index]
        return "".join(delta for delta in deltas if delta)

    def test_order(self) -> None:
        """First the role, then the text, last the reason to finish, then ``[DONE]``, and no usage unasked."""
        chunks = self.chunks(asked(), events=3)
        self.assertEqual(len(chunks), 5)
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual([chunk.choices[0].finish_reason for chunk in chunks], [None, None, None, None, "stop"])
        self.assertEqual({chunk.usage for chunk in chunks}, {None})
        self.assertEqual(len({chunk.id for chunk in chunks}), 1)

    def test_usage_on_request(self) -> None:
        """With ``include_usage`` one more chunk without choices tells it, and the others say null."""
        request = asked(stream=True, stream_options={"include_usage": True})
        raw = [data for _, data in events(chat(call(request, events=3)))[:-1]]
        self.assertEqual([data["usage"] for data in raw[:-1]], [None] * 5)
        self.assertEqual(raw[-1]["choices"], [])
        self.assertEqual(raw[-1]["usage"]["completion_tokens"], 3)

    def test_no_usage_member_unasked(self) -> None:
        """Without ``include_usage`` no chunk has the member at all."""
        raw = [data for _, data in events(chat(call(asked(stream=True))))[:-1]]
        self.assertFalse([data for data in raw if "usage" in data])

    @given(st.text(max_size=80), st.integers(1, 4))
    def test_same_text_as_unary(self, question: str, n: int) -> None:
        """Streamed or not, the text of each choice is the same."""
        message = unary(chat(call(asked(question, n=n))))["choices"][0]["message"]
        chunks = self.chunks(asked(question, n=n))
        self.assertEqual([self.text(chunks, index) for index in range(n)], [message["content"]] * n)

    def test_function_call(self) -> None:
        """A streamed call gives its name and id first, and its arguments in parts."""
        chunks = self.chunks(asked(tools=[WEATHER], tool_choice="required"))
        calls = [call_ for chunk in chunks for call_ in chunk.choices[0].delta.tool_calls or []]
        assert calls[0].function is not None
        self.assertEqual(calls[0].function.name, "get_weather")
        self.assertTrue(calls[0].id)
        self.assertGreater(len(calls), 2)
        arguments = "".join(str(call_.function.arguments) for call_ in calls if call_.function)
        self.assertEqual(arguments, '{"city":"stand-in","days":1}')
        self.assertEqual(chunks[-1].choices[0].finish_reason, "tool_calls")

    def test_endless_stream_is_made_as_it_is_read(self) -> None:
        """An endless stream is not made ahead of its reader."""
        blocks = chat(call(asked(stream=True), endless=True)).blocks
        assert blocks is not None
        for _ in range(1_000):
            self.assertTrue(next(blocks).startswith(b"data: {"))
