"""
Clients that take what they can get, for the tests of bounds; and a look at what the relay has left afterwards.

A `Crowd` is many connections of one kind.  `BoundsTestCase.bounded` is around
every attack: whatever the relay opened or kept for it has to be given back.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from typing import ClassVar, Final, Self

from tests.integration.by_hand import ClientByHand
from tests.integration.running import WITHIN, Relay, RelayTestCase, Running, Site, StandIn, Tables, wait_for

MIB: Final = 1 << 20
#: Short enough for a test to wait for, in seconds.
SHORT: Final = 1.0
CHAT: Final = b'{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
#: What a good client streams meanwhile: an event each 50 ms.
PACED: Final = "/v1/chat/completions?standin.endless=1&standin.interval_ms=50"
GET: Final = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
#: Handshakes made at the same time: enough to keep both ends busy.
_AT_ONCE: Final = 4
_BLOCK: Final = 65_536
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def descriptors(running: Running) -> int:
    """How many files and sockets a process has open."""
    return sum(1 for _ in Path(f"/proc/{running.process.pid}/fd").iterdir())


def processor_time(running: Running) -> float:
    """Seconds of processor time that a process has used until now."""
    words = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS


def pause(seconds: float) -> None:
    """Let time pass, where that is what the attack consists of."""
    threading.Event().wait(seconds)


def quick_tls(site: Site, stem: str | None = "client") -> ssl.SSLContext:
    """A client's TLS that does not look at the relay's certificate: for crowds; ``None``: it has none of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if stem is not None:
        context.load_cert_chain(site.file(f"{stem}.pem"), site.file(f"{stem}.key"))
    return context


def client_hello(tls: ssl.SSLContext) -> bytes:
    """What a client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        tls.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


class Crowd:
    """Many connections to one relay, closed together."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def connect(self, count: int) -> Self:
        """So many more connections, with nothing said on them."""
        self.sockets += [self._bare() for _ in range(count)]
        return self

    def _bare(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._relay.port), WITHIN)

    def greet(self, tls: ssl.SSLContext, count: int) -> Self:
        """So many more connections, their handshakes done; one that the relay closes meanwhile is left out."""

        def one(_: int) -> socket.socket | None:
            try:
                return tls.wrap_socket(self._bare(), server_hostname="localhost")
            except OSError:
                return None

        with ThreadPoolExecutor(_AT_ONCE) as at_once:
            self.sockets += [each for each in at_once.map(one, range(count)) if each is not None]
        return self

    def forget_tls(self) -> None:
        """Keep the bare connections only: nothing more is said on them, and they cost us nothing but a descriptor."""
        self.sockets = [
            socket.socket(fileno=each.detach()) if isinstance(each, ssl.SSLSocket) else each for each in self.sockets
        ]

    def say(self, data: bytes) -> None:
        """All of them send this; those whom the relay has left already do not."""
        for each in self.sockets:
            try:
                each.sendall(data)
            except OSError:
                pass

    def open(self) -> int:
        """How many the relay has neither closed nor reset."""
        poll = select.poll()
        for each in self.sockets:
            poll.register(each.fileno(), select.POLLRDHUP)
        return len(self.sockets) - len(poll.poll(0))

    def all_closed(self) -> bool:
        return self.open() == 0

    def answers(self) -> list[bytes]:
        """What each was told until the relay closed, a reset being an end as well."""
        return [read_to_end(each) for each in self.sockets]

    def leave(self) -> None:
        """Close them all, without a word."""
        for each in self.sockets:
            if each.fileno() >= 0:
                os.close(each.detach())
        self.sockets = []


def read_to_end(connection: socket.socket) -> bytes:
    """All that still comes, however it ends."""
    blocks = []
    try:
        while data := connection.recv(_BLOCK):
            blocks.append(data)
    except (ConnectionError, ssl.SSLError):
        pass
    return b"".join(blocks)


def send_and_read(client: ClientByHand, data: bytes) -> bytes:
    """Send what may be more than the relay takes at once, reading meanwhile; returns all that was told."""
    connection, rest, blocks = client.socket, memoryview(data), []
    connection.setblocking(False)
    while True:
        try:
            while block := connection.recv(_BLOCK):
                blocks.append(block)
            return b"".join(blocks)
        except ssl.SSLWantReadError:
            pass
        except OSError:  # a reset is an end as well
            return b"".join(blocks)
        try:
            rest = rest[connection.send(rest[:_BLOCK]) :] if rest else rest
        except ssl.SSLWantWriteError:
            pass
        except OSError:  # it listens no more, and may still have something to say
            rest = memoryview(b"")
        if not any(select.select([connection], [connection] if rest else [], [], WITHIN)):
            raise AssertionError(f"nothing for {WITHIN:g} s, after {sum(map(len, blocks))} bytes")


def send_until_stuck(client: ClientByHand, block: bytes, most: int, patience: float = 0.7) -> int:
    """Send blocks and read nothing, until no byte more goes out; returns how many did, the kernel's share included."""
    connection, rest, sent = client.socket, memoryview(b""), 0
    connection.setblocking(False)
    while sent < most and select.select([], [connection], [], patience)[1]:
        rest = rest or memoryview(block)
        try:
            count = connection.send(rest)
        except ssl.SSLWantWriteError:
            continue
        except OSError:  # closed, which is an end of it as well
            break
        rest, sent = rest[count:], sent + count
    return sent


