"""Errors in the API's shape."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.problems import Problem, invalid, on_demand


class ProblemTests(SynchronousTestCase):
    def test_body_is_openais_error_object(self) -> None:
        """An error body has the four members that the API's schema demands, null where there is nothing to say."""
        told = json.loads(Problem(404, "No such thing.", code="not_found").body())
        self.assertEqual(
            told,
            {
                "error": {
                    "message": "No such thing.",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "not_found",
                }
            },
        )

    def test_invalid_is_400(self) -> None:
        """A wrong request names the parameter that is wrong."""
        problem = invalid("'n' must be a number.", "n")
        self.assertEqual((problem.status, problem.param, str(problem)), (400, "n", "'n' must be a number."))


class OnDemandTests(SynchronousTestCase):
    def test_rate_limit_says_when_to_come_back(self) -> None:
        """A 429 carries the wait in milliseconds, and in seconds rounded up."""
        problem = on_demand(429, retry_after_ms=1_500)
        self.assertEqual(problem.code, "rate_limit_exceeded")
        self.assertEqual(problem.fields, [(b"retry-after-ms", b"1500"), (b"retry-after", b"2")])

    def test_spent_quota_does_not(self) -> None:
        """A spent quota has its own type and no time at which it would pass."""
        problem = on_demand(429, "insufficient_quota")
        self.assertEqual((problem.type, problem.fields), ("insufficient_quota", []))
        self.assertIn("quota", problem.message)

    def test_slow_down_has_its_own_type(self) -> None:
        """``slow_down`` is told as a ``rate_limit_error``, as the API does."""
        self.assertEqual(on_demand(429, "slow_down").type, "rate_limit_error")

    def test_retry_can_be_forbidden(self) -> None:
        """``x-should-retry`` says what it was asked to say, and is absent otherwise."""
        self.assertEqual(on_demand(500, should_retry=False).fields, [(b"x-should-retry", b"false")])
        self.assertEqual(on_demand(500, should_retry=True).fields, [(b"x-should-retry", b"true")])
        self.assertEqual(on_demand(500).fields, [])

    @given(st.integers(400, 599))
    def test_every_status_has_an_error(self, status: int) -> None:
        """Any status from 400 to 599 gives a complete error object with a message."""
        told = json.loads(on_demand(status).body())["error"]
        self.assertEqual(set(told), {"message", "type", "param", "code"})
        self.assertTrue(told["message"])
        self.assertTrue(told["type"])
