"""Writes of one turn: the first at once, the rest at its end."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.turn import Turn


class Writer:
    """Counts how often it is told."""

    def __init__(self) -> None:
        self.told = 0

    def turn_over(self) -> None:
        self.told += 1


class TurnTests(SynchronousTestCase):
    """Who waits for the end of a turn."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.turn = Turn(self.clock)

    def test_first_of_a_turn(self) -> None:
        """The first block of a turn goes out at once, and so does the first of the next."""
        writer = Writer()
        self.assertFalse(self.turn.gathers(writer))
        self.clock.advance(0)
        self.assertFalse(self.turn.gathers(writer))
        self.assertEqual(writer.told, 0)

    def test_others_are_told_once_at_the_end(self) -> None:
        """Whoever writes after the first waits, and is told once when the turn ends, however much it wrote."""
        first, second, third = Writer(), Writer(), Writer()
        self.turn.gathers(first)
        self.assertEqual([self.turn.gathers(writer) for writer in (second, third, second, first)], [True] * 4)
        self.assertEqual((first.told, second.told, third.told), (0, 0, 0))
        self.clock.advance(0)
        self.assertEqual((first.told, second.told, third.told), (1, 1, 1))
        self.clock.advance(1)
        self.assertEqual((first.told, second.told, third.told), (1, 1, 1))

    def test_nothing_runs_without_writers(self) -> None:
        """A reactor in which nobody writes has nothing to call."""
        self.turn.gathers(Writer())
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
