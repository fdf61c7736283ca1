"""Processes of a soak: their output is read as it comes, counted, and not kept."""

from __future__ import annotations

import ctypes
import re
import signal
import subprocess
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Final

import msgspec

from tests.integration.running import END_WITHIN, START_WITHIN, child_environment

#: What in the relay's own log is a failure of a soak.
COMPLAINTS: Final = re.compile(r"Traceback|Unhandled|bug in|CRITICAL|\berror\b.*\bdropped\b")
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)


class Watched:
    """
    One process of ours, whose lines are handed on as they come.

    It dies with us, whatever becomes of us.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        directory: Path,
        on_line: Callable[[bytes], object],
        on_error: Callable[[bytes], object],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            [str(word) for word in command],
            cwd=directory,
            env=child_environment() | dict(environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=partial(_libc.prctl, _PR_SET_PDEATHSIG, signal.SIGKILL),
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        self._readers = [
            threading.Thread(target=_read, args=(stream, on), daemon=True)
            for stream, on in ((self.process.stdout, on_line), (self.process.stderr, on_error))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def running(self) -> bool:
        return self.process.poll() is None

    def ended(self, within: float = END_WITHIN) -> int | None:
        """Wait for its end and for its last line; its exit code, or ``None`` when it had to be killed."""
        try:
            code: int | None = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        for reader in self._readers:
            reader.join(END_WITHIN)
        return code

    def terminate(self) -> int | None:
        """Ask it to end; its exit code."""
        if self.running():
            self.process.terminate()
        return self.ended()

    def close(self) -> int | None:
        """End its standard input, which ends it; its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.ended()


def _read(stream: IO[bytes], on: Callable[[bytes], object]) -> None:
    for line in stream:
        on(line)


class Announcement:
    """Waits until a line says what matches."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)
        self._found = threading.Event()
        self._text = ""

    def __call__(self, line: bytes) -> None:
        """One more line."""
        found = None if self._found.is_set() else self._pattern.search(line.decode(errors="replace"))
        if found is not None:
            self._text = found[1]
            self._found.set()

    def wait(self) -> str:
        """
        The first group of what matched.

        :raises RuntimeError: it was not said in time.
        """
        if not self._found.wait(START_WITHIN):
            raise RuntimeError(f"waited in vain for {self._pattern.pattern!r}")
        return self._text


class _Row(msgspec.Struct):
    end: str
    relay_request_id: str


class AccessLines:
    """Counts the lines of the access log by how exchanges ended."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        self.bytes = 0
        self.unreadable = 0
        self._decode = msgspec.json.Decoder(_Row).decode

    def __call__(self, line: bytes) -> None:
        """One more line."""
        self.bytes += len(line)
        try:
            self.ends[self._decode(line).end] += 1
        except msgspec.MsgspecError:
            self.unreadable += 1


class OwnLog:
    """Looks through what the relay says of itself; keeps the last lines, and the first complaints."""

    def __init__(self, *announcements: Announcement) -> None:
        self.complaints: list[str] = []
        self.complained = 0
        self.bytes = 0
        self._last: deque[str] = deque(maxlen=40)
        self._announcements = announcements

    def __call__(self, line: bytes) -> None:
        """One more line."""
        self.bytes += len(line)
        text = line.decode(errors="replace").rstrip("\n")
        self._last.append(text)
        for each in self._announcements:
            each(line)
        if COMPLAINTS.search(text):
            self.complained += 1
            if len(self.complaints) < 5:
                self.complaints.append(text)

    def tail(self) -> Iterator[str]:
        """Its last lines."""
        return iter(list(self._last))
