"""A client of the stand-in's WebSockets, in memory: wsproto's own, over a string transport."""

from __future__ import annotations

from typing import Any

import msgspec
from wsproto.connection import Connection, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    TextMessage,
)
from wsproto.extensions import Extension, PerMessageDeflate

from tests.standin.asking import Answered, Asker, parse_answer

#: The example of RFC 6455 §1.3, and what it is answered with.
NONCE = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPTED = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
OPENING = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {NONCE}")


class Caller:
    """One client; ``heard`` holds what it has not been asked about yet."""

    def __init__(self, asker: Asker, deflate: bool = False) -> None:
        self.asker = asker
        self.transport = asker.transport
        self._deflate = PerMessageDeflate() if deflate else None
        self._wire: Connection | None = None
        self._parts: list[Any] = []

    def open(self, target: str, *fields: str, key: str = "k") -> Answered:
        """Ask for a WebSocket; what came after the head of a 101 is heard later."""
        if self._deflate is not None:
            fields = (*fields, f"Sec-WebSocket-Extensions: permessage-deflate; {self._deflate.offer()}")
        self.transport.clear()
        self.asker.request("GET", target, *OPENING, *fields, key=key)
        return self.answer()

    def answer(self) -> Answered:
        """The head that came; fails when none did."""
        answered = parse_answer(self.transport.value())
        self.transport.clear()
        if answered.status == 101:
            if self._deflate is not None and "sec-websocket-extensions" in answered:
                self._deflate.finalize(answered["sec-websocket-extensions"])
            extensions: list[Extension] = [] if self._deflate is None else [self._deflate]
            self._wire = Connection(ConnectionType.CLIENT, extensions, answered.body)
        return answered

    @property
    def wire(self) -> Connection:
        assert self._wire is not None, "there was no 101"
        return self._wire

    def send(self, *events: Event) -> None:
        """Frames, in one block."""
        self.asker.send(b"".join(bytes(self.wire.send(event)) for event in events))

    def say(self, value: Any) -> None:
        """JSON as a text message."""
        self.send(TextMessage(msgspec.json.encode(value).decode()))

    def events(self) -> list[Event]:
        """The frames that have come."""
        data = self.transport.value()
        self.transport.clear()
        if data:
            self.wire.receive_data(data)
        return list(self.wire.events())

    def messages(self) -> list[str | bytes]:
        """The whole messages that have come, and nothing else must have."""
        whole: list[str | bytes] = []
        for event in self.events():
            assert isinstance(event, TextMessage | BytesMessage), event
            self._parts.append(event.data)
            if event.message_finished:
                whole.append("".join(self._parts) if isinstance(event, TextMessage) else b"".join(self._parts))
                self._parts.clear()
        return whole

    def told(self) -> list[Any]:
        """The messages that have come, all of them JSON."""
        return [msgspec.json.decode(message) for message in self.messages()]

    def closed(self) -> tuple[int, str | None]:
        """Code and reason of the close frame that came; fails when the last thing was another."""
        *_, last = self.events()
        assert isinstance(last, CloseConnection), last
        return int(last.code), last.reason
