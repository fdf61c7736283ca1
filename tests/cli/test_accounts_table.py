"""Who may do what, as people read it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.cli.accounts_table import accounts_table
from openai_relay.core.budgets import Budget
from openai_relay.core.limit_rules import LimitSettings
from openai_relay.core.policy import ClientRules, QuotaRules, Rules
from openai_relay.core.settings import IdentitySettings, ListenSettings, Secret, Settings

LISTEN = ListenSettings(Path("server.pem"), Secret(b""), Path("ca.pem"))
NOW = datetime(2026, 11, 24, tzinfo=UTC).timestamp()


def cells(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell.strip()]


class AccountsTableTests(SynchronousTestCase):
    def lines(self, tier: Rules | None = None, **clients: ClientRules) -> list[list[str]]:
        settings = Settings(
            LISTEN,
            identity=IdentitySettings(default_tier="staff" if tier else None),
            limits=LimitSettings(requests_per_minute=60.0, burst=5),
            tiers={"staff": tier} if tier else {},
            clients=clients,
        )
        return [[cell.strip() for cell in cells(line)] for line in accounts_table(settings, NOW)]

    def test_everybody(self) -> None:
        """Without rules for anybody in particular there is one line for all."""
        self.assertEqual(
            self.lines(),
            [
                ["CLIENT", "TIER", "REQUESTS/MIN", "TOKENS/MIN", "OPEN", "MODELS", "BUDGETS"],
                ["(everybody)", "-", "60 (5 at once)", "-", "-", "any", "-"],
            ],
        )

    def test_what_holds_in_the_end(self) -> None:
        """A client's own rules, its tier's and those for all are put together, and others have theirs without it."""
        tier = Rules(models=("a", "b*", "c"), budgets=(Budget("month", 20_000_000, 15_000_000),))
        rules = Rules(
            limits=QuotaRules("unlimited", tokens_per_minute=100.0, concurrent=3),
            budgets=(Budget("day", None, 500, money=False),),
            upstream_key="research",
            shadow=True,
            model_limits=(("b*", QuotaRules(concurrent=1)),),
        )
        _, *lines = self.lines(tier, bob=ClientRules(rules))
        budgets = "$20.00/month, warns at 500 tokens/day"
        remarks = "shadow, own limits for b*, key research"
        self.assertEqual(lines[0], ["bob", "staff", "-", "100 (100 at once)", "3", "a, b* +1", budgets, remarks])
        self.assertEqual(lines[1], ["(any other)", "staff", "60 (5 at once)", "-", "-", "a, b* +1", "$20.00/month"])

    def test_who_may_do_nothing(self) -> None:
        """Who is disabled, or whose access ends or has ended, is marked so."""
        clients = {
            "a": ClientRules(Rules(disabled=True)),
            "b": ClientRules(Rules(not_after=NOW + 3_600)),
            "c": ClientRules(Rules(not_after=NOW)),
        }
        _, *lines = self.lines(None, **clients)
        self.assertEqual(
            [line[-1] for line in lines[:3]], ["disabled", "ends 2026-11-24 01:00", "ended 2026-11-24 00:00"]
        )

    def test_many(self) -> None:
        """Of very many clients some are shown, and the others counted; those with odd names cannot move the cursor."""
        lines = self.lines(None, **{f"c{number:03}": ClientRules() for number in range(40)})
        self.assertEqual((len(lines), lines[-2], lines[-1][0]), (33, ["... and 10 more"], "(any other)"))
        self.assertEqual(self.lines(None, **{"a\x1b[2J": ClientRules()})[1][0], "a\\x1b[2J")
