"""``Outlet``: the way out of a WebSocket: whole frames, no faster than the client reads them."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from openai_relay.http1.server import Request


@implementer(IConsumer, IPushProducer)
class Outlet:
    """
    Stands between a request and those who produce for it, one after the other.

    What is urgent (a pong) goes between their frames.  While the client does
    not read, only the last of it is kept, as RFC 6455 §5.5.3 allows: a client
    that pings and pings costs no more than one that does not.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._producer: Any = None
        self._blocked = False
        self._urgent = b""

    def write(self, data: bytes) -> None:
        """Some whole frames."""
        self._request.write(data)

    def urgent(self, frame: bytes) -> None:
        """A frame that does not wait for the others."""
        if self._blocked:
            self._urgent = frame
        else:
            self._request.write(frame)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """The next one who has something to say."""
        self._producer = producer
        if self._blocked:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """It has said it."""
        self._producer = None

    def pauseProducing(self) -> None:
        """The client does not read."""
        self._blocked = True
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """The client reads again."""
        self._blocked = False
        urgent, self._urgent = self._urgent, b""
        if urgent:
            self._request.write(urgent)
        if self._producer is not None and not self._blocked:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """The client has left."""
        if self._producer is not None:
            self._producer.stopProducing()
