"""Audio, seen with the SDK's own models."""

from __future__ import annotations

import base64
from typing import Any

from openai.types.audio import Transcription, TranscriptionStreamEvent, TranscriptionVerbose, Translation
from pydantic import TypeAdapter
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.audio import USUAL_SPEECH, speech, transcriptions, translations
from openai_relay.standin.problems import Problem
from tests.standin.asking import call, events, form, unary

EVENT: TypeAdapter[TranscriptionStreamEvent] = TypeAdapter(TranscriptionStreamEvent)
SAY = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Hello"}


class SpeechTests(SynchronousTestCase):
    def test_bytes(self) -> None:
        """Speech is bytes of the type and number that were asked for."""
        answer = speech(call(SAY))
        self.assertEqual((answer.content_type, answer.length), (b"audio/mpeg", USUAL_SPEECH))
        answer = speech(call(SAY | {"response_format": "wav"}, bytes=100))
        assert answer.blocks is not None
        self.assertEqual((answer.content_type, len(b"".join(answer.blocks))), (b"audio/wav", 100))

    def test_events(self) -> None:
        """As events, the same bytes come in base64, and usage comes last."""
        found = events(speech(call(SAY | {"stream_format": "sse"}, bytes=10_000)))
        self.assertEqual([name for name, _ in found], ["speech.audio.delta"] * 3 + ["speech.audio.done"])
        audio = b"".join(base64.b64decode(data["audio"]) for _, data in found[:-1])
        self.assertEqual(audio, bytes(place % 256 for place in range(10_000)))
        self.assertEqual(set(found[-1][1]["usage"]), {"input_tokens", "output_tokens", "total_tokens"})

    def test_wrong_requests(self) -> None:
        """A format that does not exist is refused by name."""
        problem = self.assertRaises(Problem, speech, call(SAY | {"response_format": "ogg"}))
        self.assertEqual((problem.status, problem.param), (400, "response_format"))


class HearingTests(SynchronousTestCase):
    def heard(self, listen: Any = transcriptions, model: str = "gpt-4o-transcribe", **values: str) -> Any:
        plain = [(name, None, value.encode()) for name, value in values.items()]
        return listen(call(form=form(("model", None, model.encode()), *plain, ("file", "a.wav", b"123"))))

    def test_satisfies_the_sdk(self) -> None:
        """A transcription tells what was uploaded, with usage in tokens, or in seconds for the older model."""
        told = Transcription.model_validate(unary(self.heard()), strict=True)
        self.assertIn("a.wav: 3 bytes", told.text)
        assert told.usage is not None
        self.assertEqual(told.usage.type, "tokens")
        self.assertEqual(unary(self.heard(model="whisper-1"))["usage"]["type"], "duration")

    def test_formats(self) -> None:
        """Every format of the API is answered in its own way, any other refused."""
        verbose = unary(self.heard(response_format="verbose_json"))
        self.assertEqual(TranscriptionVerbose.model_validate(verbose, strict=True).language, "english")
        for format_, start in (
            ("text", b"A transcript"),
            ("srt", b"1\n00:00:00,000 -->"),
            ("vtt", b"WEBVTT\n\n00:00:00.000"),
        ):
            answer = self.heard(response_format=format_)
            self.assertTrue(answer.body.startswith(start), answer.body)
            self.assertTrue(answer.content_type.startswith(b"text/plain"))
        problem = self.assertRaises(Problem, self.heard, response_format="doc")
        self.assertEqual((problem.status, problem.param), (400, "response_format"))

    def test_events(self) -> None:
        """A streamed transcription comes in deltas and ends with the whole text and usage."""
        told: list[Any] = [EVENT.validate_python(data) for _, data in events(self.heard(stream="true"))]
        self.assertEqual("".join(event.delta for event in told[:-1]), told[-1].text)
        self.assertEqual(told[-1].usage.output_tokens, len(told) - 1)

    def test_translation(self) -> None:
        """A translation passes the SDK's own model, and is never a stream."""
        told = Translation.model_validate(unary(self.heard(translations, stream="true")))
        self.assertTrue(told.text.startswith("A translation of a.wav"))

    def test_no_file(self) -> None:
        """Without a file nothing is heard."""
        problem = self.assertRaises(Problem, transcriptions, call(form=form(("model", None, b"m"))))
        self.assertEqual((problem.status, problem.param), (400, "file"))
