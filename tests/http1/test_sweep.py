"""One timer asks all connections, and counts how long each has waited."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.http1.sweep import Sweep, Wait


class Member:
    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.asked: list[float] = []
        self._then = then

    def sweep(self, now: float) -> None:
        self.asked.append(now)
        self._then()


class SweepTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sweep = Sweep(self.clock, 0.5)

    def test_asks_each_once_per_interval(self) -> None:
        """Each member is asked once in each interval, with a time that grows by it."""
        one, two = Member(), Member()
        self.sweep.add(one)
        self.sweep.add(two)
        self.clock.pump([0.5, 0.5, 0.4])
        self.assertEqual(one.asked, [0.5, 1.0])
        self.assertEqual(two.asked, one.asked)

    def test_one_timer(self) -> None:
        """A thousand members need one timer."""
        for _ in range(1000):
            self.sweep.add(Member())
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual(len(self.sweep), 1000)

    def test_no_members_no_timer(self) -> None:
        """With nobody to ask nothing is scheduled; the next member starts it again."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        member = Member()
        self.sweep.add(member)
        self.sweep.discard(member)
        self.clock.advance(0.5)
        self.assertEqual(member.asked, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.sweep.add(member)
        self.clock.advance(0.5)
        self.assertEqual(len(member.asked), 1)

    def test_leaving_while_asked(self) -> None:
        """A member that another one takes out in the same round is not asked any more."""
        late = Member()
        self.sweep.add(Member(lambda: self.sweep.discard(late)))
        self.sweep.add(late)
        self.clock.advance(0.5)
        self.assertEqual(late.asked, [])

    def test_joining_while_asked(self) -> None:
        """A member that joins in a round is asked from the next one on, by the same timer."""
        late = Member()
        self.sweep.add(Member(lambda: self.sweep.add(late)))
        self.clock.advance(0.5)
        self.assertEqual(late.asked, [])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(0.5)
        self.assertEqual(late.asked, [1.0])

    def test_discarding_twice(self) -> None:
        """Taking out who is not there is nothing."""
        self.sweep.discard(Member())
        self.assertEqual(len(self.sweep), 0)

    def test_time_is_counted_in_rounds(self) -> None:
        """A clock that jumps by an hour counts as one interval: a stopped machine ends nobody's wait."""
        member = Member()
        self.sweep.add(member)
        self.clock.advance(3600)
        self.assertEqual(member.asked, [0.5])

    def test_a_bug_is_kept_to_its_connection(self) -> None:
        """A member that raises is logged; all others are still asked, in this round and the next."""

        def fail() -> None:
            raise ZeroDivisionError

        other = Member()
        self.sweep.add(Member(fail))
        self.sweep.add(other)
        self.clock.pump([0.5, 0.5])
        self.assertEqual(other.asked, [0.5, 1.0])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)


class WaitTests(SynchronousTestCase):
    def test_counts_from_the_last_change(self) -> None:
        """A wait lasts from when its mark changed to now."""
        wait = Wait()
        self.assertEqual(wait.lasts("a", 1.0), 0.0)
        self.assertEqual(wait.lasts("a", 3.5), 2.5)
        self.assertEqual(wait.lasts("b", 4.0), 0.0)
        self.assertEqual(wait.lasts("a", 5.0), 0.0)
        self.assertEqual(wait.lasts("a", 6.0), 1.0)

    def test_equal_marks_are_one(self) -> None:
        """Marks are compared by what they say, not by which object says it."""
        wait = Wait()
        wait.lasts(("body", 10**9), 0.0)
        self.assertEqual(wait.lasts(("body", 10**9 + 0), 2.0), 2.0)
