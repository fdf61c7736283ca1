"""Into which blocks an input is cut: always the same ones for the same bytes, so that a finding comes back."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable
from random import Random
from typing import Final

#: Longer inputs are not fed byte by byte: it would take too long.
_BYTE_BY_BYTE: Final = 160


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The blocks between these places; none is empty."""
    return [data[start:end] for start, end in itertools.pairwise([0, *sorted(places), len(data)]) if start < end]


def cuttings(data: bytes) -> list[list[bytes]]:
    """In one block, at a few places, and byte by byte or at many places."""
    random = Random(zlib.crc32(data))
    few = [random.randint(0, len(data)) for _ in range(random.randint(1, 3))]
    if len(data) <= _BYTE_BY_BYTE:
        many: Iterable[int] = range(len(data))
    else:
        many = [random.randint(0, len(data)) for _ in range(40)]
    return [[data] if data else [], cut(data, few), cut(data, many)]
