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

    def makeConnection(self, transport: Any) -> None:
        """For `IProtocol`; the response is known already."""

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
