"""Which ports a demo takes."""

from __future__ import annotations

import errno
import socket

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.cli.demo.ports import Ports
from openai_relay.cli.output import Failure


class Network:
    """Ports of a machine, without one."""

    def __init__(self, *taken: int) -> None:
        self.taken = set(taken)
        self.unused = iter(range(40_000, 50_000))

    def new_socket(self) -> socket.socket:
        return NetworkSocket(self)


class NetworkSocket(socket.socket):
    """A socket that binds in a ``Network``."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._network = network
        self._port: int | None = None

    def bind(self, address: object) -> None:
        assert isinstance(address, tuple) and address[0] == "127.0.0.1"
        port: int = address[1] or next(self._network.unused)
        if port in self._network.taken:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        if port < 1024:
            raise OSError(errno.EACCES, "Permission denied")
        self._network.taken.add(port)
        self._port = port

    def getsockname(self) -> tuple[str, int | None]:
        return "127.0.0.1", self._port

    def close(self) -> None:
        if self._port is not None:
            self._network.taken.discard(self._port)
        super().close()


class PortsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network(8443)

    def test_differ(self) -> None:
        """Ports that are taken together differ, and are free again afterwards for the children."""
        with Ports(self.network.new_socket) as ports:
            taken = [ports.take(9443, ""), ports.take(0, ""), ports.take(0, "")]
            self.assertEqual(len(set(taken)), 3)
            self.assertEqual(taken[0], 9443)
            self.assertEqual(self.network.taken, {8443, *taken})
        self.assertEqual(self.network.taken, {8443})

    def test_taken(self) -> None:
        """A port that is taken is named, and so is what to type instead."""
        with Ports(self.network.new_socket) as ports:
            error = self.assertRaises(Failure, ports.take, 8443, "make demo PORT=9443")
        self.assertIn("127.0.0.1:8443: Another program listens there already", error.message)
        self.assertIn("choose another port: make demo PORT=9443.", error.message)

    def test_not_allowed(self) -> None:
        """A port that may not be taken says why."""
        with Ports(self.network.new_socket) as ports:
            error = self.assertRaises(Failure, ports.take, 443, "--port 9443")
        self.assertIn("127.0.0.1:443: Cannot listen there (permission denied)", error.message)

    def test_try(self) -> None:
        """A port that is only wished for may be taken without a failure."""
        with Ports(self.network.new_socket) as ports:
            self.assertIsInstance(ports.try_take(8443), OSError)
            self.assertEqual(ports.try_take(9464), 9464)
