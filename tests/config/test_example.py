"""The commented ``relay.toml``: complete, readable by the relay, and true about the defaults."""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, fields

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_relay.config.example import render, toml_value
from openai_relay.config.shape import tables
from openai_relay.core.settings import LimitSettings
from tests.config.case import MINIMAL, ConfigurationCase


class ExampleTests(ConfigurationCase):
    """What ``openai-relay init`` and the demo write."""

    PLAIN = render(certificate="server.pem", key="file:server.key", client_ca="ca.pem")

    def test_as_rendered(self) -> None:
        """The file is a configuration as it is, and its comments hide nothing that is set."""
        self.assertEqual(self.read(self.PLAIN), self.read(MINIMAL))

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
            section = self.PLAIN.split(f"\n[{table}]")[1].split("\n[")[0]
            found = re.findall(r"^(?:# )?([a-z_]+) = ", section, re.MULTILINE)
            self.assertEqual(found, [field.name for field in fields(kind)])

    def test_defaults_behind_the_sign(self) -> None:
        """A value behind a ``#`` is the default, unless it is said to be an example."""
        for table, kind in tables().items():
            section = self.PLAIN.split(f"\n[{table}]")[1].split("\n[")[0]
            for field in fields(kind):
                shown = re.search(rf"^# .*\n# ({field.name} = .*)$", section, re.MULTILINE)
                if shown is None or "Not set; for example:" in shown[0]:
                    self.assertIn(field.default, (None, MISSING))
                    continue
                value = tomllib.loads(shown[1])[field.name]
                self.assertEqual(tuple(value) if isinstance(value, list) else value, field.default)

    def test_uncommented(self) -> None:
        """With every ``#`` before a key removed the file is a configuration still: the samples are well-formed."""
        text = re.sub(r"^# ([a-z_]+ = )", r"\1", self.PLAIN, flags=re.MULTILINE)
        for name in ("crl.pem", "upstream-ca.pem"):
            (self.directory / name).touch()
        self.assertEqual(self.read(text).limits, LimitSettings(60.0, 10, 20))

    @settings(deadline=None)
    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_text_survives(self, text: str) -> None:
        """Any text comes back from TOML as it went in."""
        self.assertEqual(tomllib.loads(f"value = {toml_value(text)}")["value"], text)

    def test_values(self) -> None:
        """Numbers lose a fraction that is none; what no setting is, is refused."""
        self.assertEqual(
            [toml_value(value) for value in (10.0, 0.5, 3, True, ("/a", "/b"))],
            ["10", "0.5", "3", "true", '["/a", "/b"]'],
        )
        self.assertRaises(TypeError, toml_value, {"a": 1})
