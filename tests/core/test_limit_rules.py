"""What limits are made of."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.buckets import Rate
from openai_relay.core.globs import GlobTable
from openai_relay.core.limit_rules import KeyLimits, Quota
from openai_relay.core.settings import LimitSettings
from tests.core.clocks import SECOND


class QuotaTests(SynchronousTestCase):
    """``Quota``."""

    def test_of_settings(self) -> None:
        """Each setting becomes its limit, and nothing is limited that is not set."""
        self.assertEqual(Quota.of(), Quota(None, None, None))
        self.assertEqual(
            Quota.of(requests_per_minute=60, burst=2, tokens_per_minute=600, token_burst=1_000, concurrent=3),
            Quota(Rate("60", SECOND, 2), Rate("600", SECOND // 10, 1_000), 3),
        )

    def test_truth(self) -> None:
        """A quota is true when it limits anything."""
        self.assertFalse(Quota.of())
        for quota in (Quota.of(requests_per_minute=1), Quota.of(tokens_per_minute=1), Quota.of(concurrent=1)):
            self.assertTrue(quota)

    def test_mistakes_name_the_setting(self) -> None:
        """What lets nothing pass is named as it is called in the configuration."""
        for settings, said in (
            ({"tokens_per_minute": 0}, "tokens_per_minute must be a number above 0, not 0"),
            ({"tokens_per_minute": 1, "token_burst": 0}, "token_burst must be at least 1, not 0"),
            ({"concurrent": 0}, "concurrent must be at least 1, not 0"),
        ):
            with self.assertRaisesRegex(ValueError, re.escape(said)):
                Quota.of(**settings)


class KeyLimitsTests(SynchronousTestCase):
    """``KeyLimits``."""

    def test_of_settings(self) -> None:
        """The settings' limits are the key's own, without models, waiting or shadow."""
        limits = KeyLimits.of(LimitSettings(60, 2, 3))
        self.assertEqual(limits.own, Quota.of(requests_per_minute=60, burst=2, concurrent=3))
        self.assertEqual((limits.shadow, limits.max_wait_ns, limits.max_queue), (False, 0, 0))
        self.assertIsNone(limits.for_model("gpt-5"))

    def test_for_model(self) -> None:
        """A model falls under its most specific glob; a request without one falls under none."""
        small, large = Quota.of(concurrent=1), Quota.of(concurrent=2)
        limits = KeyLimits(models=GlobTable([("gpt-*", small), ("gpt-5*", large)]))
        self.assertEqual(limits.for_model("gpt-5-mini"), ("gpt-5*", large))
        self.assertEqual(limits.for_model("gpt-4o"), ("gpt-*", small))
        self.assertIsNone(limits.for_model("o3"))
        self.assertIsNone(limits.for_model(None))
