"""The service on real sockets: it starts, serves, tells how it is, and stops without losing an answer."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace
from datetime import timedelta
from http.client import HTTPSConnection

from openai_relay.core.settings import AdminSettings, Secret
from openai_relay.service import RelayService
from openai_relay.tls.server import TLSPort
from tests import certificates
from tests.certificates import DAY
from tests.integration.in_process import InProcessCase, bare, get, in_thread, reactor, until, without_admin

HANDSHAKES = 'openai_relay_tls_handshakes_total{result="%s"}'


class ServingTests(InProcessCase):
    async def test_serves(self) -> None:
        """What a client asks reaches the upstream with the relay's key, and the answer reaches the client."""
        standin = self.upstream()
        service = self.start(self.settings(standin))
        status, body = await self.ask(service)
        self.assertEqual((status, body["object"]), (200, "list"))
        self.assertEqual((standin.counters.requests, standin.counters.keys_matched), (1, 1))
        self.assertEqual(await self.metric(service, 'openai_relay_exchanges_ended_total{end="done"}'), 1.0)

    async def test_two_side_by_side(self) -> None:
        """Two services in one process share nothing: each counts its own."""
        standin = self.upstream()
        one, other = (self.start(self.settings(standin)) for _ in range(2))
        self.assertNotEqual(one.address, other.address)
        for service, times in ((one, 1), (other, 2)):
            for _ in range(times):
                self.assertEqual((await self.ask(service))[0], 200)
        self.assertEqual([await self.metric(each, HANDSHAKES % "ok") for each in (one, other)], [1.0, 2.0])
        await one.stopService()
        self.assertEqual((await self.ask(other))[0], 200)

    async def test_ipv6(self) -> None:
        """An IPv6 address is written in brackets, and served."""
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest("this machine has no IPv6")
        service = self.start(self.settings(self.upstream(), address="[::1]:0"))
        self.assertTrue(service.address.startswith("[::1]:"), service.address)
        connection = self.connection(service)
        tls = self.client_tls(certificates.client())
        tls.check_hostname = False  # the certificate is for the IPv4 address
        connection = HTTPSConnection("::1", int(service.address.rpartition(":")[2]), context=tls)
        self.addCleanup(connection.close)
        self.assertEqual((await in_thread(get, connection, "/v1/models"))[0], 200)

    async def test_no_admin_listener(self) -> None:
        """Without an address there is no admin listener."""
        service = self.start(without_admin(self.settings(self.upstream())))
        self.assertEqual(service.admin_address, "")
        self.assertEqual((await self.ask(service))[0], 200)

    async def test_too_many_connections_of_one_client(self) -> None:
        """The second connection of one is told so and closed; it is let in once the first has gone."""
        service = self.start(self.settings(self.upstream(), max_connections_per_identity=1))
        first = self.connection(service)
        self.assertEqual((await in_thread(get, first, "/v1/models"))[0], 200)
        status, body = await self.ask(service)
        self.assertEqual((status, body["error"]["code"]), (429, "connection_limit_exceeded"))
        self.assertEqual((await self.ask(service, credential=certificates.client("bob")))[0], 200)
        first.close()
        await until(lambda: not service._factory.connections)
        self.assertEqual((await self.ask(service))[0], 200)

    async def test_too_many_connections_in_all(self) -> None:
        """A connection over the limit is closed before its handshake, and costs the others nothing."""
        service = self.start(self.settings(self.upstream(), max_connections=1))
        first = self.connection(service)
        self.assertEqual((await in_thread(get, first, "/v1/models"))[0], 200)
        second = await in_thread(bare, service)
        self.assertEqual(await in_thread(second.recv, 1), b"")
        second.close()
        self.assertEqual((await in_thread(get, first, "/v1/models"))[0], 200)


