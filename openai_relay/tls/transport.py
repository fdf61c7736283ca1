"""
TLS right on the socket: Twisted's TCP transports with pyOpenSSL inside.

Twisted's own ``TLSMemoryBIOProtocol`` costs an exception for each "not yet" and a
reactor turn for each write.  Here the transport decrypts into one reused buffer
and sends what it encrypts within the turn; what the socket does not take is
queued as ciphertext, so buffering, producers and closing stay Twisted's.

The protocol above is told by `IHandshakeListener` when the handshake is done.  A
certificate that is refused gets its alert, and the socket then waits for the
client to hang up, so that the alert is not lost in a reset.
"""

from __future__ import annotations

import socket as sockets
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from OpenSSL import SSL
from OpenSSL._util import ffi, lib
from twisted.internet import main
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHandshakeListener

from openai_relay.turn import Turn

if TYPE_CHECKING:
    from twisted.internet.tcp import Connection as _TCPConnection
else:
    _TCPConnection = object

_SIZE: Final = 65_536
_WANT_READ: Final = 2  # SSL_ERROR_WANT_READ
_ZERO_RETURN: Final = 6  # SSL_ERROR_ZERO_RETURN: close_notify
#: One reactor thread uses these, and nothing stays in them between two calls.
_CIPHER: Final = ffi.new("char[]", _SIZE)
_PLAIN: Final = ffi.new("char[]", _SIZE)
_CIPHER_VIEW: Final = ffi.buffer(_CIPHER, _SIZE)
_POINTER: Final = ffi.new("char **")

_buffer = ffi.buffer
_read, _write = lib.SSL_read, lib.SSL_write
_bio_read, _bio_write, _waiting = lib.BIO_read, lib.BIO_write, lib.BIO_get_mem_data

#: Linux's ``struct tcp_info`` begins with the state; these mean that the peer has sent its FIN or RST.
_CLOSED_STATES: Final = frozenset({7, 8})


class TLSTruncated(ConnectionLost):
    """The peer closed the connection without saying so in TLS: what it sent may be cut short."""


#: Looks at a finished handshake; raises to refuse it.
Authenticate = Callable[[SSL.Connection], None]


