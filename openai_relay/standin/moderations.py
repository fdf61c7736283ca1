"""Moderations: every category, and a flag for texts that ask to be flagged."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from openai_relay.standin.answer import Answer, Call, Opaque, decode, json_answer
from openai_relay.standin.prose import text_of

CATEGORIES: Final = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


class Asked(msgspec.Struct):
    """The members of a request that the answer depends on."""

    input: str | list[Any]
    model: str = "omni-moderation-latest"


def moderations(call: Call) -> Answer:
    """``POST /v1/moderations``: a text with the word "violence" is flagged for it."""
    asked = decode(call.body, Asked)
    each = (
        asked.input if isinstance(asked.input, list) and all(isinstance(x, str) for x in asked.input) else [asked.input]
    )
    results = [_result("violence" in text_of(text).lower()) for text in each]
    return json_answer({"id": call.identifier("modr-"), "model": asked.model, "results": results})


def _result(flagged: bool) -> Opaque:
    found = {name: flagged and name == "violence" for name in CATEGORIES}
    return {
        "flagged": flagged,
        "categories": found,
        "category_scores": {name: 0.98 if yes else 0.0001 for name, yes in found.items()},
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
    }
