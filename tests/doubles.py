"""
Doubles for the wire: a reactor that turns by hand, a socket, a transport and a TLS peer, all in memory.

``tests/test_doubles.py`` holds them to what the real ones promise.
"""

from __future__ import annotations

import errno
import socket as sockets
import sys
from collections.abc import Callable
from typing import Any, Final

from OpenSSL import SSL, crypto
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IProtocol
from twisted.internet.posixbase import _DisconnectSelectableMixin
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.certificates import Credential, authority

#: What a socket without a limit takes.
PLENTY: Final = 1 << 40
_SOME_DESCRIPTOR: Final = 999


class TurningReactor(_DisconnectSelectableMixin, MemoryReactorClock):
    """A clock, and a reactor over `MemorySocket`; each turn reads and writes once whoever can."""

    def turn(self) -> bool:
        """One turn of the event loop; whether anything happened in it."""
        busy = any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())
        self.advance(0)
        for transport in self.getReaders():
            if transport in self.readers and transport.socket.readable:
                busy = True
                self._end(transport, transport.doRead(), True)
        for transport in self.getWriters():
            if transport in self.writers and transport.socket.writable:
                busy = True
                self._end(transport, transport.doWrite(), False)
        return busy

    def settle(self) -> None:
        """Turn until nothing happens without time passing."""
        while self.turn():
            pass

    def _end(self, transport: Any, why: Any, is_read: bool) -> None:
        if why is not None:
            self._disconnectSelectable(transport, why, is_read)


class MemorySocket:
    """
    One end of a connection, as a transport uses it; a test holds the other end.

    :ivar inbound: what can still be received.
    :ivar outbound: what was sent.
    :ivar room: how many more bytes can be sent before it would block.
    """

    def __init__(self) -> None:
        self.inbound = bytearray()
        self.outbound = bytearray()
        self.room = PLENTY
        self.sent = 0
        self.ended = False  # the peer has sent its FIN
        self.broken = False  # the peer has reset the connection
        self.closed = False
        self.reset = False  # we have reset it
        self.no_delay = False
        self.sent_fin = False

    @property
    def readable(self) -> bool:
        """Whether receiving tells anything."""
        return bool(self.inbound) or self.ended or self.broken

    @property
    def writable(self) -> bool:
        """Whether sending takes anything, or fails."""
        return self.room > 0 or self.broken

    def recv_into(self, buffer: Any) -> int:
        self._check()
        if not self.inbound and not self.ended:
            raise BlockingIOError(errno.EAGAIN, "nothing there")
        data = bytes(self.inbound[: len(buffer)])
        del self.inbound[: len(data)]
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: Any) -> int:
        self._check()
        taken = bytes(data[: self.room])
        if data and not taken:
            raise BlockingIOError(errno.EAGAIN, "no room")
        self.room -= len(taken)
        self.sent += len(taken)
        self.outbound += taken
        return len(taken)

    def _check(self) -> None:
        if self.broken:
            raise ConnectionResetError(errno.ECONNRESET, "reset")

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        if (level, option) == (sockets.SOL_SOCKET, sockets.SO_LINGER):
            self.reset = True
        elif (level, option) == (sockets.IPPROTO_TCP, sockets.TCP_NODELAY):
            self.no_delay = bool(value)

    def getsockopt(self, level: int, option: int, size: int = 0) -> bytes:
        """Of ``TCP_INFO`` the state (established, or CLOSE_WAIT, or CLOSE), and how many bytes were acknowledged."""
        assert (level, option) == (sockets.IPPROTO_TCP, sockets.TCP_INFO)
        state = bytes([7 if self.broken else 8 if self.ended else 1])
        return (state.ljust(120, b"\0") + self.sent.to_bytes(8, sys.byteorder))[:size]

    def shutdown(self, how: int) -> None:
        if how in (sockets.SHUT_WR, sockets.SHUT_RDWR):
            self.sent_fin = True

    def close(self) -> None:
        self.closed = True
        self.sent_fin = True

    def fileno(self) -> int:
        return _SOME_DESCRIPTOR

    def take(self) -> bytes:
        """What was sent since the last time."""
        data = bytes(self.outbound)
        self.outbound.clear()
        return data


