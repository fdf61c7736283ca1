"""Connections of local tools tell what is asked of a transport; that they carry bytes is for the integration tests."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.connect.local import LocalPort, LocalServer
from tests.doubles import MemorySocket, Recorder, TurningReactor


class LocalServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = TurningReactor()
        self.socket: Any = MemorySocket()
        port = LocalPort(0, Factory(), 50, "127.0.0.1", self.reactor)
        recorder = Recorder()
        self.connection = port.transport(self.socket, recorder, ("127.0.0.1", 1), port, 0, self.reactor)
        recorder.makeConnection(self.connection)

    def test_kind(self) -> None:
        """The port makes connections that send small blocks at once."""
        self.assertIsInstance(self.connection, LocalServer)
        self.assertTrue(self.socket.no_delay)

    def test_peer_has_closed(self) -> None:
        """A tool that has hung up is seen, though nobody reads; so is a connection that is lost."""
        connection: Any = self.connection
        connection.pauseProducing()
        self.assertFalse(connection.peer_has_closed())
        self.socket.ended = True
        self.assertTrue(connection.peer_has_closed())
        self.socket.ended, self.socket.broken = False, True
        self.assertTrue(connection.peer_has_closed())
        self.socket.broken = False
        connection.abortConnection()
        self.reactor.settle()
        self.assertTrue(connection.peer_has_closed())

    def test_acknowledged(self) -> None:
        """It counts what has arrived at the tool, and nothing once it is gone."""
        connection: Any = self.connection
        connection.write(b"x" * 1_000)
        self.assertEqual(connection.acknowledged(), 0)
        self.reactor.settle()
        self.assertEqual(connection.acknowledged(), 1_000)
        connection.abortConnection()
        self.reactor.settle()
        self.assertEqual(connection.acknowledged(), 0)
