"""Tiers and clients: what each key accepts, and what is said of anything else."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_relay.config.accounts import RulesTable
from openai_relay.config.example import toml_value
from openai_relay.core.budgets import Budget
from openai_relay.core.policy import ClientRules, QuotaRules, Rules
from tests.config.case import MINIMAL, ConfigurationCase

CLIENT = MINIMAL + "[clients.alice]\n"
BUDGET = MINIMAL + "[[clients.alice.budgets]]\n"


class AccountsCase(ConfigurationCase):
    def rules(self, text: str) -> Rules:
        """The rules of a client of whom this is said."""
        return self.read(CLIENT + text).clients["alice"].rules

    def assertSaid(self, line: str, told: str) -> None:
        """All that is said of one line of a client is this."""
        key = line.partition(" =")[0]
        self.assertEqual(self.complaints(CLIENT + line), [f"FILE:8: clients.alice.{key}: {told}"])


class RulesTests(AccountsCase):
    def test_every_key(self) -> None:
        """Each key of a client arrives where it belongs."""
        text = """
            [upstream.keys]
            research = "env:OPENAI_API_KEY"
            [tiers.standard]
            [clients."alice.example com"]
            tier = "standard"
            models = ["gpt-5*", "o1"]
            paths = ["/v1/chat/"]
            methods = ["GET"]
            upstream_key = "research"
            organization = "org-a"
            project = "proj_b"
            requests_per_minute = 1
            burst = 2
            concurrent = "unlimited"
            tokens_per_minute = 4
            token_burst = 5
            max_wait = 6
            max_queue = 7
            shadow = true
            not_after = 2030-12-31
            disabled = true
            model_limits."o*" = { requests_per_minute = "unlimited", concurrent = 8 }
            [[clients."alice.example com".budgets]]
            per = "day"
            dollars = 0.29
            warn_dollars = 0.1
            [[clients."alice.example com".budgets]]
            per = "day"
            warn_tokens = 10
        """
        self.assertEqual(
            self.read(MINIMAL + text).clients,
            {
                "alice.example com": ClientRules(
                    Rules(
                        models=("gpt-5*", "o1"),
                        paths=("/v1/chat/",),
                        methods=("GET",),
                        upstream_key="research",
                        organization="org-a",
                        project="proj_b",
                        limits=QuotaRules(1.0, 2, 4.0, 5, "unlimited"),
                        model_limits=(("o*", QuotaRules(requests_per_minute="unlimited", concurrent=8)),),
                        shadow=True,
                        max_wait=6.0,
                        max_queue=7,
                        budgets=(Budget("day", 290_000, 100_000), Budget("day", None, 10, money=False)),
                        not_after=datetime(2031, 1, 1, tzinfo=UTC).timestamp(),
                        disabled=True,
                    ),
                    "standard",
                )
            },
        )

    def test_nothing_said(self) -> None:
        """An empty table sets nothing: all is left to what stands behind."""
        read = self.read(MINIMAL + "[tiers.a]\n[clients.b]\n")
        self.assertEqual((read.tiers, read.clients), ({"a": Rules()}, {"b": ClientRules()}))

    def test_days_are_those_of_the_zone(self) -> None:
        """A client's last day ends where the configuration says that days end, wherever that stands in the file."""
        text = "not_after = 2030-12-31\n[accounting]\ntime_zone = 'Asia/Tokyo'\n"
        self.assertEqual(self.rules(text).not_after, datetime(2030, 12, 31, 15, tzinfo=UTC).timestamp())

    @settings(deadline=None)
    @given(
        st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
            st.lists(st.tuples(st.sampled_from(["day", "week", "month"]), st.booleans()), unique=True),
            max_size=3,
        )
    )
    def test_any_name_and_budgets(self, accounts: dict[str, list[tuple[str, bool]]]) -> None:
        """Clients of any name come back with the budgets that were written for them."""
        written = {
            name: {"budgets": [{"per": per, "dollars" if money else "tokens": 3} for per, money in budgets]}
            for name, budgets in accounts.items()
        }
        clients = self.read(f"clients = {toml_value(written)}\n{MINIMAL}").clients
        self.assertEqual(
            {
                name: [(budget.period, budget.money) for budget in client.rules.budgets]
                for name, client in clients.items()
            },
            accounts,
        )