class Recorder(Protocol):
    """A protocol that only remembers; ``on_data`` may do more."""

    def __init__(self) -> None:
        self.received = b""
        self.blocks: list[bytes] = []
        self.handshakes = 0
        self.refused: list[Exception] = []
        self.lost: Failure | None = None
        self.on_data: Callable[[bytes], object] = lambda data: None
        self.on_handshake: Callable[[], object] = lambda: None

    def handshakeCompleted(self) -> None:
        self.handshakes += 1
        self.on_handshake()

    def handshakeRefused(self, error: Exception) -> None:
        self.refused.append(error)

    def dataReceived(self, data: bytes) -> None:
        self.blocks.append(data)
        self.received += data
        self.on_data(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class PausableSource:
    """A push producer that remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


def observe(case: SynchronousTestCase) -> list[LogEvent]:
    """The events that are logged from now on until the test ends."""
    events: list[LogEvent] = []

    @implementer(ILogObserver)
    def observer(event: LogEvent) -> None:
        events.append(event)

    globalLogPublisher.addObserver(observer)
    case.addCleanup(globalLogPublisher.removeObserver, observer)
    return events


def client_context(credential: Credential | None = None, trusted: Credential | None = None) -> SSL.Context:
    """What a client brings: a certificate with its chain (or none), and whom it trusts."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_PEER, lambda *results: bool(results[-1]))
    store = context.get_cert_store()
    assert store is not None
    store.add_cert(crypto.X509.from_cryptography((trusted or authority()).certificate))
    if credential is not None:
        context.use_certificate(credential.certificate)
        for each in credential.intermediates:
            context.add_extra_chain_cert(each)
        context.use_privatekey(credential.private_key)
    return context


class TLSPeer:
    """The far end of a TLS connection, in memory: `feed` it what was sent, `take` what it sends."""

    def __init__(self, context: SSL.Context, *, is_client: bool = True, host: bytes | None = None) -> None:
        self.tls = SSL.Connection(context, None)
        if is_client:
            self.tls.set_connect_state()
        else:
            self.tls.set_accept_state()
        if host is not None:
            self.tls.set_tlsext_host_name(host)
        self.received = b""
        self.handshaken = False
        self.notified = False  # a close_notify has come
        self.error: SSL.Error | None = None  # for instance the alert that came

    def step(self) -> None:
        """Go as far as what has come allows."""
        try:
            if not self.handshaken:
                self.tls.do_handshake()
                self.handshaken = True
            while True:
                self.received += self.tls.recv(65_536)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.notified = True
        except SSL.Error as error:
            self.error = error

    def feed(self, data: bytes) -> None:
        """What the other end sent."""
        if data:
            self.tls.bio_write(data)
        if self.error is None and not self.notified:
            self.step()

    def take(self) -> bytes:
        """What is to be sent to the other end."""
        data = b""
        while True:
            try:
                data += self.tls.bio_read(65_536)
            except SSL.WantReadError:
                return data

    def write(self, data: bytes) -> None:
        """Encrypt all of this."""
        while data:
            data = data[self.tls.send(data[:16_384]) :]


def handshake(server: SSL.Context, client: SSL.Context) -> tuple[TLSPeer, TLSPeer]:
    """Both ends of a handshake that has gone as far as it goes: the server's, the client's."""
    accepting, connecting = TLSPeer(server, is_client=False), TLSPeer(client)
    connecting.step()
    for _ in range(6):
        accepting.feed(connecting.take())
        connecting.feed(accepting.take())
    return accepting, connecting


class Wire(StringTransport):
    """
    A TLS transport in memory, its handshake done; what ends it is told to the protocol in a later turn.

    :ivar ending: ``""`` while it is open, else ``closed``, ``cut`` or ``aborted``.
    """

    handshaken = True
    tls: Any = None

    def __init__(self, clock: Any) -> None:
        super().__init__(lenient=True)
        self._clock = clock
        self.protocol: Any = None
        self.ending = ""
        self._reason: Exception = ConnectionDone()
        self.half_closed = False
        self.peer_left = False

    def connect(self, protocol: IProtocol) -> None:
        """Make this the transport of a protocol."""
        self.protocol = protocol
        protocol.makeConnection(self)

    def receive(self, data: bytes) -> None:
        """Bytes from the far end; they wait while nobody reads."""
        assert self.connected and self.producerState == "producing", "nobody reads"
        self.protocol.dataReceived(data)

    def lose(self, reason: Exception | None = None) -> None:
        """The far end is gone; seen only while somebody reads."""
        self._lost(reason or ConnectionDone())

    def stop_reading(self) -> None:
        """The far end reads no more: who writes is to pause."""
        assert self.producer is not None
        self.producer.pauseProducing()

    def read_again(self) -> None:
        """The far end has read all that was queued."""
        assert self.producer is not None
        self.producer.resumeProducing()

    def write(self, data: bytes) -> None:
        if self.connected and not self.ending and not self.half_closed:
            super().write(data)

    def loseConnection(self) -> None:
        self._end("closed", ConnectionDone())

    def cutConnection(self) -> None:
        self._end("cut", ConnectionDone())

    def abortConnection(self) -> None:
        self._end("aborted", ConnectionAborted())

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def peer_has_closed(self) -> bool:
        return self.peer_left or not self.connected

    def taken(self) -> bytes:
        """What was written since the last time."""
        data = bytes(self.value())
        self.clear()
        return data

    def _end(self, ending: str, reason: Exception) -> None:
        if not self.connected or self.ending == "aborted":
            return
        if not self.ending:
            self._clock.callLater(0, lambda: self._lost(self._reason))
        if not self.ending or ending == "aborted":
            self.ending, self._reason = ending, reason
            self.disconnecting = True

    def _lost(self, reason: Exception) -> None:
        if self.connected:
            self.connected = False
            self.disconnected = True
            self.producer = None
            self.protocol.connectionLost(Failure(reason))
