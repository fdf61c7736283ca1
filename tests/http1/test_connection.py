"""What a request needs of its connection."""

from __future__ import annotations

from typing import get_type_hints

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.http1.connection import Connection
from openai_relay.http1.server import HTTPServerFactory
from tests.doubles import TurningReactor


class ConnectionTests(SynchronousTestCase):
    def test_server(self) -> None:
        """A server's connection has all that a request asks for, before it is connected."""
        connection = HTTPServerFactory(lambda request: None, TurningReactor()).buildProtocol(None)
        wanted = {name for name in vars(Connection) if not name.startswith("_")} | set(get_type_hints(Connection))
        self.assertGreater(len(wanted), 8)
        self.assertEqual({name for name in wanted if not hasattr(connection, name)} - {"transport"}, set())
