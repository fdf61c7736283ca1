"""Complaints about what is out of date."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.standing import Standing
from openai_relay.overdue import AGAIN, INTERVAL, SOON, Overdue
from openai_relay.tls.accepting import Loaded
from tests.doubles import observe

NOW = 1_800_000_000.0


class OverdueTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.events = observe(self)
        self.certificate, self.lists, self.refuses = NOW + 2 * SOON, NOW + 100, True
        self.overdue = Overdue(self.clock, lambda: NOW + self.clock.seconds(), self.in_force)
        self.overdue.startService()
        self.addCleanup(self.overdue.stopService)

    def in_force(self) -> tuple[Loaded, bool]:
        context: Any = SSL.Context(SSL.TLS_METHOD)
        return Loaded(context, self.certificate, self.lists, None, Standing(), ()), self.refuses

    def told(self, seconds: float) -> list[str]:
        """What was said, all of it as errors, while so much time went by."""
        for _ in range(round(seconds / INTERVAL)):
            self.clock.advance(INTERVAL)
        told = [event["problem"] for event in self.events]
        self.assertEqual({event["log_level"].name for event in self.events} - {"error"}, set())
        self.events.clear()
        return told

    def test_in_date(self) -> None:
        """As long as everything is in date nothing is said."""
        self.assertEqual(self.told(90), [])

    def test_lists(self) -> None:
        """A list that is out of date is an error at once, and again every hour, until it is renewed."""
        (told,) = self.told(200)
        self.assertEqual(
            told,
            "the list of revoked certificates is out of date since 2027-01-15 08:01 UTC: nobody is let in; renew it",
        )
        self.assertEqual(len(self.told(AGAIN * 3)), 3)
        self.lists += 10 * AGAIN
        self.assertEqual(self.told(AGAIN), [])

    def test_lists_that_count_all_the_same(self) -> None:
        """Where such a list counts all the same, that is said instead."""
        self.refuses = False
        self.assertIn("it counts all the same (listen.crl_expired)", self.told(200)[0])

    def test_certificate(self) -> None:
        """The server's certificate is spoken of a week before its end, and after it."""
        self.certificate, self.lists = NOW + SOON + 50, NOW + SOON
        (told,) = self.told(90)
        self.assertEqual(told, "the server's certificate expires on 2027-01-22 08:00 UTC; renew it")
        self.certificate = NOW
        self.assertIn("has expired on 2027-01-15 08:00 UTC: clients refuse it", self.told(INTERVAL)[0])
