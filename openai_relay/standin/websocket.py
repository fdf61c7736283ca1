"""
``WebSocket``: one conversation over an upgraded request, each direction paced by the other side.

What the client says is heard at once and answered in its order.  While the
client does not read, nothing is made to be sent; while more than a little
waits for its answer, nothing is read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from wsproto.frame_protocol import CloseReason

from openai_relay.standin.counters import Counters
from openai_relay.standin.endings import Ending, Script
from openai_relay.standin.frames import Closed, Frames, Message, Pinged
from openai_relay.standin.outlet import Outlet
from openai_relay.standin.pump import Pump
from openai_relay.standin.reply import Reply

#: Bytes of messages that may wait for their answers,
MOST_UNANSWERED: Final = 65_536
#: each of them counted as so many more.
COST: Final = 256
#: How long a client may take to answer a close frame.
CLOSE_WITHIN: Final = 2.0


class Endpoint(Protocol):
    """What a conversation is about; pure, and asked for each message only when it can be sent."""

    def opening(self) -> Iterator[Message]:
        """What is said first."""

    def hear(self, message: Message) -> Iterator[Message] | None:
        """Take in a message, at once; what is returned is said after all that was returned before."""


class WebSocket:
    """The conversation with one client; also the consumer of what comes from it."""

    def __init__(self, clock: IReactorTime, reply: Reply, frames: Frames, counters: Counters) -> None:
        self._clock = clock
        self._reply = reply
        self._request = reply.request
        self._frames = frames
        self._controls = reply.controls
        self._counters = counters
        self._outlet = Outlet(reply.request)
        self._script = Script(frames, reply.controls, self._said)
        self._endpoint: Endpoint | None = None
        self._replies: deque[tuple[Iterator[Message], int]] = deque()
        self._unanswered = 0
        self._received = 0
        self._reading = True
        self._hushed = False  # nothing more is said
        self._silent = False  # nor is anything heard
        self._wanted: Deferred[None] | None = None  # fires when there is something to say
        self._saying: Deferred[None] | None = None  # fires when it has been said
        self._over: Deferred[None] = Deferred()
        self._last_call: IDelayedCall | None = None

    async def converse(self, endpoint: Endpoint, usual_interval_ms: float) -> None:
        """Talk until one side closes; the head of the 101 has been sent."""
        request, controls = self._request, self._controls
        self._endpoint = endpoint
        interval_ms = usual_interval_ms if controls.interval_ms is None else controls.interval_ms
        request.registerProducer(self._outlet, True)
        try:
            self._replies.append((endpoint.opening(), 0))
            # It only ever fails, with what `on_gone` has been told already.
            request.startProducing(self).addErrback(lambda _: None)
            if controls.stall_after == 0 or not self._reading:  # what was held for us has made the request read on
                self._reading = False
                request.pauseProducing()
            talking = Deferred.fromCoroutine(self._talk(interval_ms / 1_000, controls.first_byte_ms / 1_000))
            talking.addErrback(lambda bug: None if self._over.called else self._over.errback(bug))
            await self._over
            request.finish()
        finally:
            self._hush()
            if self._last_call is not None and self._last_call.active():
                self._last_call.cancel()
            request.cut()

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake, and wait for the client's part of it for a while."""
        if not self._over.called and not self._frames.closing:
            self._hush()
            self._request.write(self._frames.close(code, reason))
            self._last_call = self._clock.callLater(CLOSE_WITHIN, self._end)

    def write(self, data: bytes) -> None:
        """Bytes of the client."""
        self._counters.bytes_received += len(data)
        self._received += len(data)
        if self._stalled:
            self._read(False)
        if self._silent:
            return
        for heard in self._frames.receive(data):
            if isinstance(heard, Message):
                self._hear(heard)
            elif isinstance(heard, Pinged):
                self._counters.pings += 1
                self._outlet.urgent(self._frames.pong(heard.payload))
            else:
                self._hang_up(heard)

    def _hear(self, message: Message) -> None:
        self._counters.messages_received += 1
        if self._hushed:
            return
        assert self._endpoint is not None
        reply = self._endpoint.hear(message)
        if reply is None:
            return
        cost = len(message.data) + COST
        self._unanswered += cost
        self._replies.append((reply, cost))
        if self._unanswered > MOST_UNANSWERED:
            self._read(False)
        self._wake()

    def _hang_up(self, closed: Closed) -> None:
        if not closed.fault:
            self._counters.close(closed.code)
        self._hush()
        self._request.write(closed.answer)
        self._end()

    async def _talk(self, interval: float, first_after: float) -> None:
        """Say one reply after the other, until the ending that was asked for, or for ever."""
        while not self._hushed and (ending := self._script.ending) is None:
            if not self._replies:
                self._wanted = Deferred()
                await self._wanted
                continue
            reply, cost = self._replies.popleft()
            saying = Pump(self._clock, self._outlet, self._script.frames(reply), interval).run(first_after)
            self._saying = saying
            try:
                await saying
            except CancelledError:
                return
            finally:
                self._saying = None
                self._outlet.unregisterProducer()
            first_after = 0.0
            self._unanswered -= cost
            if self._unanswered <= MOST_UNANSWERED:
                self._read(True)
        if not self._hushed:
            assert ending is not None
            self._end_with(ending)

    def _end_with(self, ending: Ending) -> None:
        if ending is Ending.CLOSE:
            self.close(self._controls.close_code or CloseReason.NORMAL_CLOSURE, self._controls.close_reason or "")
        elif ending is Ending.SILENCE:
            self._silent = True
            self._hush()
        else:
            self._reply.cut()
            self._end()

    def _said(self) -> None:
        self._counters.messages_sent += 1

    @property
    def _stalled(self) -> bool:
        stall_after = self._controls.stall_after
        return stall_after is not None and self._received >= stall_after

    def _read(self, reading: bool) -> None:
        if reading is not self._reading and not (reading and self._stalled):
            self._reading = reading
            if reading:
                self._request.resumeProducing()
            else:
                self._request.pauseProducing()

    def _hush(self) -> None:
        """Whatever is being said ends here."""
        self._hushed = True
        self._replies.clear()
        if self._saying is not None:
            self._saying.cancel()
        self._wake()
        self._read(True)  # the client's close frame may stand behind what was not read yet

    def _wake(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            wanted.callback(None)

    def _end(self) -> None:
        if not self._over.called:
            self._over.callback(None)
