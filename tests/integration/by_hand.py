"""
The two ends of the relay, held by the test: an upstream that does only what it is told, and a bare TLS client.

With both in one hand no test depends on timing: what the upstream has sent must
reach the client before anything else is sent, or the test's own bound ends it.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Final, Self

from tests.integration.running import WITHIN, Relay, Site, wait_for

#: SO_LINGER with no time: closing sends RST.
_RESET: Final = struct.pack("ii", 1, 0)
_BLOCK: Final = 65_536
#: Of /proc/net/tcp.
ESTABLISHED: Final = 1
SYN_SENT: Final = 2


class _End:
    """What both ends can do with their TLS connection."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self.socket = connection
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_head(self) -> str:
        """Everything up to the empty line."""
        while b"\r\n\r\n" not in self._buffer:
            data = self.socket.recv(_BLOCK)
            if not data:
                raise AssertionError(f"the connection ended in a head: {self._buffer!r}")
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head.decode("latin-1")

    def read(self, count: int) -> bytes:
        """So many bytes, or fewer if the connection ends."""
        while len(self._buffer) < count:
            data = self.socket.recv(_BLOCK)
            if not data:
                break
            self._buffer += data
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    def read_to_end(self) -> bytes:
        """All that still comes."""
        blocks = [self._buffer]
        self._buffer = b""
        while data := self.socket.recv(_BLOCK):
            blocks.append(data)
        return b"".join(blocks)

    def has_ended(self) -> bool:
        """Whether the peer has closed or reset the connection, seen past bytes that nobody reads."""
        poll = select.poll()
        poll.register(self.socket.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def leave(self) -> None:
        """Close the connection at once, as the kernel does for a process that ends: FIN, and no word in TLS."""
        if self.socket.fileno() >= 0:
            os.close(self.socket.detach())

    def reset(self) -> None:
        """End the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.leave()


class ClientByHand(_End):
    """A client with the site's certificate that says exactly what it is told."""

    def __init__(self, relay: Relay, receive_buffer: int | None = None) -> None:
        bare = socket.socket()
        bare.settimeout(WITHIN)
        if receive_buffer is not None:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        bare.connect(("127.0.0.1", relay.port))
        super().__init__(relay.site.client_tls().wrap_socket(bare, server_hostname="localhost"))
        self._relay = relay
        self.port: int = bare_port(self.socket)

    def request(self, method: str, target: str, body: bytes = b"", fields: str = "") -> None:
        """Send a whole request; ``fields`` are lines that end in CRLF."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self.send(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{length}{fields}\r\n".encode() + body)

    def answer(self) -> HTTPResponse:
        """The answer, its head read, its body to be read in any portions."""
        response = HTTPResponse(self.socket)
        response.begin()
        return response

    def unread(self) -> int:
        """Bytes that have arrived at the relay and that it does not read."""
        return sum(each.unread for each in tcp_connections() if each.ports == (self._relay.port, self.port))


class Conversation(_End):
    """One connection from the relay, held by the test."""

    def read_chunk(self) -> bytes:
        """The next chunk of a request's body, as the relay cut it; empty at the end."""
        while b"\r\n" not in self._buffer:
            data = self.socket.recv(_BLOCK)
            if not data:
                raise AssertionError(f"the connection ended before a chunk: {self._buffer!r}")
            self._buffer += data
        size, _, self._buffer = self._buffer.partition(b"\r\n")
        block = self.read(int(size, 16) + 2)
        if not block.endswith(b"\r\n"):
            raise AssertionError("the connection ended in a chunk")
        return block[:-2]

    def answer(self, body: bytes = b"{}", fields: str = "Connection: close\r\n") -> None:
        """A whole answer; the connection is not to be kept unless ``fields`` say something else."""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
        self.send(head.encode() + body)

    def begin_events(self, fields: str = "Connection: close\r\n") -> None:
        """The head of a stream of events."""
        self.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
            + fields.encode()
            + b"\r\n"
        )

    def chunk(self, data: bytes) -> None:
        """One chunk of a body; an empty one is its end."""
        self.send(b"%x\r\n%b\r\n" % (len(data), data))


class UpstreamByHand:
    """A listening socket with the upstream's certificate; accepts when the test says so."""

    def __init__(self, site: Site, backlog: int = 64, receive_buffer: int | None = None) -> None:
        self._listener = socket.socket()
        self._listener.settimeout(WITHIN)
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(backlog)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(site.file("upstream.pem"), site.file("upstream.key"))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"

    def accept_bare(self) -> socket.socket:
        """The next connection, with nothing said on it."""
        connection, _ = self._listener.accept()
        connection.settimeout(WITHIN)
        return connection

    def accept(self) -> Conversation:
        """The next connection, its handshake done."""
        return Conversation(self._tls.wrap_socket(self.accept_bare(), server_side=True))

    def fill(self) -> list[socket.socket]:
        """Take up the queue, so that whoever connects next is not answered; returns what takes it up."""
        fillers: list[socket.socket] = []
        while True:
            filler = socket.socket()
            filler.settimeout(0.3)
            try:
                filler.connect(("127.0.0.1", self.port))
            except TimeoutError:
                filler.close()
                return fillers
            fillers.append(filler)

    def close(self) -> None:
        self._listener.close()


@dataclass(frozen=True, slots=True)
class TcpConnection:
    """One side of a connection, as the kernel sees it."""

    ports: tuple[int, int]  #: local, remote
    state: int
    unread: int  #: bytes that have arrived and that the owner has not read

    @classmethod
    def of(cls, row: str) -> Self:
        words = row.split()
        local, remote = (int(words[index].rpartition(":")[2], 16) for index in (1, 2))
        return cls((local, remote), int(words[3], 16), int(words[4].partition(":")[2], 16))


def tcp_connections() -> list[TcpConnection]:
    """All connections over IPv4 on this machine."""
    return [TcpConnection.of(row) for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]


def bare_port(connection: socket.socket) -> int:
    """Our own port."""
    return int(connection.getsockname()[1])


def send_until_paused(client: ClientByHand, block: bytes, most: int) -> int:
    """
    Send blocks, each when the one before it has been read, until the relay reads no more; returns how much was sent.

    What is left unread is little, so that the client's own end is never stuck behind it.
    """
    sent = 0
    while sent < most:
        client.send(block)
        sent += len(block)
        try:
            wait_for(lambda: client.unread() == 0, "the relay to read on", within=0.7)
        except AssertionError:
            return sent
    raise AssertionError(f"{sent} bytes were taken, and still the relay reads on")
