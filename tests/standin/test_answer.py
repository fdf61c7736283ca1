"""Requests decoded, answers made."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.answer import DEEPEST, EVENT_STREAM, decode, event_answer, form_of, json_answer, no_such
from openai_relay.standin.problems import Problem
from tests.standin.asking import call, unary


class Inner(msgspec.Struct):
    """Something inside a request."""

    size: int


class Shape(msgspec.Struct):
    """A request."""

    model: str
    inner: list[Inner] = []


class DecodeTests(SynchronousTestCase):
    def refused(self, body: bytes) -> Problem:
        problem: Problem = self.assertRaises(Problem, decode, body, Shape)
        self.assertEqual((problem.status, problem.type), (400, "invalid_request_error"))
        return problem

    def test_missing_member(self) -> None:
        """A member that must be there is named when it is not."""
        problem = self.refused(b"{}")
        self.assertEqual(problem.param, "model")
        self.assertIn("model", str(problem))

    def test_wrong_type(self) -> None:
        """A value of the wrong type is named with its place and with what it should be."""
        problem = self.refused(b'{"model": "m", "inner": [{"size": "x"}]}')
        self.assertEqual(problem.param, "inner[0].size")
        self.assertIn("Expected `int`", str(problem))

    def test_not_json(self) -> None:
        """What is not JSON is refused as such."""
        for body in (b"", b"{", b"\xff", b'{"model": "\xff"}', b'{"other": ' + b"[" * 100_000):
            self.assertIn("not JSON", str(self.refused(body)))

    @given(st.integers(1, 300))
    def test_nesting(self, depth: int) -> None:
        """A body that is nested deeper than anybody needs is refused before anybody walks through it."""
        body = b'{"model": "m", "other": ' + b"[" * depth + b"]" * depth + b"}"
        if depth < DEEPEST:
            self.assertEqual(decode(body, Shape).model, "m")
        else:
            self.assertIn("nested deeper than 100 levels", str(self.refused(body)))

    @given(st.binary(max_size=40))
    def test_any_bytes(self, body: bytes) -> None:
        """Any body is either decoded or answered with 400."""
        try:
            decode(body, Shape)
        except Problem as problem:
            self.assertEqual(problem.status, 400)


class AnswerTests(SynchronousTestCase):
    def test_json(self) -> None:
        """A unary answer is JSON."""
        answer = json_answer({"a": 1})
        self.assertEqual((answer.content_type, unary(answer)), (b"application/json", {"a": 1}))

    def test_events(self) -> None:
        """A stream is an event stream that no cache keeps."""
        answer = event_answer(iter([b"data: 1\n\n"]))
        self.assertEqual(answer.content_type, EVENT_STREAM)
        self.assertEqual(answer.fields, ((b"Cache-Control", b"no-cache"),))

    def test_identifiers_differ(self) -> None:
        """An id has its kind's prefix and the number of the request."""
        self.assertEqual(call({}).identifier("file-"), "file-standin000000000007")

    def test_no_form(self) -> None:
        """An endpoint for uploads says what it takes when something else comes."""
        self.assertIn("multipart/form-data", str(self.assertRaises(Problem, form_of, call({}))))

    def test_no_such(self) -> None:
        """What is not there is 404, with its id cut to a bearable length."""
        problem = no_such("file", "x" * 1_000)
        self.assertEqual(problem.status, 404)
        self.assertLess(len(str(problem)), 200)
