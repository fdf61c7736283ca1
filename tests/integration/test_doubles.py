"""What the double of a socket promises, a socket keeps."""

from __future__ import annotations

import select
import socket

from twisted.trial.unittest import SynchronousTestCase

from tests.test_doubles import SocketPromises


class SocketTests(SocketPromises, SynchronousTestCase):
    """The real one."""

    def setUp(self) -> None:
        port = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(port.close)
        self.far = socket.create_connection(port.getsockname())
        self.addCleanup(self.far.close)
        self.socket, _ = port.accept()
        self.addCleanup(self.socket.close)
        self.socket.setblocking(False)

    def send_from_afar(self, data: bytes) -> None:
        self.far.sendall(data)
        self.await_readable()

    def end_from_afar(self) -> None:
        self.far.shutdown(socket.SHUT_WR)
        self.await_readable()

    def await_readable(self) -> None:
        select.select([self.socket], [], [], 60)

    def fill(self) -> None:
        try:
            while True:
                self.socket.send(b"x" * 65_536)
        except BlockingIOError:
            pass

    def received_afar(self) -> bytes:
        return self.far.recv(65_536)
