"""Identifiers for exchanges."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.request_ids import request_ids


class RequestIdsTests(SynchronousTestCase):
    def test_each_is_another(self) -> None:
        """No two are the same, of one maker or of two, and all look alike."""
        makers = request_ids("rly_"), request_ids("rly_")
        found = [new() for _ in range(1_000) for new in makers]
        self.assertEqual(len(set(found)), len(found))
        for each in found:
            self.assertRegex(each, r"\Arly_[0-9a-f]{26}\Z")
