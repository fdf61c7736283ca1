"""Ask the stand-in in memory: its pure endpoints directly, and its server over a string transport and a clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from openai_relay.http1.server import HTTPServerFactory
from openai_relay.standin.answer import Answer, Call
from openai_relay.standin.controls import Controls
from openai_relay.standin.counters import Counters
from openai_relay.standin.forms import Form, FormReader
from openai_relay.standin.server import Exchanges, StandInOptions

#: When the clock of these tests starts, in seconds since the epoch.
NOW = 1_700_000_000
BOUNDARY = "a-boundary"


def call(body: Any = None, *, form: Form | None = None, **controls: Any) -> Call:
    """A request as an endpoint sees it."""
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Call(Controls(**controls), 7, NOW, body=encoded, form=form)


def unary(answer: Answer) -> Any:
    """The JSON of a whole answer."""
    assert answer.blocks is None
    return msgspec.json.decode(answer.body)


def events(answer: Answer) -> list[tuple[str | None, Any]]:
    """The name and the data of each event of a stream; ``[DONE]`` is left as it is."""
    assert answer.blocks is not None
    return parse_events(b"".join(answer.blocks))


def parse_events(stream: bytes) -> list[tuple[str | None, Any]]:
    """The same for the bytes of a stream, which must end with an event's end."""
    assert stream.endswith(b"\n\n"), stream[-100:]
    found = []
    for event in stream[:-2].split(b"\n\n"):
        lines = dict(line.split(b": ", 1) for line in event.split(b"\n"))
        name = lines.get(b"event")
        data = lines[b"data"]
        found.append((name.decode() if name else None, "[DONE]" if data == b"[DONE]" else msgspec.json.decode(data)))
    return found


def multipart(*parts: tuple[str, str | None, bytes]) -> bytes:
    """A form: name, file name or None for a plain value, content."""
    written = []
    for name, filename, content in parts:
        naming = f'; filename="{filename}"' if filename is not None else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{naming}\r\n\r\n'
        written.append(head.encode() + content + b"\r\n")
    return b"".join(written) + f"--{BOUNDARY}--\r\n".encode()


def form(*parts: tuple[str, str | None, bytes]) -> Form:
    """The same form, taken apart."""
    reader = FormReader(BOUNDARY)
    reader.feed(multipart(*parts))
    return reader.close()


@dataclass(slots=True)
class Answered:
    """One answer on the wire: a head, and as much of a body as came."""

    status: int
    reason: str
    pairs: list[tuple[str, str]]
    body: bytes
    complete: bool  #: the end of the body was seen
    rest: bytes  #: what came after it

    def __getitem__(self, name: str) -> str:
        [value] = [value for other, value in self.pairs if other.lower() == name]
        return value

    def __contains__(self, name: str) -> bool:
        return any(other.lower() == name for other, _ in self.pairs)

    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


class ClientTransport(StringTransport):
    """A client's connection that can be closed in one direction, as a TCP one."""

    half_closed = False

    def loseWriteConnection(self) -> None:
        """Everything was written."""
        self.disconnecting = self.half_closed = True


@dataclass(slots=True)
class Asker:
    """A client's connection to a stand-in in memory."""

    server: InMemory
    protocol: Any
    transport: ClientTransport = field(default_factory=ClientTransport)

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self.protocol.dataReceived(data)

    def request(self, method: str, target: str, *fields: str, body: bytes | None = None, key: str = "k") -> None:
        """One request, with a key, and a length when there is a body."""
        lines = [f"{method} {target} HTTP/1.1", "Host: standin", *fields]
        if key:
            lines.append(f"Authorization: Bearer {key}")
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))

    def leave(self) -> None:
        """The client closes its connection."""
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def answered(self) -> Answered:
        """What has come; fails when it is not even a head."""
        return parse_answer(self.transport.value())

    def ask(self, method: str, target: str, *fields: str, body: bytes | None = None, key: str = "k") -> Answered:
        """One request, and its answer."""
        self.transport.clear()
        self.request(method, target, *fields, body=body, key=key)
        return self.answered()

    def post(self, target: str, value: Any, *fields: str) -> Answered:
        """Send JSON."""
        return self.ask("POST", target, "Content-Type: application/json", *fields, body=msgspec.json.encode(value))


class InMemory:
    """A stand-in without a socket, whose time only passes when it is told to."""

    def __init__(self, options: StandInOptions | None = None) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.counters = Counters()
        exchanges = Exchanges(self.clock, self.counters, options or StandInOptions())
        self._factory = HTTPServerFactory(exchanges.serve, self.clock)

    def connect(self) -> Asker:
        """One more client."""
        protocol = self._factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        assert protocol is not None
        asker = Asker(self, protocol)
        protocol.makeConnection(asker.transport)
        return asker


def parse_answer(data: bytes) -> Answered:
    """The first answer in some bytes."""
    head, end, rest = data.partition(b"\r\n\r\n")
    assert end, f"no head: {data[:200]!r}"
    first, *lines = head.decode("latin-1").split("\r\n")
    _, status, reason = first.split(" ", 2)
    pairs = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    answered = Answered(int(status), reason, pairs, rest, False, b"")
    if "transfer-encoding" in answered:
        answered.body, answered.complete, answered.rest = _dechunked(rest)
    elif "content-length" in answered:
        length = int(answered["content-length"])
        answered.body, answered.rest = rest[:length], rest[length:]
        answered.complete = len(answered.body) == length
    return answered


def _dechunked(data: bytes) -> tuple[bytes, bool, bytes]:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return body, data.startswith(b"\r\n"), data[2:]
        body += data[:length]
        data = data[length + 2 :]
    return body, False, b""
