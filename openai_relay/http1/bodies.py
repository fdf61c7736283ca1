"""Bodies that go up in the place of a request's own: changed before it was sent, or read along on its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from openai_relay.core.errors import RelayError
from openai_relay.http1.fields import Pair
from openai_relay.http1.request import Request


@implementer(IBodyProducer)
class Given:
    """
    A body that is there as a whole; the request's own has all come, and is dropped.

    :ivar length: in bytes, which Content-Length must say.
    """

    upgrade = None

    def __init__(self, request: Request, body: bytes) -> None:
        self._request = request
        self._body = body
        self.length = len(body)
        self.trailers: list[Pair] = []
        self.send_interim = request.send_interim

    def take_whole(self) -> bytes:
        """All of it."""
        self._request.take_whole()
        return self._body

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Write all of it to ``consumer``."""
        consumer.write(self.take_whole())
        return succeed(None)

    def pauseProducing(self) -> None:
        """For `IBodyProducer`: there is nothing more to come."""

    def resumeProducing(self) -> None:
        """For `IBodyProducer`."""

    def stopProducing(self) -> None:
        """For `IBodyProducer`."""


@implementer(IBodyProducer, IConsumer)
class Watched:
    """
    A request's body that somebody reads before it goes on.

    :param read: called with each block; when it raises a `RelayError`, that block and all behind it stay here, the
        body fails with it, and the upstream never gets the end.
    :param end: called when all has come, before the upstream gets the end; it may raise likewise.
    """

    upgrade = None

    def __init__(
        self, request: Request, read: Callable[[bytes], object], end: Callable[[], object] | None = None
    ) -> None:
        self._request = request
        self._read = read
        self._end = end
        self._write: Callable[[bytes], object] | None = None
        self._whole: Deferred[None] | None = None
        self.length = request.length
        self.send_interim = request.send_interim
        self.pauseProducing = request.pauseProducing
        self.resumeProducing = request.resumeProducing

    @property
    def trailers(self) -> list[Pair]:
        """The trailer fields that go on."""
        return self._request.trailers

    @property
    def awaits_continue(self) -> bool:
        """Whether the client holds its body back."""
        return self._request.awaits_continue

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Write the body to ``consumer``; fires when all of it has been written, fails if it breaks off."""
        whole: Deferred[None] = Deferred(lambda _: self.stopProducing())
        self._whole, self._write = whole, consumer.write
        self._request.startProducing(self).addBoth(self._ended)
        return whole

    def write(self, data: bytes) -> None:
        """A block from the client."""
        write = self._write
        if write is None:
            return
        try:
            self._read(data)
        except RelayError as error:
            self._request.stopProducing()
            self._ended(Failure(error))
        else:
            write(data)

    def _ended(self, result: Failure | None) -> None:
        whole, self._whole, self._write = self._whole, None, None
        if result is None and self._end is not None:
            try:
                self._end()
            except RelayError as error:
                result = Failure(error)
        if whole is not None and not whole.called:
            whole.callback(result)

    def stopProducing(self) -> None:
        """Nobody wants the rest."""
        self._whole = self._write = None
        self._request.stopProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """For `IConsumer`; the request is paced by whoever takes this body."""

    def unregisterProducer(self) -> None:
        """For `IConsumer`."""
