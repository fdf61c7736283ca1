"""The Responses API: unary, and as its sequence of numbered events; text, structured output and function calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from openai_relay.standin.answer import Answer, Call, Opaque, decode, event_answer, json_answer
from openai_relay.standin.chat import structured, wanted_function
from openai_relay.standin.prose import LONGEST_TEXT, pieces, quoted, text_of, tokens
from openai_relay.standin.samples import sample_text


class TextOptions(msgspec.Struct):
    """How the text of the answer is shaped."""

    format: Opaque | None = None


class Asked(msgspec.Struct):
    """The members of a request that the answer depends on, or that it repeats."""

    model: str = "gpt-4o-mini"
    input: str | list[Opaque] = ""
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    tools: list[Opaque] | None = None
    tool_choice: str | Opaque | None = None
    text: TextOptions | None = None
    metadata: dict[str, str] | None = None
    previous_response_id: str | None = None


def responses(call: Call) -> Answer:
    """``POST /v1/responses``."""
    return _answer(call, decode(call.body, Asked))


def response_events(call: Call) -> Iterator[bytes]:
    """The events of a stream without what frames them, for a WebSocket, whose client does not ask for a stream."""
    asked = decode(call.body, Asked)
    asked.stream = True
    blocks = _answer(call, asked).blocks
    assert blocks is not None
    return (block.partition(b"\ndata: ")[2][:-2] for block in blocks)


def _answer(call: Call, asked: Asked) -> Answer:
    last: Any = asked.input[-1] if isinstance(asked.input, list) and asked.input else asked.input
    question = text_of(last)
    kind = last.get("type") if isinstance(last, dict) else None
    function = wanted_function(asked.tools, asked.tool_choice, kind, question)
    if function is not None:
        saying = iter([sample_text(function.get("parameters"))])
    else:
        shaped = structured(asked.text.format if asked.text else None)
        most = asked.max_output_tokens
        saying = pieces(question, call.controls, most, bool(asked.stream)) if shaped is None else iter([shaped])
    response = _Response(call, asked, function)
    return event_answer(response.events(saying)) if asked.stream else json_answer(response.whole(list(saying)))


class _Response:
    """One answer, written out in either form."""

    def __init__(self, call: Call, asked: Asked, function: Opaque | None) -> None:
        self._asked = asked
        self._function = function
        self._created = call.created
        self._id = call.identifier("resp_")
        self._item_id = call.identifier("msg_" if function is None else "fc_")
        self._call_id = call.identifier("call_")
        self._input = tokens(text_of(asked.input)) + tokens(asked.instructions or "") + 3
        self._number = -1

    def whole(self, saying: list[str]) -> Opaque:
        return self._ended("".join(saying), len(saying))

    def events(self, saying: Iterator[str]) -> Iterator[bytes]:
        """Created, in progress, the item and its part, the text in deltas, and all of it closed again."""
        yield self._event("response.created", response=self._shape("in_progress"))
        yield self._event("response.in_progress", response=self._shape("in_progress"))
        yield self._event("response.output_item.added", output_index=0, item=self._item("in_progress", None))
        if self._function is None:
            yield self._event("response.content_part.added", **self._place(), part=_part(""))
        said: list[str] = []
        length = 0
        delta = self._delta_template()
        for piece in saying:
            self._number += 1
            yield delta % (self._number, quoted(piece))
            length += len(piece)
            if length <= LONGEST_TEXT:  # an endless answer has no end that would repeat it
                said.append(piece)
        text = "".join(said)
        if self._function is None:
            yield self._event("response.output_text.done", **self._place(), text=text, logprobs=[])
            yield self._event("response.content_part.done", **self._place(), part=_part(text))
        else:
            place = {"item_id": self._item_id, "output_index": 0}
            yield self._event(
                "response.function_call_arguments.done", **place, name=self._function.get("name"), arguments=text
            )
        ended = self._ended(text, len(said))
        yield self._event("response.output_item.done", output_index=0, item=ended["output"][0])
        yield self._event(f"response.{ended['status']}", response=ended)

    def _event(self, kind: str, **members: Any) -> bytes:
        self._number += 1
        data = msgspec.json.encode({"type": kind, "sequence_number": self._number} | members)
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def _delta_template(self) -> bytes:
        """What does not change from delta to delta, with gaps for the number and the text."""
        kind, rest = b"response.output_text.delta", b',"content_index":0'
        logprobs = b',"logprobs":[]'
        if self._function is not None:
            kind, rest, logprobs = b"response.function_call_arguments.delta", b"", b""
        item = b'"item_id":"%b","output_index":0%b' % (self._item_id.encode(), rest)
        head = b'event: %b\ndata: {"type":"%b","sequence_number":%%d,%b' % (kind, kind, item)
        return head + b',"delta":%b' + logprobs + b"}\n\n"

    def _place(self) -> Opaque:
        return {"item_id": self._item_id, "output_index": 0, "content_index": 0}

    def _item(self, status: str, text: str | None) -> Opaque:
        if self._function is None:
            content = [] if text is None else [_part(text)]
            item: Opaque = {"type": "message", "role": "assistant", "content": content}
        else:
            name = self._function.get("name")
            item = {"type": "function_call", "call_id": self._call_id, "name": name, "arguments": text or ""}
        return {"id": self._item_id, "status": status} | item

    def _ended(self, text: str, said: int) -> Opaque:
        """The whole response: incomplete when it reached the client's own cap."""
        capped = self._function is None and said == self._asked.max_output_tokens
        status = "incomplete" if capped else "completed"
        return self._shape(status) | {
            "incomplete_details": {"reason": "max_output_tokens"} if capped else None,
            "output": [self._item(status, text)],
            "usage": {
                "input_tokens": self._input,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": said,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": self._input + said,
            },
        }

    def _shape(self, status: str) -> Opaque:
        asked = self._asked
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "model": asked.model,
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": asked.previous_response_id,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "store": False,
            "temperature": 1.0,
            "text": {"format": (asked.text.format if asked.text else None) or {"type": "text"}},
            "tool_choice": asked.tool_choice or "auto",
            "tools": asked.tools or [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": None,
            "metadata": asked.metadata or {},
        }


def _part(text: str) -> Opaque:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
