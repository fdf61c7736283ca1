"""The older completions endpoint: text in, text out, unary and streaming."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from openai_relay.standin.answer import Answer, Call, Opaque, decode, event_answer, json_answer
from openai_relay.standin.chat import DONE, StreamOptions
from openai_relay.standin.prose import pieces, quoted, text_of, tokens


class Asked(msgspec.Struct):
    """The members of a request that the answer depends on."""

    model: str
    prompt: Any = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None


def completions(call: Call) -> Answer:
    """``POST /v1/completions``."""
    asked = decode(call.body, Asked)
    question = text_of(asked.prompt)
    saying = pieces(question, call.controls, asked.max_tokens, bool(asked.stream))
    envelope = {
        "id": call.identifier("cmpl-"),
        "object": "text_completion",
        "created": call.created,
        "model": asked.model,
    }
    if asked.stream:
        return event_answer(_events(asked, envelope, tokens(question), saying))
    said = list(saying)
    choice = {"index": 0, "text": "".join(said), "logprobs": None, "finish_reason": _finish(asked, len(said))}
    return json_answer(envelope | {"choices": [choice], "usage": _usage(tokens(question), len(said))})


def _events(asked: Asked, envelope: Opaque, prompt: int, saying: Iterator[str]) -> Iterator[bytes]:
    with_usage = bool(asked.stream_options and asked.stream_options.include_usage)
    head = b"data: " + msgspec.json.encode(envelope).removesuffix(b"}") + b',"choices":'
    chunk = b'%b[{"index":0,"text":%b,"logprobs":null,"finish_reason":%b}]%b}\n\n'
    usage = b',"usage":null' if with_usage else b""
    said = 0
    for said, piece in enumerate(saying, start=1):  # noqa: B007 - the last number is the count
        yield chunk % (head, quoted(piece), b"null", usage)
    yield chunk % (head, b'""', quoted(_finish(asked, said)), usage)
    if with_usage:
        yield b'%b[],"usage":%b}\n\n' % (head, msgspec.json.encode(_usage(prompt, said)))
    yield DONE


def _finish(asked: Asked, said: int) -> str:
    return "length" if said == asked.max_tokens else "stop"


def _usage(prompt: int, said: int) -> Opaque:
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}
