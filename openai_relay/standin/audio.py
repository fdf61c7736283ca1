"""Audio: speech as bytes or events, transcriptions and translations of uploads."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from openai_relay.standin.answer import Answer, Call, Opaque, decode, event_answer, form_of, json_answer
from openai_relay.standin.forms import Form
from openai_relay.standin.generated import blocks, generated
from openai_relay.standin.problems import invalid
from openai_relay.standin.prose import pieces, tokens

Format = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]

_TYPES: Final[dict[str, bytes]] = {
    "mp3": b"audio/mpeg",
    "opus": b"audio/opus",
    "aac": b"audio/aac",
    "flac": b"audio/flac",
    "wav": b"audio/wav",
    "pcm": b"audio/pcm",
}
#: Bytes of speech when nobody asks for a number.
USUAL_SPEECH: Final = 48_000
_SSE_BLOCK: Final = 4_096


class AskedSpeech(msgspec.Struct):
    """The members of a request for speech that the answer depends on."""

    model: str
    input: Annotated[str, Meta(max_length=4096)]
    voice: Any
    response_format: Format = "mp3"
    stream_format: Literal["audio", "sse"] = "audio"


def speech(call: Call) -> Answer:
    """``POST /v1/audio/speech``: not a sound, but as many bytes as are asked for, or their events."""
    asked = decode(call.body, AskedSpeech)
    if asked.stream_format == "sse":
        length = None if call.controls.endless else call.controls.bytes or USUAL_SPEECH
        return event_answer(_speech_events(asked, length, call.controls.event_bytes or _SSE_BLOCK))
    return generated(_TYPES[asked.response_format], call.controls, USUAL_SPEECH)


def _speech_events(asked: AskedSpeech, length: int | None, size: int) -> Iterator[bytes]:
    count = 0
    for block in blocks(length, max(1, min(size, 65_536))):
        count += 1
        yield _event("speech.audio.delta", audio=base64.b64encode(block).decode("ascii"))
    usage = _tokens_used(tokens(asked.input), count)
    yield _event("speech.audio.done", usage={name: usage[name] for name in usage if name.endswith("_tokens")})


def transcriptions(call: Call) -> Answer:
    """``POST /v1/audio/transcriptions``: the text says what was uploaded."""
    return _heard(call, "transcript")


def translations(call: Call) -> Answer:
    """``POST /v1/audio/translations``."""
    return _heard(call, "translation")


def _heard(call: Call, kind: str) -> Answer:
    form = form_of(call)
    part = form.file("file")
    model = form.value("model")
    text = f"A {kind} of {part.filename}: {part.content.length} bytes, SHA-256 {part.content.sha256}."
    if form.values.get("stream") == "true" and kind == "transcript":
        return event_answer(_transcript_events(call, text))
    return _in_format(form, text, part.content.length / 32_000, model)


def _in_format(form: Form, text: str, seconds: float, model: str) -> Answer:
    asked = form.values.get("response_format", "json")
    if asked == "json":
        duration = {"type": "duration", "seconds": seconds}
        usage = duration if model == "whisper-1" else {"type": "tokens"} | _tokens_used(tokens(text), tokens(text))
        return json_answer({"text": text, "usage": usage})
    if asked == "verbose_json":
        usage = {"type": "duration", "seconds": seconds}
        told = {"task": "transcribe", "language": "english", "duration": seconds, "text": text}
        return json_answer(told | {"segments": [], "words": [], "usage": usage})
    if asked in ("text", "srt", "vtt"):
        cue = f"00:00:00,000 --> 00:00:01,000\n{text}\n"
        body = {"text": f"{text}\n", "srt": f"1\n{cue}\n", "vtt": f"WEBVTT\n\n{cue.replace(',', '.', 2)}\n"}[asked]
        return Answer(b"text/plain; charset=utf-8", body.encode())
    raise invalid("'response_format' must be json, verbose_json, text, srt or vtt.", "response_format", "invalid_value")


def _transcript_events(call: Call, text: str) -> Iterator[bytes]:
    said = 0
    whole: list[str] = []
    for said, piece in enumerate(pieces(text, call.controls, None, streamed=True), start=1):  # noqa: B007
        yield _event("transcript.text.delta", delta=piece)
        if not call.controls.endless:
            whole.append(piece)
    usage = {"type": "tokens"} | _tokens_used(tokens(text), said)
    yield _event("transcript.text.done", text="".join(whole), usage=usage)


def _tokens_used(given: int, said: int) -> Opaque:
    return {
        "input_tokens": given,
        "input_token_details": {"audio_tokens": given, "text_tokens": 0},
        "output_tokens": said,
        "total_tokens": given + said,
    }


def _event(kind: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind} | members))
