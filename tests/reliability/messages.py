"""
Reads HTTP/1.1 messages off a connection, byte for byte: both ends of the tests understand them with this.

On purpose none of the relay's own parsing: what the relay gets wrong must not
look right here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

_BLOCK: Final = 65_536
_RESET: Final = struct.pack("ii", 1, 0)
#: A bound of every single wait.
WITHIN: Final = 20.0


class End(Enum):
    """How the other side ended a connection."""

    CLOSED = "closed"  #: TLS said so
    CUT = "cut"  #: TLS was not ended
    RESET = "reset"
    SILENT = "nothing more came"  #: not ended, and what was waited for did not come in time


class Ended(Exception):
    """The connection ended before what was wanted had come."""


@dataclass(slots=True)
class Message:
    """What was read of one message."""

    head: bytes = b""  #: with its empty line; empty until that came
    payload: bytearray = field(default_factory=bytearray)  #: the body without its framing
    trailers: bytes = b""  #: lines, without the empty one
    chunks: int | None = None  #: how many chunks there were; ``None``: the body was not chunked
    complete: bool = False
    interims: list[bytes] = field(default_factory=list)

    @property
    def lines(self) -> list[bytes]:
        """Those of the head."""
        return self.head.split(b"\r\n")[:-2]

    @property
    def status(self) -> int:
        """Of an answer; 0 when there is none."""
        words = self.head.split(b" ", 2)
        return int(words[1]) if len(words) > 1 and words[1][:3].isdigit() else 0

    def values(self, name: bytes) -> list[bytes]:
        """The values of a field."""
        pairs = [line.partition(b":") for line in self.lines[1:]]
        return [value.strip() for found, _, value in pairs if found.lower() == name]


class Stream:
    """One end of a connection: bytes in, with all that came kept, and bytes out."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.received = bytearray()  #: all of it, or what came since somebody cleared it
        self.end: End | None = None
        self.on_data: Callable[[], None] | None = None  #: called when more has come
        self._at = 0

    def forget(self) -> None:
        """Keep only what has not been read yet."""
        del self.received[: self._at]
        self._at = 0

    def consumed(self) -> bytes:
        """What has been read since then."""
        return bytes(self.received[: self._at])

    def send(self, data: bytes) -> None:
        """Send; a peer that has gone will be noticed when it is read from."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.socket.sendall(data)

    def _more(self) -> None:
        if self.end is None:
            try:
                data = self.socket.recv(_BLOCK)
                if data:
                    self.received += data
                    if self.on_data is not None:
                        self.on_data()
                    return
                self.end = End.CLOSED
            except ConnectionError:
                self.end = End.RESET
            except TimeoutError:
                self.end = End.SILENT
            except ssl.SSLError:
                self.end = End.CUT
        raise Ended

    def wait_for_byte(self) -> None:
        """Until there is something to read."""
        while self._at >= len(self.received):
            self._more()

    def peek(self, mark: bytes) -> None:
        """Wait until ``mark`` has come, and leave it to be read; or until nothing more comes."""
        with contextlib.suppress(Ended):
            while self.received.find(mark, self._at) < 0:
                self._more()

    def until(self, mark: bytes) -> bytes:
        """All up to and with ``mark``."""
        looked = self._at
        while (found := self.received.find(mark, looked)) < 0:
            looked = max(self._at, len(self.received) - len(mark) + 1)
            self._more()
        start, self._at = self._at, found + len(mark)
        return bytes(self.received[start : self._at])

    def take(self, count: int, into: bytearray) -> None:
        """So many bytes, appended as they come."""
        while count:
            self.wait_for_byte()
            part = self.received[self._at : self._at + count]
            into += part
            self._at += len(part)
            count -= len(part)

    def read_to_end(self) -> bytes:
        """What still comes, until the other side ends."""
        rest = bytearray()
        with contextlib.suppress(Ended):
            while True:
                self.take(1, rest)
                rest += self.received[self._at :]
                self._at = len(self.received)
        return bytes(rest)

    # Messages.

    def read_body(self, message: Message, *, until_close: bool) -> None:
        """The body that the head announces; raises `Ended` when it breaks off."""
        codings, lengths = message.values(b"transfer-encoding"), message.values(b"content-length")
        if codings:
            self._read_chunks(message)
        elif lengths:
            self.take(int(lengths[0]), message.payload)
        elif until_close:
            message.payload += self.read_to_end()
            if self.end is not End.CLOSED:
                raise Ended
        message.complete = True

    def _read_chunks(self, message: Message) -> None:
        message.chunks = 0
        while size := self._chunk_size():
            message.chunks += 1
            self.take(size, message.payload)
            if self.until(b"\r\n") != b"\r\n":
                raise Ended  # a chunk does not end where its size says
        while (line := self.until(b"\r\n")) != b"\r\n":
            message.trailers += line

    def _chunk_size(self) -> int:
        size = self.until(b"\r\n")[:-2].split(b";", 1)[0]  # extensions end at every recipient
        try:
            return int(size, 16)
        except ValueError:
            raise Ended from None

    def read_answer(self, method: bytes, message: Message) -> None:
        """An answer with the interim ones before it; what there is of it is in ``message`` when it breaks off."""
        with contextlib.suppress(Ended):
            while True:
                head = self.until(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 1") or head.startswith(b"HTTP/1.1 101"):
                    break
                message.interims.append(head)
            message.head = head
            if method == b"HEAD" or message.status in (204, 304):
                message.complete = True
            else:
                self.read_body(message, until_close=True)

    # Endings.

    def close(self) -> None:
        """End in an orderly way; this direction of TLS too."""
        if isinstance(self.socket, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                self.socket.settimeout(2)
                self.socket.unwrap()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def leave(self) -> None:
        """End without a word in TLS."""
        if self.socket.fileno() >= 0:
            os.close(self.socket.detach())

    def reset(self) -> None:
        """End with RST."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.leave()
