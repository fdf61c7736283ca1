"""Small damage to an input: what a grammar would not think of."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

#: What is worth putting in anywhere.
TOKENS: Final = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\r\n ",
    b" ",
    b"\t",
    b":",
    b"\x00",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b",",
    b";",
    b'"',
    b"0",
    b"00",
    b"f",
    b"+",
    b"-",
    b"0x",
    b"0\r\n\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"Host: a\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
)
#: Inputs stay short: what is long is slow, and rarely new.
LONGEST: Final = 4_096


def mutate(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """
    The input, damaged in one to four places.

    :param others: inputs to take a piece from.
    """
    damaged = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randint(0, len(damaged))
        end = min(at + random.choice((0, 1, 1, 2, 4, 16)), len(damaged))
        kind = random.randrange(6)
        if kind == 0:
            del damaged[at:end]
        elif kind == 1:
            damaged[at:end] = random.choice(TOKENS)
        elif kind == 2:
            damaged[at:at] = random.choice(TOKENS)
        elif kind == 3:
            damaged[at:at] = damaged[at:end]
        elif kind == 4 and at < len(damaged):
            damaged[at] ^= 1 << random.randrange(8)
        else:
            other = random.choice(others)
            start = random.randint(0, len(other))
            damaged[at:end] = other[start : start + random.choice((4, 16, 64))]
    return bytes(damaged[:LONGEST])
