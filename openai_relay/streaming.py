"""
Stream: the answer's body down to the client, paused by it, cut when the upstream cuts.

The other direction needs no code here: a `Request` is the producer of its own
body, and the upstream's connection its consumer.  After a 101 the body is all
that the upstream sends, and what the client sends goes up; both are passed on
first and read along after, and nothing that the readers find holds them back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from openai_relay.core.errors import ClientGone, ClientStalled, RelayError, UpstreamClosed
from openai_relay.core.exchange import Exchange
from openai_relay.core.metering import Meter
from openai_relay.core.socket_meter import SocketMeter
from openai_relay.core.sse import UsageFilter
from openai_relay.core.tally import Histogram
from openai_relay.core.websocket import MessageReader, close_frame
from openai_relay.http1.request import Request
from openai_relay.http1.response import Response

#: Bytes of a stream that are read together: some twenty events.
_READ_TOGETHER: Final = 1 << 12


@implementer(IPushProducer)
class ResponseRelay(Protocol):
    """Bytes go down to the client; pause, resume and stop go up to the upstream."""

    def __init__(self, request: Request, response: Response) -> None:
        self._request = request
        self._response = response
        self._write = request.write
        self._over = False
        self._failure: Failure | None = None
        self._awaited: Deferred[None] | None = None

    def start(self) -> Deferred[None] | None:
        """
        Take the body: what has come already goes down at once, the rest as the client reads.

        :returns: what fires when the rest has gone down too; ``None`` when there is no rest.
        :raises UpstreamError: the body broke off in what has come already.
        """
        self._response.deliverBody(self)
        if not self._over:
            self._request.registerProducer(self, True)
            self._awaited = Deferred(lambda _: self.stopProducing())
        elif self._failure is not None:
            self._failure.raiseException()
        return self._awaited

    def flush(self) -> None:
        """The body is over, whatever way: what was held back of it goes down."""

    def account(self, exchange: Exchange, input_tokens: int) -> None:
        """
        Note what went through.

        :param input_tokens: what the request is taken to have cost where nobody tells.
        """

    def makeConnection(self, transport: Any) -> None:
        """For `IProtocol`; the response is known already."""

    def dataReceived(self, data: bytes) -> None:
        """A block from the upstream."""
        self._write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The body ended, cleanly or not."""
        if self._over:
            return
        self._over = True
        self._request.unregisterProducer()
        failure = None if isinstance(reason.value, ResponseDone) else reason
        if self._awaited is None:
            self._failure = failure
        else:
            self._awaited.callback(failure)

    def pauseProducing(self) -> None:
        """The client does not read."""
        self._response.pauseProducing()

    def resumeProducing(self) -> None:
        """The client reads again."""
        self._response.resumeProducing()

    def stopProducing(self) -> None:
        """The client has left: abort the upstream."""
        if not self._over:
            self._over = True
            self._response.stopProducing()


class MeteredRelay(ResponseRelay):
    """
    An answer that is read along: passed on first and metered after.

    :param meter: takes each block, and returns how many events it completed.
    :param gaps: takes the time between two events.
    """

    def __init__(
        self, request: Request, response: Response, meter: Meter, gaps: Histogram, monotonic_ns: Callable[[], int]
    ) -> None:
        super().__init__(request, response)
        self._meter = meter
        self._feed = meter.feed
        self._gaps = gaps
        self._monotonic_ns = monotonic_ns
        self._last_ns = 0
        self._first_event_ns: int | None = None
        self._events = 0
        self._timed = 0

    def dataReceived(self, data: bytes) -> None:
        """A block: down first, read after."""
        self._write(data)
        if count := self._feed(data):
            self._events += count
            self._time()

    def _time(self) -> None:
        """An event is complete, or several at once."""
        now = self._monotonic_ns()
        if self._timed:
            self._gaps.observe(now - self._last_ns)
        else:
            self._first_event_ns = now
        self._last_ns = now
        self._timed += 1

    def account(self, exchange: Exchange, input_tokens: int) -> None:
        """Note the usage, and the events."""
        exchange.usage = self._meter.account(input_tokens)
        exchange.events, exchange.first_event_ns = self._events, self._first_event_ns
        self._gaps.observe_zeros(max(self._events - max(self._timed, 1), 0))


class MeteredStream(MeteredRelay):
    """
    Events as they are, uncompressed: read a few at a time, which is cheaper than each as it comes.

    Where one ends is seen by its blank line; one that is cut in two there is timed with the next.
    """

    def __init__(
        self, request: Request, response: Response, meter: Meter, gaps: Histogram, monotonic_ns: Callable[[], int]
    ) -> None:
        super().__init__(request, response, meter, gaps, monotonic_ns)
        self._unread: list[bytes] = []
        self._unread_size = 0

    def dataReceived(self, data: bytes) -> None:
        """A block: down first, read later."""
        self._write(data)
        self._put_by(data)

    def _put_by(self, data: bytes) -> None:
        self._unread.append(data)
        self._unread_size += len(data)
        if self._unread_size > _READ_TOGETHER:
            self._read()
        if b"\n\n" in data or b"\n\r\n" in data:
            self._time()

    def _read(self) -> None:
        self._events += self._feed(b"".join(self._unread))
        self._unread.clear()
        self._unread_size = 0

    def account(self, exchange: Exchange, input_tokens: int) -> None:
        """Note the usage, and the events, once all has been read."""
        self._read()
        super().account(exchange, input_tokens)


