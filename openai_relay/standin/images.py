"""Images: a real, tiny PNG for each one that is asked for, inline or by URL, unary or as events."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from openai_relay.standin.answer import Answer, Call, Opaque, decode, event_answer, form_of, json_answer
from openai_relay.standin.prose import tokens

#: Tokens that one image counts as.
IMAGE_TOKENS: Final = 272


class Asked(msgspec.Struct):
    """The members of a request that the answer depends on."""

    prompt: str
    model: str | None = None
    n: Annotated[int, Meta(ge=1, le=10)] | None = None
    response_format: Literal["b64_json", "url"] | None = None
    size: str | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Meta(ge=0, le=3)] | None = None


def generations(call: Call) -> Answer:
    """``POST /v1/images/generations``."""
    asked = decode(call.body, Asked)
    if asked.stream:
        return event_answer(_events(call, asked))
    return _images(call, asked.prompt, asked.n or 1, asked.response_format)


def edits(call: Call) -> Answer:
    """``POST /v1/images/edits``: multipart."""
    form = form_of(call)
    form.file("image", "image[]")
    return _images(call, form.value("prompt"), _count(form.values.get("n")), form.values.get("response_format"))


def variations(call: Call) -> Answer:
    """``POST /v1/images/variations``: multipart."""
    form = form_of(call)
    form.file("image")
    return _images(call, "", _count(form.values.get("n")), form.values.get("response_format"))


def _images(call: Call, prompt: str, count: int, form: str | None) -> Answer:
    if form == "url":
        identifier = call.identifier("img-")
        data = [{"url": f"https://images.invalid/{identifier}-{index}.png"} for index in range(count)]
    else:
        data = [{"b64_json": PNG}] * count
    return json_answer({"created": call.created, "data": data, "usage": _usage(prompt, count)})


def _events(call: Call, asked: Asked) -> Iterator[bytes]:
    shown = {
        "b64_json": PNG,
        "created_at": call.created,
        "size": asked.size or "1024x1024",
        "quality": "low",
        "background": "opaque",
        "output_format": "png",
    }
    for index in range(asked.partial_images or 0):
        yield _event("image_generation.partial_image", shown | {"partial_image_index": index})
    yield _event("image_generation.completed", shown | {"usage": _usage(asked.prompt, 1)})


def _event(kind: str, members: Opaque) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind} | members))


def _usage(prompt: str, count: int) -> Opaque:
    given = tokens(prompt)
    return {
        "input_tokens": given,
        "input_tokens_details": {"text_tokens": given, "image_tokens": 0},
        "output_tokens": count * IMAGE_TOKENS,
        "total_tokens": given + count * IMAGE_TOKENS,
    }


def _count(text: str | None) -> int:
    return min(int(text), 10) if text and text.isascii() and text.isdigit() and text != "0" else 1


def _png() -> str:
    """One white pixel."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    whole = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(b"\0\xff")) + part(b"IEND", b"")
    return base64.b64encode(whole).decode("ascii")


PNG: Final = _png()
