"""Embeddings: vectors that depend only on the text, as numbers or as base64."""

from __future__ import annotations

import base64
import hashlib
import sys
from array import array
from math import sqrt
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from openai_relay.standin.answer import Answer, Call, decode, json_answer
from openai_relay.standin.problems import invalid
from openai_relay.standin.prose import text_of, tokens

_USUAL_LENGTH: Final = {"text-embedding-3-large": 3072}


class Asked(msgspec.Struct):
    """The members of a request that the answer depends on."""

    model: str
    input: Any
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=4096)] | None = None


def embeddings(call: Call) -> Answer:
    """``POST /v1/embeddings``."""
    asked = decode(call.body, Asked)
    length = asked.dimensions or _USUAL_LENGTH.get(asked.model, 1536)
    inputs = _inputs(asked.input)
    vectors = [_vector(msgspec.json.encode(each), length) for each in inputs]
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if _wants_base64(asked) else list(vector)}
        for index, vector in enumerate(vectors)
    ]
    prompt = sum(len(each) if isinstance(each, list) else tokens(text_of(each)) for each in inputs)
    usage = {"prompt_tokens": prompt, "total_tokens": prompt}
    return json_answer({"object": "list", "data": data, "model": asked.model, "usage": usage})


def _inputs(value: Any) -> list[Any]:
    """One text, several, one list of tokens, or several: as a list with an element for each vector."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and 0 < len(value) <= 2048:
        if all(isinstance(each, int) for each in value):
            return [value]
        if all(isinstance(each, str | list) for each in value):
            return value
    raise invalid("'input' must be a text, a list of tokens, or 1 to 2048 of either.", "input")


def _wants_base64(asked: Asked) -> bool:
    return asked.encoding_format == "base64"


def _vector(text: bytes, length: int) -> array[float]:
    """Numbers from a hash of the text, scaled to a length of one."""
    raw = array("h")
    raw.frombytes(hashlib.shake_128(text).digest(2 * length))
    size = sqrt(sum(number * number for number in raw)) or 1.0
    return array("f", [number / size for number in raw])


def _packed(vector: array[float]) -> str:
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return base64.b64encode(vector.tobytes()).decode("ascii")
