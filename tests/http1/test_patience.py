"""How long and how much a peer may keep a connection waiting, unless something else is set."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.settings import UpstreamSettings
from openai_relay.http1.patience import ClientLimits, ServerLimits


class PatienceTests(SynchronousTestCase):
    def test_server(self) -> None:
        """A handshake and a head get 10 s each, an idle connection 75 s, a stalled exchange 10 min; a head 64 KiB."""
        self.assertEqual(ServerLimits(), ServerLimits(10.0, 10.0, 75.0, 600.0, 65_536))

    def test_client(self) -> None:
        """10 s to connect, 10 min for the first byte and between two; idle connections are let go after 50 s."""
        self.assertEqual(ClientLimits(), ClientLimits(10.0, 600.0, 600.0, 50.0, 1_024))

    def test_frozen(self) -> None:
        """Limits are shared by all connections, so none can change them."""
        for limits, name in ((ServerLimits(), "max_head"), (ClientLimits(), "max_idle")):
            with self.assertRaises(FrozenInstanceError):
                setattr(limits, name, 1)

    def test_same_as_the_settings(self) -> None:
        """What an operator reads in the settings' defaults is what holds here."""
        settings, limits = UpstreamSettings(), ClientLimits()
        self.assertEqual(
            (
                settings.connect_timeout,
                settings.first_byte_timeout,
                settings.idle_timeout,
                settings.keepalive_timeout,
                settings.max_idle_connections,
            ),
            (
                limits.connect_timeout,
                limits.first_byte_timeout,
                limits.idle_timeout,
                limits.keepalive_timeout,
                limits.max_idle,
            ),
        )