class RefusedTests(AccountsCase):
    def test_values(self) -> None:
        """Each key's bad values are refused with what would do."""
        for line, told in (
            ('tier = ""', "is empty; give a name, or leave the key out"),
            (
                "models = []",
                'is empty, so that nothing would be let through; write for example ["gpt-5*", '
                '"text-embedding-3-small"]',
            ),
            (
                'models = "gpt-5"',
                'must be a list, and this is text; write for example ["gpt-5*", "text-embedding-3-small"]',
            ),
            ('requests_per_minute = "endless"', '"endless" is no limit; write a number without quotes, or "unlimited"'),
            ("requests_per_minute = 0", "0 is out of range; give a number from 0.001 to 1000000000"),
            ('burst = "unlimited"', "must be a whole number, and this is text; write a number without quotes"),
            ("concurrent = 0", "0 is out of range; give a whole number from 1 to 1000000"),
            ("tokens_per_minute = 0", "0 is out of range; give a number from 1 to 1000000000"),
            ("max_wait = -1", "-1 is out of range; give a number from 0 to 3600"),
            ('shadow = "yes"', "must be true or false, and this is text; write it without quotes"),
            (
                "budgets = { per = 'day' }",
                "must be a list of tables, and this is a table; write "
                "[[clients.NAME.budgets]], in double brackets, on a line of its own before each",
            ),
            (
                "model_limits = 3",
                "must be tables by model, and this is a whole number; write for example "
                'model_limits."gpt-5*" = { requests_per_minute = 10 }',
            ),
            ("burts = 3", 'is not known; did you mean "burst"?'),
            ("dollars = 3", "does not belong here; put it under [[clients.NAME.budgets]]"),
            ("limit_by = 3", "does not belong here; put it under [identity]"),
        ):
            self.assertSaid(line, told)

    def test_places_in_lists(self) -> None:
        """Of a list, every item that is wrong is named, each on its line."""
        self.assertEqual(
            self.complaints(CLIENT + 'models = ["a",\n"",\n3]\nmethods = ["GET", "post"]\npaths = ["v1"]'),
            [
                "FILE:9: clients.alice.models[2]: an empty name stands for no model; "
                "write a name, or a glob such as gpt-5*",
                "FILE:10: clients.alice.models[3]: must be text, and this is a whole number; write it in double quotes",
                'FILE:11: clients.alice.methods[2]: "post" is no method; write it in capitals, such as POST',
                'FILE:12: clients.alice.paths[1]: "v1" does not begin with "/"; write for example "/v1/"',
            ],
        )

    def test_budgets(self) -> None:
        """A budget that says nothing, too much or nonsense is refused at its own line."""
        for lines, complaint in (
            (
                'per = "day"',
                "7: clients.alice.budgets[1]: limits nothing; set dollars or tokens, or warn_dollars or "
                "warn_tokens to be warned only",
            ),
            (
                'per = "day"\ndollars = 1\nwarn_tokens = 1',
                "7: clients.alice.budgets[1]: counts both dollars and tokens; write one budget for each",
            ),
            ("tokens = 1", "7: clients.alice.budgets[1].per: is missing and has no default; set it"),
            (
                'per = "days"\ntokens = 1',
                '8: clients.alice.budgets[1].per: "days" is not known; did you mean "day"? '
                'It is one of "day", "week", "month"',
            ),
            (
                'per = "day"\ndollars = 1\nwarn_dollars = 1',
                "10: clients.alice.budgets[1].warn_dollars: would warn only "
                "where the budget ends; set it below dollars",
            ),
            (
                'per = "day"\ntokens = 1\nwarn_tokens = 2',
                "10: clients.alice.budgets[1].warn_tokens: would warn only where the budget ends; set it below tokens",
            ),
            (
                'per = "day"\ndollars = 0',
                "9: clients.alice.budgets[1].dollars: 0 is out of range; give a number from 1e-06 to 1000000000",
            ),
            (
                'per = "day"\ndollars = 0.0000015',
                "9: clients.alice.budgets[1].dollars: 1.5e-06 has more than six "
                "decimals; round it, for example to 0.01",
            ),
            (
                'per = "day"\ntokens = 1.5',
                "9: clients.alice.budgets[1].tokens: must be a whole number, and 1.5 has a "
                "fraction; write it without a point",
            ),
            (
                'period = "day"\ntokens = 1\nper = "day"',
                '8: clients.alice.budgets[1].period: is not known; did you mean "per"?',
            ),
            (
                'per = "day"\ntokens = 1\n[[clients.alice.budgets]]\nper = "day"\ntokens = 2',
                "10: clients.alice.budgets[2]: there is a budget of tokens per day already; keep one of them",
            ),
        ):
            self.assertEqual(self.complaints(BUDGET + lines), [f"FILE:{complaint}"])

    def test_model_limits(self) -> None:
        """The limits of a model know fewer keys than a client, and each model has a name."""
        self.assertEqual(
            self.complaints(CLIENT + 'model_limits."a.b" = { burts = 1, max_wait = 3 }\nmodel_limits."c" = 3'),
            [
                'FILE:8: clients.alice.model_limits."a.b".burts: is not known; did you mean "burst"?',
                'FILE:8: clients.alice.model_limits."a.b".max_wait: does not belong here; put it under [clients.NAME]',
                "FILE:9: clients.alice.model_limits.c: must be a table, and this is a whole number; "
                "write its name in brackets on its own line",
            ],
        )
        self.assertComplaint(CLIENT + 'model_limits."" = {}', 'FILE:8: clients.alice.model_limits."": an empty name')

    def test_names(self) -> None:
        """A table without a name, an empty name and a value in a table's place are told apart, and hide nothing."""
        self.assertEqual(
            self.complaints(MINIMAL + '[clients]\ntier = "x"\nalice = 3\n[clients.""]\n[clients.bob]\nburts = 1\n'),
            [
                "FILE:8: clients.tier: does not belong here; put it under [clients.NAME]",
                "FILE:9: clients.alice: must be a table, and this is a whole number; "
                "write its name in brackets on its own line",
                'FILE:10: clients."": an empty name is nobody\'s; write [clients.NAME] with a name',
                'FILE:12: clients.bob.burts: is not known; did you mean "burst"?',
            ],
        )
        self.assertComplaint(
            "clients = 3\n" + MINIMAL,
            "FILE:1: clients: must be tables by name, and this is a whole number; write [clients.NAME] on a line",
        )

    def test_tiers_of_tiers(self) -> None:
        """A tier has no tier; all else is as for a client."""
        self.assertComplaint(
            MINIMAL + '[tiers.a]\ntier = "b"\nburts = 1',
            "FILE:8: tiers.a.tier: is a client's key, and a tier is in no other tier; take it out",
            'FILE:9: tiers.a.burts: is not known; did you mean "burst"?',
        )

    def test_a_secret_is_not_repeated(self) -> None:
        """A key that is pasted in the place of a name is in no message."""
        secret = "sk-proj-hidden0123456789"
        for key in RulesTable.__dataclass_fields__:
            for value in (f'"{secret}"', f'["{secret}"]', f'["{secret}", "{secret}"]'):
                for message in self.complaints(f"{CLIENT}{key} = {value}"):
                    self.assertNotIn("hidden", message)
        for message in self.complaints(f'{MINIMAL}[clients."{secret}"]\nburst = 0'):
            self.assertNotIn("hidden", message)
