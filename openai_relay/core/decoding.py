"""
Undo the content coding of a copy that is only looked at: gzip, deflate, br, zstd, and two of them in a row.

The bytes themselves pass as they came.  A few of them may stand for gigabytes,
so what comes out is bounded, by call and in all, and so is the memory within:
the window of deflate is 32 KiB, of br at most 16 MiB, of zstd here at most the
8 MiB of RFC 9659.  What goes beyond, or is broken, is given up.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import Final, Protocol

import brotli  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):  # pragma: no cover - the tests run on one version
    from compression import zstd
else:
    from backports import zstd

#: Bytes that one call may give.
MOST_AT_ONCE: Final = 1 << 20
#: Bytes that all calls together may give, those between two codings included.
MOST_IN_ALL: Final = 1 << 26
#: Members of gzip, or frames of zstd, in one call: each costs some time even if it is empty.
MOST_MEMBERS: Final = 256
#: A longer list is nobody's.
MOST_CODINGS: Final = 2

_WINDOW_LOG: Final = 23


class _TooMuch(Exception):
    """It decodes without measure."""


class _Layer(Protocol):
    """One coding; what it gives may be too much, but only by a little."""

    @property
    def ended(self) -> bool:
        """Whether what came so far is complete."""

    def decoded(self, block: bytes) -> bytes:
        """The text of the next block."""


class Decoder:
    """
    Undoes the codings of one body, block by block.

    :ivar lost: what came is broken, or more than anybody would look at; nothing is decoded any more.
    """

    __slots__ = ("_layers", "_left", "lost")

    def __init__(self, layers: list[_Layer]) -> None:
        self._layers = layers
        self._left = MOST_IN_ALL
        self.lost = False

    @property
    def ended(self) -> bool:
        """Whether what came so far is a whole body."""
        return not self.lost and all(layer.ended for layer in self._layers)

    def feed(self, block: bytes) -> bytes:
        """Decode the next block; never raises, and never gives more than `MOST_AT_ONCE` bytes."""
        if self.lost:
            return b""
        try:
            for layer in self._layers:
                block = layer.decoded(block)
                self._left -= len(block)
                if len(block) > MOST_AT_ONCE or self._left < 0:
                    raise _TooMuch
        except (_TooMuch, zlib.error, brotli.error, zstd.ZstdError):
            self.lost = True
            self._layers = []  # and with them what they hold
            return b""
        return block


def join_codings(before: bytes, value: bytes) -> bytes:
    """One more line of Content-Encoding behind those before it, in lower case (RFC 9110 §5.3)."""
    value = value.strip(b" \t").lower()
    return before + b", " + value if before else value


def decoder_for(coding: bytes) -> Decoder | None:
    """
    A decoder for the value of a Content-Encoding.

    :param coding: one name or a list of them, the first applied first; not empty and not ``identity``.
    :returns: ``None`` for a coding that is not known.
    """
    names = [name.strip(b" \t").lower() for name in coding.split(b",", MOST_CODINGS)]
    makers = [_MAKERS.get(name) for name in reversed(names)]
    layers = [make() for make in makers if make is not None]
    return Decoder(layers) if len(layers) == len(makers) <= MOST_CODINGS else None


class _Members:
    """Gzip and zstd: a body may be several members in a row (RFC 1952 §2.2, RFC 8878 §3)."""

    __slots__ = ("_begin", "_member")

    def __init__(self, begin: Callable[[], zlib._Decompress | zstd.ZstdDecompressor]) -> None:
        self._begin = begin
        self._member = begin()

    @property
    def ended(self) -> bool:
        return self._member.eof

    def decoded(self, block: bytes) -> bytes:
        text: list[bytes] = []
        room = MOST_AT_ONCE + 1  # so that who gives no more than allowed has nothing left to give
        for _ in range(MOST_MEMBERS + 1):
            if not block:
                return b"".join(text)
            if self._member.eof:
                self._member = self._begin()
            piece = self._member.decompress(block, room)
            text.append(piece)
            room -= len(piece)
            if not room:
                break
            block = self._member.unused_data
        raise _TooMuch


class _Deflate:
    """Deflate: in a zlib wrapper, as RFC 9110 §8.4.1.2 has it, or bare, as some servers do."""

    __slots__ = ("_begun", "_inflater")

    def __init__(self) -> None:
        self._begun = b""
        self._inflater: zlib._Decompress | None = None

    @property
    def ended(self) -> bool:
        return self._inflater is not None and self._inflater.eof

    def decoded(self, block: bytes) -> bytes:
        if self._inflater is None:
            block = self._begun = self._begun + block
            if len(block) < 2:
                return b""
            wrapped = block[0] & 15 == zlib.DEFLATED and int.from_bytes(block[:2]) % 31 == 0
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        text = self._inflater.decompress(block, MOST_AT_ONCE + 1)
        if self._inflater.unused_data:
            raise zlib.error
        return text


class _Brotli:
    """Brotli (RFC 7932)."""

    __slots__ = ("_decompressor",)

    def __init__(self) -> None:
        self._decompressor = brotli.Decompressor()

    @property
    def ended(self) -> bool:
        return bool(self._decompressor.is_finished())

    def decoded(self, block: bytes) -> bytes:
        text: bytes = self._decompressor.process(block, output_buffer_limit=MOST_AT_ONCE + 1)
        if not self._decompressor.can_accept_more_data():
            raise _TooMuch
        return text


def _gunzip() -> zlib._Decompress:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _unzstd() -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})


def _members_of_gzip() -> _Layer:
    return _Members(_gunzip)


def _frames_of_zstd() -> _Layer:
    return _Members(_unzstd)


_MAKERS: Final[dict[bytes, Callable[[], _Layer]]] = {
    b"gzip": _members_of_gzip,
    b"x-gzip": _members_of_gzip,
    b"deflate": _Deflate,
    b"br": _Brotli,
    b"zstd": _frames_of_zstd,
}
