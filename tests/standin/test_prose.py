"""The text of answers."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.controls import Controls
from openai_relay.standin.problems import Problem
from openai_relay.standin.prose import INTRODUCTION, LONGEST_TEXT, pieces, quoted, text_of, tokens


class PiecesTests(SynchronousTestCase):
    def said(self, question: str = "", most: int | None = None, streamed: bool = True, **controls: Any) -> list[str]:
        return list(pieces(question, Controls(**controls), most, streamed))

    @given(st.text())
    def test_reply_quotes_the_question(self, question: str) -> None:
        """Without a wish, the answer quotes the question, so that its way through can be seen."""
        text = "".join(self.said(question))
        self.assertTrue(text.startswith(INTRODUCTION))
        self.assertIn(question.strip()[:2_000], text)

    def test_reply_comes_word_by_word(self) -> None:
        """Each piece is a word with the blank before it."""
        self.assertEqual(self.said()[:3], ["This", " is", " the"])

    @given(st.integers(0, 200), st.integers(1, 50))
    def test_number_and_length(self, count: int, size: int) -> None:
        """As many pieces as asked for, each exactly as long as asked for."""
        said = self.said(events=count, event_bytes=size)
        self.assertEqual([len(piece) for piece in said], [size] * count)

    @given(st.integers(1, 100), st.integers(0, 100))
    def test_clients_own_cap_holds(self, most: int, count: int) -> None:
        """No answer has more pieces than the client's cap on tokens, whatever else it asks for."""
        self.assertEqual(len(self.said(most=most, events=count)), min(most, count))
        self.assertLessEqual(len(self.said("a b c d e f", most=most)), most)

    def test_endless(self) -> None:
        """An endless stream goes on."""
        endless = pieces("", Controls(endless=True), None, True)
        self.assertEqual(len(list(islice(endless, 10_000))), 10_000)

    def test_unary_answers_end(self) -> None:
        """A unary answer can neither be endless nor larger than what is built in memory."""
        for controls in (Controls(endless=True), Controls(events=LONGEST_TEXT, event_bytes=2)):
            self.assertEqual(self.assertRaises(Problem, pieces, "", controls, None, False).status, 400)


class TextTests(SynchronousTestCase):
    def test_text_of_parts(self) -> None:
        """Text is found in a string, in parts, and in the output of a function; images count as nothing."""
        self.assertEqual(text_of("a"), "a")
        parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "b"}]
        self.assertEqual(text_of({"role": "user", "content": parts}), "a\nb")
        self.assertEqual(text_of({"type": "function_call_output", "output": "c"}), "c")
        self.assertEqual(text_of(None), "")

    @given(st.text())
    def test_tokens(self, text: str) -> None:
        """One token for each four characters begun."""
        self.assertLess(abs(tokens(text) - len(text) / 4), 1)

    @given(st.text())
    def test_quoted(self, text: str) -> None:
        """A quoted text is that text in JSON, on one line."""
        self.assertEqual(json.loads(quoted(text)), text)
        self.assertNotIn(b"\n", quoted(text))
