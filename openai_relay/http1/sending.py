"""A request's body on its way to the upstream: framed, paced by it, and never complete when it broke off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from zope.interface import implementer

from openai_relay.http1.chunked import encode_chunk, encode_end
from openai_relay.http1.gate import Gate


def coded(block: bytes, chunked: bool) -> bytes:
    """A block as it stands in the message."""
    return encode_chunk(block) if chunked and block else block


def end_of(body: Any, chunked: bool) -> bytes:
    """What stands behind the last block: only a chunked body has an end, and trailers."""
    return encode_end(getattr(body, "trailers", [])) if chunked else b""


@implementer(IConsumer)
class Sending:
    """
    Takes a body from its producer; made by `ClientConnection` for one that is not there as a whole.

    :param head: goes out in one write with what there is of the body.
    :param on_broken: told why the body broke off.
    :ivar done: nothing more is sent: the body is complete, broke off, or was stopped.
    :ivar sent: bytes so far: progress.
    """

    __slots__ = ("_body", "_chunked", "_gate", "_head", "_on_broken", "_transport", "done", "sent")

    def __init__(
        self, transport: Any, body: Any, head: bytes, chunked: bool, on_broken: Callable[[Failure], None]
    ) -> None:
        self._transport = transport
        self._body = body
        self._head = head
        self._chunked = chunked
        self._on_broken = on_broken
        self._gate: Gate | None = None
        self.done = False
        self.sent = 0

    def start(self) -> None:
        """Ask for the body; the head does not wait for it."""
        whole = self._body.startProducing(self)
        if not whole.called:
            # More is to come: from here on the upstream paces it.
            self._gate = Gate(self._body)
            self._transport.registerProducer(self._gate, True)
        whole.addCallbacks(self._complete, self._broke)
        if not self.done:
            self._put(b"")

    @property
    def waits_for_body(self) -> bool:
        """Whether it is the body that is waited for, and not the upstream."""
        return self._gate is not None and not self._gate.blocked and not getattr(self._body, "awaits_continue", False)

    def write(self, data: bytes) -> None:
        """A block of the body (`IConsumer`)."""
        if not self.done and data:
            self.sent += len(data)
            self._put(coded(data, self._chunked))

    def _put(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            self._transport.write(data)

    def _complete(self, _: None) -> None:
        if not self.done:
            self._let_go()
            self._put(end_of(self._body, self._chunked))

    def _broke(self, reason: Failure) -> None:
        """The upstream must not take it for complete."""
        if not self.done:
            self._let_go()
            self._on_broken(reason)

    def _let_go(self) -> None:
        self.done = True
        if self._gate is not None:
            self._gate = None
            self._transport.unregisterProducer()

    def stop(self) -> None:
        """The rest is not wanted: tell the producer."""
        if not self.done:
            self._let_go()
            self._body.stopProducing()

    def lost(self) -> None:
        """The transport is lost, and has let go of its producer itself."""
        self._gate = None
        self.stop()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """For `IConsumer`: the body is registered when it is started."""

    def unregisterProducer(self) -> None:
        """For `IConsumer`."""
