"""Which settings a running relay cannot take up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.restart import NotReloaded, needs_restart
from openai_relay.core.settings import (
    AccountingSettings,
    AdminSettings,
    IdentitySettings,
    LedgerSettings,
    ListenSettings,
    LogSettings,
    Secret,
    Settings,
    StateSettings,
    UpstreamSettings,
)

LISTEN = ListenSettings(Path("server.pem"), Secret(b"key"), Path("ca.pem"))
RUNNING = Settings(LISTEN)


class RestartTests(SynchronousTestCase):
    def needed(self, **others: Any) -> list[str]:
        return [told.split(" ")[0] for told in needs_restart(RUNNING, replace(RUNNING, **others))]

    def test_nothing(self) -> None:
        """The same settings need none, and neither does what is only looked at when something begins."""
        self.assertEqual(self.needed(), [])
        self.assertEqual(
            self.needed(
                listen=replace(LISTEN, certificate=Path("other.pem"), key=Secret(b"other"), crl=Path("crl.pem")),
                upstream=UpstreamSettings(url="https://other.example"),
                log=LogSettings("off"),
                identity=IdentitySettings(default_tier="standard"),
            ),
            [],
        )

    def test_bound(self) -> None:
        """What the process is bound to, and what it has counted by, does; each is named."""
        for others, name in (
            ({"listen": replace(LISTEN, address="127.0.0.1:1")}, "listen.address"),
            ({"listen": replace(LISTEN, backlog=1)}, "listen.backlog"),
            ({"identity": IdentitySettings(name="dns")}, "identity.name"),
            ({"identity": IdentitySettings(limit_by="name")}, "identity.limit_by"),
            ({"accounting": AccountingSettings(time_zone=ZoneInfo("Europe/Berlin"))}, "accounting.time_zone"),
            ({"state": StateSettings(Path("state"))}, "state"),
            ({"ledger": LedgerSettings(enabled=False)}, "ledger"),
            ({"admin": AdminSettings(None)}, "admin"),
        ):
            self.assertEqual(self.needed(**others), [name])

    def test_all_at_once(self) -> None:
        """Several are all named."""
        self.assertEqual(
            self.needed(listen=replace(LISTEN, backlog=1), admin=AdminSettings(None)), ["listen.backlog", "admin"]
        )

    def test_told(self) -> None:
        """Each says why, and what to do."""
        (told,) = needs_restart(RUNNING, replace(RUNNING, admin=AdminSettings(None)))
        self.assertEqual(
            told,
            "admin has changed, which takes a restart (the port is open); restart the relay, or put the old value back",
        )
        self.assertEqual(str(NotReloaded([told, "b"])), f"{told}\nb")
