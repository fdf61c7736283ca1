"""
What becomes of a WebSocket's messages on demand: cut, closed or followed by silence after some of them.

Pure: it turns messages into frames, counts them, and says when the end is reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum

from openai_relay.standin.controls import Controls
from openai_relay.standin.frames import Frames, Message


class Ending(Enum):
    """How the stand-in ends what it says, where it was asked to."""

    CUT = "the connection ends without a close frame"
    CLOSE = "a close frame with the code that was asked for"
    SILENCE = "nothing more is said, and nothing answered"


class Script:
    """The frames of one connection, up to the ending that its request asked for."""

    def __init__(self, frames: Frames, controls: Controls, said: Callable[[], None]) -> None:
        """Keep count; ``said`` is called for each message that has gone out."""
        self._frames = frames
        self._said = said
        close_after = 0 if controls.close_after is None and controls.close_code is not None else controls.close_after
        wanted = (
            (controls.cut_after, Ending.CUT),
            (close_after, Ending.CLOSE),
            (controls.silent_after, Ending.SILENCE),
        )
        due = [(after, ending) for after, ending in wanted if after is not None]
        #: After how many messages which ending is due; the first one counts.
        self._due = min(due, key=lambda pair: pair[0], default=None)
        self._bytes_left = controls.cut_after_bytes
        self._messages = 0

    @property
    def ending(self) -> Ending | None:
        """What is due now; ``None``: it goes on."""
        if self._bytes_left == 0:
            return Ending.CUT
        return None if self._due is None or self._messages < self._due[0] else self._due[1]

    def frames(self, messages: Iterator[Message]) -> Iterator[bytes]:
        """The messages as frames, made one by one as they are taken, until the ending is due."""
        while self.ending is None:
            message = next(messages, None)
            if message is None:
                return
            for frame in self._frames.message(message):
                if self._bytes_left is not None:
                    frame = frame[: self._bytes_left]
                    self._bytes_left -= len(frame)
                yield frame
                if self._bytes_left == 0:
                    return
            self._messages += 1
            self._said()
