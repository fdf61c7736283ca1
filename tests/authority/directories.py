"""Directories and clocks for tests of the authority."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

NOW = datetime(2030, 6, 15, 12, 30, 45, 678_900, tzinfo=UTC)


class SetClock:
    """A clock that goes only when it is told to."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)


def new_directory(test: SynchronousTestCase) -> Path:
    """An empty directory that is gone after the test."""
    path = Path(tempfile.mkdtemp(prefix="openai-relay-test-"))
    test.addCleanup(shutil.rmtree, path)
    return path


def contents(directory: Path) -> dict[str, bytes]:
    """Every file beneath a directory, by its path in there."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
