"""TLS right on the socket, on real sockets: our client and our server, Python's own client, and OpenSSL's."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import skipUnless

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from openai_relay.tls.client import TLSReactor
from openai_relay.tls.server import TLSPort
from openai_relay.tls.transport import Authenticate, TLSTruncated
from tests import certificates
from tests.doubles import PausableSource, client_context
from tests.integration.in_process import WITHIN, in_thread, reactor, until
from tests.tls.test_transport import server_context

OPENSSL = shutil.which("openssl")
MIB = 1 << 20


@implementer(IHandshakeListener)
class End(Protocol):
    """One end of a connection, which remembers what happens to it."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.handshaken: Deferred[None] = Deferred()
        self.refused: Exception | None = None
        self.lost: Deferred[BaseException] = Deferred()
        self.on_data: Callable[[bytes], object] = self.received.extend

    @property
    def wire(self) -> Any:
        """Its transport, which is there from the beginning."""
        return self.transport

    def handshakeCompleted(self) -> None:
        self.handshaken.callback(None)

    def handshakeRefused(self, error: Exception) -> None:
        self.refused = error

    def dataReceived(self, data: bytes) -> None:
        self.on_data(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert reason.value is not None
        self.lost.callback(reason.value)


class Ends(Factory):
    """Makes `End` after `End`, and remembers each."""

    noisy = False

    def __init__(self) -> None:
        self.ends: list[End] = []

    def buildProtocol(self, addr: object) -> End:
        self.ends.append(End())
        return self.ends[-1]


class TLSCase(TestCase):
    """Has a listening port, and connects to it."""

    timeout = 2 * WITHIN

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.servers = Ends()
        self.clients = Ends()
        self.port = TLSPort(0, self.servers, server_context, 50, "127.0.0.1", reactor)
        self.port.startListening()
        self.addCleanup(self.close)

    async def close(self) -> None:
        await self.port.stopListening()
        for end in [*self.servers.ends, *self.clients.ends]:
            end.wire.abortConnection()
            if not end.lost.called:
                await end.lost

    @property
    def number(self) -> int:
        return int(self.port.getHost().port)

    async def connect(
        self,
        context: SSL.Context | None = None,
        verify: Authenticate = lambda connection: None,
        early: bytes = b"",
    ) -> End:
        """A client's end, its handshake under way; ``early`` is written at once."""
        tls = TLSReactor(reactor, context or client_context(certificates.client()), lambda connection: None, verify)
        endpoint = HostnameEndpoint(tls, b"127.0.0.1", self.number)
        end: Any = await endpoint.connect(self.clients)
        if early:
            end.wire.write(early)
        return self.clients.ends[-1]

    async def pair(self) -> tuple[End, End]:
        """Both ends of a connection, their handshakes done: the client's, the server's."""
        client = await self.connect()
        await client.handshaken
        await until(lambda: self.servers.ends)
        server = self.servers.ends[-1]
        await server.handshaken
        return client, server

    def bare(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.number), timeout=WITHIN)
        self.addCleanup(connection.close)
        return connection

    def python_tls(self, credential: certificates.Credential | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=certificates.authority().pem.decode())
        if credential is not None:
            context.load_cert_chain(*credential.write(self.directory, "client"))
        return context


