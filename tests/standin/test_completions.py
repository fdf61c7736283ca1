"""The older completions, seen with the SDK's own model."""

from __future__ import annotations

from openai.types import Completion
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.completions import completions
from tests.standin.asking import call, events, unary

ASKED = {"model": "gpt-3.5-turbo-instruct", "prompt": "Once upon"}


class CompletionsTests(SynchronousTestCase):
    def test_unary(self) -> None:
        """A completion passes the SDK's own model and quotes the prompt."""
        completion = Completion.model_validate(unary(completions(call(ASKED))), strict=True)
        self.assertIn("Once upon", completion.choices[0].text)
        assert completion.usage is not None
        self.assertEqual(completion.usage.prompt_tokens, 3)

    def test_cap_on_tokens(self) -> None:
        """A cap on tokens is kept and told."""
        told = unary(completions(call(ASKED | {"max_tokens": 2})))
        self.assertEqual(told["choices"][0]["text"], "This is")
        self.assertEqual(told["choices"][0]["finish_reason"], "length")

    def test_stream(self) -> None:
        """A stream is what the SDK reads, joins to the same text and ends with usage and ``[DONE]``."""
        request = ASKED | {"stream": True, "stream_options": {"include_usage": True}}
        found = events(completions(call(request)))
        self.assertEqual(found[-1], (None, "[DONE]"))
        chunks = [Completion.construct(**data) for _, data in found[:-1]]
        text = "".join(chunk.choices[0].text for chunk in chunks[:-1])
        self.assertEqual(text, unary(completions(call(ASKED)))["choices"][0]["text"])
        assert chunks[-1].usage is not None
        self.assertEqual(chunks[-1].usage.completion_tokens, len(chunks) - 2)
