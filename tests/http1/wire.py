"""
A transport in memory with Twisted's own buffering, pausing and closing.

Only the socket is missing: `Wire` is the `FileDescriptor` that TCP transports
are made of.  What the test sends waits until the protocol reads, what the
protocol writes waits until the peer has room, and a reset is noticed one turn
of the reactor later, as with real connections.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure


class Turns(Clock):
    """A clock that also knows which wires want to read or to write."""

    def __init__(self) -> None:
        super().__init__()
        self.reading: dict[Any, None] = {}
        self.writing: dict[Any, None] = {}
        self.wires: list[Wire] = []

    def addReader(self, reader: Any) -> None:
        self.reading[reader] = None

    def removeReader(self, reader: Any) -> None:
        self.reading.pop(reader, None)

    def addWriter(self, writer: Any) -> None:
        self.writing[writer] = None

    def removeWriter(self, writer: Any) -> None:
        self.writing.pop(writer, None)

    def settle(self) -> None:
        """Let everything happen that can happen without time passing."""
        for _ in range(100_000):
            self.advance(0)
            moved = [wire.turn() for wire in list(self.wires)]
            if not any(moved):
                return
        raise AssertionError("this goes on for ever")

    def pass_time(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass, as finely as connections look at it."""
        for _ in range(round(seconds / step)):
            self.advance(step)
            self.settle()


class Wire(FileDescriptor):
    """
    One connection, seen from the protocol under test.

    :ivar blocks: each write, as it was made.
    :ivar room: how many bytes the peer still takes; ``None``: any number.
    :ivar ended: how our side ended it: ``closed``, ``half``, ``cut`` or ``reset``.
    """

    def __init__(self, turns: Turns, protocol: Any, handshaken: bool = True, tls: bool = True) -> None:
        super().__init__(turns)  # type: ignore[arg-type]
        self.turns = turns
        self.protocol = protocol
        self.handshaken = handshaken
        self.connected = 1
        self.blocks: list[bytes] = []
        self.room: int | None = None
        self.ended = ""
        self._taken = b""
        self._given = 0
        self._pending: list[bytes] = []
        self._fin: Failure | None = None
        self._resetting = False
        if tls:
            self.cutConnection = self._cut
        turns.wires.append(self)
        self.startReading()
        protocol.makeConnection(self)

    # The peer.

    def send(self, data: bytes, at_once: bool = True) -> None:
        """The peer sends; what nobody reads waits."""
        self._pending.append(data)
        if at_once:
            self.turns.settle()

    def leave(self, reason: Exception | None = None) -> None:
        """The peer closes; that is seen once what it sent before has been read."""
        self._fin = Failure(reason or ConnectionDone())
        self.turns.settle()

    def taken(self) -> bytes:
        """What the peer has received since it last looked."""
        self.turns.settle()
        taken, self._taken = self._taken, b""
        return taken

    @property
    def unread(self) -> int:
        """Bytes that the peer has sent and nobody has read."""
        return sum(map(len, self._pending))

    @property
    def unsent(self) -> int:
        """Bytes that were written and for which the peer has had no room."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    def acknowledged(self) -> int:
        return self._given

    @property
    def reads(self) -> bool:
        """Whether the protocol wants to be given what comes."""
        return self in self.turns.reading

    def make_room(self, room: int | None = None) -> None:
        """The peer reads (again)."""
        self.room = room
        self.turns.settle()

    def turn(self) -> bool:
        """One turn of the reactor; whether anything happened."""
        moved = False
        if self in self.turns.writing and self.room != 0:
            moved = True
            result = self.doWrite()
            if isinstance(result, Exception):
                self.connectionLost(Failure(result))
        if self in self.turns.reading and self.connected:
            if self._pending:
                moved = True
                self.protocol.dataReceived(self._pending.pop(0))
            elif self._fin is not None:
                moved = True
                self.connectionLost(self._fin)
        return moved

    # The transport.

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.7", 54321)

    def write(self, data: bytes) -> None:
        self.blocks.append(data)
        super().write(data)

    def writeSomeData(self, data: bytes) -> int:
        count = len(data) if self.room is None else min(len(data), self.room)
        if self.room is not None:
            self.room -= count
        self._taken += bytes(data[:count])
        self._given += count
        return count

    def loseConnection(self) -> None:
        self.ended = self.ended or "closed"
        super().loseConnection()

    def loseWriteConnection(self) -> None:
        self.ended = self.ended or "half"
        super().loseWriteConnection()

    def _cut(self) -> None:
        self.ended = self.ended or "cut"
        FileDescriptor.loseConnection(self)

    def abortConnection(self) -> None:
        if self.connected and not self._resetting:
            self._resetting = True
            self.ended = "reset"
            self.stopReading()
            self.stopWriting()
            self.turns.callLater(0, self.connectionLost, Failure(ConnectionAborted()))

    def startReading(self) -> None:
        if not self._resetting:
            super().startReading()

    def startWriting(self) -> None:
        if not self._resetting:
            super().startWriting()

    def connectionLost(self, reason: Failure) -> None:
        if self.connected:
            super().connectionLost(reason)
            self.protocol.connectionLost(reason)

    def peer_has_closed(self) -> bool:
        """Seen past bytes that nobody reads, as a TLS transport sees it."""
        return self._fin is not None
