"""What the events of the Realtime API carry: a session, an item, a response, its usage; no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from openai_relay.standin.answer import Opaque
from openai_relay.standin.problems import invalid
from openai_relay.standin.prose import text_of, tokens

#: Bytes of PCM (24 kHz, 16 bits) that count as one token: a tenth of a second.
AUDIO_TOKEN: Final = 4_800
USUAL_MODEL: Final = "gpt-realtime"

#: Members of a session that a client may change.
CHANGEABLE: Final = (
    "audio",
    "include",
    "instructions",
    "max_output_tokens",
    "output_modalities",
    "parallel_tool_calls",
    "prompt",
    "reasoning",
    "tool_choice",
    "tools",
    "tracing",
    "truncation",
)
_ITEMS: Final = ("function_call", "function_call_output", "mcp_approval_response", "message")
_ROLES: Final = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Tokens:
    """So many of each kind."""

    text: int = 0
    audio: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.text + other.text, self.audio + other.audio)

    def within(self, other: Tokens) -> Tokens:
        """As many of each kind as the other has, at most."""
        return Tokens(min(self.text, other.text), min(self.audio, other.audio))

    @property
    def total(self) -> int:
        """All of them."""
        return self.text + self.audio


def new_session(identifier: str, model: str, created: int) -> Opaque:
    """A session as it begins."""
    pcm = {"type": "audio/pcm", "rate": 24_000}
    hearing = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 200}
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": identifier,
        "model": model,
        "output_modalities": ["text"],
        "instructions": "",
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "expires_at": created + 3_600,
        "audio": {
            "input": {"format": pcm, "transcription": None, "noise_reduction": None, "turn_detection": hearing},
            "output": {"format": pcm, "voice": "marin", "speed": 1.0},
        },
        "include": None,
    }


def changed_session(session: Opaque, wanted: Opaque) -> Opaque:
    """
    A session with some members changed.

    :raises Problem: a member that there is not, or a value that does not fit.
    """
    if wanted.get("type", "realtime") != "realtime":
        raise invalid("The stand-in has sessions of type 'realtime' only.", "session.type", "invalid_value")
    changed = dict(session)
    for name, value in wanted.items():
        if name in CHANGEABLE:
            changed[name] = value
        elif name not in ("type", "model"):
            raise invalid(f"Unknown parameter: 'session.{name[:64]}'.", f"session.{name[:64]}", "unknown_parameter")
    if not isinstance(changed["instructions"], str | None):
        raise invalid("'session.instructions' must be a string.", "session.instructions", "invalid_type")
    cap_of(changed["max_output_tokens"], "session.max_output_tokens")
    return changed


def cap_of(value: Any, name: str) -> int | None:
    """
    The client's own cap on the tokens of a response.

    :raises Problem: neither a number nor ``inf``.
    """
    if value is None or value == "inf":
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid(f"'{name}' must be a number from 1, or 'inf'.", name, "invalid_value")
    return value


def checked_item(item: Opaque) -> Opaque:
    """
    An item that a client adds; the sound in it has been heard, and is not repeated.

    :raises Problem: it is not one.
    """
    if item.get("type") not in _ITEMS:
        raise invalid(f"'item.type' must be one of {', '.join(_ITEMS)}.", "item.type", "invalid_value")
    if not isinstance(item.get("id", ""), str):
        raise invalid("'item.id' must be a string.", "item.id", "invalid_type")
    if item["type"] != "message":
        return item
    if item.get("role") not in _ROLES:
        raise invalid("'item.role' must be system, user or assistant.", "item.role", "invalid_value")
    parts = item.get("content")
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise invalid("'item.content' must be a list of parts.", "item.content", "invalid_type")
    silent = [{name: value for name, value in part.items() if name != "audio"} for part in parts]
    return item | {"content": silent}


def tokens_of(item: Opaque) -> Tokens:
    """What an item, as the client sent it, counts as."""
    parts = item.get("content")
    sounds = [part.get("audio") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    audio = sum(sound_length(sound) for sound in sounds if isinstance(sound, str))
    return Tokens(tokens(text_of(item)), audio_tokens(audio))


def sound_length(base64: str) -> int:
    """The bytes that some base64 stands for."""
    return len(base64) * 3 // 4 - base64[-2:].count("=")


def audio_tokens(length: int) -> int:
    """What so many bytes of sound count as."""
    return -(-length // AUDIO_TOKEN)


def user_audio(identifier: str) -> Opaque:
    """The item that a committed buffer becomes."""
    content = [{"type": "input_audio", "transcript": None}]
    return {"id": identifier, "object": "realtime.item", "type": "message", "status": "completed"} | {
        "role": "user",
        "content": content,
    }


def assistant_item(identifier: str, status: str, text: str | None) -> Opaque:
    """The item that a response makes."""
    content = [] if text is None else [{"type": "output_text", "text": text}]
    return {"id": identifier, "object": "realtime.item", "type": "message", "status": status} | {
        "role": "assistant",
        "content": content,
    }


def usage(heard: Tokens, cached: Tokens, said: int) -> Opaque:
    """The usage of a response, whose parts add up."""
    return {
        "total_tokens": heard.total + said,
        "input_tokens": heard.total,
        "output_tokens": said,
        "input_token_details": {
            "text_tokens": heard.text,
            "audio_tokens": heard.audio,
            "image_tokens": 0,
            "cached_tokens": cached.total,
            "cached_tokens_details": {
                "text_tokens": cached.text,
                "audio_tokens": cached.audio,
                "image_tokens": 0,
            },
        },
        "output_token_details": {"text_tokens": said, "audio_tokens": 0},
    }


RATE_LIMITS: Final = (
    {"name": "requests", "limit": 10_000, "remaining": 9_999, "reset_seconds": 0.006},
    {"name": "tokens", "limit": 2_000_000, "remaining": 1_999_000, "reset_seconds": 60.5},
)
