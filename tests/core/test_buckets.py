"""What a bucket promises, under any spacing and through a restart."""

from __future__ import annotations

import re
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.buckets import Rate, Snapshot, TokenBucket, go_duration
from tests.core.clocks import SECOND, START, FakeClock

INTERVAL = 100
BURST = 3


class TokenBucketTests(SynchronousTestCase):
    """``TokenBucket``."""

    def setUp(self) -> None:
        self.clock = FakeClock()
        self.bucket = TokenBucket(INTERVAL, BURST, self.clock)

    @given(st.lists(st.integers(0, 10 * INTERVAL)))
    def test_bounds_and_promises(self, pauses: list[int]) -> None:
        """No spacing beats the limit, and no promised wait is broken."""
        self.setUp()
        for taken, pause in enumerate(pauses, start=1):
            self.clock.now += pause
            if wait := self.bucket.take():
                self.clock.now += wait
                self.assertEqual(self.bucket.take(), 0)
            self.assertLessEqual(taken, BURST + (self.clock.now - START) // INTERVAL)

    @given(st.lists(st.integers(0, 10 * INTERVAL)))
    def test_the_wait_is_no_longer_than_it_must_be(self, pauses: list[int]) -> None:
        """A nanosecond before the promised time the bucket still refuses."""
        self.setUp()
        for pause in pauses:
            self.clock.now += pause
            if wait := self.bucket.take():
                self.clock.now += wait - 1
                self.assertEqual(self.bucket.take(), 1)

    @given(st.lists(st.tuples(st.integers(0, 3 * INTERVAL), st.integers(1, BURST))))
    def test_the_level_is_what_can_be_taken(self, steps: list[tuple[int, int]]) -> None:
        """The level tells exactly how many tokens can still be taken, and when all can."""
        self.setUp()
        for pause, tokens in steps:
            self.clock.now += pause
            self.bucket.take(tokens)
            remaining, full_in = self.bucket.level()
            for _ in range(remaining):
                self.assertEqual(self.bucket.take(), 0)
            self.assertGreater(self.bucket.take(), 0)
            self.clock.now += full_in + remaining * INTERVAL
            self.assertEqual(self.bucket.level(), (BURST, 0))
            self.assertTrue(self.bucket.is_full())

    def test_a_fresh_bucket_is_full(self) -> None:
        """A bucket begins with its whole burst."""
        self.assertTrue(self.bucket.is_full())
        self.assertEqual(self.bucket.level(), (BURST, 0))

    def test_what_never_fits_is_a_mistake(self) -> None:
        """More tokens than the burst holds are refused aloud, since no wait would help."""
        with self.assertRaisesRegex(ValueError, "4 tokens never fit a burst of 3"):
            self.bucket.take(BURST + 1)

    def test_more_than_the_burst_waits_for_a_full_bucket(self) -> None:
        """What is larger than the burst passes when the bucket is full, never before, and is owed afterwards."""
        self.bucket.charge(1, self.clock.now)
        self.assertEqual(self.bucket.wait(10 * BURST, self.clock.now), INTERVAL)
        self.clock.now += INTERVAL
        self.assertEqual(self.bucket.wait(10 * BURST, self.clock.now), 0)
        self.bucket.charge(10 * BURST, self.clock.now)
        self.assertEqual(self.bucket.level(), (0, 10 * BURST * INTERVAL))
        self.assertEqual(self.bucket.wait(1, self.clock.now), (9 * BURST + 1) * INTERVAL)

    @given(st.integers(0, 2 * BURST), st.integers(0, 20 * INTERVAL), st.integers(0, 2 * BURST))
    def test_giving_back_never_overfills(self, taken: int, pause: int, given_back: int) -> None:
        """Whatever is given back after whatever time, no more than the burst is there."""
        self.setUp()
        self.bucket.charge(taken, self.clock.now)
        self.clock.now += pause
        self.bucket.charge(-given_back, self.clock.now)
        remaining, _ = self.bucket.level()
        self.assertLessEqual(remaining, BURST)
        self.assertGreaterEqual(remaining, min(max(BURST - taken + given_back, 0), BURST))

    @given(st.integers(1, 1_000), st.integers(1, 10), st.integers(0, 30))
    def test_another_rate_keeps_what_is_missing(self, interval: int, burst: int, taken: int) -> None:
        """At another rate as many tokens are missing as before, and the new burst holds."""
        self.setUp()
        self.bucket.charge(taken, self.clock.now)
        self.bucket.follow(Rate("any", interval, burst), self.clock.now)
        self.assertEqual(self.bucket.level(), (max(burst - taken, 0), taken * interval))


class RateTests(SynchronousTestCase):
    """``Rate``."""

    def test_a_rate_of_two_settings(self) -> None:
        """A rate has its interval in ns, and a minute's worth at once unless that is set."""
        self.assertEqual(Rate.of(60, None, "rpm", "burst"), Rate("60", SECOND, 60))
        self.assertEqual(Rate.of(0.5, 4, "rpm", "burst"), Rate("0.5", 120 * SECOND, 4))

    def test_what_lets_nothing_pass(self) -> None:
        """A rate or burst under which nothing passes is a mistake that names the setting as it is called."""
        for rate, burst, said in ((0, None, "tpm must be a number above 0, not 0"), (1, 0, "tb must be at least 1")):
            with self.assertRaisesRegex(ValueError, said):
                Rate.of(rate, burst, "tpm", "tb")


class SnapshotTests(SynchronousTestCase):
    """``Snapshot``."""

    def test_time_never_runs_backwards(self) -> None:
        """The time since a snapshot is what the wall clock says, and none when that was set back."""
        snapshot = Snapshot(START, ())
        self.assertEqual(snapshot.elapsed(START + 7), 7)
        self.assertEqual(snapshot.elapsed(START - 7), 0)


class GoDurationTests(SynchronousTestCase):
    """``go_duration``."""

    def test_as_go_writes_them(self) -> None:
        """Durations look as Go prints them, units from the largest that is needed."""
        for ns, text in (
            (0, "0s"),
            (1, "1ms"),
            (120_000_000, "120ms"),
            (999_999_999, "1s"),
            (1_200_000_000, "1.2s"),
            (1_234_000_000, "1.234s"),
            (60 * SECOND, "1m0s"),
            (360 * SECOND, "6m0s"),
            (90_500_000_000, "1m30.5s"),
            (3_600 * SECOND, "1h0m0s"),
            (90_061 * SECOND, "25h1m1s"),
        ):
            self.assertEqual(go_duration(ns), text)

    @given(st.integers(0, 10**18))
    def test_waiting_it_is_enough(self, ns: int) -> None:
        """Read back, a duration is what was meant, or less than a millisecond more."""
        units = {"h": 3_600 * SECOND, "m": 60 * SECOND, "s": SECOND, "ms": 1_000_000}
        parts = re.findall(r"([\d.]+)(ms|h|m|s)", go_duration(ns))
        self.assertEqual("".join(number + unit for number, unit in parts), go_duration(ns))
        read = sum(Fraction(number) * units[unit] for number, unit in parts)
        self.assertTrue(ns <= read < ns + 1_000_000)
