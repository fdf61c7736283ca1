"""Ports that cannot be had, and what is said about them; those that can are used in the tests of integration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from openai_relay.core.settings import AdminSettings, ListenSettings, Secret, Settings, UpstreamSettings
from openai_relay.http1.server import HTTPServerFactory
from openai_relay.ports import Ports
from tests.doubles import TurningReactor


class Full(MemoryReactorClock):
    """A reactor on which no port can be had."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        raise CannotListenError(interface, port, OSError(98, "Address already in use"))


class PortsTests(SynchronousTestCase):
    def ports(self) -> Ports:
        reactor = Full()
        factory = HTTPServerFactory(lambda request: None, TurningReactor())
        return Ports(reactor, factory, lambda: self.fail("nobody connects"), Site(Resource(), reactor=reactor))

    def test_closed(self) -> None:
        """Before they are opened there is nothing, and closing them is nothing."""
        ports = self.ports()
        self.assertEqual((ports.is_open, ports.address, ports.admin_address), (False, "", ""))
        closing: Any = ports.close_clients()
        self.assertRaises(StopIteration, closing.send, None)

    def test_unknown_socket(self) -> None:
        """A socket that systemd did not pass is named as the setting has it."""
        listen = ListenSettings(Path(), Secret(b""), Path(), "systemd:clients")
        settings = Settings(listen, upstream=UpstreamSettings(), admin=AdminSettings(None))
        error = self.assertRaises(SystemExit, self.ports().open, settings)
        self.assertTrue(str(error).startswith("openai-relay: listen.address = 'systemd:clients': "), error)
