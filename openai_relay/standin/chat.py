"""Chat completions: unary and streaming, with usage, several choices, function calls and structured output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from openai_relay.standin.answer import Answer, Call, Opaque, decode, event_answer, json_answer
from openai_relay.standin.prose import pieces, quoted, text_of, tokens
from openai_relay.standin.samples import sample_text

FINGERPRINT: Final = "fp_standin"
DONE: Final = b"data: [DONE]\n\n"


class StreamOptions(msgspec.Struct):
    """What the client wants in its stream beside the text."""

    include_usage: bool | None = None


class Asked(msgspec.Struct):
    """The members of a request that the answer depends on."""

    model: str
    messages: Annotated[list[Opaque], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    tools: list[Opaque] | None = None
    tool_choice: str | Opaque | None = None
    response_format: Opaque | None = None


def chat(call: Call) -> Answer:
    """``POST /v1/chat/completions``."""
    asked = decode(call.body, Asked)
    question = text_of(asked.messages[-1])
    prompt = sum(tokens(text_of(message)) + 3 for message in asked.messages)
    function = wanted_function(asked.tools, asked.tool_choice, asked.messages[-1].get("role"), question)
    if function is not None:
        saying, reason = iter(_in_parts(sample_text(function.get("parameters")))), "tool_calls"
    else:
        saying, reason = _text(call, asked, question), "stop"
    completion = _Completion(call, asked, prompt, function, reason)
    return event_answer(completion.events(saying)) if asked.stream else json_answer(completion.whole(list(saying)))


def wanted_function(tools: list[Opaque] | None, choice: Any, role: Any, question: str) -> Opaque | None:
    """
    The function to call: the one that is demanded, or, when free to choose, the first that the question names.

    A question also asks for a call with the words "call" or "tool"; an answer from a tool is never
    answered with another call.
    """
    functions = [_inner(tool) for tool in tools or () if tool.get("type") == "function"]
    if not functions or choice == "none" or role in ("tool", "function_call_output"):
        return None
    if isinstance(choice, dict):
        name = _inner(choice).get("name")
        return next((each for each in functions if each.get("name") == name), functions[0])
    if choice == "required":
        return functions[0]
    named = [each for each in functions if str(each.get("name")) in question]
    asks = {"call", "tool", "tools", "function"}.intersection(question.lower().split())
    return named[0] if named else functions[0] if asks else None


def _inner(tool: Opaque) -> Opaque:
    """A function's own members: chat completions wrap them, responses do not."""
    inner = tool.get("function")
    return inner if isinstance(inner, dict) else tool


def structured(format_: Opaque | None) -> str | None:
    """The whole text, where the client wants JSON of a certain shape."""
    kind = (format_ or {}).get("type")
    if format_ is None or kind not in ("json_object", "json_schema"):
        return None
    inner = format_.get("json_schema")
    return sample_text((inner if isinstance(inner, dict) else format_).get("schema"))


def _text(call: Call, asked: Asked, question: str) -> Iterator[str]:
    shaped = structured(asked.response_format)
    if shaped is not None:
        return iter(_in_parts(shaped))
    most = asked.max_completion_tokens or asked.max_tokens
    return pieces(question, call.controls, most, bool(asked.stream))


def _in_parts(text: str) -> list[str]:
    """A text that is sent in several events though it has no words."""
    return [text[start : start + 8] for start in range(0, len(text), 8)]


class _Completion:
    """One answer, written out in either form."""

    def __init__(self, call: Call, asked: Asked, prompt: int, function: Opaque | None, reason: str) -> None:
        self._id = call.identifier("chatcmpl-")
        self._call_id = call.identifier("call_")
        self._created = call.created
        self._asked = asked
        self._prompt = prompt
        self._function = function
        self._reason = reason
        self._choices = range(asked.n or 1)

    def whole(self, saying: list[str]) -> Opaque:
        message: Opaque = {"role": "assistant", "content": "".join(saying), "refusal": None, "annotations": []}
        if self._function is not None:
            called = {"name": self._function.get("name"), "arguments": message["content"]}
            message["content"] = None
            message["tool_calls"] = [{"id": self._call_id, "type": "function", "function": called}]
        reason = self._finish(len(saying))
        choices = [
            {"index": index, "message": message, "logprobs": None, "finish_reason": reason} for index in self._choices
        ]
        return self._envelope("chat.completion", choices) | {"usage": self._usage(len(saying))}

    def events(self, saying: Iterator[str]) -> Iterator[bytes]:
        """Role, text, finish, usage where it was asked for, ``[DONE]``."""
        options = self._asked.stream_options
        with_usage = bool(options and options.include_usage)
        frame = _Frame(self._envelope("chat.completion.chunk", None), b',"usage":null' if with_usage else b"")
        opening: Opaque = {"role": "assistant", "content": "", "refusal": None}
        before, after = b'{"content":', b"}"
        if self._function is not None:
            called = {"name": self._function.get("name"), "arguments": ""}
            opening["content"] = None
            opening["tool_calls"] = [{"index": 0, "id": self._call_id, "type": "function", "function": called}]
            before, after = b'{"tool_calls":[{"index":0,"function":{"arguments":', b"}}]}"
        for index in self._choices:
            yield frame.event(index, msgspec.json.encode(opening))
        said = 0
        for said, piece in enumerate(saying, start=1):  # noqa: B007 - the last number is the count
            delta = before + quoted(piece) + after
            for index in self._choices:
                yield frame.event(index, delta)
        for index in self._choices:
            yield frame.event(index, b"{}", quoted(self._finish(said)))
        if with_usage:
            yield frame.usage(msgspec.json.encode(self._usage(said)))
        yield DONE

    def _finish(self, said: int) -> str:
        most = self._asked.max_completion_tokens or self._asked.max_tokens
        return "length" if self._reason == "stop" and said == most else self._reason

    def _envelope(self, kind: str, choices: list[Opaque] | None) -> Opaque:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._asked.model,
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }

    def _usage(self, said: int) -> Opaque:
        completion = said * len(self._choices)
        return {
            "prompt_tokens": self._prompt,
            "completion_tokens": completion,
            "total_tokens": self._prompt + completion,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


class _Frame:
    """A chunk's JSON with a gap: what does not change from event to event is written once."""

    def __init__(self, envelope: Opaque, usage: bytes) -> None:
        head = msgspec.json.encode(envelope).removesuffix(b"null}")
        self._head = b"data: " + head
        self._tail = usage + b"}\n\n"

    def event(self, index: int, delta: bytes, reason: bytes = b"null") -> bytes:
        choice = b'%b[{"index":%d,"delta":%b,"logprobs":null,"finish_reason":%b}]%b'
        return choice % (self._head, index, delta, reason, self._tail)

    def usage(self, usage: bytes) -> bytes:
        return b'%b[],"usage":%b}\n\n' % (self._head, usage)
