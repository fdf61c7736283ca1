"""``Reply``: one answer on its way: its head, its body in blocks or whole, or its end where it should not be."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from itertools import islice

from twisted.internet.interfaces import IReactorTime

from openai_relay.http1.server import Request
from openai_relay.standin.answer import JSON, Answer, Pair
from openai_relay.standin.controls import Controls
from openai_relay.standin.counters import Counters
from openai_relay.standin.heads import Heads, reason_of
from openai_relay.standin.problems import Problem
from openai_relay.standin.pump import Pump, compressed, cut_short


class Reply:
    """
    The answer to one request, and what is counted of it.

    :ivar controls: what the request asked for, once that is known.
    :ivar left: the client did not wait for the end.
    """

    def __init__(self, request: Request, number: int, clock: IReactorTime, counters: Counters, heads: Heads) -> None:
        self.request = request
        self.number = number
        self.controls = Controls()
        self.left = False
        self._clock = clock
        self._counters = counters
        self._heads = heads
        self._began = clock.seconds()
        self._counted = False
        self._cut = False
        self._sent = 0  # bytes of the body that are counted already

    def count(self, route: str) -> None:
        """The request is one that counts."""
        self._counted = True
        self._counters.begin(route)

    async def send(self, answer: Answer, usual_interval_ms: float) -> None:
        """Send an answer, in the manner that was asked for."""
        controls = self.controls
        if answer.blocks is None:
            body = gzip.compress(answer.body, mtime=0) if controls.gzip else answer.body
            length: int | None = len(body)
            if not (controls.first_byte_ms or controls.cut_after is not None or controls.cut_after_bytes is not None):
                self.send_whole(answer, body)
                return
            blocks: Iterator[bytes] = iter((body,))
        else:
            blocks = compressed(answer.blocks) if controls.gzip else answer.blocks
            length = None if controls.gzip else answer.length
        self._head(answer, length)
        await self._stream(blocks, usual_interval_ms if controls.interval_ms is None else controls.interval_ms)

    def switch(self, fields: tuple[Pair, ...]) -> None:
        """Become a WebSocket, with what was agreed on."""
        request, reason = self.request, self.controls.reason
        now = self._clock.seconds()
        told = self._heads.fields(now, self.number, self._spent_ms(now), b"", None, [*fields, *self.controls.field])
        request.send_head(101, reason_of(101) if reason is None else reason.encode("ascii"), told, None)
        request.flush()
        self._counters.websockets += 1
        self._counters.answer(101)

    def send_whole(self, answer: Answer, body: bytes) -> None:
        """Send an answer at once."""
        self._head(answer, len(body))
        self.request.write(body)
        self.request.finish()

    def refuse(self, problem: Problem) -> None:
        """Answer with an error; when an answer has begun, all that can be done is to cut it."""
        if self.request.finished:
            return
        if self.request.answered:
            self.cut()
            return
        answer = Answer(JSON, fields=tuple(problem.fields), status=problem.status)
        self.send_whole(answer, problem.body())

    def cut(self) -> None:
        """End the answer, and the connection, so that the client sees that something is missing."""
        self._cut = True
        self.request.cut()

    def cut_in_head(self) -> None:
        """The same before the head is complete."""
        self.request.connection.transport.write(b"HTTP/1.1 200 O")
        self.cut()

    def account(self) -> None:
        """The exchange is over, in whatever way."""
        if not self._counted:
            return
        counters = self._counters
        counters.open -= 1
        self.count_sent()
        if self.left:
            counters.aborted += 1
        elif self._cut:
            counters.cut += 1
        else:
            counters.finished += 1

    def count_sent(self) -> None:
        """Count what has been sent since the last time: not for each block, only when somebody asks."""
        sent = self.request.bytes_out
        self._counters.bytes_sent += sent - self._sent
        self._sent = sent

    async def _stream(self, blocks: Iterator[bytes], interval_ms: float) -> None:
        request, controls = self.request, self.controls
        if controls.first_byte_ms:
            request.flush()
        if controls.cut_after is not None:
            blocks = islice(blocks, controls.cut_after)
        if controls.cut_after_bytes is not None:
            blocks = cut_short(blocks, controls.cut_after_bytes)
        await Pump(self._clock, request, blocks, interval_ms / 1_000).run(controls.first_byte_ms / 1_000)
        if controls.cut_after is not None or controls.cut_after_bytes is not None:
            self.cut()
        else:
            request.finish()

    def _head(self, answer: Answer, length: int | None) -> None:
        request, controls = self.request, self.controls
        status = answer.status
        if status == 200 and controls.status is not None and controls.status < 400:
            status = controls.status
        if controls.chunked or status in (204, 304):
            length = None
        extra = [*answer.fields, *controls.field]
        if controls.gzip and answer.status < 400:
            extra.append((b"Content-Encoding", b"gzip"))
        if controls.close:
            request.connection.close_after()
        now = self._clock.seconds()
        fields = self._heads.fields(now, self.number, self._spent_ms(now), answer.content_type, length, extra)
        reason = reason_of(status) if controls.reason is None else controls.reason.encode("ascii")
        request.send_head(status, reason, fields, length)
        if self._counted:
            self._counters.answer(status)

    def _spent_ms(self, now: float) -> int:
        return int((now - self._began) * 1_000)
