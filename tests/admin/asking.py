"""Ask an admin site over its own wire protocol, in memory."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IProtocol
from twisted.internet.testing import StringTransport
from twisted.web.server import Site


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back: the status line, the header fields with lower-case names, the body."""

    status: str
    fields: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection to an admin site."""

    protocol: IProtocol
    transport: StringTransport

    def send(self, method: str, path: str, *fields: str, body: bytes = b"") -> None:
        """Send one request, after which the connection is to be closed."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *fields, "", ""]
        self.protocol.dataReceived("\r\n".join(lines).encode() + body)

    def answered(self) -> Answered:
        """The one answer that came."""
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        status, *lines = head.decode("ascii").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        return Answered(status, {name.lower(): value for name, value in pairs}, body)


def connect(site: Site) -> Connection:
    """Connect to a site."""
    protocol = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
    assert protocol is not None
    transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1))
    protocol.makeConnection(transport)
    return Connection(protocol, transport)


def ask(site: Site, method: str, path: str, *fields: str, body: bytes = b"") -> Answered:
    """Ask once, and read the answer."""
    connection = connect(site)
    connection.send(method, path, *fields, body=body)
    return connection.answered()
