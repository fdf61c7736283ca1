"""
Stream: the answer's body down to the client, paused by it, cut when the upstream cuts.

The other direction needs no code here: a `Request` is the producer of its own
body, and the upstream's connection its consumer.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from zope.interface import implementer

from openai_relay.http1.request import Request
from openai_relay.http1.response import Response


@implementer(IPushProducer)
class ResponseRelay(Protocol):
    """Bytes go down to the client; pause, resume and stop go up to the upstream."""

    def __init__(self, request: Request, response: Response) -> None:
        self._request = request
        self._response = response
        #: What the upstream's connection calls for each block: the request's own framing, nothing between.
        self.dataReceived = request.write  # type: ignore[method-assign]
        self.finished: Deferred[None] = Deferred(lambda _: self.stopProducing())
        self._over = False

    def start(self) -> None:
        """Take the body: what has come already goes down at once, the rest as the client reads."""
        self._response.deliverBody(self)
        if not self._over:
            self._request.registerProducer(self, True)

    def makeConnection(self, transport: Any) -> None:
        """For `IProtocol`; the response is known already."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The body ended, cleanly or not."""
        if self._over:
            return
        self._over = True
        self._request.unregisterProducer()
        if isinstance(reason.value, ResponseDone):
            self.finished.callback(None)
        else:
            self.finished.errback(reason)

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
