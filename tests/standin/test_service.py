"""The stand-in as a service: where it listens, what it counts, how it ends."""

from __future__ import annotations

import datetime
import json
import tempfile
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.server import StandInOptions
from openai_relay.standin.service import CannotListen, StandIn, parse_address, server_context
from openai_relay.standin.websocket import CLOSE_WITHIN
from tests.standin.asking import ClientTransport, parse_answer
from tests.standin.caller import OPENING


class StandInTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()

    def start(self, listen: str = "127.0.0.1:8080", options: StandInOptions | None = None) -> StandIn:
        standin = StandIn(self.reactor, listen, options=options)
        standin.startService()
        return standin

    def connect(self) -> tuple[Any, StringTransport]:
        factory: Any = self.reactor.tcpServers[-1][1]
        protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        transport = ClientTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def test_listens(self) -> None:
        """It listens where it was told to, and says where that is."""
        standin = self.start()
        port, _, _, host = self.reactor.tcpServers[0]
        self.assertEqual((host, port), ("127.0.0.1", 8080))
        self.assertTrue(standin.running)
        self.assertTrue(standin.url.startswith("http://127.0.0.1:"))

    def test_url_of_ipv6(self) -> None:
        """An IPv6 address stands in brackets."""
        self.assertTrue(self.start("[::1]:0").url.startswith("http://[::1]:"))

    def test_counts_connections(self) -> None:
        """Each connection is counted as it comes, whether it asks for something or not."""
        standin = self.start()
        self.assertEqual(standin.counters.connections, 0)
        self.connect()
        protocol, transport = self.connect()
        protocol.dataReceived(b"GET /standin/stats HTTP/1.1\r\nHost: h\r\n\r\n")
        told = json.loads(parse_answer(transport.value()).body)
        self.assertEqual((told["connections"], told["requests"]), (2, 0))

    def test_stop_ends_what_is_open(self) -> None:
        """Stopping resets every connection, and is done when the last one is gone."""
        standin = self.start()
        connections = [self.connect() for _ in range(2)]
        stopped = standin.stopService()
        self.assertEqual([transport.disconnected for _, transport in connections], [True, True])
        self.assertNoResult(stopped)
        for protocol, _ in connections:
            protocol.connectionLost(Failure(ConnectionAborted()))
        self.successResultOf(stopped)
        self.assertFalse(standin.running)

    def test_stop_closes_websockets(self) -> None:
        """Stopping closes a WebSocket with 1001, and waits for its client a little, while others are reset at once."""
        for answers in (True, False):
            self.setUp()
            standin = self.start()
            protocol, transport = self.connect()
            _, other = self.connect()
            opening = ["GET /v1/standin/websocket HTTP/1.1", "Host: h", "Authorization: Bearer k", *OPENING, "", ""]
            protocol.dataReceived("\r\n".join(opening).encode())
            transport.clear()
            stopped = standin.stopService()
            self.assertEqual(transport.value()[:4], b"\x88\x1a\x03\xe9")
            self.assertEqual((transport.disconnected, other.disconnected), (False, True))
            if answers:
                protocol.dataReceived(b"\x88\x82\0\0\0\0\x03\xe9")
            else:
                self.reactor.advance(CLOSE_WITHIN)
            self.assertTrue(transport.disconnecting)
            self.assertNoResult(stopped)
            factory: Any = self.reactor.tcpServers[-1][1]
            for connection in list(factory.http.connections):
                connection.connectionLost(Failure(ConnectionAborted()))
            self.successResultOf(stopped)

    def test_stop_when_idle(self) -> None:
        """Without connections it has stopped at once."""
        self.successResultOf(self.start().stopService())

    def test_plain_http_stays_on_loopback(self) -> None:
        """Without TLS it refuses to be reachable from elsewhere, and says what to do."""
        for listen in ("0.0.0.0:80", "192.0.2.1:80", "[::]:80"):
            error: CannotListen = self.assertRaises(CannotListen, StandIn, self.reactor, listen)
            self.assertIn("--certificate", str(error))

    def test_tls_may_be_anywhere(self) -> None:
        """With TLS any address will do."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.assertFalse(StandIn(self.reactor, "0.0.0.0:80", lambda: context).running)


class AddressTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        """An address is an IP address and a port."""
        self.assertEqual(parse_address("127.0.0.1:0"), ("127.0.0.1", 0))
        self.assertEqual(parse_address("[::1]:8080"), ("::1", 8080))

    def test_no_addresses(self) -> None:
        """Anything else is refused with an example."""
        for listen in ("", "8080", ":8080", "localhost:8080", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "1:²"):
            self.assertIn("127.0.0.1:8080", str(self.assertRaises(CannotListen, parse_address, listen)))


class ContextTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name)
        self.certificate, self.key = self.path / "server.pem", self.path / "server.key"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.write_key(self.key, key)

    def write_key(self, path: Path, key: ec.EllipticCurvePrivateKey) -> None:
        formats = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, *formats))

    def refused(self, certificate: Path, key: Path) -> str:
        return str(self.assertRaises(CannotListen, server_context, certificate, key))

    def test_good(self) -> None:
        """A certificate with its key makes a context that is ready for use."""
        SSL.Connection(server_context(self.certificate, self.key), None).set_accept_state()

    def test_missing(self) -> None:
        """A file that is not there is named."""
        nothing = self.path / "nothing.pem"
        self.assertIn(f"certificate {nothing} cannot be read: No such file", self.refused(nothing, self.key))
        self.assertIn(f"key {nothing} cannot be read: No such file", self.refused(self.certificate, nothing))

    def test_not_pem(self) -> None:
        """A file that holds something else is named."""
        self.assertIn(f"{self.key} is not a PEM file with a certificate", self.refused(self.key, self.key))
        self.assertIn(f"{self.certificate} is not a PEM file", self.refused(self.certificate, self.certificate))

    def test_foreign_key(self) -> None:
        """A key of another certificate is refused."""
        other = self.path / "other.key"
        self.write_key(other, ec.generate_private_key(ec.SECP256R1()))
        self.assertIn(str(other), self.refused(self.certificate, other))
