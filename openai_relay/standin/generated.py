"""Bytes made as they are sent: any number of them in constant memory, and each known by its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from openai_relay.standin.answer import Answer
from openai_relay.standin.controls import Controls

BLOCK: Final = 65_536
LARGEST_BLOCK: Final = 1 << 20
#: Byte number ``i`` of all generated content is ``i % 256``, so a receiver can check what it got.
_PATTERN: Final = bytes(range(256))


def generated(content_type: bytes, controls: Controls, usual: int) -> Answer:
    """``standin.bytes`` of content, or the usual number; without an end when asked for."""
    size = min(controls.event_bytes or BLOCK, LARGEST_BLOCK)
    if controls.endless:
        return Answer(content_type, blocks=blocks(None, size))
    length = usual if controls.bytes is None else controls.bytes
    return Answer(content_type, blocks=blocks(length, size), length=length)


def blocks(length: int | None, size: int = BLOCK) -> Iterator[bytes]:
    """The content in blocks of one size, the last one shorter; ``None``: for ever."""
    wheel = _PATTERN * (size // 256 + 2)
    place = 0
    while length is None or place < length:
        start = place % 256
        block = wheel[start : start + (size if length is None else min(size, length - place))]
        yield block
        place += len(block)
