"""What reached the stand-in."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.counters import Counters


class CountersTests(SynchronousTestCase):
    def test_requests(self) -> None:
        """Requests are counted by path, answers by status, and the most at once is remembered."""
        counters = Counters()
        counters.begin("GET /a")
        counters.begin("GET /a")
        counters.open -= 2
        counters.begin("GET /b")
        counters.answer(200)
        told = json.loads(counters.to_json())
        self.assertEqual((told["requests"], told["open"], told["most_open"]), (3, 1, 2))
        self.assertEqual((told["by_path"], told["by_status"]), ({"GET /a": 2, "GET /b": 1}, {"200": 1}))

    def test_keys(self) -> None:
        """Of keys only whether they were the expected one is told."""
        counters = Counters()
        self.assertIsNone(counters.last_key_matched)
        counters.key(True)
        counters.key(False)
        told = json.loads(counters.to_json())
        self.assertEqual((told["keys_matched"], told["keys_wrong"], told["last_key_matched"]), (1, 1, False))

    def test_closes(self) -> None:
        """Close frames are counted by their code."""
        counters = Counters()
        for code in (1000, 1005, 1000):
            counters.close(code)
        self.assertEqual(json.loads(counters.to_json())["closes"], {"1000": 2, "1005": 1})
