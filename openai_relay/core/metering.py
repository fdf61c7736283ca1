"""
Choose the meter of an answer by what was asked and what comes, and say what the exchange cost.

What costs nothing is not read at all.  What the upstream tells is taken; where
it tells nothing, an endpoint that costs is estimated, from the request and as
much of the answer as says something: text does, an image or a sound does not.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol

from openai_relay.core.decoding import Decoder, decoder_for
from openai_relay.core.endpoint import OTHER
from openai_relay.core.usage import BodyMeter, StreamMeter, Usage, estimate

#: Bytes that are decoded in one step: a decoder gives a bounded text for each.
_STEP: Final = 1 << 13


class _Untold(Enum):
    """What is estimated where nothing is told."""

    ALL = "the input, and the output by its text"
    INPUT = "the input"
    NOTHING = "nothing"


#: What uses tokens itself.  What reads or ends a stored answer does not: it was counted when it was made.
_COSTS: Final = {
    "chat/completions": _Untold.ALL,
    "completions": _Untold.ALL,
    "responses": _Untold.ALL,
    "responses/compact": _Untold.ALL,
    "audio/transcriptions": _Untold.ALL,
    "audio/translations": _Untold.ALL,
    "audio/speech": _Untold.INPUT,
    "embeddings": _Untold.INPUT,
    "images/generations": _Untold.INPUT,
    "images/edits": _Untold.INPUT,
    "images/variations": _Untold.INPUT,
    OTHER: _Untold.NOTHING,
}


class Reader(Protocol):
    """Reads an answer in passing: `StreamMeter`, `BodyMeter` or a count of bytes."""

    @property
    def usage(self) -> Usage | None:
        """What was told."""

    @property
    def pieces(self) -> int:
        """Pieces of text that came as events."""

    @property
    def text_bytes(self) -> int:
        """The length of the text."""

    def feed(self, block: bytes) -> int:
        """Read the next block, decoded, and return how many events it completed."""


class Meter:
    """
    Meters one answer.

    :ivar feed: reads the next block as it came, and returns how many events it completed.
    """

    __slots__ = ("_decoding", "_reader", "_untold", "feed")

    def __init__(self, reader: Reader, untold: _Untold, decoder: Decoder | None) -> None:
        self._reader = reader
        self._untold = untold
        self._decoding = None if decoder is None else _Decoding(decoder, reader)
        # Bound here, and to another object: no call in between for each block, and no cycle.
        self.feed: Callable[[bytes], int] = reader.feed if self._decoding is None else self._decoding.feed

    def account(self, input_tokens: int) -> Usage | None:
        """
        What it cost: as told, or else estimated from what came, and marked so.

        :param input_tokens: what the request was estimated at.
        :returns: ``None`` where nothing is told, and it is not known to cost anything.
        """
        reader = self._reader
        usage = reader.usage
        if usage is not None or self._untold is _Untold.NOTHING:
            return usage
        if self._untold is _Untold.INPUT:
            return estimate(input_tokens, 0, 0)
        unread = 0 if self._decoding is None else self._decoding.unread
        return estimate(input_tokens, reader.pieces, reader.text_bytes + unread)


class _Decoding:
    """
    Decodes what a reader reads.

    :ivar unread: bytes that came when nothing could be decoded any more.
    """

    __slots__ = ("_decoder", "_reader", "unread")

    def __init__(self, decoder: Decoder, reader: Reader) -> None:
        self._decoder = decoder
        self._reader = reader
        self.unread = 0

    def feed(self, block: bytes) -> int:
        events = 0
        for at in range(0, len(block), _STEP):
            step = block[at : at + _STEP]
            text = self._decoder.feed(step)
            if text:
                events += self._reader.feed(text)
            elif self._decoder.lost:
                self.unread += len(step)
        return events


class _Count:
    """Counts bytes that nobody can read."""

    __slots__ = ("text_bytes",)

    usage: Final = None
    pieces: Final = 0

    def __init__(self) -> None:
        self.text_bytes = 0

    def feed(self, block: bytes) -> int:
        self.text_bytes += len(block)
        return 0


def meter_for(endpoint: str, method: bytes, status: int, media_type: bytes, coding: bytes) -> Meter | None:
    """
    The meter of an answer whose head has come.

    :param endpoint: as `core.endpoint` names it.
    :param media_type: the value of Content-Type, with its parameters or without.
    :param coding: the value of Content-Encoding; empty without one.
    :returns: ``None`` where nothing has to be read, since it costs nothing.
    """
    untold = _COSTS.get(endpoint)
    if untold is None or method != b"POST" or not 200 <= status < 300:
        return None
    reader = _reader_of(media_type)
    if not coding or coding.lower() == b"identity":
        decoder = None
    else:
        decoder = decoder_for(coding)
        if decoder is None:
            reader = None
    if untold is _Untold.NOTHING and isinstance(reader, StreamMeter):
        untold = _Untold.ALL  # nobody but a model answers with events
    if reader is None:
        return None if untold is _Untold.NOTHING else Meter(_Count(), untold, None)
    return Meter(reader, untold, decoder)


def no_answer(endpoint: str, method: bytes, input_tokens: int) -> Usage | None:
    """
    What an exchange may have cost whose request went up, and whose answer never began.

    :returns: ``None`` where it is not known to cost anything.
    """
    if method != b"POST" or _COSTS.get(endpoint, _Untold.NOTHING) is _Untold.NOTHING:
        return None
    return estimate(input_tokens, 0, 0)


def _reader_of(media_type: bytes) -> StreamMeter | BodyMeter | None:
    name = media_type.partition(b";")[0].strip().lower()
    if name == b"text/event-stream":
        return StreamMeter()
    if name == b"application/json" or name.endswith(b"+json"):
        return BodyMeter()
    return None