class RefusedStartTests(InProcessCase):
    async def test_port_in_use(self) -> None:
        """A port that is taken ends the process, with a message that names the address and what to do."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            standin = self.upstream()
            told = (
                f"openai-relay: cannot listen on {address}: Address already in use; "
                "is another one running there? Choose another address in [listen], [admin] or [enrol]."
            )
            for settings in (
                self.settings(standin, address=address),
                replace(self.settings(standin), admin=AdminSettings(address)),
            ):
                error = self.assertRaises(SystemExit, self.start, settings)
                self.assertEqual(str(error), told)

    async def test_address_that_is_not_ours(self) -> None:
        """An address of another machine is named, too."""
        error = self.assertRaises(SystemExit, self.start, self.settings(self.upstream(), address="192.0.2.1:8443"))
        self.assertIn("cannot listen on 192.0.2.1:8443: Cannot assign requested address", str(error))

    async def test_no_socket_from_systemd(self) -> None:
        """A socket that systemd should have passed and has not is told with what to do."""
        error = self.assertRaises(SystemExit, self.start, self.settings(self.upstream(), address="systemd:https"))
        self.assertEqual(
            str(error),
            "openai-relay: listen.address = 'systemd:https': systemd passed no socket of this name: "
            "start the socket unit, in which FileDescriptorName=https must stand",
        )


class AdoptedTests(InProcessCase):
    async def test_adopted_socket(self) -> None:
        """A socket that somebody else listens on is served, and outlives its port."""
        standin = self.upstream()
        service = self.start(without_admin(self.settings(standin)))
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            try:
                listening = socket.create_server((host, 0), family=family)
            except OSError:
                continue  # this machine has no IPv6
            self.addCleanup(listening.close)
            port = TLSPort.adopt(listening.fileno(), service._factory, service._listener.context, reactor)
            port.startListening()
            self.assertEqual((port.getHost().host, port.getHost().port), listening.getsockname()[:2])
            tls = self.client_tls(certificates.client())
            tls.check_hostname = False
            connection = HTTPSConnection(host, listening.getsockname()[1], context=tls)
            self.addCleanup(connection.close)
            self.assertEqual((await in_thread(get, connection, "/v1/models"))[0], 200)
            connection.close()
            await port.stopListening()
            self.assertEqual(listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), 1)

    async def test_other_sockets(self) -> None:
        """A socket that is not TCP's, or that does not listen, is refused with what the socket unit needs."""
        service = self.start(without_admin(self.settings(self.upstream())))
        for family, kind in (
            (socket.AF_UNIX, socket.SOCK_STREAM),
            (socket.AF_INET, socket.SOCK_DGRAM),
            (socket.AF_INET, socket.SOCK_STREAM),
        ):
            with socket.socket(family, kind) as passed:
                error = self.assertRaises(
                    ValueError, TLSPort.adopt, passed.fileno(), service._factory, service._listener.context, reactor
                )
                self.assertEqual(
                    str(error),
                    "the socket that was passed does not listen for TCP connections: "
                    "its unit needs ListenStream= with a port, and no Accept=yes",
                )


class AdminTests(InProcessCase):
    async def test_ready(self) -> None:
        """A relay that serves is ready."""
        service = self.start(self.settings(self.upstream(), crl=certificates.revocation_list()))
        self.assertEqual(await self.admin(service, "/readyz"), (200, '{"status": "ready"}\n'))

    async def test_stale_crl(self) -> None:
        """A revocation list that is out of date shuts everybody out: the relay is not ready, and says why."""
        stale = certificates.revocation_list(next_update=-timedelta(hours=1))
        service = self.start(self.settings(self.upstream(), crl=stale))
        status, text = await self.admin(service, "/readyz")
        self.assertEqual(status, 503)
        self.assertIn('{"name": "crl", "detail": "the revocation list is out of date: nobody is let in"}', text)

    async def test_expired_certificate(self) -> None:
        """So does a server's certificate that has expired."""
        settings = self.settings(self.upstream())
        expired = certificates.server(not_after=-timedelta(hours=1))
        settings.listen.certificate.write_bytes(expired.pem)
        service = self.start(replace(settings, listen=replace(settings.listen, key=Secret(expired.key_pem))))
        status, text = await self.admin(service, "/readyz")
        self.assertEqual(status, 503)
        self.assertIn('"the certificate that clients are shown has expired"', text)

    async def test_handshakes(self) -> None:
        """Handshakes are counted by how they ended: done, refused, or left."""
        service = self.start(self.settings(self.upstream()))
        self.assertEqual((await self.ask(service))[0], 200)
        for refused in (None, certificates.client(issuer=certificates.authority("Other CA"))):
            await in_thread(self.fail_handshake, bare(service), self.client_tls(refused))
        scan = await in_thread(bare, service)
        await in_thread(scan.sendall, b"GET / HTTP/1.1\r\n\r\n")
        await in_thread(scan.recv, 100)
        scan.close()
        (await in_thread(bare, service)).close()
        await until(lambda: not service._factory.connections)
        found = [await self.metric(service, HANDSHAKES % result) for result in ("ok", "refused", "failed")]
        self.assertEqual(found, [1.0, 3.0, 1.0])

    def fail_handshake(self, connection: socket.socket, tls: ssl.SSLContext) -> None:
        try:
            with tls.wrap_socket(connection, server_hostname="localhost") as wrapped:
                wrapped.recv(1)
        except (ssl.SSLError, ConnectionError):
            return
        raise AssertionError("it was let in")

    async def test_expiries(self) -> None:
        """It tells when its certificate expires and when its revocation list is out of date."""
        service = self.start(self.settings(self.upstream(), crl=certificates.revocation_list(next_update=5 * DAY)))
        expiry = certificates.server().certificate.not_valid_after_utc.timestamp()
        for series, expected in (
            ("openai_relay_server_certificate_expiry_timestamp_seconds", expiry),
            ("openai_relay_crl_next_update_timestamp_seconds", (certificates.NOW + 5 * DAY).timestamp()),
        ):
            self.assertEqual(await self.metric(service, series), expected)