def say_for_ever(client: ClientByHand, block: bytes, most: int) -> int:
    """Send the same block until the relay has had enough of it; returns how many bytes went out."""
    sent = 0
    while sent < most and not client.has_ended():
        try:
            client.send(block)
        except OSError:
            break
        sent += len(block)
    return sent


class BoundsTestCase(RelayTestCase):
    """A relay with short time-outs that is attacked, and a stand-in behind it."""

    #: What a test class sets beside or over the short time-outs.
    more: ClassVar[Tables] = {}
    tls: ClassVar[ssl.SSLContext]

    @classmethod
    def prepare(cls) -> None:
        """What a test class puts into the site before the relay is started."""

    @classmethod
    def setUpClass(cls) -> None:
        tables: dict[str, dict[str, object]] = {
            "listen": dict.fromkeys(("handshake_timeout", "head_timeout", "idle_timeout", "stall_timeout"), SHORT),
            "upstream": {"max_idle_connections": 0},  # so that none is left over by intent
        }
        for table, entries in cls.more.items():
            tables.setdefault(table, {}).update(entries)
        super(RelayTestCase, cls).setUpClass()  # not its own: it would start the relay before the site is prepared
        cls.prepare()
        cls.standin = StandIn(cls.site)
        cls.addClassCleanup(cls.standin.stop)
        cls.relay = Relay.configured(cls.site, cls.standin.url, tables)
        cls.addClassCleanup(cls.relay.close)
        cls.tls = quick_tls(cls.site)

    def client(self) -> ClientByHand:
        client = ClientByHand(self.relay)
        self.addCleanup(client.leave)
        return client

    def assert_served(self, tls: ssl.SSLContext | None = None) -> None:
        """A good client, on a connection of its own, gets its answer, and leaves."""
        connection = self.relay.connect(tls)
        try:
            self.assertEqual(status_of(connection), 200)
        finally:
            connection.close()

    @contextmanager
    def bounded(self, grows: int = 8 * MIB) -> Iterator[None]:
        """
        Around an attack: a stream goes on all the while, others are served after it, and nothing is left of it.

        :param grows: so many bytes of memory may it cost, and keep.
        """
        self.assert_served()  # what is loaded at the first request is there, and with the ledger's first row
        self.relay.wait_for_metric("openai_relay_ledger_rows_waiting", 0)
        self.settle(0)
        before, resident = descriptors(self.relay), self.relay.resident
        streaming = self.client()
        streaming.request("POST", PACED, CHAT)
        events = streaming.answer()
        self.assertTrue(events.readline().startswith(b"data: "))
        yield
        for _ in range(40):  # those that came meanwhile, and then new ones
            self.assertNotEqual(events.readline(), b"", "the good client's stream was cut")
        streaming.leave()
        self.assert_served()
        self.settle(before)
        self.assertLess(self.relay.resident - resident, grows)

    def settle(self, before: int) -> None:
        """Wait until no connection is left, on either side; then there are no more descriptors than ``before``."""
        self.relay.wait_for_metric("openai_relay_connections", 0)
        self.relay.wait_for_metric('openai_relay_upstream_connections{upstream="127.0.0.1",state="busy"}', 0)
        self.relay.wait_for_metric('openai_relay_upstream_connections{upstream="127.0.0.1",state="idle"}', 0)
        self.assertEqual(self.relay.active(), 0)
        self.assertEqual(wait_for(lambda: self.standin.stats().open == 0, "the upstream to be left"), True)
        if before:
            wait_for(lambda: descriptors(self.relay) <= before, f"at most {before} descriptors")

    def wait_until_closed(self, crowd: Crowd, what: str) -> None:
        wait_for(crowd.all_closed, f"{what} to be closed")


def status_of(connection: HTTPSConnection, target: str = "/v1/models") -> int:
    """One request, its answer read to the end."""
    connection.request("GET", target)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def redirected(relay_command: Sequence[str | Path], redirection: str) -> list[str | Path]:
    """The command, its output elsewhere: ``redirection`` is the shell's."""
    return ["sh", "-c", f'exec "$@" {redirection}', "sh", *relay_command]


class UnreadPipe:
    """A named pipe that is read as long as the test likes, and then not any more."""

    def __init__(self, directory: Path) -> None:
        self.path = Path(tempfile.mkdtemp(dir=directory)) / "pipe"
        os.mkfifo(self.path)
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self._text = b""

    def text(self) -> str:
        """What has been read, with what is there now."""
        try:
            while block := os.read(self._descriptor, _BLOCK):
                self._text += block
        except BlockingIOError:
            pass
        return self._text.decode(errors="replace")

    def fill(self) -> None:
        """Fill it up: not one more byte goes in."""
        writing = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            for size in (4_096, 1):
                _write_until_full(writing, b"x" * size)
        finally:
            os.close(writing)

    def close(self) -> None:
        os.close(self._descriptor)


def _write_until_full(descriptor: int, block: bytes) -> None:
    try:
        while True:
            os.write(descriptor, block)
    except BlockingIOError:
        pass
