"""The doubles of the wire promise what the real ones do: each mixin runs on both."""

from __future__ import annotations

import socket as sockets
import struct
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import MemorySocket, Recorder, TurningReactor, Wire
from tests.tls.test_transport import Accepted


class TransportPromises:
    """What a TLS transport does about its end."""

    reactor: TurningReactor
    protocol: Recorder
    transport: Any
    assertEqual: Any
    assertIsNone: Any
    assertIsInstance: Any
    assertTrue: Any
    assertFalse: Any

    def arrived(self) -> bytes:
        """What has arrived at the far end."""
        raise NotImplementedError

    def lost(self) -> object:
        return None if self.protocol.lost is None else self.protocol.lost.value

    def test_handshaken(self) -> None:
        """Its handshake is done."""
        self.assertTrue(self.transport.handshaken)

    def test_told_later(self) -> None:
        """However it is ended, the protocol is told in a later turn, never from within the call."""
        self.transport.write(b"x")
        self.transport.loseConnection()
        self.assertIsNone(self.lost())
        self.reactor.settle()
        self.assertIsInstance(self.lost(), ConnectionDone)
        self.assertFalse(self.transport.connected)
        self.assertTrue(self.transport.peer_has_closed())

    def test_abort(self) -> None:
        """Aborting is told as such, also after closing."""
        self.transport.loseConnection()
        self.transport.abortConnection()
        self.transport.abortConnection()
        self.assertIsNone(self.lost())
        self.reactor.settle()
        self.assertIsInstance(self.lost(), ConnectionAborted)

    def test_cut(self) -> None:
        """A cut is told as an end."""
        self.transport.write(b"x")
        self.transport.cutConnection()
        self.reactor.settle()
        self.assertIsInstance(self.lost(), ConnectionDone)
        self.assertEqual(self.arrived(), b"x")

    def test_nothing_after_the_end(self) -> None:
        """What is written after closing does not arrive."""
        self.transport.write(b"x")
        self.transport.loseConnection()
        self.transport.write(b"y")
        self.reactor.settle()
        self.transport.write(b"z")
        self.assertEqual(self.arrived(), b"x")

    def test_half_close(self) -> None:
        """After closing the writing side nothing is written, and the connection is not lost."""
        self.transport.write(b"x")
        self.transport.loseWriteConnection()
        self.transport.write(b"y")
        self.reactor.settle()
        self.assertEqual(self.arrived(), b"x")
        self.assertIsNone(self.lost())
        self.assertFalse(self.transport.peer_has_closed())


class WireTests(TransportPromises, SynchronousTestCase):
    """The double."""

    def setUp(self) -> None:
        self.reactor = TurningReactor()
        self.protocol = Recorder()
        self.transport = Wire(self.reactor)
        self.transport.connect(self.protocol)

    def arrived(self) -> bytes:
        return bytes(self.transport.value())


class TLSServerTests(TransportPromises, SynchronousTestCase):
    """The real one."""

    def setUp(self) -> None:
        self.reactor = TurningReactor()
        self.accepted = Accepted(self.reactor)
        self.accepted.shake_hands()
        self.protocol = self.accepted.protocol
        self.transport = self.accepted.transport

    def arrived(self) -> bytes:
        self.accepted.peer.feed(self.accepted.socket.take())
        return self.accepted.peer.received


class SocketPromises:
    """What a transport asks of a socket."""

    socket: Any
    assertEqual: Any
    assertRaises: Any

    def send_from_afar(self, data: bytes) -> None:
        raise NotImplementedError

    def end_from_afar(self) -> None:
        raise NotImplementedError

    def fill(self) -> None:
        """Make it so that nothing more can be sent."""
        raise NotImplementedError

    def received_afar(self) -> bytes:
        """What has arrived at the far end, one byte at least."""
        raise NotImplementedError

    def test_receive(self) -> None:
        """Receiving gives what there is and fits, then says that it would block, and nothing at the end."""
        buffer = bytearray(4)
        self.assertRaises(BlockingIOError, self.socket.recv_into, buffer)
        self.send_from_afar(b"hello")
        self.assertEqual((self.socket.recv_into(buffer), bytes(buffer)), (4, b"hell"))
        self.assertEqual((self.socket.recv_into(buffer), bytes(buffer)), (1, b"oell"))
        self.end_from_afar()
        self.assertEqual(self.socket.recv_into(buffer), 0)

    def test_send(self) -> None:
        """Sending says how much was taken, and that it would block when nothing is."""
        self.assertEqual(self.socket.send(b"hello"), 5)
        self.assertEqual(self.received_afar(), b"hello")
        self.fill()
        self.assertRaises(BlockingIOError, self.socket.send, b"x")

    def test_reset(self) -> None:
        """Closing with a linger of nothing, and everything else, is accepted."""
        self.socket.setblocking(False)
        self.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.shutdown(sockets.SHUT_RDWR)
        self.socket.close()


class MemorySocketTests(SocketPromises, SynchronousTestCase):
    """The double; the real one is in ``tests/integration/test_doubles.py``."""

    def setUp(self) -> None:
        self.socket = MemorySocket()

    def send_from_afar(self, data: bytes) -> None:
        self.socket.inbound += data

    def end_from_afar(self) -> None:
        self.socket.ended = True

    def fill(self) -> None:
        self.socket.room = 0

    def received_afar(self) -> bytes:
        return bytes(self.socket.take())