class StopTests(InProcessCase):
    async def test_stop(self) -> None:
        """Once stopped, nobody listens, and what was kept is closed."""
        service = self.start(self.settings(self.upstream()))
        kept = self.connection(service)
        self.assertEqual((await in_thread(get, kept, "/v1/models"))[0], 200)
        await service.stopService()
        self.assertEqual(await in_thread(kept.sock.recv, 1), b"")
        for address in (service.address, service.admin_address):
            host, _, port = address.rpartition(":")
            with socket.socket() as late:
                self.assertRaises(ConnectionRefusedError, late.connect, (host, int(port)))

    async def test_stream_is_finished(self) -> None:
        """A stream that runs is finished; meanwhile nobody new is let in, and the admin listener says so."""
        standin = self.upstream()
        service = self.start(self.settings(standin))
        connection = self.connection(service)
        path = "/v1/models?standin.echo=1&standin.delay_ms=300"
        asked = in_thread(get, connection, path)
        await until(lambda: standin.counters.open)
        stopped = service.stopService()
        await until(lambda: service.relay.draining)
        host, _, port = service.address.rpartition(":")
        with socket.socket() as late:
            self.assertRaises(ConnectionRefusedError, late.connect, (host, int(port)))
        status, text = await self.admin(service, "/readyz")
        self.assertEqual(status, 503)
        self.assertIn('"it is stopping: what runs may finish"', text)
        self.assertEqual((await asked)[0], 200)
        await stopped

    async def test_answer_that_is_still_being_read(self) -> None:
        """A client that is slow to read an answer that is complete still gets all of it, and its clean end."""
        standin = self.upstream()
        service = self.start(self.settings(standin))
        size = 100_000
        wrapped = await in_thread(self.connect_slowly, service)
        await in_thread(
            wrapped.sendall,
            f"GET /v1/standin/bytes?standin.bytes={size} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
        )
        await until(lambda: standin.counters.finished)
        await until(lambda: not service.relay.running)
        stopped = service.stopService()
        received = await in_thread(self.read_to_end, wrapped)
        wrapped.close()
        head, _, body = received.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"), head)
        self.assertEqual(len(body), size)
        await stopped

    def connect_slowly(self, service: RelayService) -> ssl.SSLSocket:
        tls = self.client_tls(certificates.client())
        tls.check_hostname = False
        return tls.wrap_socket(bare(service, receive_buffer=4_096), suppress_ragged_eofs=False)

    def read_to_end(self, connection: ssl.SSLSocket) -> bytes:
        """All of it; a cut, which has no close_notify, raises."""
        blocks = []
        while block := connection.recv(65_536):
            blocks.append(block)
        return b"".join(blocks)
