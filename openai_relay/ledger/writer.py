"""
Take rows to the ledger in a thread of its own, so that nothing on a request's way waits for a disk.

Rows wait in a queue that is bounded by their number.  Where the file cannot be
written they go on waiting there, and the thread tries again with growing
pauses; what does not fit any more is lost, counted and said.  A damaged file
is set aside and a new one begun.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, Protocol

from openai_relay.core.ledger_row import LedgerRow
from openai_relay.ledger.database import Database, set_aside
from openai_relay.ledger.errors import BadRow, Damaged, LedgerError

#: How many rows wait for a file that cannot be written, before further ones are lost: about 11 MB.
QUEUE_ROWS: Final = 20_000
#: How long totals are kept at least, whatever becomes of rows: budgets and comparisons look back a year.
TOTALS_DAYS: Final = 400
#: How many rows are committed at once.
_BATCH_ROWS: Final = 1_000
#: How long rows are gathered before they are committed: a commit costs more than a row.
_GATHER: Final = 0.25
#: Between two tries of a file that cannot be written: the first pause, and the longest.
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
#: Between two looks for what is too old, and two complaints.
_PRUNE_EVERY: Final = 600.0
_TELL_EVERY: Final = 60.0
_PRUNE_ROWS: Final = 500
_DAY_MS: Final = 86_400_000
_TOO_FAST: Final = "they come faster than the disk takes them"


class Store(Protocol):
    """What the writer does with an open ledger; ``Database`` is one."""

    def append(self, rows: Sequence[LedgerRow]) -> None:
        """Store all or none."""

    def prune(self, rows_before_ms: int, totals_before_ms: int, limit: int) -> bool:
        """Delete a few of the oldest; whether there may be more."""

    def close(self) -> None:
        """Close it."""


@dataclass(frozen=True, slots=True)
class State:
    """How the ledger is, for ``/readyz?verbose``."""

    kind: Literal["ok", "waiting", "losing"] = "ok"
    rows: int = 0  #: that wait
    lost: int = 0  #: ever
    reason: str = ""

    def __str__(self) -> str:
        if self.kind == "ok":
            return "ok"
        if self.kind == "waiting":
            return f"waiting: {self.rows:,} rows, {self.reason}"
        return f"losing: {self.lost:,} lost, {self.rows:,} rows waiting, {self.reason}"


class LedgerWriter:
    """
    The thread and its queue.

    Each counter has one thread that writes it, so that none needs a lock: ``append`` and ``stop`` belong to the
    reactor's thread, what is behind the queue to the writer's.
    """

    def __init__(
        self,
        path: Path,
        tell: Callable[[str], object],
        *,
        retention_days: int | None = None,
        queue_rows: int = QUEUE_ROWS,
        open_store: Callable[[Path], Store] = Database,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Say where rows go; nothing is opened before ``start``.

        :param tell: takes a line for the operator; called in the ledger's thread, at most about once a minute.
        :param retention_days: how long rows are kept; ``None``: for ever.
        """
        self._path = path
        self._tell = tell
        self._retention_days = retention_days
        self._queue_rows = queue_rows
        self._open = open_store
        self._wall_ns = wall_ns
        self._monotonic = monotonic
        self._queue: deque[LedgerRow] = deque()
        self._waiting = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._put = 0  # rows, ever; the reactor's thread
        self._refused = 0  # rows; the reactor's thread
        # From here on: the writer's thread.
        self._taken = 0  # rows, ever, that wait no more
        self._written = 0  # rows
        self._lost = 0  # rows
        self._batch: list[LedgerRow] = []  # taken from the queue, not committed
        self._store: Store | None = None
        self._reason = ""  # why nothing can be written; empty: it can
        self._cause = _TOO_FAST  # why rows are lost where the file can be written
        self._before = 0  # rows lost before the present trouble
        self._pause = 0.0
        self._told = float("-inf")  # when the operator was told last, and of how many lost rows in all
        self._told_lost = 0
        self._told_reason = False
        self._prune_at = float("-inf")

    @property
    def lost(self) -> int:
        """Rows that were not stored, and never will be."""
        return self._refused + self._lost

    @property
    def written(self) -> int:
        """Rows that were stored."""
        return self._written

    @property
    def waiting(self) -> int:
        """Rows that are still to be stored."""
        return self._put - self._taken

    @property
    def state(self) -> State:
        """How it is; any thread may ask."""
        reason, lost = self._reason, self.lost
        losing = lost > self._before
        if not reason and not losing:
            return State(lost=lost)
        return State("losing" if losing else "waiting", self.waiting, lost, reason or self._cause)

    def start(self) -> None:
        """Start writing; rows that came before are written now. Not before a daemon has forked."""
        self._thread.start()

    def append(self, row: LedgerRow) -> None:
        """Queue one row, or lose it when the queue is full; never blocks."""
        if self.waiting >= self._queue_rows or self._stopping.is_set():
            self._refused += 1
            return
        self._put += 1
        self._queue.append(row)
        if not self._waiting.is_set():
            self._waiting.set()

    def stop(self, timeout: float = 2.0) -> None:
        """Write what waits and end the thread; what still waits after the timeout is lost."""
        self._stopping.set()
        self._waiting.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        elif not self._thread.ident:
            self._refused += self._put  # it was never started

    def work(self) -> float:
        """
        Write all that waits, and delete some of what is too old.

        The thread's work, and nobody else's once that is started.

        :returns: how long to pause before the next try; 0 when nothing went wrong.
        """
        try:
            while self._next_batch():
                self._write(self._batch)
                self._taken += len(self._batch)
                self._batch = []
                self._well()
                self._tell_losses()
            self._well()
            self._prune()
        except Damaged as error:
            self._set_aside(error)
        except LedgerError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - a thread that dies of it would lose all rows from then on
            self._fail(f"a fault of the relay's own, please report it: {error!r}")
        self._tell_losses()
        return self._pause

    def _run(self) -> None:
        pause = self.work()  # opens it: what is wrong is known before the first row comes
        while not self._stopping.is_set():
            if not pause:
                self._waiting.wait(_PRUNE_EVERY)
            self._stopping.wait(pause or _GATHER)
            # In this order: what comes after the clear wakes us once more, be it a row or the end.
            self._waiting.clear()
            pause = self.work()
        self._end()

    def _end(self) -> None:
        """Write what came while the thread was told to stop, and account for what cannot be written."""
        self.work()
        left = self.waiting
        if left:
            self._lost += left
            self._taken += left
            self._tell(f"the ledger ends; rows that could not be written: {left:,}; {self._reason}")
        self._close()

    def _next_batch(self) -> bool:
        """Fill the batch; the one that failed comes first, whole."""
        if not self._batch:
            try:
                while len(self._batch) < _BATCH_ROWS:
                    self._batch.append(self._queue.popleft())
            except IndexError:
                pass
        if self._store is None:
            self._store = self._open(self._path)
        return bool(self._batch)

    def _write(self, rows: list[LedgerRow]) -> None:
        assert self._store is not None
        try:
            self._store.append(rows)
            self._written += len(rows)
        except BadRow as error:
            if len(rows) > 1:  # all but the bad one can be stored; what is stored twice counts once
                for row in rows:
                    self._write([row])
                return
            self._lost += 1
            self._cause = str(error)

    def _well(self) -> None:
        """The file can be written, and whatever was wrong is over."""
        if self._told_reason:
            self._tell(f"the ledger is written again; rows lost: {self.lost - self._before:,}")
            self._told_lost = self.lost
        if self._reason:
            self._before = self.lost
        self._reason, self._pause, self._told_reason = "", 0.0, False

    def _fail(self, reason: str) -> None:
        """Try again later, with the file opened anew."""
        self._close()
        self._reason = reason
        self._pause = min(max(_FIRST_PAUSE, self._pause * 2), _LONGEST_PAUSE)

    def _set_aside(self, error: Damaged) -> None:
        self._close()
        try:
            aside = set_aside(self._path, self._wall_ns())
        except LedgerError as trouble:
            self._fail(str(trouble))
            return
        self._tell(
            f"THE LEDGER WAS DAMAGED: {error}. It is now {aside}, and a new one is begun in its place: "
            f"usage until now is missing there. What can be saved: sqlite3 {aside.name} .recover"
        )
        self._told_reason = True
        self._fail(str(error))

    def _tell_losses(self) -> None:
        """Say at once what is wrong, and then once a minute what it costs."""
        now, lost = self._monotonic(), self.lost - self._told_lost
        if now - self._told < _TELL_EVERY or not (lost or (self._reason and not self._told_reason)):
            return
        if self._reason:
            self._tell(
                f"the ledger cannot be written: {self._reason}; rows waiting: {self.waiting:,} "
                f"(room for {self._queue_rows:,}), lost: {lost:,}. Traffic goes on."
            )
            self._told_reason = True
        else:
            self._tell(f"rows of the ledger lost: {lost:,}; {self._cause}")
            self._before, self._cause = self.lost, _TOO_FAST
        self._told, self._told_lost = now, self.lost

    def _prune(self) -> None:
        """Delete what is too old, as long as no row waits; the rest another time."""
        if self._retention_days is None or self._store is None or self._monotonic() < self._prune_at:
            return
        now_ms = self._wall_ns() // 1_000_000
        prune = partial(
            self._store.prune,
            now_ms - self._retention_days * _DAY_MS,
            now_ms - max(self._retention_days, TOTALS_DAYS) * _DAY_MS,
            _PRUNE_ROWS,
        )
        while prune():
            if self._queue or self._stopping.is_set():
                return
        self._prune_at = self._monotonic() + _PRUNE_EVERY

    def _close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()
