"""
``Frames``: the server's side of the WebSocket protocol, on wsproto and without I/O.

Messages are put together up to a limit, so that what a client sends in pieces
is bounded; whatever breaks RFC 6455 ends with the close code it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.events import Pong as WirePong
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason

#: The longest message that is taken.
LONGEST_MESSAGE: Final = 64 << 20

_REASONS: Final = {
    CloseReason.INVALID_FRAME_PAYLOAD_DATA: "the text is not UTF-8, or the compression is broken",
    CloseReason.MESSAGE_TOO_BIG: "the message is too long",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message; the bytes of a text are UTF-8."""

    data: bytes
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Pinged:
    """The client asks whether we are there."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The conversation is over; ``answer`` is what is still to be sent."""

    code: int  #: the client's; 1005 when it gave none, or the one that its mistake has
    answer: bytes
    fault: bool = False  #: the client broke the protocol


Heard = Message | Pinged | Closed


class Frames:
    """Turns bytes into what a client says, and what is said to it into bytes."""

    def __init__(
        self, deflate: PerMessageDeflate | None = None, fragment: int | None = None, longest: int = LONGEST_MESSAGE
    ) -> None:
        """Begin; ``fragment`` is how many characters or bytes of a message go into one frame."""
        self._wire = Connection(ConnectionType.SERVER, [] if deflate is None else [deflate])
        self._fragment = fragment
        self._longest = longest
        self._part = bytearray()
        self.over = False  #: the client has said its last word

    @property
    def closing(self) -> bool:
        """Our own close frame was made: nothing can be sent after it."""
        return self._wire.state is not ConnectionState.OPEN

    def receive(self, data: bytes) -> Iterator[Heard]:
        """What a block of bytes completes; nothing comes after `Closed`."""
        if self.over:
            return
        self._wire.receive_data(data)
        for event in self._wire.events():
            if isinstance(event, Ping):
                yield Pinged(bytes(event.payload))
            elif isinstance(event, CloseConnection):
                yield self._closed(event)
                return
            elif isinstance(event, TextMessage | BytesMessage):
                piece = event.data.encode() if isinstance(event.data, str) else event.data
                if len(self._part) + len(piece) > self._longest:
                    yield self._fail(CloseReason.MESSAGE_TOO_BIG)
                    return
                self._part += piece
                if event.message_finished:
                    whole, self._part = bytes(self._part), bytearray()
                    yield Message(whole, isinstance(event, BytesMessage))

    def message(self, message: Message) -> Iterator[bytes]:
        """The frames of a message."""
        data: bytes | str = message.data if message.binary else message.data.decode()
        size = self._fragment or max(1, len(data))
        for start in range(0, max(1, len(data)), size):
            piece, last = data[start : start + size], start + size >= len(data)
            event = BytesMessage(piece, True, last) if isinstance(piece, bytes) else TextMessage(piece, True, last)
            yield bytes(self._wire.send(event))

    def pong(self, payload: bytes) -> bytes:
        """The answer to a ping."""
        return b"" if self.closing else bytes(self._wire.send(WirePong(payload)))

    def close(self, code: int, reason: str = "") -> bytes:
        """Our own close frame; it is sent once only."""
        return b"" if self.closing else bytes(self._wire.send(CloseConnection(code, reason or None)))

    def _closed(self, event: CloseConnection) -> Closed:
        state = self._wire.state
        if state is ConnectionState.REMOTE_CLOSING:
            self.over = True
            return Closed(int(event.code), bytes(self._wire.send(event.response())))
        if state is ConnectionState.CLOSED:
            self.over = True
            return Closed(int(event.code), b"")
        return self._fail(event.code)

    def _fail(self, code: int) -> Closed:
        self.over = True
        self._part = bytearray()
        reason = _REASONS.get(CloseReason(code), "the frames break RFC 6455")
        return Closed(int(code), self.close(int(code), reason), fault=True)
