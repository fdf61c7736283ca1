"""
One request being served: its body goes up, its answer comes down.

A `Request` is the producer of its own body (`IBodyProducer`) and the consumer
of its answer (`IConsumer`); both sides pause and resume the client's
connection.  Its answer is framed here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from openai_relay.core.errors import ClientGone, ClientStalled, RelayError, RequestTimeout, TunnelIdle
from openai_relay.http1.chunked import encode_end
from openai_relay.http1.connection import Connection
from openai_relay.http1.fields import Pair
from openai_relay.http1.message import CHUNKED, CONTINUE, SWITCHING, RequestHead, write_fields

#: Bytes of a body that are held for who has not asked for it yet.
_HELD: Final = 65_536
_NO_BODY: Final = frozenset({204, 304})


@implementer(IBodyProducer, IConsumer)
class Request:
    """
    One request and the way to answer it; made by `ServerConnection`.

    :ivar fields: in order and case as received.
    :ivar length: of the body in bytes; ``None`` when it is chunked.
    :ivar fault: why it cannot be served, when it is malformed; then it has no method or target.
    :ivar on_gone: called once, if the client leaves (or stalls) before the answer is complete.
    :ivar receiving: part of the body has still to come.
    :ivar tunnel: the answer was a 101; bytes of another protocol go both ways.
    :ivar continued: the client was told to send the body, and nobody else need tell it.
    :ivar taken: somebody has taken the body, or begun to.
    :ivar patience: seconds for which nothing may move in either direction; ``None``: the server's ``stall_timeout``.
    """

    def __init__(self, connection: Connection, head: RequestHead, fault: RelayError | None) -> None:
        self.connection = connection
        self.method = head.method
        self.target = head.target
        self.version = head.version
        self.fields = head.fields
        self.upgrade = head.upgrade
        self.expects_continue = head.expects_continue
        self.length = None if head.framing == CHUNKED else head.framing
        self.fault = fault
        self.receiving = False
        self.received_trailers: list[Pair] = []
        #: Which trailer fields go on to whoever takes the body; ``None``: all.
        self.select_trailers: Callable[[list[Pair]], list[Pair]] | None = None
        #: What of an interim answer's fields goes on to the client; ``None``: all.
        self.select_interim: Callable[[list[Pair]], list[Pair]] | None = None
        self.on_gone: Callable[[RelayError], None] | None = None
        self.tunnel = False
        self.patience: float | None = None
        self.answered = False  # the final head is on its way
        self.finished = False
        self.bytes_in = 0
        self.bytes_out = 0
        self._head = b""  # written with the first block, or by flush()
        self._chunked = False
        self._owed: int | None = None  # bytes that Content-Length promised and that have not been written
        self._bodyless = False
        self._consumer: Any = None
        self._whole: Deferred[None] | None = None
        self.continued = False
        self.taken = False
        self._held: list[bytes] = []
        self._hold = _HELD
        self._looking: Deferred[None] | None = None
        self._ended = head.framing == 0 and fault is None
        self._failed: RelayError | None = None
        self._wanted = fault is None  # somebody may still ask for the body
        self._producer: Any = None

    # The body, upwards.

    def look(self, size: int) -> Deferred[None] | None:
        """
        Wait for the first bytes of the body without taking it; ``peek`` then has them.

        :param size: how many to wait for, if more than are held for whoever comes late; what is longer is held back.
        :returns: what fires when they are here, or all of the body; fails if it breaks off.  ``None``: they are here.
        """
        if self._ended or self._failed is not None or self.bytes_in >= size:
            return None
        if self.awaits_continue:
            self.send_interim(CONTINUE, b"Continue", [])
            self.continued = True
        self._hold = max(size, _HELD)
        self.connection.resume()
        self._looking = Deferred(lambda _: self._looked())
        return self._looking

    def _looked(self) -> None:
        self._looking = None

    def peek(self) -> tuple[bytes, bool]:
        """What has come of the body, and whether that is all of it."""
        if len(self._held) > 1:
            self._held = [b"".join(self._held)]
        return (self._held[0] if self._held else b""), self._ended

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Write the body to ``consumer``; fires when all of it has been written, fails if it breaks off."""
        whole: Deferred[None] = Deferred(lambda _: self.stopProducing())
        self._consumer, self._whole, self._wanted, self.taken = consumer, whole, False, True
        held, self._held = self._held, []
        for block in held:
            consumer.write(block)
        if held:
            self.connection.resume()
        self._conclude()
        return whole

    def take_whole(self) -> bytes | None:
        """
        The body, if all of it is here: most requests are one block, and need nothing of what paces the others.

        ``None``: it is not; then there is `startProducing`.
        """
        if not self._ended or self._failed is not None or self._consumer is not None:
            return None
        held, self._held, self._wanted, self.taken = self._held, [], False, True
        self.connection.resume()
        return held[0] if len(held) == 1 else b"".join(held)

    @property
    def trailers(self) -> list[Pair]:
        """The trailer fields of the body, for whoever takes it."""
        select = self.select_trailers
        return self.received_trailers if select is None else select(self.received_trailers)

    # Once the answer is complete the connection may serve another: what comes late must not touch that.

    def pauseProducing(self) -> None:
        """Stop reading from the client."""
        if not self.finished:
            self.connection.pause()

    def resumeProducing(self) -> None:
        """Read from the client again."""
        if not self.finished:
            self.connection.resume()

    def stopProducing(self) -> None:
        """Nobody wants the rest of the body: what still comes is dropped when the answer is complete."""
        self._consumer = self._whole = None
        self._wanted = False
        self._held = []
        self.resumeProducing()

    def body_received(self, payload: bytes) -> None:
        """A block of the body, for the connection to call."""
        self.bytes_in += len(payload)
        if self._consumer is not None:
            self._consumer.write(payload)
        elif self._wanted and not self.finished:
            self._held.append(payload)
            if self.bytes_in > self._hold:
                self.connection.pause()
            if self.bytes_in >= self._hold and self._looking is not None:
                looking, self._looking = self._looking, None
                looking.callback(None)

    def body_ended(self) -> None:
        """The body is complete."""
        self._ended = True
        self._conclude()

    def body_failed(self, error: RelayError) -> None:
        """The body cannot be read any further."""
        self._failed = error
        self._wanted = False
        self._held = []
        if self._whole is None:  # nobody has begun to forward it: so nobody has to
            self.fault = self.fault or error
        self._conclude()

    def _conclude(self) -> None:
        whole = self._whole or self._looking
        if whole is None or not (self._ended or self._failed):
            return
        self._looking = None
        self._consumer = self._whole = None
        if self._failed is not None:
            whole.errback(self._failed)
        else:
            whole.callback(None)

    # The answer, downwards.

    def send_interim(self, status: int, reason: bytes, fields: list[Pair]) -> None:
        """Pass on an interim answer, such as 100 Continue; HTTP/1.0 has none (RFC 9110 §15.2)."""
        if not self.finished and not self.answered and self.version == b"1.1":
            if self.select_interim is not None:
                fields = self.select_interim(fields)
            if status == CONTINUE:
                self.expects_continue = False
            self.connection.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, write_fields(fields)))

    def send_head(self, status: int, reason: bytes, fields: list[Pair], length: int | None) -> None:
        """
        Begin the answer.

        :param fields: as they should stand, a Content-Length among them where there is one;
            none of Connection and Transfer-Encoding, which are this connection's own.
        :param length: of the body; ``None``: not known, so it is chunked, or ended by the close in HTTP/1.0.

        After a 101, whose ``fields`` name the protocol, the connection is a tunnel: whatever the client
        sends is the request's body, whatever is written is passed on as it is, to the end of the connection.
        """
        self.answered = True
        connection = self.connection
        self._bodyless = self.method == b"HEAD" or status in _NO_BODY
        switching = self.tunnel = status == SWITCHING
        if switching:
            self._begin_tunnel()
        elif length is not None or self._bodyless:
            self._owed = 0 if self._bodyless else length
        elif self.version == b"1.0":
            connection.close_after()
        else:
            self._chunked = True
        closing = connection.closing or self.receiving  # what is still coming may never end
        if closing:
            connection.close_after()
        if self._consumer is None and not switching:
            self._wanted = False
            self._held = []
        self._head = b"HTTP/1.1 %d %b\r\n%b%b%b\r\n" % (
            status,
            reason,
            write_fields(fields),
            b"Transfer-Encoding: chunked\r\n" if self._chunked else b"",
            b"Connection: Upgrade\r\n"
            if switching
            else b"Connection: close\r\n"
            if closing
            else b"Connection: keep-alive\r\n"
            if self.version == b"1.0"
            else b"",
        )

    def _begin_tunnel(self) -> None:
        assert self.upgrade is not None and self._ended, "a 101 that nobody asked for"
        self._ended = self.expects_continue = False
        self._wanted = True
        self.connection.tunnel(self)

    def write(self, data: bytes) -> None:
        """A block of the answer's body."""
        if self.finished or self._bodyless or not data:
            return
        size = len(data)
        self.bytes_out += size
        if self._chunked:
            data = b"%b%x\r\n%b\r\n" % (self._head, size, data)
            self._head = b""
        else:
            if self._owed is not None:
                self._owed -= size
                assert self._owed >= 0, "more body than Content-Length says"
            if self._head:
                data, self._head = self._head + data, b""
        self.connection.transport.write(data)

    def flush(self) -> None:
        """Send the head now, if no block of the body has taken it along."""
        if self._head and not self.finished:
            head, self._head = self._head, b""
            self.connection.transport.write(head)

    def finish(self, trailers: list[Pair] | None = None) -> None:
        """The answer is complete; one that owes bytes is cut instead."""
        if self.finished:
            return
        if self._owed:
            self.cut()
            return
        end = encode_end(trailers or []) if self._chunked else b""
        if self._head or end:
            end, self._head = self._head + end, b""
            self.connection.transport.write(end)
        self._over()
        self.connection.exchange_over(self)

    def cut(self) -> None:
        """End the answer so that the client sees that it is not complete."""
        if not self.finished:
            self.flush()
            self._over()
            self.connection.cut()

    def _over(self) -> None:
        self.finished = True
        self.on_gone = None
        self._held = []
        self._consumer = self._whole = None
        if self._producer is not None:
            self.unregisterProducer()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause ``producer`` while the client does not read."""
        if self.finished:
            producer.stopProducing()
            return
        assert streaming and self._producer is None
        self._producer = producer
        gate = self.connection.gate
        gate.producer = producer
        if gate.blocked:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Its producer is done."""
        if self._producer is not None:
            self._producer = self.connection.gate.producer = None

    # What the connection tells.

    def client_left(self, error: RelayError | None = None) -> None:
        """The client is gone."""
        if self.finished:
            return
        gone, self.on_gone = self.on_gone, None
        whole = self._whole
        self.finished = True
        self._consumer = self._whole = None
        self._held = []
        self.unregisterProducer()
        error = error or ClientGone()
        if gone is not None:
            gone(error)
        if whole is not None and not whole.called:
            whole.errback(error)

    def client_stalled(self) -> None:
        """The client has neither sent nor read for too long; of a tunnel, neither side."""
        connection = self.connection
        if self.on_gone is not None and not connection.gate.blocked and (self.tunnel or not self.answered):
            gone, self.on_gone = self.on_gone, None
            gone(TunnelIdle() if self.tunnel else RequestTimeout())  # it reads, and can be told why
            return
        self.client_left(ClientStalled())
        connection.abort()

    @property
    def awaits_continue(self) -> bool:
        """Whether the client holds its body back until the upstream says 100 Continue."""
        return self.expects_continue and self.bytes_in == 0

    @property
    def waits_for_client(self) -> bool:
        """Whether it is the client that keeps this exchange from going on."""
        connection = self.connection
        if self.awaits_continue:
            return connection.gate.blocked
        return (
            self.tunnel
            or connection.gate.blocked
            or (self.receiving and (self._consumer is not None or self._looking is not None) and not connection.paused)
        )
