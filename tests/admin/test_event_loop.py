"""How late the event loop is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.admin.event_loop import INTERVAL, REMEMBERED, EventLoopLag


class EventLoopLagTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.monotonic_ns = 5_000_000_000
        self.lag = EventLoopLag(self.clock, lambda: self.monotonic_ns)

    def turn(self, late: float) -> None:
        """The loop comes round to the measurement, this much after it was due."""
        self.monotonic_ns += round((INTERVAL + late) * 1_000_000_000)
        self.clock.advance(INTERVAL)

    def test_nothing_measured(self) -> None:
        """Before the first measurement nothing is late."""
        self.lag.start()
        self.assertEqual(self.lag.seconds(), 0.0)

    def test_worst_is_told(self) -> None:
        """The longest delay stands, though later ones are short, so that no scrape misses it."""
        self.lag.start()
        for late in (0.001, 0.25, 0.002):
            self.turn(late)
        self.assertEqual(self.lag.seconds(), 0.25)

    def test_old_delays_are_forgotten(self) -> None:
        """After a minute a delay is history."""
        self.lag.start()
        self.turn(0.25)
        for _ in range(REMEMBERED):
            self.turn(0.001)
        self.assertEqual(self.lag.seconds(), 0.001)

    def test_early_is_not_late(self) -> None:
        """A loop that is early for a whole minute is late by nothing, not by less than that."""
        self.lag.start()
        for _ in range(REMEMBERED):
            self.turn(-0.5)
        self.assertEqual(self.lag.seconds(), 0.0)

    def test_stop(self) -> None:
        """Stopped, it leaves nothing to be called, and may be stopped again."""
        self.lag.start()
        self.turn(0.0)
        self.lag.stop()
        self.lag.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @given(st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=10))
    def test_never_negative(self, delays: list[float]) -> None:
        """A loop that comes too early, or a clock that is coarse, is not late."""
        self.setUp()
        self.lag.start()
        for late in delays:
            self.turn(late)
        self.assertAlmostEqual(self.lag.seconds(), max(0.0, *delays), places=8)