class TLSTransport(_TCPConnection):
    """The part that `TLSServer` and `TLSClient` share: reading, writing and closing."""

    #: The pyOpenSSL connection: certificates, protocol version, verification result.
    tls: SSL.Connection
    handshaken = False
    reactor: Any
    _authenticate: Authenticate | None = None
    _refused: BaseException | None = None  # the handshake failed; waiting for the peer to hang up
    _early: list[bytes]  # written before the handshake was done
    _notified = False  # our close_notify is sent
    _gathered = False  # what was written waits for the end of the turn

    def _start_tls(self, connection: SSL.Connection, turn: Turn) -> None:
        self.tls, self._turn = connection, turn
        self._ssl = connection._ssl
        self._in = connection._into_ssl
        self._out = connection._from_ssl
        self._early = []
        self.setTcpNoDelay(True)
        self.setTcpKeepAlive(True)  # a peer that vanishes without a word is noticed, within a minute and a half
        for option, value in ((sockets.TCP_KEEPIDLE, 45), (sockets.TCP_KEEPINTVL, 15), (sockets.TCP_KEEPCNT, 3)):
            self.socket.setsockopt(sockets.IPPROTO_TCP, option, value)

    def doRead(self) -> Any:
        """The socket is readable: decrypt all that came and hand it up in one block."""
        try:
            count = self.socket.recv_into(_CIPHER_VIEW)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not count:
            return self._ended()
        if self._refused is not None:
            return None
        _bio_write(self._in, _CIPHER, count)
        if not self.handshaken and not self._handshake():
            return None
        return self._decrypt()

    def _decrypt(self) -> Any:
        count = _read(self._ssl, _PLAIN, _SIZE)
        if count > 0 and not _waiting(self._in, _POINTER):
            self.protocol.dataReceived(_buffer(_PLAIN, count)[:])
        else:
            blocks = []
            while count > 0:
                blocks.append(_buffer(_PLAIN, count)[:])
                if not _waiting(self._in, _POINTER):
                    break
                count = _read(self._ssl, _PLAIN, _SIZE)
            failure = self._explain(count) if count <= 0 else None
            if blocks:
                self.protocol.dataReceived(b"".join(blocks))
            if failure is not None and self.connected:
                return failure
        # A KeyUpdate, for instance, is answered without anybody having written.
        if self.connected and not self._gathered and _waiting(self._out, _POINTER):
            if self.producerPaused:  # it asks for answers of TLS itself, and reads none
                self.abortConnection()
            else:
                self._flush()
        return None

    def _explain(self, result: int) -> Exception | None:
        """Why `SSL_read` gave nothing: ``None`` when there is just nothing more."""
        code = lib.SSL_get_error(self._ssl, result)
        if code == _WANT_READ:
            return None
        if code == _ZERO_RETURN:
            return main.CONNECTION_DONE
        try:
            self.tls._raise_ssl_error(self._ssl, result)
        except SSL.Error as error:
            return error
        return main.CONNECTION_LOST

    def _ended(self) -> Exception:
        """The peer sent its FIN."""
        if self._refused is not None:
            return self._refused  # type: ignore[return-value]
        if not self.handshaken:
            return ConnectionLost("closed during the TLS handshake")
        return TLSTruncated("closed without a TLS close_notify")

    def _handshake(self) -> bool:
        """Take the handshake one step further; whether it is done, and the connection still wanted."""
        try:
            self.tls.do_handshake()
            if self._authenticate is not None:
                self._authenticate(self.tls)
        except SSL.WantReadError:
            self._flush()
            return False
        except Exception as error:  # noqa: BLE001 - OpenSSL's, service-identity's, or a callback's: none may pass
            self._refuse(error)
            return False
        self.handshaken = True
        # What OpenSSL noted about a certificate that was let pass must not be taken for the next connection's error.
        lib.ERR_clear_error()
        self._flush()
        listener = IHandshakeListener(self.protocol, None)
        if listener is not None:
            listener.handshakeCompleted()
        early, self._early = self._early, []
        if early and self.connected:
            self.write(b"".join(early))
        return bool(self.connected) and not self.disconnecting and not self._aborting

    def _refuse(self, error: Exception) -> None:
        self._refused = error.with_traceback(None)  # its frames hold this transport: a cycle
        self._flush()  # the alert
        refused = getattr(self.protocol, "handshakeRefused", None)
        if refused is not None:
            refused(error)
        if self.connected:
            self._hang_up(error)

    def _hang_up(self, error: Exception) -> None:
        """The handshake failed: let the peer read why, and wait for it to close."""
        FileDescriptor.loseWriteConnection(self)

    def write(self, data: bytes) -> None:
        """Encrypt and send; what the socket does not take now is queued (`IConsumer`)."""
        if not self.connected or self.disconnecting or self._notified:
            return
        if not self.handshaken:
            self._early.append(data)
            return
        size = len(data)
        done = _write(self._ssl, data, size) if size else 0
        if done < size and not self._write_rest(data, done):  # a record holds 16 KiB
            lib.ERR_clear_error()
            self.abortConnection()
        elif self._turn.gathers(self) and _waiting(self._out, _POINTER) < _SIZE // 2:
            self._gathered = True
        else:
            self._flush()

    def turn_over(self) -> None:
        """Send what was written after others in this turn."""
        self._gathered = False
        if self.connected and not self._aborting:
            self._flush()

    def writeSequence(self, iovec: Any) -> None:
        self.write(b"".join(iovec))

    def _write_rest(self, data: bytes, done: int) -> bool:
        """The records after the first; whether OpenSSL took them, which it does unless it is broken."""
        view = ffi.from_buffer(data)
        while 0 < done < len(data):
            count = _write(self._ssl, view + done, len(data) - done)
            if count <= 0:
                return False
            done += count
            if _waiting(self._out, _POINTER) >= _SIZE // 2:
                self._flush()
        return done > 0

    def _flush(self) -> None:
        """Send the ciphertext that waits; queue what the socket does not take."""
        while True:
            count = _bio_read(self._out, _CIPHER, _SIZE)
            if count <= 0:
                return
            sent = 0
            if not self.dataBuffer and not self._tempDataBuffer:
                try:
                    sent = self.socket.send(_CIPHER_VIEW[:count] if count < _SIZE else _CIPHER_VIEW)
                except OSError:
                    pass  # full, or broken: then the reactor's own write meets the same error and reports it
            if sent < count:
                FileDescriptor.write(self, _buffer(_CIPHER, count)[sent:])
            if count < _SIZE:
                return

    def _notify(self) -> None:
        if self.handshaken and not self._notified and self.connected:
            self._notified = True
            if lib.SSL_shutdown(self._ssl) < 0:
                lib.ERR_clear_error()
            self._flush()

    def loseConnection(self) -> None:
        """Send what is queued and a close_notify, then close."""
        if not self.disconnecting:
            self._notify()
        FileDescriptor.loseConnection(self)

    def loseWriteConnection(self) -> None:
        """Send what is queued and a close_notify, then FIN; go on reading until the peer closes."""
        self._notify()
        FileDescriptor.loseWriteConnection(self)

    def cutConnection(self) -> None:
        """Send what is queued, then close without a close_notify: the peer sees that it was cut."""
        if self.connected:
            self._flush()
        self._notified = True
        FileDescriptor.loseConnection(self)

    def connectionLost(self, reason: Any) -> None:
        """The socket is closed; OpenSSL's memory goes now, whoever still holds the transport."""
        super().connectionLost(reason)
        for name in ("tls", "_ssl", "_in", "_out"):
            self.__dict__.pop(name, None)

    def peer_has_closed(self) -> bool:
        """Whether the peer has sent FIN or RST, seen past bytes that nobody reads (Linux's TCP_INFO)."""
        if not self.connected:
            return True
        state = self.socket.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_INFO, 1)
        return state[0] in _CLOSED_STATES

    def acknowledged(self) -> int:
        """
        Bytes that have arrived at the peer's kernel in all (RFC 4898 tcpEStatsAppHCThruOctetsAcked).

        Tells a peer that reads slowly from one that does not read, long before the queue in between is shorter.
        """
        if not self.connected:
            return 0
        return int.from_bytes(self.socket.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_INFO, 128)[120:], sys.byteorder)
