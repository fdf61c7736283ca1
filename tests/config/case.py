"""A directory with a configuration in it, for the tests of this package."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.config.problems import BadConfiguration
from openai_relay.config.read import load
from openai_relay.core.settings import AccountingSettings, Settings

#: The least that a configuration needs.
LISTEN = '[listen]\ncertificate = "server.pem"\nkey = "file:server.key"\nclient_ca = "ca.pem"\n'
UPSTREAM = '[upstream]\napi_key = "env:OPENAI_API_KEY"\n'
MINIMAL = LISTEN + UPSTREAM

#: The least that a table of prices needs, with a price for one model.
PRICES = 'as_of = "2026-06-01"\n[fallback]\ninput = 1\n[models.m]\ninput = 2\n'

ENVIRONMENT = {"OPENAI_API_KEY": "a-key"}


def without_prices(settings: Settings) -> Settings:
    """The settings as they can be compared: a table of prices is equal to itself only."""
    return replace(settings, accounting=AccountingSettings(time_zone=settings.accounting.time_zone))


class ConfigurationCase(SynchronousTestCase):
    """Has the files that a configuration names, and reads ``relay.toml`` beside them."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        for name in ("server.pem", "server.key", "ca.pem"):
            (self.directory / name).write_text(f"the contents of {name}\n")
        self.file = self.directory / "relay.toml"

    def read(self, text: str | bytes) -> Settings:
        """The settings of this text, as the file's."""
        self.file.write_bytes(text.encode() if isinstance(text, str) else text)
        return load(self.file, ENVIRONMENT)

    def complaints(self, text: str | bytes) -> list[str]:
        """What is said about this text, with ``FILE`` for the file's path."""
        try:
            self.read(text)
        except BadConfiguration as bad:
            return [message.replace(str(self.file), "FILE") for message in bad.messages]
        return []

    def assertComplaint(self, text: str | bytes, *expected: str) -> None:
        """Each expected text begins one of the messages, and there is no other."""
        complaints = self.complaints(text)
        self.assertEqual(len(complaints), len(expected), complaints)
        for complaint, beginning in zip(complaints, expected, strict=True):
            self.assertTrue(complaint.startswith(beginning), f"{complaint!r} does not begin with {beginning!r}")
