"""
Keep the limits' buckets in a file, so that a restart fills nobody's again.

A snapshot is written beside its place and moved there, by a thread.  Without
it, or with one that cannot be read, every bucket begins full, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.files import PRIVATE, write_file
from openai_relay.core.buckets import Snapshot
from openai_relay.core.limits import Limiter

#: The file's name in the directory of the state.
LIMITS: Final = "limits.json"
#: Seconds between two snapshots: as much of the limits' memory as a crash may cost.
EVERY: Final = 10.0


class LimitsFile:
    """
    The file of one limiter.

    :param reactor: whose thread pool writes.
    :param wall_ns: nanoseconds since the epoch.
    """

    log = Logger()

    def __init__(self, path: Path, limiter: Limiter, reactor: Any, wall_ns: Callable[[], int]) -> None:
        self._path = path
        self._limiter = limiter
        self._reactor = reactor
        self._wall_ns = wall_ns
        self._timer: Any = None
        self._writing = False
        self._empty = False  # what the file says
        self._failed = False

    def start(self) -> None:
        """Restore what the process before left, and begin to keep it up to date."""
        self._restore()
        self._timer = self._reactor.callLater(EVERY, self._again)

    def stop(self) -> None:
        """Write it for the last time."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._told(self._write(self._limiter.snapshot(self._wall_ns())))

    def _restore(self) -> None:
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            self.log.warn(
                "{path} cannot be read: {reason}; all limits begin full", path=self._path, reason=error.strerror
            )
            return
        try:
            snapshot = msgspec.json.decode(text, type=Snapshot)
        except (ValueError, RecursionError) as error:
            self.log.warn("{path} is damaged ({reason}); all limits begin full", path=self._path, reason=error)
            return
        self._limiter.restore(snapshot, self._wall_ns())

    def _again(self) -> None:
        self._timer = self._reactor.callLater(EVERY, self._again)
        if self._writing:  # the disk takes its time
            return
        snapshot = self._limiter.snapshot(self._wall_ns())
        if self._empty and not snapshot.buckets:
            return
        self._writing = True
        written = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._write, snapshot)
        written.addCallbacks(self._written, self._broke)

    def _write(self, snapshot: Snapshot) -> str:
        """What went wrong; nothing when it is empty."""
        try:
            write_file(self._path, msgspec.json.encode(snapshot), PRIVATE)
        except AuthorityError as error:
            return str(error)
        self._empty = not snapshot.buckets
        return ""

    def _written(self, result: str) -> None:
        self._writing = False
        self._told(result)

    def _broke(self, failure: Failure) -> None:
        self._writing = False
        self.log.failure("bug in writing the limits' snapshot", failure)

    def _told(self, wrong: str) -> None:
        if wrong and not self._failed:
            self.log.warn("the limits' snapshot cannot be written: {wrong}; traffic goes on", wrong=wrong)
        elif not wrong and self._failed:
            self.log.info("the limits' snapshot is written again")
        self._failed = bool(wrong)
