"""Whether the peer reads: between a transport, which pauses, and whoever produces for it at present."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class Gate:
    """
    A transport's push producer that stays while those behind it come and go.

    :param on_open: called when the peer reads again and nobody produces.
    :ivar blocked: the peer does not read, and what is written is queued.
    :ivar producer: who is paused meanwhile.
    """

    __slots__ = ("_on_open", "blocked", "producer")

    def __init__(self, producer: Any = None, on_open: Callable[[], None] | None = None) -> None:
        self.producer = producer
        self.blocked = False
        self._on_open = on_open

    def pauseProducing(self) -> None:
        """The peer does not read."""
        self.blocked = True
        if self.producer is not None:
            self.producer.pauseProducing()

    def resumeProducing(self) -> None:
        """The peer reads again."""
        if not self.blocked:
            return
        self.blocked = False
        if self.producer is not None:
            self.producer.resumeProducing()
        elif self._on_open is not None:
            self._on_open()

    def stopProducing(self) -> None:
        """The transport is lost; the connection itself tells those whom it concerns."""
