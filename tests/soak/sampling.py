"""What is measured of the relay while it runs, in a memory that does not grow with the time."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

_SAMPLE: Final = re.compile(r"^(openai_relay_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(slots=True)
class Series:
    """
    Readings at even distances; when there are too many, every second one is given up.

    :ivar every: how many readings one that is kept stands for.
    """

    most: int = 4_096
    every: int = 1
    kept: list[float] = field(default_factory=list)
    _seen: int = 0

    def add(self, value: float) -> None:
        """One more reading, at the usual distance from the last."""
        if self._seen % self.every == 0:
            self.kept.append(value)
            if len(self.kept) > self.most:
                del self.kept[1::2]
                self.every *= 2
        self._seen += 1

    def drift(self) -> tuple[float, float]:
        """The medians of the first and the last fifth: single peaks, and what is freed soon, move neither."""
        fifth = max(len(self.kept) // 5, 1)
        return median(self.kept[:fifth]), median(self.kept[-fifth:])


@dataclass(frozen=True, slots=True)
class Scrape:
    """One answer of ``/metrics``."""

    samples: tuple[tuple[str, tuple[tuple[str, str], ...], float], ...]

    @classmethod
    def of(cls, text: str) -> Scrape:
        """Read what is the relay's own."""
        return cls(
            tuple(
                (name, tuple(_LABEL.findall(labels or "")), float(value))
                for name, labels, value in _SAMPLE.findall(text)
            )
        )

    def total(self, name: str, **wanted: str) -> float:
        """The sum over all series of a name, or over those with these labels."""
        return sum(
            value for found, labels, value in self.samples if found == name and wanted.items() <= dict(labels).items()
        )

    def by(self, name: str, label: str) -> Counter[str]:
        """The values of one label, each with its sum; those that are 0 are left out."""
        found: Counter[str] = Counter()
        for series, labels, value in self.samples:
            if series == name and value:
                found[dict(labels).get(label, "")] += int(value)
        return found


def resident(pid: int) -> int:
    """Bytes of memory that a process has now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    """How many files and sockets it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - names are enough


def processor_seconds(pid: int) -> float:
    """What it has used of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
