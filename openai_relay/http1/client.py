"""
HTTP/1.1, the client's side: one exchange at a time on each connection.

A connection is reset, never reused, when its exchange did not end cleanly in
both directions; bytes that answer nothing are seen by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from zope.interface import implementer

from openai_relay.core.errors import UpstreamClosed, UpstreamError, UpstreamMalformed, UpstreamTimeout
from openai_relay.http1.chunked import ChunkDecoder, MalformedChunks
from openai_relay.http1.fields import Pair
from openai_relay.http1.message import (
    CHUNKED,
    SWITCHING,
    UNTIL_CLOSE,
    ResponseHead,
    looks_broken,
    parse_response,
    write_fields,
)
from openai_relay.http1.patience import LINGER, ClientLimits
from openai_relay.http1.response import Response
from openai_relay.http1.sending import Sending, coded, end_of
from openai_relay.http1.sweep import Wait

MAX_HEAD: Final = 65_536
#: Interim answers (1xx) to one request; more are a flood.
MAX_INTERIM: Final = 16
_DONE: Final = Failure(ResponseDone())


class StaleConnection(UpstreamClosed):
    """A kept connection was closed before it gave one byte of an answer: a safe request may go out anew."""


@implementer(IHandshakeListener)
class ClientConnection(Protocol):
    """
    One connection to the upstream; made by `pool.Pool`.

    :ivar lost: closed, or being reset: nothing can be asked on it any more.
    :ivar used: an exchange has been completed on it.
    :ivar response: the answer that is under way.
    """

    transport: Any

    def __init__(self, limits: ClientLimits, on_free: Callable[[ClientConnection], None]) -> None:
        self._limits = limits
        self._on_free = on_free
        self._wait = Wait()
        self.lost = False
        self.used = False
        self._finishing = False
        self._bytes = 0  # received, in all exchanges: progress
        #: Fires when requests can be sent: at once on plain TCP, after the handshake on TLS.
        self.ready: Deferred[None] = Deferred(lambda _: self._abort())
        self._reset()

    def _reset(self) -> None:
        self._busy = False
        self._method = b""
        self._upgrades = False
        self._waiting: Deferred[Response] | None = None  # for the head
        self._interim: Callable[[int, bytes, list[Pair]], None] | None = None
        self._interims = 0
        self._interim_keep = True
        self._buffer = b""
        self._looked = 0  # bytes of it in which no end of a head was found
        self.response: Response | None = None
        self._sink: Any = None  # who takes the body
        self._keep = False
        self._decoder: ChunkDecoder | None = None
        self._left = 0
        self._body_framing = 0
        self._cut: Failure | None = None  # the connection was lost before anybody took the body
        self._sending: Sending | None = None  # the request's body, if it was not there as a whole
        self._paused = False  # we do not read

    def connectionMade(self) -> None:
        """On plain TCP requests can be sent now."""
        if getattr(self.transport, "handshaken", True):
            self.ready.callback(None)

    def handshakeCompleted(self) -> None:
        """TLS stands, and the upstream is who it should be."""
        self.ready.callback(None)

    # The request.

    def request(
        self,
        method: bytes,
        target: bytes,
        fields: Sequence[Pair],
        body: Any,
        interim: Any = None,
        upgrades: bool = False,
    ) -> Deferred[Response]:
        """
        Send a request; fires with the head of its answer.

        :param fields: as they should stand, Host and any Content-Length among them.
        :param body: an `IBodyProducer`, whose ``length`` is ``None`` or ``UNKNOWN_LENGTH`` when it is to be chunked.
        :param interim: called with each interim answer.
        :param upgrades: the fields ask for WebSocket, so that a 101 may be the answer (RFC 9110 §7.8).
        """
        assert not self._busy and not self.lost
        self._reset()
        self._busy = True
        self._method, self._interim, self._upgrades = method, interim, upgrades
        waiting: Deferred[Response] = Deferred(lambda _: self.abandon())
        self._waiting = waiting
        chunked = body is not None and not isinstance(body.length, int)
        head = b"%b %b HTTP/1.1\r\n%b%b\r\n" % (
            method,
            target,
            write_fields(fields),  # type: ignore[arg-type]
            b"Transfer-Encoding: chunked\r\n" if chunked else b"",
        )
        take_whole = getattr(body, "take_whole", None)
        block = b"" if body is None else None if take_whole is None else take_whole()
        if block is None:
            self._sending = Sending(self.transport, body, head, chunked, self._fail)
            self._sending.start()
        else:
            self.transport.write(head + coded(block, chunked) + end_of(body, chunked))
        return waiting

    # The answer.

    def dataReceived(self, data: bytes) -> None:
        """Bytes of an answer, decrypted."""
        self._bytes += len(data)
        sink = self._sink
        if sink is not None:
            decoder = self._decoder
            if decoder is not None:
                try:
                    data = decoder.feed(data)
                except MalformedChunks as error:
                    if error.payload:
                        sink.dataReceived(error.payload)
                    self._fail(UpstreamMalformed(str(error)))
                    return
                if data:
                    sink.dataReceived(data)
                if decoder.done:
                    self._end(decoder.rest)
            else:
                self._counted(sink, data)
        elif not self._busy:
            # Nothing was asked, or it has been answered: whatever this is, nobody shall ever see it.
            self.abandon()
        else:
            self._buffer += data
            if self.response is None:
                self._read_head()

    def _counted(self, sink: Any, data: bytes) -> None:
        if self._body_framing == UNTIL_CLOSE:
            sink.dataReceived(data)
            return
        left = self._left = self._left - len(data)
        if left > 0:
            sink.dataReceived(data)
            return
        rest = b""
        if left:
            data, rest = data[:left], data[left:]
        if data:
            sink.dataReceived(data)
        self._end(rest)

    def _read_head(self) -> None:
        while not self.lost:
            end = self._buffer.find(b"\r\n\r\n", max(self._looked - 3, 0)) + 4
            if end < 4 or end > MAX_HEAD:
                if len(self._buffer) > MAX_HEAD or end > MAX_HEAD:
                    self._fail(UpstreamMalformed("the response head is too large"))
                elif not b"HTTP/1.".startswith(self._buffer[:7]):
                    self._fail(UpstreamMalformed("the answer is not HTTP/1"))
                elif looks_broken(self._buffer, self._looked):
                    self._fail(UpstreamMalformed("the response head's line ends must be CRLF"))
                self._looked = len(self._buffer)
                return
            self._looked = 0
            head, self._buffer = self._buffer[:end], self._buffer[end:]
            try:
                parsed = parse_response(head, self._method)
            except UpstreamError as error:
                self._fail(error)
                return
            if parsed.status >= 200 or self._switches(parsed):
                self._answer(parsed)
                return
            if not self._interim_head(parsed):
                return

    def _switches(self, head: ResponseHead) -> bool:
        """Whether it is the 101 that was asked for: from here on the bytes are no HTTP, both ways."""
        if head.status != SWITCHING or not self._upgrades or (head.upgrade or b"").lower() != b"websocket":
            return False
        head.framing, head.keep_alive = UNTIL_CLOSE, False
        return True

    def take(self, response: Response, body: Any) -> None:
        """Send the client's bytes as they are, for `Response.take`."""
        if self.response is response:
            self._sending = Sending(self.transport, body, b"", False, self._fail)
            self._sending.start()
        else:
            body.stopProducing()

    def _interim_head(self, head: ResponseHead) -> bool:
        self._interims += 1
        self._interim_keep = self._interim_keep and head.keep_alive
        if head.status == SWITCHING or self._interims > MAX_INTERIM:
            self._fail(UpstreamMalformed("unasked 101, or too many interim answers"))
            return False
        if self._interim is not None:
            self._interim(head.status, head.reason, head.fields)
        return bool(self._buffer)

    def _answer(self, head: ResponseHead) -> None:
        self._keep = head.keep_alive and self._interim_keep
        self._body_framing = framing = head.framing
        if framing == CHUNKED:
            self._decoder = ChunkDecoder()
        elif framing >= 0:
            self._left = framing
        response = self.response = Response(self, head)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(response)
        if self._sink is None and self.response is response:  # not over, and the connection serving another, already
            self.pause()  # until somebody takes the body

    def deliver(self, response: Response, sink: Any) -> None:
        """Give the body to ``sink``, for `Response.deliverBody`."""
        if self.response is not response:
            sink.connectionLost(Failure(UpstreamClosed("closed before its body was asked for")))
            return
        self._sink = sink
        self.resume()  # before the sink sees anything: it may pause at once
        early, self._buffer = self._buffer, b""
        if early or self._body_framing == 0:
            self.dataReceived(early)
        if self._cut is not None and self._sink is not None:
            self._break_off(self._cut)

    def _end(self, rest: bytes) -> None:
        """The answer is complete."""
        sink, self._sink = self._sink, None
        response = self.response
        if sink is None or response is None:
            return  # who took its last block aborted it
        if rest:
            self._keep = False
        if self._decoder is not None:
            response.trailers = self._decoder.trailers
        if self._sending is not None and not self._sending.done:
            # It answered without waiting for the whole request: what is left of that goes nowhere.
            self._sending.stop()
            self._keep = False
        self._over()
        sink.connectionLost(_DONE)

    def _over(self) -> None:
        """Both directions are done: keep the connection or close it."""
        self._busy = False
        self._interim = self.response = None
        if self._keep and not self.lost:
            self.resume()
            self.used = True
            self._on_free(self)
        else:
            self._abort()

    def _abort(self) -> None:
        if not self.lost:
            self.lost = True  # before the transport says so, a turn later
            self.transport.abortConnection()

    def _fail(self, error: UpstreamError | Failure) -> None:
        """The exchange failed: tell whoever waits, and never use the connection again."""
        waiting, self._waiting = self._waiting, None
        sink, self._sink = self._sink, None
        self.abandon()
        if waiting is not None:
            waiting.errback(error)
        elif sink is not None:
            sink.connectionLost(error if isinstance(error, Failure) else Failure(error))

    def abandon(self) -> None:
        """Reset the connection; nobody is told."""
        self._sink = None
        if self._sending is not None:
            self._sending.stop()
        self._busy = False
        self.response = None
        self._abort()

    def finish(self) -> None:
        """End it in an orderly way, with all that was written sent; what the upstream still says is dropped."""
        self._sink = self.response = None
        if self._sending is not None:
            self._sending.stop()
        self._busy = False
        if not self.lost:
            self.lost = self._finishing = True
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The upstream closed, or we did."""
        self.lost = True
        self._on_free(self)
        if not self.ready.called:
            self.ready.errback(reason)
        if self._sending is not None:
            self._sending.lost()
        waiting, self._waiting = self._waiting, None
        if self._sink is not None:
            self._break_off(reason)
        elif self.response is not None:
            self._cut = reason
        elif waiting is not None and not waiting.called:
            stale = self.used and not self._buffer and not self._interims
            waiting.errback((StaleConnection if stale else UpstreamClosed)(reason.getErrorMessage()))

    def _break_off(self, reason: Failure) -> None:
        """The connection was lost in the body, which may be how that ends."""
        sink, self._sink, self.response = self._sink, None, None
        clean = self._body_framing == UNTIL_CLOSE and reason.check(ConnectionDone)
        sink.connectionLost(_DONE if clean else Failure(UpstreamClosed(reason.getErrorMessage())))

    # Pausing and waiting.

    def pause(self) -> None:
        """Read nothing for a while."""
        if not self._paused and not self.lost:
            self._paused = True
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            if not self.lost:
                self.transport.resumeProducing()

    def sweep(self, now: float) -> None:
        """Has the upstream kept us waiting too long, or left while nobody was reading?"""
        limits, sending = self._limits, self._sending
        if self.lost:
            if self._finishing and self._wait.lasts("end", now) >= LINGER:
                self.transport.abortConnection()
            return
        if not self._busy:
            if self._wait.lasts(("idle", self._bytes), now) >= limits.keepalive_timeout:
                self._abort()
            return
        if self.response is not None:
            phase, limit = "body", limits.idle_timeout
        else:
            phase, limit = "head", limits.first_byte_timeout
        waits_for_us = self._paused or (sending is not None and sending.waits_for_body)
        taken = None if sending is None else (sending.sent, getattr(self.transport, "acknowledged", int)())
        mark = now if waits_for_us else (phase, self._bytes, taken)
        if self._wait.lasts(mark, now) >= limit:
            self._fail(UpstreamTimeout(f"silent for {limit:g} s ({phase})"))


__all__ = ["ClientConnection", "ClientLimits", "StaleConnection"]
