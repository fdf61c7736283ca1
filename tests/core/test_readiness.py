"""Which checks stand in the way of being ready."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.readiness import Check, unmet

checks = st.lists(st.builds(Check, name=st.text(max_size=5), ok=st.booleans(), detail=st.text(max_size=5)))


class UnmetTests(SynchronousTestCase):
    @given(checks)
    def test_failing_checks_in_order(self, given_checks: list[Check]) -> None:
        """What is unmet is every check that fails, and no other, in the order given."""
        reasons = unmet(given_checks)
        self.assertTrue(all(not check.ok for check in reasons))
        self.assertEqual(len(reasons) + sum(check.ok for check in given_checks), len(given_checks))
        remaining = iter(given_checks)
        self.assertTrue(all(any(check is reason for check in remaining) for reason in reasons))

    def test_detail_may_be_left_out(self) -> None:
        """A check that holds needs no words."""
        self.assertEqual(Check("started", True).detail, "")
