"""An answer from the upstream: its head, and its body for whoever takes it."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from openai_relay.http1.fields import FieldLines, Pair
from openai_relay.http1.message import ResponseHead


class Source(Protocol):
    """The connection that an answer comes on, as far as the answer needs it: `ClientConnection`."""

    response: Response | None

    def deliver(self, response: Response, sink: Any) -> None:
        """Give the body to ``sink``."""

    def take(self, response: Response, body: Any) -> None:
        """After a 101: send what ``body`` produces, as it is."""

    def pause(self) -> None:
        """Read nothing for a while."""

    def resume(self) -> None:
        """Read again."""

    def abandon(self) -> None:
        """Reset the connection."""

    def finish(self) -> None:
        """End the connection, with all that was written sent."""


@implementer(IResponse, IPushProducer)
class Response:
    """
    An answer's head, and its body for whoever asks with `deliverBody`.

    The protocol that takes the body gets this object as its transport: to pause,
    to resume, and to abort with ``stopProducing``.

    :ivar length: of the body, or ``None`` where only its end will tell.
    :ivar trailers: the trailer fields, once the body is complete.
    """

    def __init__(self, connection: Source, head: ResponseHead) -> None:
        self.code = head.status
        self.phrase = head.reason
        self.version = (b"HTTP", int(head.version[0:1]), int(head.version[2:3]))
        self.fields = head.fields
        self.length = None if head.framing < 0 else head.framing
        self.trailers: list[Pair] = []
        self.previousResponse = None
        self.request = None
        self.taken = False
        self._connection = connection

    @property
    def headers(self) -> Headers:
        """The fields, behind Twisted's face."""
        return FieldLines(self.fields)

    def setPreviousResponse(self, response: Any) -> None:
        """Never called: nothing is followed."""
        raise ValueError("this agent follows no redirect")

    def deliverBody(self, protocol: IProtocol) -> None:
        """Give the body to ``protocol``, starting with what has come already."""
        assert not self.taken, "a body is delivered once"
        self.taken = True
        protocol.makeConnection(self)  # type: ignore[arg-type]
        self._connection.deliver(self, protocol)

    def take(self, producer: IBodyProducer) -> None:
        """After a 101: what ``producer`` writes goes up as it is, paced by the upstream."""
        self._connection.take(self, producer)

    # Once the body is complete the connection may serve another: what comes late must not touch that.

    def pauseProducing(self) -> None:
        """Stop reading from the upstream."""
        if self._connection.response is self:
            self._connection.pause()

    def resumeProducing(self) -> None:
        """Read from the upstream again."""
        if self._connection.response is self:
            self._connection.resume()

    def stopProducing(self) -> None:
        """Abort: reset the upstream's connection; the body's protocol is told nothing more."""
        if self._connection.response is self:
            self._connection.abandon()

    def finish(self) -> None:
        """End a tunnel in an orderly way; the body's protocol is told nothing more."""
        if self._connection.response is self:
            self._connection.finish()

    #: What Twisted calls the same on a transport.
    loseConnection = abortConnection = stopProducing
