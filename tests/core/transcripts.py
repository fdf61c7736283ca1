"""Answers in the shapes that upstreams send, from ``tests/data/``, and what each of them cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from openai_relay.core.usage import Usage

DATA = Path(__file__).resolve().parent.parent / "data"


@dataclass(frozen=True, slots=True)
class Transcript:
    """One answer; ``extra``: a stream in which the usage stands in an event of its own, before the last."""

    name: str
    text: bytes
    usage: Usage | None
    estimate: int | None = None  #: output tokens, where no usage is told
    events: int = 0
    ended: bool = False
    failed: bool = False
    extra: bool = False


def transcripts(suffix: str) -> Iterator[Transcript]:
    """All that are streams (``.sse``) or bodies (``.json``)."""
    for name, told in json.loads((DATA / "expected.json").read_text()).items():
        if name.endswith(suffix):
            rest = {key: told[key] for key in ("events", "ended", "failed", "extra") if key in told}
            usage = None if told["usage"] is None else Usage(**told["usage"])
            guessed = (told.get("estimate") or {}).get("output_tokens")
            yield Transcript(name, (DATA / name).read_bytes(), usage, guessed, **rest)


def cuttings(text: bytes) -> Iterator[list[bytes]]:
    """In one piece, in two at each position, byte by byte, and in small pieces of each size up to 9."""
    yield [text]
    for at in range(1, len(text)):
        yield [text[:at], text[at:]]
    for size in range(1, 10):
        yield [text[at : at + size] for at in range(0, len(text), size)]


def pieces(text: bytes, cuts: list[int]) -> list[bytes]:
    """Cut at these positions; equal ones give empty blocks."""
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]
