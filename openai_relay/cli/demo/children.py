"""
The processes of a demo: start them, wait until they serve, end them all.

Each is ``openai-relay --exit-with-stdin COMMAND`` with a pipe from us as its
standard input: if we are killed, the pipe closes and it ends by itself.  Each
has its own process group, so that Ctrl-C reaches us alone and we end them in order.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

#: How long a child may take to serve, and how long to end once it was asked to.
START_WITHIN: Final = 30.0
END_WITHIN: Final = 5.0
_TURN: Final = 0.05

_OPENAI_RELAY: Final = (sys.executable, "-P", "-m", "openai_relay.cli.main", "--exit-with-stdin")


class ChildEnded(Exception):
    """A child ended, or did not come up, though nobody asked it to; the message is for a person."""


@dataclass(frozen=True, slots=True)
class Child:
    """One running process of ours."""

    name: str
    process: subprocess.Popen[bytes]
    is_ready: Callable[[], bool]
    log: Path | None  #: where its output goes; None: where ours goes

    @property
    def last_words(self) -> str:
        """What a person can look at to see why it ended."""
        if self.log is None:
            return "see its output above"
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return f"{self.log} ends: {lines[-1]}" if lines else f"{self.log} is empty"


class Children:
    """All processes of one demo, in the order in which they were started."""

    def __init__(
        self,
        stopping: Callable[[], bool],
        program: Sequence[str] = _OPENAI_RELAY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Start nothing yet.

        :param stopping: whether a person has asked for the end
        :param program: what each child runs, before its arguments
        """
        self._stopping = stopping
        self._program = program
        self._monotonic = monotonic
        self._children: list[Child] = []

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        is_ready: Callable[[], bool],
        log: Path | None = None,
        output: IO[bytes] | IO[str] | None = None,
    ) -> None:
        """
        Start ``openai-relay ARGUMENTS``, or what else the program is.

        :param log: a file for its output, instead of ``output`` (``None``: our own)
        """
        file = log.open("wb") if log is not None else None
        try:
            process = subprocess.Popen(
                [*self._program, *arguments],
                stdin=subprocess.PIPE,
                stdout=file or output,
                stderr=file,
                start_new_session=True,
            )
        finally:
            if file is not None:
                file.close()
        self._children.append(Child(name, process, is_ready, log))

    def wait_until_ready(self) -> None:
        """
        All of them serve, or the end was asked for.

        :raises ChildEnded: one has ended, or needs too long.
        """
        deadline = self._monotonic() + START_WITHIN
        waiting = list(self._children)
        while waiting and not self._stopping():
            self._check()
            waiting = [child for child in waiting if not child.is_ready()]
            if waiting and self._monotonic() > deadline:
                child = waiting[0]
                raise ChildEnded(f"{child.name} is not ready after {START_WITHIN:.0f} seconds; {child.last_words}.")
            time.sleep(_TURN)

    def watch(self) -> None:
        """
        Return when the end is asked for.

        :raises ChildEnded: one has ended before that.
        """
        while not self._stopping():
            self._check()
            time.sleep(_TURN)

    def end(self, within: float = END_WITHIN) -> None:
        """None of them is left, the last started first; one that does not end in time is killed."""
        for child in reversed(self._children):
            process = child.process
            process.terminate()
            try:
                process.wait(within)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
        self._children.clear()

    def _check(self) -> None:
        for child in self._children:
            code = child.process.poll()
            if code is not None:
                raise ChildEnded(f"{child.name} has ended ({_ending(code)}); {child.last_words}.")


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
