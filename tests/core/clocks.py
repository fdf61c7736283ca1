"""Clocks that stand still until a test moves them."""

from __future__ import annotations

from typing import Final

START: Final = 5_000_000_000
SECOND: Final = 1_000_000_000


class FakeClock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now
