"""The list of models, and each by its id; any plausible id is accepted, as if it were one's own fine-tuning."""

from __future__ import annotations

import re
from typing import Final

from openai_relay.standin.answer import Answer, Call, Opaque, json_answer, no_such

MODELS: Final = (
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-5",
    "gpt-5-mini",
    "gpt-image-1",
    "gpt-4o-mini-tts",
    "gpt-4o-transcribe",
    "omni-moderation-latest",
    "text-embedding-3-large",
    "text-embedding-3-small",
    "whisper-1",
)
_CREATED: Final = 1_700_000_000


def models(call: Call) -> Answer:
    """``GET /v1/models``."""
    return json_answer({"object": "list", "data": [_model(name) for name in MODELS]})


def model(call: Call) -> Answer:
    """``GET /v1/models/{model}``."""
    name = call.parameter
    if name not in MODELS and not re.fullmatch(r"(ft:|gpt-|text-|o\d)[\w:.@-]{0,120}", name):
        problem = no_such("model", name, "model")
        problem.code = "model_not_found"
        raise problem
    return json_answer(_model(name))


def _model(name: str) -> Opaque:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "stand-in"}
