"""The commented ``relay.toml``: complete, readable by the relay, and true about the defaults."""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, fields, replace
from datetime import date
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_relay.config.accounts import RulesTable
from openai_relay.config.example import render, toml_value
from openai_relay.config.shape import tables
from openai_relay.core.budgets import Budget
from openai_relay.core.limit_rules import LimitSettings
from openai_relay.core.policy import QuotaRules
from openai_relay.core.settings import AdminSettings
from tests.config.case import MINIMAL, PRICES, ConfigurationCase, without_prices

#: What the settings themselves cannot say, since it needs a file.
OF_A_FILE = {"prices": None, "time_zone": "UTC", "directory": "state", "keys": None}


def section_of(text: str, table: str) -> str:
    return text.split(f"\n[{table}]")[1].split("\n[")[0].split("\n# [")[0]


class ExampleTests(ConfigurationCase):
    """What ``openai-relay init`` and the demo write."""

    PLAIN = render(certificate="server.pem", key="file:server.key", client_ca="ca.pem")

    def test_as_rendered(self) -> None:
        """The file is a configuration as it is, and its comments hide nothing that is set."""
        self.assertEqual(without_prices(self.read(self.PLAIN)), without_prices(self.read(MINIMAL)))

    def test_every_value_given(self) -> None:
        """What is given is set, and stands for itself."""
        (self.directory / "server.pem").write_text("key-in-a-file")
        settings = self.read(
            render(
                certificate="server.pem",
                key="file:server.key",
                client_ca="ca.pem",
                api_key="file:server.pem",
                address="[::]:443",
                crl="ca.pem",
                upstream="https://localhost:1",
                upstream_ca="ca.pem",
                requests_per_minute=60.0,
                burst=2,
                concurrent=3,
                admin="",
            )
        )
        self.assertEqual((settings.listen.address, settings.listen.crl), ("[::]:443", self.directory / "ca.pem"))
        self.assertEqual(
            (settings.upstream.url, settings.upstream.ca), ("https://localhost:1", self.directory / "ca.pem")
        )
        assert settings.upstream.api_key is not None
        self.assertEqual(settings.upstream.api_key.reveal(), b"key-in-a-file")
        self.assertEqual((settings.limits, settings.admin.address), (LimitSettings(60.0, 2, 3), None))

    def test_every_key_is_there(self) -> None:
        """Each key stands under its table, once, set or behind a ``#``."""
        for table, kind in tables().items():
            section = section_of(self.PLAIN, table)
            found = re.findall(r"^(?:# )?([a-z_]+) = ", section, re.MULTILINE)
            self.assertEqual(found, [field.name for field in fields(kind)])

    def test_defaults_behind_the_sign(self) -> None:
        """A value behind a ``#`` is the default, unless it is said to be an example."""
        for table, kind in tables().items():
            section = section_of(self.PLAIN, table)
            for field in fields(kind):
                shown = re.search(rf"^# .*\n# ({field.name} = .*)$", section, re.MULTILINE)
                default = OF_A_FILE.get(field.name, field.default)
                if shown is None or "Not set; for example:" in shown[0]:
                    self.assertIn(default, (None, MISSING))
                    continue
                value = tomllib.loads(shown[1])[field.name]
                self.assertEqual(tuple(value) if isinstance(value, list) else value, default)

    def test_uncommented(self) -> None:
        """With every ``#`` before a key removed the file is a configuration still: the samples are well-formed."""
        text = re.sub(r"^# ([a-z_]+ = |\[)", r"\1", self.PLAIN, flags=re.MULTILINE)
        for name in ("crl.pem", "deny.txt", "upstream-ca.pem"):
            (self.directory / name).touch()
        (self.directory / "authority").mkdir()
        text = text.replace('"credential:ca-passphrase"', '"env:OPENAI_API_KEY"')
        (self.directory / "research.key").write_text("another-key")
        (self.directory / "prices.toml").write_text(PRICES)
        settings = self.read(text)
        self.assertEqual(settings.limits, LimitSettings(60.0, 10, 20, 100_000.0, 50_000))
        standard, client = settings.tiers["standard"], settings.clients["alice.example"]
        self.assertEqual((client.tier, client.rules.limits.tokens_per_minute), ("standard", "unlimited"))
        self.assertEqual(standard.budgets[0], Budget("day", 5_000_000, 4_000_000))
        self.assertEqual(standard.model_limits, (("gpt-5-pro*", QuotaRules(requests_per_minute=5.0, concurrent=1)),))
        self.assertEqual(settings.ledger.database, self.directory / "state" / "ledger.sqlite3")

    def test_every_key_of_accounts(self) -> None:
        """All that a tier may say is shown once, behind a ``#``; and a client's tier."""
        shown = self.PLAIN.split("# [tiers.standard]\n")[1].split("\n[")[0]
        tier, client = shown.split('# [clients."alice.example"]\n')
        found = re.findall(r"^# ([a-z_]+) = ", tier, re.MULTILINE)
        self.assertEqual(["tier", *found], [field.name for field in fields(RulesTable)])
        self.assertEqual(re.findall(r"^# ([a-z_]+) = ", client, re.MULTILINE), ["tier", "tokens_per_minute"])

    @settings(deadline=None)
    @given(
        st.builds(
            dict,
            address=st.sampled_from([None, "[::]:443", "127.0.0.1:0"]),
            requests_per_minute=st.none() | st.floats(0.001, 1e9),
            concurrent=st.none() | st.integers(1, 1_000_000),
            admin=st.sampled_from([None, "", "localhost:1"]),
        )
    )
    def test_round_trip(self, given: dict[str, Any]) -> None:
        """Whatever is written is read as it was meant, and what was left out stands at its default."""
        text = render(certificate="server.pem", key="file:server.key", client_ca="ca.pem", **given)
        read, plain = self.read(text), self.read(MINIMAL)
        listen = plain.listen if given["address"] is None else replace(plain.listen, address=given["address"])
        limits = LimitSettings(given["requests_per_minute"], None, given["concurrent"])
        admin = plain.admin if given["admin"] is None else AdminSettings(given["admin"] or None)
        self.assertEqual(
            without_prices(read), without_prices(replace(plain, listen=listen, limits=limits, admin=admin))
        )

    @settings(deadline=None)
    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_text_survives(self, text: str) -> None:
        """Any text comes back from TOML as it went in."""
        self.assertEqual(tomllib.loads(f"value = {toml_value(text)}")["value"], text)

    def test_values(self) -> None:
        """Numbers lose a fraction that is none; what no setting is, is refused."""
        self.assertEqual(
            [toml_value(value) for value in (10.0, 0.5, 3, True, ("/a", "/b"), {"a": 1, "b*": {}}, date(2030, 12, 31))],
            ["10", "0.5", "3", "true", '["/a", "/b"]', '{ a = 1, "b*" = {} }', "2030-12-31"],
        )
        self.assertRaises(TypeError, toml_value, None)
