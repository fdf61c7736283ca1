"""
HTTP/1.1, the server's side: one exchange at a time on each connection.

A request is handed up as soon as its head is there.  Its body flows to whoever
takes it, its answer flows back, each paused by the slower side.  What a client
sends ahead (pipelining) waits, bounded, until the exchange is over.  A
malformed request is handed up too, with its ``fault``: so that it is answered
and recorded where every other one is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from openai_relay.core.errors import BadRequest, HeadTooLarge, RelayError, RequestTimeout
from openai_relay.http1.chunked import MalformedChunks
from openai_relay.http1.gate import Gate
from openai_relay.http1.incoming import ALL_THAT_COMES, Incoming
from openai_relay.http1.message import RequestHead, looks_broken, parse_request
from openai_relay.http1.patience import FAIR_SHARE, LAST_MOMENT, LINGER, LINGER_BYTES, READ_AHEAD, ServerLimits
from openai_relay.http1.request import Request
from openai_relay.http1.sweep import Sweep, Wait

_HANDSHAKE, _IDLE, _HEAD, _EXCHANGE, _LINGER, _CLOSING = "handshake", "idle", "head", "exchange", "linger", "closing"
#: Whatever comes in these is dropped.
_OVER: Final = (_LINGER, _CLOSING)


@implementer(IHandshakeListener)
class ServerConnection(Protocol):
    """One client's connection; made by `HTTPServerFactory`."""

    factory: Any  # told of handshakes and of the end
    transport: Any

    def __init__(self, serve: Callable[[Request], None], limits: ServerLimits, sweep: Sweep) -> None:
        self._serve = serve
        self._limits = limits
        self._sweep = sweep
        self._wait = Wait()
        self._phase = _IDLE
        self._buffer = b""
        self._looked = 0  # bytes of it in which no end of a head was found
        #: Knows whether the client reads; the producer of the answer is behind it.
        self.gate = Gate(on_open=self._reads_again)
        self._gated = False
        self._request: Request | None = None
        self._incoming = Incoming(0, 0)  # the request's body
        self._received = 0  # bytes of request bodies: progress, for the time-outs
        self._lingered = 0
        self._served = 0
        self._paused = False
        self._serving = False
        self._closing = False  # no further request
        self._hurried = False  # the server closes
        self.client_address = ""
        #: What the owner keeps about this connection's client, such as its identity.
        self.client: Any = None

    def connectionMade(self) -> None:
        """Wait for a handshake, where the transport makes one, else for a head."""
        if not getattr(self.transport, "handshaken", True):
            self._phase = _HANDSHAKE
            self.factory.handshake_begun(self)
        self.client_address = getattr(self.transport.getPeer(), "host", "")
        self._gated = True
        self.transport.registerProducer(self.gate, True)
        self._sweep.add(self)

    def handshakeCompleted(self) -> None:
        """TLS stands; the first head may come."""
        self._phase = _IDLE
        self.factory.handshake_done(self, None)

    def handshakeRefused(self, error: Exception) -> None:
        """TLS failed; the transport says so to the client and waits for it to hang up."""
        self.factory.handshake_done(self, error)

    def dataReceived(self, data: bytes) -> None:
        """Bytes of a request, decrypted."""
        request = self._request
        if request is None:
            if self._phase in _OVER:
                self._drop(data)
                return
            self._buffer = self._buffer + data if self._buffer else data
            self._next()
            if self._request is None and self._phase not in _OVER:
                if self.gate.blocked or self._has_enough:
                    self.pause()  # whoever asks and asks and reads no answer would have us keep them all
                else:
                    self.resume()  # a body that nobody wanted may have paused it
        elif request.receiving:
            self._body(request, data)
        else:
            self._ahead(data)

    def _ahead(self, data: bytes) -> None:
        self._buffer += data
        if self._has_enough:
            self.pause()

    @property
    def _has_enough(self) -> bool:
        """Whether no more should be read ahead; one head, however large it may be, always finds room."""
        return len(self._buffer) > max(READ_AHEAD, self._limits.max_head)

    def _drop(self, data: bytes) -> None:
        self._lingered += len(data)
        if self._lingered > LINGER_BYTES:
            self.transport.abortConnection()

    def _next(self) -> None:
        """Serve the requests whose heads are complete, one after the other."""
        if self._serving:
            return
        self._serving = True
        fair = FAIR_SHARE
        try:
            while self._request is None and self._buffer and not self.gate.blocked and self._phase not in _OVER:
                if not self._head():
                    break
                fair -= 1
                if not fair:
                    self._sweep.soon(self._go_on)  # the others first
                    break
        finally:
            self._serving = False

    def _head(self) -> bool:
        buffer = self._buffer
        start = 0
        while buffer.startswith(b"\r\n", start):  # RFC 9112 §2.2: empty lines before a request are passed over
            start += 2
        if start:
            buffer = self._buffer = buffer[start:]
        if buffer in (b"", b"\r"):
            return False
        # A head may come byte by byte: what has been looked at is not looked at again.
        looked, self._looked = self._looked, 0
        end = buffer.find(b"\r\n\r\n", max(looked - 3, 0)) + 4
        limit = self._limits.max_head
        if end < 4:
            self._looked = len(buffer)
            if len(buffer) > limit:
                self._refuse(HeadTooLarge())
            elif looks_broken(buffer, looked):
                self._refuse(
                    BadRequest(
                        told="The request's head is malformed (RFC 9112): check the first byte and the line ends."
                    )
                )
            elif self._phase is _IDLE:
                self._phase = _HEAD
            return False
        if end > limit:
            self._refuse(HeadTooLarge())
            return False
        try:
            head = parse_request(buffer[:end], self._limits.max_fields)
        except RelayError as fault:
            self._refuse(fault)
            return False
        self._buffer = buffer[end:]
        self._begin(head)
        return True

    def _refuse(self, fault: RelayError) -> None:
        """Hand up a request that cannot be served; nothing that follows on this connection is read."""
        self._closing = True
        self._buffer = b""
        request = Request(self, RequestHead(b"", b"", b"1.1", [], 0, False, False, None), fault)
        request.receiving = True  # whatever else comes belongs to it, and is dropped
        self._incoming = Incoming(ALL_THAT_COMES, 0)
        self._hand_up(request)

    def _begin(self, head: RequestHead) -> None:
        request = Request(self, head, None)
        if not head.keep_alive:
            self._closing = True
        if head.framing:
            self._incoming = Incoming(head.framing, self._limits.max_fields)
            request.receiving = True
        self._request = request
        if request.receiving and self._buffer:
            data, self._buffer = self._buffer, b""
            self._body(request, data)
        self._hand_up(request)

    def _hand_up(self, request: Request) -> None:
        self._request = request
        self._phase = _EXCHANGE
        self._served += 1
        self._serve(request)

    def _body(self, request: Request, data: bytes) -> None:
        self._received += len(data)
        incoming = self._incoming
        try:
            payload, rest = incoming.feed(data)
        except MalformedChunks as error:
            self._incoming = Incoming(ALL_THAT_COMES, 0)
            self._closing = True
            if error.payload:
                request.body_received(error.payload)
            request.body_failed(BadRequest(str(error), "The request's chunked body is malformed (RFC 9112 §7.1)."))
            return
        done = incoming.done
        if done:
            request.receiving = False
            request.received_trailers = incoming.trailers
            if rest:
                self._ahead(rest)
        if payload:
            request.body_received(payload)
        if done:
            request.body_ended()

    @property
    def closing(self) -> bool:
        """Whether this connection takes no further request."""
        return self._closing

    @property
    def paused(self) -> bool:
        """Whether nothing is read from the client at present."""
        return self._paused

    def close_after(self) -> None:
        """Take no further request after this one."""
        self._closing = True

    def tunnel(self, request: Request) -> None:
        """Whatever comes from here on, what came early included, is the body of this request."""
        self._closing = True
        self._incoming = Incoming(ALL_THAT_COMES, 0)
        request.receiving = True
        early, self._buffer = self._buffer, b""
        if early:
            self._body(request, early)

    def pause(self) -> None:
        """Read nothing for a while; the sweep still sees the client leave."""
        if not self._paused:
            self._paused = True
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read again, unless too much was read ahead."""
        if self._paused and not self._has_enough:
            self._paused = False
            self.transport.resumeProducing()

    def exchange_over(self, request: Request) -> None:
        """The answer is complete: go on with the next request, or close."""
        self._request = None
        if request.receiving or self._closing:
            self._hang_up(request.receiving or bool(self._buffer))
            return
        self._phase = _IDLE
        if self.gate.blocked:
            self.pause()
        else:
            self._go_on()

    def _reads_again(self) -> None:
        """The client has read the last answer."""
        if self._request is None and self._phase in (_IDLE, _HEAD):
            self._go_on()

    def _go_on(self) -> None:
        """Serve what was read ahead, and read again only when that has become little."""
        self._next()
        if self._serving or self._phase in _OVER:
            return
        if self._request is not None:
            self.resume()
        elif self._paused and not self.gate.blocked and not self._has_enough:
            self._paused = False
            self.transport.resumeProducing()

    def _hang_up(self, receiving: bool) -> None:
        """Close; where the client is still sending, first let it read the answer."""
        self._closing = True
        self._buffer = b""
        if receiving:
            self._phase = _LINGER
            self._release()
            if self._paused:
                self._paused = False
                self.transport.resumeProducing()
            self.transport.loseWriteConnection()
        else:
            self._close()

    def _close(self) -> None:
        self._phase = _CLOSING
        self._release()
        self.transport.loseConnection()

    def _release(self) -> None:
        """Twisted closes no connection under a paused producer."""
        if self._gated:
            self._gated = False
            self.transport.unregisterProducer()

    def cut(self) -> None:
        """End the connection so that the client sees that its answer is not complete."""
        self._request = None
        self._closing = True
        self._phase = _CLOSING
        self._buffer = b""
        self._release()
        # With what is queued sent, but no close_notify; on plain TCP nothing more can be said than the missing end.
        getattr(self.transport, "cutConnection", self.transport.loseConnection)()

    def abort(self) -> None:
        """Reset the connection."""
        self.transport.abortConnection()

    def drain(self) -> None:
        """Close when idle, else after the exchange that runs; one that nothing was asked on yet may ask once."""
        self._closing = True
        if self._request is None and self._phase is _IDLE and self._served:
            self._close()

    @property
    def is_new(self) -> bool:
        """Whether its first request is still to come."""
        return not self._served and self._phase not in _OVER

    def end(self) -> None:
        """Reset, as the server closes; but what is being closed already may still deliver its answer."""
        self._hurried = True
        if self._phase not in _OVER:
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client is gone, in whatever phase."""
        self._sweep.discard(self)
        request, self._request = self._request, None
        self._closing = True
        self._phase = _CLOSING
        self._buffer = b""
        if request is not None:
            request.client_left()
        self.factory.connection_lost(self)
        # No cycle may keep the TLS state of a closed connection until the collector comes by.
        self.gate = Gate()

    def sweep(self, now: float) -> None:
        """Has the client kept us waiting too long, or left while nobody was reading?"""
        if self._paused and getattr(self.transport, "peer_has_closed", bool)():
            self.transport.abortConnection()
            return
        phase, limits = self._phase, self._limits
        request = self._request
        if phase is _EXCHANGE and request is not None:
            read = self._acknowledged() if self.gate.blocked else -1
            stalled = self._wait.lasts((self._served, self._received, request.bytes_out, read), now)
            patience = limits.stall_timeout if request.patience is None else request.patience
            if request.waits_for_client and stalled >= patience:
                request.client_stalled()
            return
        # A closing connection may still have an answer to deliver: whoever reads, however slowly, gets it.
        read = self._acknowledged() if phase in _OVER and not self._hurried else -1
        if self._wait.lasts((phase, self._served, read), now) < self._patience(phase):
            return
        if phase is _HEAD and not self.gate.blocked:
            self._refuse(RequestTimeout())
        elif phase in (_IDLE, _HEAD):
            self._close()
        else:
            self.transport.abortConnection()

    def _acknowledged(self) -> int:
        """Bytes that the client has taken: progress, seen through a queue that does not get shorter yet."""
        return int(getattr(self.transport, "acknowledged", int)())

    def _patience(self, phase: str) -> float:
        limits = self._limits
        if self.gate.blocked and phase in (_IDLE, _HEAD):
            return limits.stall_timeout
        if phase is _HEAD:
            return limits.head_timeout
        if phase is _HANDSHAKE:
            return limits.handshake_timeout
        if self._hurried:
            return LAST_MOMENT
        return LINGER if phase is _LINGER else limits.idle_timeout
