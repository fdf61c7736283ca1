"""``docs/configuration.md`` and ``core/settings.py`` say the same."""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from openai_relay.config.accounts import BudgetTable, RulesTable
from openai_relay.config.example import toml_value
from openai_relay.config.policies import BURSTS
from openai_relay.config.problems import BadConfiguration
from openai_relay.config.read import OPTIONS
from openai_relay.config.shape import tables
from openai_relay.core.budgets import Budget
from openai_relay.tap import Options
from tests.config.case import LISTEN, MINIMAL, PRICES, ConfigurationCase

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text()


PAGE_OF_ACCOUNTS = Path(__file__).resolve().parents[2] / "docs" / "accounts.md"
#: What the settings themselves cannot say, since it needs a file: see ``config/example.py``.
OF_A_FILE = {"prices": "not set", "time_zone": '`"UTC"`', "directory": '`"state"`', "keys": "not set"}


def default_of(entry: Field[Any]) -> str:
    if entry.name in OF_A_FILE:
        return OF_A_FILE[entry.name]
    if entry.default is MISSING:
        return "required"
    return "not set" if entry.default is None else f"`{toml_value(entry.default)}`"


def section_of(table: str) -> str:
    return PAGE.split(f"\n## `[{table}]`\n")[1].split("\n## ")[0]


class DocumentationTests(ConfigurationCase):
    """The page for operators."""

    #: The section of tiers and clients.
    ACCOUNTS = PAGE.split("\n## `[tiers.NAME]` and `[clients.NAME]`\n")[1].split("\n## ")[0]

    def test_every_key_of_accounts(self) -> None:
        """Tiers, clients and budgets have a row for each key, and no row for anything else."""
        rows = re.findall(r"^\| `([a-z_]+)` \| [a-z ]+ \| .+ \|$", self.ACCOUNTS, re.MULTILINE)
        names = [entry.name for entry in fields(BudgetTable)]
        self.assertEqual(set(rows[: -len(names)]), {entry.name for entry in fields(RulesTable)})
        self.assertEqual((rows[-len(names) :], len(set(rows))), (names, len(rows)))

    def test_examples_of_accounts(self) -> None:
        """Each example of a client's key is a value that it takes, and so is the longer one."""
        head = PAGE.split("```toml\n")[1].split("```")[0]
        behind = (
            '[upstream.keys]\nresearch = "env:OPENAI_API_KEY"\n'
            "[tiers.standard]\nrequests_per_minute = 1\ntokens_per_minute = 1\nmax_wait = 1\nmax_queue = 1\n"
        )
        examples = re.findall(r"^\| `([a-z_]+)` .*Example: `(.+?)` \|$", self.ACCOUNTS, re.MULTILINE)
        self.assertEqual({key for key, _ in examples}, {entry.name for entry in fields(RulesTable)})
        for key, example in examples:
            tier = "" if key == "tier" else 'tier = "standard"\n'
            self.assertEqual(self.complaints(f"{head}{behind}[clients.a]\n{tier}{key} = {example}\n"), [])
        longer = self.ACCOUNTS.split("```toml\n")[1].split("```")[0]
        clients = self.read(head + longer).clients
        self.assertEqual(clients["build.example.com"].rules.budgets, (Budget("day", 2_000_000, money=False),))

    def test_every_key_with_its_default(self) -> None:
        """Each table has a section, with a row for each key and its default, and no row for anything else."""
        for table, kind in tables().items():
            section = section_of(table)
            rows = re.findall(r"^\| `([a-z_]+)` \| [a-zURL ]+ \| (.+?) \| .+ \|$", section, re.MULTILINE)
            self.assertEqual(rows, [(entry.name, default_of(entry)) for entry in fields(kind)])

    def test_every_option(self) -> None:
        """Each option has a row with the key that it sets."""
        rows = dict(re.findall(r"^\| `(--[a-z-]+)[^|]*\| (?:`([a-z._]+)`)? ?\|", PAGE, re.MULTILINE))
        expected = {option: f"{table}.{key}" for option, (table, key) in OPTIONS.values()}
        self.assertEqual(rows, expected | {"--config": "", "--help": "", "--version": ""})
        self.assertEqual({f"--{name}" for name, *_ in Options.optParameters}, expected.keys() | {"--config"})

    def test_page_about_accounts(self) -> None:
        """The examples of the page about accounts can be used as they are, beside what every configuration has."""
        page = re.sub("credential:[a-z-]+", "env:OPENAI_API_KEY", PAGE_OF_ACCOUNTS.read_text())
        small, team, prices = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
        self.assertEqual(len(self.read(f"{MINIMAL}{small}").clients), 2)
        self.assertEqual(set(self.read(f"{LISTEN}{team}").tiers), {"trial", "production", "research"})
        (self.directory / "prices.toml").write_text(prices)
        read = self.read(f'{MINIMAL}[accounting]\nprices = "prices.toml"\n')
        self.assertTrue(read.accounting.prices.quote("gpt-5.4").known)

    def test_configuration_at_the_top(self) -> None:
        """The first example can be used as it is."""
        text = PAGE.split("```toml\n")[1].split("```")[0]
        self.assertEqual(self.read(text).limits.burst, 10)

    def test_examples_of_values(self) -> None:
        """Each example in a table of keys is a value that the key takes."""
        for name in ("crl.pem", "upstream-ca.pem", "server.key"):
            (self.directory / name).write_text("x")
        (self.directory / "deny.txt").write_text("name:x")
        (self.directory / "authority").mkdir()
        (self.directory / "prices.toml").write_text(PRICES)
        tried = 0
        for table in tables():
            section = section_of(table)
            for key, example in re.findall(r"^\| `([a-z_]+)` .*Example: `(.+?)` \|$", section, re.MULTILINE):
                tree = tomllib.loads(PAGE.split("```toml\n")[1].split("```")[0])
                tree["tiers"] = {"standard": {}}
                if key in BURSTS:
                    tree["limits"].setdefault(BURSTS[key], 1)
                if table == "enrol":
                    tree["enrol"] = {"address": "127.0.0.1:0", "authority": "authority"}
                tree.setdefault(table, {})[key] = tomllib.loads(f"value = {example}")["value"]
                text = "".join(
                    f"[{name}]\n" + "".join(f"{inner} = {written(value)}\n" for inner, value in values.items())
                    for name, values in tree.items()
                )
                try:
                    self.read(text)
                except BadConfiguration as bad:
                    self.fail(f"{table}.{key} = {example}: {bad}")
                tried += 1
        self.assertGreater(tried, 8)

    def test_messages_are_real(self) -> None:
        """The messages that the page shows are those that the relay prints."""
        shown = re.findall(r"^ *relay\.toml:\d+: (.+)$", PAGE, re.MULTILINE)
        said = self.complaints("[listen]\nadress = 1\nhead_timeout = -1\n")
        for message in shown:
            self.assertTrue([complaint for complaint in said if complaint.endswith(message)], message)


def written(value: Any) -> str:
    return toml_value(tuple(value) if isinstance(value, list) else value)