class SiftedStream(MeteredStream):
    """A stream whose usage the relay has asked for: the event that tells it, and nothing else, does not go down."""

    def __init__(
        self, request: Request, response: Response, meter: Meter, gaps: Histogram, monotonic_ns: Callable[[], int]
    ) -> None:
        super().__init__(request, response, meter, gaps, monotonic_ns)
        self._sift = UsageFilter()

    def dataReceived(self, data: bytes) -> None:
        """A block: what is sure not to be that event goes down, and all is read."""
        self._write(self._sift.feed(data))
        self._put_by(data)

    def flush(self) -> None:
        """Let go of what may have become that event."""
        self._write(self._sift.end())


class Tunnel(ResponseRelay):
    """
    A WebSocket: bytes both ways, each paced by its slower side, with a passive reader beside each.

    Made once the 101 is on its way to the client.

    :param idle_timeout: seconds for which neither side may send anything.
    """

    def __init__(self, request: Request, response: Response, idle_timeout: float) -> None:
        super().__init__(request, response)
        request.patience = idle_timeout
        self._gone, request.on_gone = request.on_gone, self._client_left
        extensions = b",".join(
            [value for name, value in response.fields if name.lower() == b"sec-websocket-extensions"]
        )
        self._meter = SocketMeter()
        self._up = MessageReader(from_client=True, extensions=extensions)
        self._down = MessageReader(from_client=False, extensions=extensions, on_text=self._meter.look)
        self._close_code: int | None = None  # of whoever said first that it is over

    def start(self) -> Deferred[None] | None:
        """Take what the upstream sends, as any body, and let what the client sends go up."""
        rest = super().start()
        if rest is not None:
            self._response.take(_Upwards(self._request, self._read_up))
        return rest

    def dataReceived(self, data: bytes) -> None:
        """A block from the upstream: down first, read after."""
        self._write(data)
        self._read(self._down, data)

    def _read_up(self, data: bytes) -> None:
        self._read(self._up, data)

    def _read(self, reader: MessageReader, data: bytes) -> None:
        reader.feed(data)
        if self._close_code is None:
            self._close_code = reader.close_code

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The upstream closed: an end if one of the two had said so, else a break."""
        if self._close_code is not None:
            reason = Failure(ResponseDone())
        elif isinstance(reason.value, ResponseDone) and not self._down.lost:
            reason = Failure(UpstreamClosed("closed without a close frame"))
        super().connectionLost(reason)

    def _client_left(self, error: RelayError) -> None:
        """The client closed, or nothing moves any more: an end if it was said, else whatever ``error`` says."""
        gone, self._gone = self._gone, None
        both = self._up.close_code is not None and self._down.close_code is not None
        left = isinstance(error, ClientGone) and not isinstance(error, ClientStalled)
        if (both or left) and self._close_code is not None and not self._over:
            self._over = True
            self._response.finish()  # its last words on their way up included
            if self._awaited is not None:
                self._awaited.callback(None)
        elif gone is not None:
            gone(error)

    def end(self, error: RelayError) -> None:
        """End it from here: with a close frame that says why, where one is understood, else with a cut."""
        if error.close_code is not None and self._down.between_frames:
            self._request.write(close_frame(error.close_code, error.told))
            self._request.finish()
        else:
            self._request.cut()

    def account(self, exchange: Exchange, input_tokens: int) -> None:
        """Note the messages, the usage, and how it was closed."""
        exchange.messages_in, exchange.messages_out = self._up.messages, self._down.messages
        exchange.close_code = self._close_code
        exchange.usage = self._meter.usage(whole=not (self._down.missed or self._down.lost))


@implementer(IBodyProducer, IConsumer)
class _Upwards:
    """What the client sends, as the request produces it, with a reader beside."""

    length = UNKNOWN_LENGTH

    def __init__(self, request: Request, read: Callable[[bytes], None]) -> None:
        self._request = request
        self._read = read
        self._write: Any = None
        self.pauseProducing = request.pauseProducing
        self.resumeProducing = request.resumeProducing
        self.stopProducing = request.stopProducing

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Write all that comes to ``consumer``; fails when the client leaves."""
        self._write = consumer.write
        return self._request.startProducing(self)

    def write(self, data: bytes) -> None:
        """A block from the client."""
        self._write(data)
        self._read(data)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """For `IConsumer`; what the request writes to is paced by whoever takes this body."""

    def unregisterProducer(self) -> None:
        """For `IConsumer`."""
