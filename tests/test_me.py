"""Who asks about itself is told, and cannot make the ledger's readers work for nobody else."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from datetime import UTC
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.budgets import Budget, Budgets, Cost
from openai_relay.core.identity import Identity
from openai_relay.core.limit_rules import LimitSettings
from openai_relay.core.limits import Limiter
from openai_relay.core.me import OwnUsage, Stretches, Sums
from openai_relay.core.policy import Policy
from openai_relay.core.settings import LimitBy
from openai_relay.me import AT_ONCE, Me
from tests.core.clocks import FakeClock
from tests.core.exchanges import ALICE, BOB

#: 2026-11-23 18:28:05 UTC.
NOW = 1_795_458_485.0
DAY = 86_400
SPENDING = Policy(budgets=(Budget("day", 2_000_000),))


class MeCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = NOW
        self.limiter = Limiter(LimitSettings(concurrent=5), FakeClock())
        self.budgets = Budgets(UTC, lambda: self.now)
        self.asked: list[tuple[str, Stretches, Deferred[OwnUsage]]] = []
        self.me = self.made()

    def made(self, limit_by: LimitBy = "certificate", *, ledger: bool = True) -> Me:
        return Me(self.limiter, self.budgets, limit_by, self.read if ledger else None, lambda: self.now, UTC)

    def read(self, client: str, stretches: Stretches) -> Awaitable[OwnUsage]:
        reading: Deferred[OwnUsage] = Deferred()
        self.asked.append((client, stretches, reading))
        return reading

    def ask(self, identity: Identity = ALICE, policy: Policy | None = None, me: Me | None = None) -> Deferred[bytes]:
        return Deferred.fromCoroutine((me or self.me).answer(identity, policy or Policy()))

    def answered(self, asking: Deferred[bytes]) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.successResultOf(asking))
        return said

    def found(self, requests: int = 1) -> OwnUsage:
        return OwnUsage(Sums(requests), Sums(requests))


class AnswerTests(MeCase):
    def test_gathered(self) -> None:
        """The answer puts together what limits, budgets and ledger know of this client."""
        self.limiter.admit(ALICE.fingerprint)
        self.budgets.reserve("alice", SPENDING.budgets, Cost(micro_dollars=500_000))
        asking = self.ask(policy=SPENDING)
        [(client, stretches, reading)] = self.asked
        self.assertEqual((client, stretches), ("alice", Stretches.at(NOW, UTC)))
        reading.callback(self.found(7))
        said = self.answered(asking)
        self.assertEqual(said["client"], "alice")
        self.assertEqual(said["limits"]["concurrent"]["in_use"], 1)
        self.assertEqual(said["budgets"][0]["left"], 1.5)
        self.assertEqual(said["usage"]["today"]["requests"], 7)

    def test_limits_by_name(self) -> None:
        """Where certificates of one name share their limits, what they share is told."""
        self.limiter.admit("alice")
        me = self.made("name", ledger=False)
        self.assertEqual(self.answered(self.ask(me=me))["limits"]["concurrent"]["in_use"], 1)

    def test_no_ledger(self) -> None:
        """Without a ledger the answer comes at once, and says so."""
        said = self.answered(self.ask(me=self.made(ledger=False)))
        self.assertEqual(said["usage_unavailable"], "This relay keeps no ledger.")

    def test_asking_costs_nothing(self) -> None:
        """A client that only asks about itself is remembered by nobody."""
        self.answered(self.ask(policy=SPENDING, me=self.made(ledger=False)))
        self.assertEqual((len(self.limiter), len(self.budgets)), (0, 0))

    def test_broken_reading(self) -> None:
        """A reading that fails fails those who asked for it, and the next question begins anew."""
        first, second = self.ask(), self.ask()
        self.asked[0][2].errback(RuntimeError("bug"))
        for asking in (first, second):
            self.failureResultOf(asking, RuntimeError)
        third = self.ask()
        self.asked[1][2].callback(self.found())
        self.answered(third)


class SharingTests(MeCase):
    def test_one_reading_for_each_client(self) -> None:
        """Who asks again while the ledger is read shares the answer, and who asks later gets one of his own."""
        several = [self.ask() for _ in range(5)]
        self.assertEqual(len(self.asked), 1)
        self.asked[0][2].callback(self.found(3))
        for asking in several:
            self.assertEqual(self.answered(asking)["usage"]["today"]["requests"], 3)
        self.ask()
        self.assertEqual(len(self.asked), 2)

    def test_not_across_clients(self) -> None:
        """Nobody gets another client's numbers."""
        alice, bob = self.ask(ALICE), self.ask(BOB)
        for client, _, reading in self.asked:
            reading.callback(self.found(1 if client == "alice" else 2))
        self.assertEqual(self.answered(alice)["usage"]["today"]["requests"], 1)
        self.assertEqual(self.answered(bob)["usage"]["today"]["requests"], 2)

    def test_not_across_midnight(self) -> None:
        """Yesterday's numbers are not told as today's."""
        self.ask()
        self.now += DAY
        self.ask()
        self.assertEqual(len(self.asked), 2)

    def test_few_at_once(self) -> None:
        """Clients wait for each other, so that their questions never take all threads."""
        identities = [Identity(f"client-{number}", "f" * 64, "1", 0.0) for number in range(AT_ONCE + 1)]
        several = [self.ask(identity) for identity in identities]
        self.assertEqual(len(self.asked), AT_ONCE)
        self.asked[0][2].callback(self.found())
        self.assertEqual(len(self.asked), AT_ONCE + 1)
        for _, _, reading in self.asked[1:]:
            reading.callback(self.found())
        for asking in several:
            self.answered(asking)

    def test_who_leaves(self) -> None:
        """A client that leaves takes the answer from nobody, not even when it was the one who began."""
        first, second, third = self.ask(), self.ask(), self.ask()
        first.cancel()
        third.cancel()
        for asking in (first, third):
            self.failureResultOf(asking, CancelledError)
        self.asked[0][2].callback(self.found(3))
        self.assertEqual(self.answered(second)["usage"]["today"]["requests"], 3)
