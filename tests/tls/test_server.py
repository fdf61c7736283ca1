"""Accepted connections: what a port hands to each. How they shake hands and read stands with the transport."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory

from openai_relay.tls.server import TLSPort, TLSServer
from tests.doubles import MemorySocket, Recorder
from tests.tls.test_transport import TransportCase, server_context


class PortTests(TransportCase):
    def test_context_for_each_connection(self) -> None:
        """Each new connection asks for the context in force, so that a reload is a swap."""
        contexts = [server_context(), server_context()]
        port = TLSPort(0, Factory(), iter(contexts).__next__, 50, "127.0.0.1", self.reactor)
        sockets: list[Any] = [MemorySocket(), MemorySocket()]
        used = [
            TLSServer(sock, Recorder(), ("192.0.2.7", 1), port, 0, self.reactor).tls.get_context() for sock in sockets
        ]
        self.assertEqual(used, contexts)
