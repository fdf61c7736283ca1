"""What a client reads of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.budgets import Budget, Standing
from openai_relay.core.identity import Identity
from openai_relay.core.limits import Limiter
from openai_relay.core.me import UNKNOWN, Findings, OwnUsage, Stretches, Sums, document
from openai_relay.core.policy import Policy, PolicyBook, QuotaRules, Rules
from openai_relay.core.usage import Usage
from tests.core.clocks import SECOND, FakeClock
from tests.core.exchanges import ALICE

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "me.md"
BERLIN = ZoneInfo("Europe/Berlin")
#: 2026-11-23 18:28:05 UTC.
NOW = 1_795_458_485.0

RULES = Rules(
    models=("gpt-5*", "text-embedding-3-small"),
    paths=("/v1/chat", "/v1/embeddings/"),
    methods=("POST",),
    upstream_key="team-a",
    organization="org-secret",
    project="proj-secret",
    limits=QuotaRules(60, 10, 90_000.5, 9_000, 4),
    model_limits=(("gpt-5*", QuotaRules(requests_per_minute=6)),),
    budgets=(Budget("day", 5_000_000, 4_000_000), Budget("month", None, 1_000_000, money=False)),
)
USAGE = OwnUsage(
    Sums(3, 1, 2, 1_250, Usage(100, 20, 0, 50, 10, 0)), Sums(40, 2, 3, 2_000_000, Usage(1_000, 0, 0, 500, 0, 0))
)


def policy(rules: Rules = RULES) -> Policy:
    """What holds for a client with such rules, in the tier ``staff``."""
    return PolicyBook(tiers={"staff": rules}, default_tier="staff").policy("alice")


def members(said: Any, above: str = "") -> Iterator[str]:
    """The names of all members of a document, each behind those it is in."""
    if isinstance(said, dict):
        for name, value in said.items():
            yield above + name
            yield from members(value, f"{above}{name}.")
    elif isinstance(said, list) and said:
        yield from members(said[0], above)


class DocumentCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.limiter = Limiter(policy().limits, self.clock)
        self.stretches = Stretches.at(NOW, BERLIN)

    def found(self, rules: Policy, usage: OwnUsage = USAGE, spent: int = 1_250_000) -> Findings:
        standings = [Standing(budget, self.stretches.today, spent, 250_000) for budget in rules.budgets]
        return Findings(self.limiter.standing("k", rules.limits), standings, self.stretches, usage)

    def told(self, rules: Policy | None = None, identity: Identity = ALICE, **found: Any) -> dict[str, Any]:
        rules = rules or policy()
        body = document(identity, rules, self.found(rules, **found), BERLIN)
        said: dict[str, Any] = json.loads(body)
        return said


class DocumentTests(DocumentCase):
    def test_who(self) -> None:
        """It says who the client is, until when, and in which tier."""
        said = self.told()
        self.assertEqual((said["client"], said["fingerprint"], said["tier"]), ("alice", "a1" * 32, "staff"))
        self.assertEqual(said["certificate_expires_at"], "2030-03-17T18:46:40+01:00")
        self.assertEqual(said["access_ends_at"], said["certificate_expires_at"])

    def test_access_ends_sooner(self) -> None:
        """Rules that end the access before the certificate ends win, and later ones do not count."""
        said = self.told(policy(replace(RULES, not_after=1_800_000_000.0)))
        self.assertEqual(said["access_ends_at"], "2027-01-15T09:00:00+01:00")
        self.assertEqual(said["certificate_expires_at"], "2030-03-17T18:46:40+01:00")
        said = self.told(policy(replace(RULES, not_after=2_000_000_000.0)))
        self.assertEqual(said["access_ends_at"], said["certificate_expires_at"])

    def test_beyond_the_calendar(self) -> None:
        """A certificate that is good for ever is one to the end of the calendar."""
        for moment in (253_402_300_799.0, 1e20):
            said = self.told(identity=replace(ALICE, not_after=moment))
            self.assertEqual(said["certificate_expires_at"], "9999-12-31T23:59:59+00:00")

    def test_limits(self) -> None:
        """Each limit says what passes at once, a minute and now, and when all of it is there again."""
        lease = self.limiter.admit("k", model="gpt-5-mini", tokens=3_000)
        self.clock.now += SECOND // 2
        said = self.told()["limits"]
        self.assertEqual(said["requests"], {"limit": 10, "per_minute": 60, "left": 9, "resets_in_seconds": 0.5})
        self.assertEqual((said["tokens"]["limit"], said["tokens"]["per_minute"]), (9_000, 90_000.5))
        self.assertEqual(said["tokens"]["left"], 6_750)
        self.assertEqual(said["concurrent"], {"limit": 4, "in_use": 1})
        [group] = said["by_model"]
        self.assertEqual((group["models"], group["requests"]["left"], group["tokens"]), ("gpt-5*", 5, None))
        self.assertEqual(group["concurrent"], {"limit": None, "in_use": 1})
        self.assertIs(said["shadow"], False)
        lease.release()
        self.assertEqual(self.told()["limits"]["concurrent"]["in_use"], 0)

    def test_waiting_as_told_is_enough(self) -> None:
        """The time until a limit is whole again is never told too short."""
        self.limiter.admit("k")
        self.clock.now += 1
        told = self.told()["limits"]["requests"]["resets_in_seconds"]
        self.assertEqual(told, 1.0)

    def test_budgets(self) -> None:
        """A budget says what is spent, reserved and left, in its own unit, and when it begins anew."""
        money, tokens = self.told()["budgets"]
        self.assertEqual(
            money,
            {
                "period": "day",
                "counts": "usd",
                "limit": 5,
                "warn": 4,
                "spent": 1.25,
                "reserved": 0.25,
                "left": 3.5,
                "resets_at": "2026-11-24T00:00:00+01:00",
            },
        )
        self.assertEqual((tokens["counts"], tokens["limit"], tokens["left"]), ("tokens", None, None))
        self.assertEqual((tokens["warn"], tokens["spent"]), (1_000_000, 1_250_000))

    def test_overspent(self) -> None:
        """Of a budget that is overrun nothing is left, and not less."""
        self.assertEqual(self.told(spent=9_000_000)["budgets"][0]["left"], 0)

    def test_usage(self) -> None:
        """What was used is told for the day and the month of the relay's time zone."""
        said = self.told()
        self.assertEqual(
            said["usage"]["today"],
            {
                "since": "2026-11-23T00:00:00+01:00",
                "requests": 3,
                "errors": 1,
                "estimated": 2,
                "input_tokens": 100,
                "cached_tokens": 20,
                "output_tokens": 50,
                "reasoning_tokens": 10,
                "cost_usd": 0.00125,
            },
        )
        self.assertEqual(said["usage"]["this_month"]["since"], "2026-11-01T00:00:00+01:00")
        self.assertEqual(said["usage"]["this_month"]["cost_usd"], 2.0)
        self.assertIsNone(said["usage_unavailable"])
        self.assertEqual(said["time_zone"], "Europe/Berlin")

    def test_no_usage(self) -> None:
        """Where usage cannot be told, it is null and the document says why."""
        said = self.told(usage=UNKNOWN)
        self.assertEqual(said["usage"], {"today": None, "this_month": None})
        self.assertEqual(said["usage_unavailable"], "This relay keeps no ledger.")

    def test_allowed(self) -> None:
        """What the client may use is told as its rules have it."""
        said = self.told()
        self.assertEqual(said["models"], ["gpt-5*", "text-embedding-3-small"])
        self.assertEqual((said["paths"], said["methods"]), (["/v1/chat/", "/v1/embeddings/"], ["POST"]))

    def test_no_rules(self) -> None:
        """Without rules there are no limits, no budgets, and nothing narrows what may be asked."""
        said = self.told(Policy())
        for name in ("tier", "models", "paths", "methods"):
            self.assertIsNone(said[name], name)
        self.assertEqual((said["limits"]["requests"], said["limits"]["tokens"]), (None, None))
        self.assertEqual((said["limits"]["by_model"], said["budgets"]), ([], []))

    def test_nothing_of_the_account(self) -> None:
        """Neither the name of the upstream's key nor organisation or project are told."""
        body = document(ALICE, policy(), self.found(policy()), BERLIN)
        for secret in (b"team-a", b"secret"):
            self.assertNotIn(secret, body)

    def test_documented(self) -> None:
        """The example of the page has the members of a real answer, in order, and each is explained there."""
        page = PAGE.read_text()
        example = re.search(r"```json\n(.*?)```", page, re.DOTALL)
        assert example is not None
        real = list(members(self.told()))
        self.assertEqual(list(members(json.loads(example[1]))), real)
        rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
        explained = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
        self.assertEqual(explained, {name.rpartition(".")[2] for name in real})