class HandshakeTests(TLSCase):
    async def test_both_ways(self) -> None:
        """Our client and our server agree, each sees the other's certificate, and bytes go both ways."""
        client, server = await self.pair()
        seen = [end.wire.tls.get_peer_certificate(as_cryptography=True) for end in (server, client)]
        self.assertEqual(seen, [certificates.client().certificate, certificates.server().certificate])
        client.wire.write(b"question")
        await until(lambda: server.received == b"question")
        server.wire.write(b"answer")
        await until(lambda: client.received == b"answer")

    async def test_early_writes(self) -> None:
        """What is written before the handshake arrives once the server is verified."""
        await self.connect(early=b"early")
        await until(lambda: self.servers.ends and self.servers.ends[0].received == b"early")

    async def test_early_writes_to_a_stranger(self) -> None:
        """What is written before the handshake is sent to nobody whom the client does not trust, and it is told why."""
        for trusted, verify in (
            (certificates.authority("Other CA"), lambda connection: None),
            (certificates.authority(), self.refuse),
        ):
            context = client_context(certificates.client(), trusted=trusted)
            client = await self.connect(context, verify, early=b"secret")
            error = await client.lost
            self.assertIsInstance(error, (SSL.Error, ValueError))
            self.assertFalse(client.handshaken.called)
            await until(lambda: self.servers.ends)
            server = self.servers.ends[-1]
            await server.lost
            self.assertEqual(server.received, b"")

    def refuse(self, connection: SSL.Connection) -> None:
        raise ValueError("not who it should be")

    async def test_stranger_who_does_not_hang_up(self) -> None:
        """A server that is not trusted is told of at once, though it keeps the connection open."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            tls = TLSReactor(reactor, client_context(), lambda connection: None, lambda connection: None)
            endpoint = HostnameEndpoint(tls, b"127.0.0.1", listening.getsockname()[1])
            await endpoint.connect(self.clients)
            connection, _ = await in_thread(listening.accept)
            with connection:
                await in_thread(connection.sendall, b"SSH-2.0-OpenSSH_9.2\r\n")
                self.assertIsInstance(await self.clients.ends[-1].lost, SSL.Error)

    async def test_alert_reaches_a_refused_client(self) -> None:
        """A client of another library, refused, reads the alert and not a reset, though it is sending its request."""
        for credential, alert in (
            (None, "certificate required"),
            (certificates.client(issuer=certificates.authority("Other CA")), "unknown ca"),
        ):
            error = await in_thread(self.ask_in_vain, self.python_tls(credential))
            self.assertIn(alert, error)
            refused = self.servers.ends[-1]
            await refused.lost
            self.assertIsInstance(refused.refused, SSL.Error)
            self.assertEqual(refused.received, b"")

    def ask_in_vain(self, context: ssl.SSLContext) -> str:
        try:
            with context.wrap_socket(self.bare(), server_hostname="localhost") as connection:
                connection.sendall(b"POST / HTTP/1.1\r\n\r\n" + b"x" * 100_000)
                connection.recv(1)
        except ssl.SSLError as error:
            return str(error).replace("_", " ").lower()
        raise AssertionError("it was let in")

    async def test_scan(self) -> None:
        """Whoever speaks no TLS gets an alert at most, and an end; the port goes on listening."""
        for question in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 1_000):
            answer = await in_thread(self.ask_plainly, question)
            self.assertIn(answer[:1], (b"", b"\x15"))  # the record type of an alert
            self.assertLessEqual(len(answer), 7)
        await self.pair()

    def ask_plainly(self, question: bytes) -> bytes:
        with self.bare() as connection:
            connection.sendall(question)
            answer = b""
            while block := connection.recv(1_000):
                answer += block
            return answer


class VolumeTests(TLSCase):
    async def test_large_messages_both_ways_at_once(self) -> None:
        """Megabytes in both directions at the same time arrive whole and in order."""
        client, server = await self.pair()
        up, down = bytes(range(256)) * (MIB // 32), bytes(range(255, -1, -1)) * (MIB // 32)
        for start in range(0, len(up), MIB):
            client.wire.write(up[start : start + MIB])
            server.wire.write(down[start : start + MIB])
        await until(lambda: len(server.received) == len(up) and len(client.received) == len(down))
        self.assertTrue(server.received == up and client.received == down)

    async def test_many_tiny_messages(self) -> None:
        """Thousands of single bytes arrive in order."""
        client, server = await self.pair()
        for number in range(5_000):
            client.wire.write(bytes([number % 251]))
        await until(lambda: len(server.received) == 5_000)
        self.assertEqual(server.received, bytes([number % 251 for number in range(5_000)]))

    async def test_back_pressure(self) -> None:
        """A producer is paused when the peer does not read, and resumed when it does; nothing is lost."""
        client, server = await self.pair()
        source = PausableSource()
        server.wire.registerProducer(source, True)
        client.wire.pauseProducing()
        sent = 0
        while "pause" not in source.told:
            server.wire.write(b"x" * 100_000)
            sent += 100_000
        self.assertEqual(set(source.told), {"pause"})
        client.wire.resumeProducing()
        await until(lambda: len(client.received) == sent)
        self.assertEqual(source.told[-1], "resume")
        self.assertEqual(source.told.count("resume"), 1)
        server.wire.unregisterProducer()

    async def test_close_after_a_large_message(self) -> None:
        """Closing after megabytes sends all of them and a clean end."""
        client, server = await self.pair()
        server.wire.write(b"x" * (8 * MIB))
        server.wire.loseConnection()
        self.assertIsInstance(await client.lost, ConnectionDone)
        self.assertEqual(len(client.received), 8 * MIB)

    async def test_cut_after_a_large_message(self) -> None:
        """Cutting sends all of them too, and the peer sees a truncation."""
        client, server = await self.pair()
        server.wire.write(b"x" * (8 * MIB))
        server.wire.cutConnection()
        self.assertIsInstance(await client.lost, TLSTruncated)
        self.assertEqual(len(client.received), 8 * MIB)


class LeavingTests(TLSCase):
    async def test_peer_that_left_is_seen_while_paused(self) -> None:
        """That a client has gone is seen while nobody reads, past what it had sent, for FIN and for RST."""
        for end in (socket.socket.close, self.reset):
            wrapped = await in_thread(
                self.python_tls(certificates.client()).wrap_socket, self.bare(), False, True, True, "localhost"
            )
            await until(lambda: self.servers.ends)
            server = self.servers.ends[-1]
            await server.handshaken
            server.wire.pauseProducing()
            await in_thread(wrapped.sendall, b"x" * 10_000)
            self.assertFalse(server.wire.peer_has_closed())
            bare = socket.socket(fileno=wrapped.detach())
            end(bare)
            await until(server.wire.peer_has_closed)
            self.assertEqual(server.received, b"")
            server.wire.abortConnection()
            await server.lost

    def reset(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()

    async def test_truncation(self) -> None:
        """A client that goes without a word in TLS is reported as a truncation."""
        wrapped = await in_thread(
            self.python_tls(certificates.client()).wrap_socket, self.bare(), False, True, True, "localhost"
        )
        await in_thread(wrapped.sendall, b"half a req")
        await until(lambda: self.servers.ends and self.servers.ends[0].received)
        self.servers.ends[0].wire.write(b"go on")
        # What is left unread would turn the FIN into a RST, and a TLS 1.3 server begins by sending a ticket.
        self.assertEqual(await in_thread(wrapped.recv, 5), b"go on")
        socket.socket(fileno=wrapped.detach()).close()
        self.assertIsInstance(await self.servers.ends[0].lost, TLSTruncated)
        self.assertEqual(self.servers.ends[0].received, b"half a req")


@skipUnless(OPENSSL, "openssl is not installed")
class OpenSSLTests(TLSCase):
    """OpenSSL's own client, which can do what Python's cannot."""

    async def test_key_update(self) -> None:
        """A KeyUpdate in the middle of a connection is answered, and both directions go on with the new keys."""
        assert OPENSSL is not None
        certificate, key = certificates.client().write(self.directory, "client")
        printed = self.directory / "printed"
        with printed.open("wb") as output:
            client = subprocess.Popen(
                [
                    *(OPENSSL, "s_client", "-connect", f"127.0.0.1:{self.number}", "-tls1_3", "-verify_quiet"),
                    *("-cert", str(certificate), "-key", str(key)),
                ],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        assert client.stdin is not None
        self.addCleanup(client.communicate)
        self.addCleanup(client.kill)
        await until(lambda: self.servers.ends and self.servers.ends[0].handshaken.called)
        server = self.servers.ends[0]

        def shout(data: bytes) -> None:
            server.received += data
            server.wire.write(data.upper())

        server.on_data = shout
        # A line K asks for an update of both directions, a line k makes one of its own; what is printed tells that it
        # was read, and not together with the next line.
        for line, shown in (
            (b"before\n", b"BEFORE"),
            (b"K\n", b"KEYUPDATE"),
            (b"between\n", b"BETWEEN"),
            (b"k\n", b"KEYUPDATE"),
            (b"after\n", b"AFTER"),
        ):
            times = printed.read_bytes().count(shown) + 1
            client.stdin.write(line)
            client.stdin.flush()
            await until(partial(self.shows, printed, shown, times))
        self.assertEqual(server.received, b"before\nbetween\nafter\n")
        client.stdin.write(b"Q\n")
        client.stdin.flush()
        self.assertIsInstance(await server.lost, ConnectionDone)

    def shows(self, printed: Path, shown: bytes, times: int) -> bool:
        return printed.read_bytes().count(shown) == times
