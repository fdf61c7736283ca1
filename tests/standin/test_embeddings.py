"""Embeddings, seen with the SDK's own model."""

from __future__ import annotations

import base64
from array import array
from math import isclose, sqrt
from typing import Any

from openai.types import CreateEmbeddingResponse
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.embeddings import embeddings
from openai_relay.standin.problems import Problem
from tests.standin.asking import call, unary


class EmbeddingsTests(SynchronousTestCase):
    def asked(self, value: Any, **members: Any) -> CreateEmbeddingResponse:
        request = {"model": "text-embedding-3-small", "input": value} | members
        return CreateEmbeddingResponse.model_validate(unary(embeddings(call(request))), strict=True)

    def test_satisfies_the_sdk(self) -> None:
        """A vector of the model's length and of length one, with usage."""
        response = self.asked("some text")
        [found] = response.data
        self.assertEqual(len(found.embedding), 1536)
        self.assertTrue(isclose(sqrt(sum(number**2 for number in found.embedding)), 1, rel_tol=1e-5))
        self.assertEqual(response.usage.prompt_tokens, 3)

    def test_depends_on_the_text_only(self) -> None:
        """The same text has the same vector each time, another text another."""
        response = self.asked(["a", "b", "a"], dimensions=8)
        first, second, third = (each.embedding for each in response.data)
        self.assertEqual(first, third)
        self.assertNotEqual(first, second)
        self.assertEqual([each.index for each in response.data], [0, 1, 2])

    def test_base64_is_the_same_vector(self) -> None:
        """In base64, which the SDKs ask for, stand the same numbers as little-endian floats."""
        request = {"model": "m", "input": "a", "dimensions": 16}
        [packed] = unary(embeddings(call(request | {"encoding_format": "base64"})))["data"]
        found = array("f", base64.b64decode(packed["embedding"]))
        self.assertEqual(list(found), self.asked("a", dimensions=16).data[0].embedding)

    def test_tokens_as_input(self) -> None:
        """A list of tokens is one input, a list of lists several; each token counts."""
        self.assertEqual(len(self.asked([1, 2, 3]).data), 1)
        response = self.asked([[1, 2], [3]])
        self.assertEqual((len(response.data), response.usage.prompt_tokens), (2, 3))

    def test_wrong_input(self) -> None:
        """What is no text and no tokens is refused by name."""
        wrong: list[Any] = [[], 3, ["a", 1], [{}], ["a"] * 2049]
        for value in wrong:
            problem = self.assertRaises(Problem, embeddings, call({"model": "m", "input": value}))
            self.assertEqual((problem.status, problem.param), (400, "input"))
