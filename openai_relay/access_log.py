"""
Write one line for each exchange, without ever making the reactor wait for whoever reads it.

``AccessLog`` turns exchanges into lines (``core.log_line`` says how);
``LineWriter`` takes them to a file descriptor in a thread of its own.  A full
disk, or a standard output that nobody reads, costs lines, which are counted,
and never time or memory.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from openai_relay.core.exchange import Exchange
from openai_relay.core.log_line import line_format
from openai_relay.core.settings import LogFormat

#: How many bytes of lines wait for a slow reader before further ones are dropped: some ten thousand lines.
QUEUE_BYTES: Final = 4 * 1024 * 1024
#: How many bytes are joined for one write.
_BATCH_BYTES: Final = 64 * 1024
#: How long the writer gathers lines before it writes: a wake-up for each would cost more than the line.
_GATHER: Final = 0.05


class AccessLog:
    """Writes the line of each exchange that ends; the course calls it once per exchange."""

    def __init__(self, write: Callable[[bytes], object], log_format: LogFormat, wall_ns: Callable[[], int]) -> None:
        """
        Bind the format to where its lines go.

        :param write: takes one whole line; must not block.
        :param log_format: anything but ``auto`` (``core.log_line.resolve`` settles that one).
        :param wall_ns: the wall clock, in nanoseconds since the epoch.
        """
        self._write = write
        self._format = line_format(log_format)
        self._wall_ns = wall_ns

    def record(self, exchange: Exchange) -> None:
        """Write the line of a closed exchange."""
        if self._format is not None:
            self._write(self._format(exchange, self._wall_ns()))


class LineWriter:
    """
    Takes lines to a file descriptor in a daemon thread, through a bounded queue.

    Each counter has one thread that writes it, so that none needs a lock:
    ``write`` and ``stop`` belong to the reactor's thread, what is behind the
    queue to the writer's.
    """

    def __init__(
        self,
        descriptor: int,
        queue_bytes: int = QUEUE_BYTES,
        system_write: Callable[[int, memoryview], int] = os.write,
    ) -> None:
        self._descriptor = descriptor
        self._queue_bytes = queue_bytes
        self._system_write = system_write
        self._queue: deque[bytes] = deque()
        self._waiting = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._put = 0  # bytes, ever; the reactor's thread
        self._refused = 0  # lines; the reactor's thread
        self._taken = 0  # bytes, ever; the writer's thread
        self._lost = 0  # lines; the writer's thread
        self._torn = False  # the last thing written is a part of a line; the writer's thread

    @property
    def dropped(self) -> int:
        """Lines that were not written, and never will be."""
        return self._refused + self._lost

    def start(self) -> None:
        """Start writing; lines that came before are written now. Not before a daemon has forked."""
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue one whole line, or drop it when the queue is full; never blocks."""
        size = len(line)
        if self._put - self._taken + size > self._queue_bytes or self._stopping.is_set():
            self._refused += 1
            return
        self._put += size
        self._queue.append(line)
        if not self._waiting.is_set():
            self._waiting.set()

    def stop(self, timeout: float = 1.0) -> None:
        """
        Write what waits and end the thread.

        What still waits after the timeout is dropped and counted; the batch in hand is left to the thread, which
        the process does not wait for.
        """
        self._stopping.set()
        self._waiting.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        while self._next() is not None:
            self._refused += 1

    def write_batch(self) -> None:
        """Write what waits, up to a batch; the thread's work, and nobody else's once that is started."""
        lines: list[bytes] = []
        size = 0
        while size < _BATCH_BYTES and (line := self._next()) is not None:
            lines.append(line)
            size += len(line)
        batch = b"".join([b"\n", *lines] if self._torn else lines)
        written = 0
        try:
            while written < len(batch):
                written += self._write_some(memoryview(batch)[written:])
        except OSError:  # a full disk, a closed pipe: these lines are gone, the next batch may do better
            self._lost += min(batch.count(b"\n", written), len(lines))
        if written:
            self._torn = not batch.endswith(b"\n", 0, written)
        self._taken += size

    def _run(self) -> None:
        stopping = False
        while not stopping:
            self._waiting.wait()
            self._stopping.wait(_GATHER)
            # In this order: what comes after the clear wakes us once more, be it a line or the end.
            self._waiting.clear()
            stopping = self._stopping.is_set()
            while self._queue:
                self.write_batch()

    def _next(self) -> bytes | None:
        try:
            return self._queue.popleft()
        except IndexError:
            return None

    def _write_some(self, data: memoryview) -> int:
        """Write what the descriptor takes, waiting for it if somebody else made it non-blocking."""
        while True:
            try:
                return self._system_write(self._descriptor, data)
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll()
