"""
Watch files, and say when one has become another: replaced, written, or pointed elsewhere by a link.

By looking, a few times a second: what tells of changes (inotify) does not see
through the links that certbot and Kubernetes replace, nor on every file system.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

#: Seconds between two looks.
INTERVAL: Final = 0.25

#: What a file, or what is in a directory, looks like from outside.
Looks = dict[Path, object]


class FilesWatch(Service):
    """
    Tells of changes, once each has stayed the same for a look: files are written in pieces, and in pairs.

    :param known: what they looked like when they were read.
    :param paths: files, and directories whose files count; asked at every look.
    :param in_thread: calls what looks, and fires with what it saw.
    :param changed: is told which are not what they were.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        known: Looks,
        paths: Callable[[], Iterable[Path]],
        in_thread: Callable[[Callable[[], Looks]], Deferred[Looks]],
        changed: Callable[[list[Path]], object],
    ) -> None:
        self._paths = paths
        self._in_thread = in_thread
        self._changed = changed
        self._known = self._last = known
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def startService(self) -> None:
        """Look from now on."""
        super().startService()
        watching: Deferred[LoopingCall] = self._looking.start(INTERVAL, now=False)
        watching.addErrback(lambda failure: self.log.failure("files are watched no more", failure))

    def know(self, known: Looks) -> None:
        """They have been read again, and looked like this before."""
        self._known = known

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._looking.running:
            self._looking.stop()

    async def _see(self) -> None:
        paths = tuple(self._paths())
        seen = await self._in_thread(lambda: look(paths))
        settled, self._last = seen == self._last, seen
        if not settled or seen == self._known or not self.running:
            return
        changed = [path for path in seen if seen[path] != self._known.get(path)]
        self._known = seen
        if changed:
            self._changed(changed)

    def _look(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._see())


def look(paths: Iterable[Path]) -> Looks:
    """What each path looks like now; a directory looks like all that is in it."""
    return {path: (_of(path), _inside(path)) for path in paths}


def _of(path: Path | str) -> object:
    try:
        found = Path(path).stat()
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _inside(path: Path) -> object:
    try:
        with os.scandir(path) as entries:
            return sorted((entry.name, _of(entry.path)) for entry in entries)
    except OSError:  # it is no directory
        return None
