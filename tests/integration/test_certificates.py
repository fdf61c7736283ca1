"""
Who gets through, by certificate, on real sockets with Python's own TLS client.

Of everybody who does not, not one byte reaches the upstream: its counters stay
at nothing, and then the first good client is served.
"""

from __future__ import annotations

import re
import shutil
import socket
import ssl
from dataclasses import replace
from datetime import timedelta
from http.client import HTTPSConnection
from typing import Any

from openai_relay.service import RelayService
from openai_relay.standin.service import StandIn
from tests import certificates
from tests.certificates import DAY, Credential, authority, client, intermediate, revocation_list
from tests.integration import running
from tests.integration.in_process import UPSTREAM_CA, WITHIN, InProcessCase, get, in_thread, until

HOUR = timedelta(hours=1)
REVOKED = client("revoked")


def without_chain(credential: Credential) -> Credential:
    """The same, by somebody who forgot to send the intermediate."""
    return replace(credential, intermediates=())


class CertificateCase(InProcessCase):
    """A relay that trusts one authority."""

    def setUp(self) -> None:
        super().setUp()
        self.standin = self.upstream()

    def serve(self, **listen: Any) -> RelayService:
        return self.start(self.settings(self.standin, **listen))

    def assertUntouched(self) -> None:
        """Nothing has reached the upstream."""
        self.assertEqual((self.standin.counters.connections, self.standin.counters.requests), (0, 0))

    async def assertServed(self, service: RelayService, credential: Credential) -> None:
        """This one is served."""
        before = self.standin.counters.requests
        status, body = await self.ask(service, credential=credential)
        self.assertEqual((status, body["object"]), (200, "list"))
        self.assertEqual(self.standin.counters.requests, before + 1)

    async def alert(self, service: RelayService, credential: Credential | None) -> str:
        """What a client reads that is refused in the handshake, as words."""
        return await in_thread(self.refused, service, self.client_tls(credential))

    def refused(self, service: RelayService, tls: ssl.SSLContext) -> str:
        connection = HTTPSConnection("127.0.0.1", int(service.address.rpartition(":")[2]), timeout=WITHIN, context=tls)
        try:
            status, body = get(connection, "/v1/models")
        except ssl.SSLError as error:
            return (error.reason or "").replace("_", " ").lower()
        finally:
            connection.close()
        raise AssertionError(f"it was let in: {status} {body}")


class RequiredTests(CertificateCase):
    """``client_auth = "required"``, the default: refused in the handshake, with an alert."""

    async def test_refusals(self) -> None:
        """No certificate, or any that does not hold: each is refused with its alert, and then a good one is served."""
        service = self.serve()
        cases: list[tuple[Credential | None, str]] = [
            (None, "certificate required"),
            (client(issuer=authority("Other CA")), "unknown ca"),
            (client(issuer=authority(number=1)), "unknown ca"),
            (client(not_after=-HOUR), "certificate expired"),
            (client(not_before=HOUR, not_after=DAY), "bad certificate"),
            (client(purpose="server"), "unsupported certificate"),
            (without_chain(client("bob", intermediate())), "unknown ca"),
            (authority("Self"), "unknown ca"),
            (client("eve", client("mallory")), "unknown ca"),
        ]
        for credential, alert in cases:
            self.assertIn(alert, await self.alert(service, credential))
        self.assertUntouched()
        await self.assertServed(service, client())

    async def test_through_an_intermediate(self) -> None:
        """A client that sends its intermediate is served, however long the chain."""
        service = self.serve()
        second = intermediate("Second intermediate", intermediate())
        await self.assertServed(service, client("bob", intermediate()))
        await self.assertServed(service, client("carol", second))

    async def test_revoked(self) -> None:
        """A revoked certificate is refused, and one that is not revoked is served by the same relay."""
        service = self.serve(crl=revocation_list([REVOKED]))
        self.assertIn("certificate revoked", await self.alert(service, REVOKED))
        self.assertUntouched()
        await self.assertServed(service, client())

    async def test_stale_crl(self) -> None:
        """A revocation list that is out of date shuts everybody out: nobody can tell who has been revoked since."""
        service = self.serve(crl=revocation_list(next_update=-HOUR))
        self.assertIn("certificate expired", await self.alert(service, client()))
        self.assertUntouched()
        status, text = await self.admin(service, "/readyz")
        self.assertEqual(status, 503)
        self.assertIn("the revocation list is out of date", text)

    async def test_crl_of_the_intermediate_is_missing(self) -> None:
        """With a revocation list of the root alone, who comes through an intermediate is refused."""
        service = self.serve(crl=revocation_list())
        self.assertIn("unknown ca", await self.alert(service, client("bob", intermediate())))
        self.assertUntouched()
        await self.assertServed(service, client())

    async def test_tls12(self) -> None:
        """A client that speaks TLS 1.2 is served, or refused, all the same."""
        service = self.serve()
        good, bad = (self.client_tls(each) for each in (client(), client(issuer=authority("Other CA"))))
        for tls in (good, bad):
            tls.maximum_version = ssl.TLSVersion.TLSv1_2
        self.assertIn("unknown ca", await in_thread(self.refused, service, bad))
        self.assertUntouched()
        connection = HTTPSConnection("127.0.0.1", int(service.address.rpartition(":")[2]), timeout=WITHIN, context=good)
        self.addCleanup(connection.close)
        self.assertEqual((await in_thread(get, connection, "/v1/models"))[0], 200)

    async def test_request_of_a_refused_client(self) -> None:
        """What a refused client sends right behind its handshake is served to nobody, however much it is."""
        service = self.serve()
        tls = self.client_tls(client(issuer=authority("Other CA")))

        def send() -> str:
            bare = socket.create_connection(("127.0.0.1", int(service.address.rpartition(":")[2])), WITHIN)
            with tls.wrap_socket(bare, server_hostname="localhost") as connection:
                try:
                    for _ in range(50):
                        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
                    connection.recv(1)
                except OSError as error:
                    return type(error).__name__
            raise AssertionError("it was let in")

        self.assertIn("Error", await in_thread(send))
        await until(lambda: not service._factory.connections)
        self.assertUntouched()
        await self.assertServed(service, client())


class OptionalTests(CertificateCase):
    """``client_auth = "optional"``: let through the handshake, and told in words what is wrong."""

    async def told(self, service: RelayService, credential: Credential | None) -> str:
        """What the 401 says, on a connection that is then closed."""
        host, _, port = service.address.rpartition(":")
        connection = HTTPSConnection(host, int(port), timeout=WITHIN, context=self.client_tls(credential))
        self.addCleanup(connection.close)
        status, body = await in_thread(get, connection, "/v1/models")
        self.assertEqual(status, 401)
        message = body["error"].pop("message")
        self.assertEqual(
            body, {"error": {"type": "invalid_request_error", "param": None, "code": "client_certificate_required"}}
        )
        assert isinstance(message, str)
        return message

    async def test_refusals(self) -> None:
        """No certificate, or any that does not hold: each is told why, and then a good one is served."""
        service = self.serve(client_auth="optional")
        untrusted = "its issuer is not one that this relay trusts, or an intermediate certificate is missing."
        cases: list[tuple[Credential, str]] = [
            (client(issuer=authority("Other CA")), untrusted),
            (client(not_after=-HOUR), "it has expired."),
            (client(not_before=HOUR, not_after=DAY), "it is not valid yet."),
            (client(purpose="server"), "it is not meant for clients (extended key usage clientAuth)."),
            (without_chain(client("bob", intermediate())), untrusted),
            (authority("Self"), "it is self-signed."),
        ]
        for credential, reason in cases:
            self.assertEqual(await self.told(service, credential), f"Your client certificate was refused: {reason}")
        self.assertEqual(
            await self.told(service, None),
            "This relay knows its clients by certificate, and you sent none. "
            "Configure a client certificate and its key.",
        )
        self.assertUntouched()
        await self.assertServed(service, client())
        await self.assertServed(service, client("bob", intermediate()))

    async def test_revoked(self) -> None:
        """Who has been revoked is told so."""
        service = self.serve(client_auth="optional", crl=revocation_list([REVOKED]))
        self.assertEqual(await self.told(service, REVOKED), "Your client certificate was refused: it has been revoked.")
        self.assertUntouched()
        await self.assertServed(service, client())

    async def test_stale_crl(self) -> None:
        """A revocation list that is out of date shuts everybody out here, too, and they are told."""
        service = self.serve(client_auth="optional", crl=revocation_list(next_update=-HOUR))
        self.assertEqual(
            await self.told(service, client()),
            "Your client certificate was refused: the revocation list of its authority is out of date.",
        )
        self.assertUntouched()


class UpstreamCertificateTests(CertificateCase):
    """The upstream's certificate is always verified: who is not the upstream gets nothing, least of all the key."""

    def in_front_of(self, standin: StandIn, url: str) -> RelayService:
        settings = self.settings(standin)
        return self.start(replace(settings, upstream=replace(settings.upstream, url=url)))

    async def refusal(self, service: RelayService) -> tuple[str, str]:
        status, body = await self.ask(service)
        self.assertEqual(status, 502)
        return body["error"]["code"], body["error"]["message"]

    async def test_refusals(self) -> None:
        """Another authority, another name, no name, an expired certificate: 502, and not a byte of the request."""
        theirs = authority(UPSTREAM_CA)
        for shown, host in (
            (certificates.server(issuer=authority("Other CA")), "localhost"),
            (certificates.server(issuer=authority(UPSTREAM_CA, 1)), "localhost"),
            (certificates.server(("elsewhere.example",), theirs), "localhost"),
            (certificates.server(("localhost",), theirs), "127.0.0.1"),
            (certificates.server(issuer=theirs, not_after=-HOUR), "localhost"),
            (certificates.server(issuer=theirs, not_before=HOUR, not_after=DAY), "localhost"),
            (client("localhost", theirs, dns=("localhost",)), "localhost"),
        ):
            standin = self.upstream(shown)
            service = self.in_front_of(standin, f"https://{host}:{standin.port}")
            self.assertEqual(
                await self.refusal(service),
                ("upstream_certificate_invalid", "The upstream API's certificate could not be verified."),
            )
            self.assertEqual((standin.counters.requests, standin.counters.malformed), (0, 0))

    async def test_names_and_addresses(self) -> None:
        """An upstream is called and known by name, or known by address if that is what its URL has."""
        for host in ("localhost", "127.0.0.1"):
            service = self.in_front_of(self.standin, f"https://{host}:{self.standin.port}")
            self.assertEqual((await self.ask(service))[0], 200)
        self.assertEqual(self.names_asked, [b"localhost", None])
        self.assertEqual(self.protocols_offered, [[b"http/1.1"]] * 2)

    async def test_authorities_of_the_system(self) -> None:
        """Without a file of its own the relay trusts whom the system trusts."""
        site = running.Site.make()
        self.addCleanup(shutil.rmtree, site.directory)
        standin = await in_thread(running.StandIn, site)
        self.addCleanup(in_thread, standin.stop)
        configuration = site.write_configuration(standin.url)
        text = configuration.read_text()
        configuration.write_text(re.sub(r"(?m)^ca = .*\n", "", text))
        self.assertNotEqual(configuration.read_text(), text)
        for trusted, expected in ((site.upstream_ca, 200), (site.ca, 502)):
            command = [*running.TWISTD, "--config", configuration]
            relay = await in_thread(running.Relay, site, command, {"SSL_CERT_FILE": str(trusted)})
            try:
                status, _ = await in_thread(get, relay.connect(), "/v1/models")
            finally:
                await in_thread(relay.stop)
            self.assertEqual(status, expected)

    async def test_no_tls(self) -> None:
        """An upstream that speaks no TLS gets no request, and is told apart from one that is not trusted."""
        with socket.create_server(("127.0.0.1", 0)) as plain:
            service = self.in_front_of(self.standin, f"https://localhost:{plain.getsockname()[1]}")
            asked = self.refusal(service)
            answering = in_thread(self.answer_plainly, plain)
            self.assertEqual(await asked, ("upstream_unreachable", "The relay could not connect to the upstream API."))
            self.assertNotIn(b"GET", await answering)

    def answer_plainly(self, plain: socket.socket) -> bytes:
        connection, _ = plain.accept()
        with connection:
            connection.settimeout(WITHIN)
            received = connection.recv(10_000)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            while block := self.receive(connection):
                received += block
            return received

    def receive(self, connection: socket.socket) -> bytes:
        try:
            return connection.recv(10_000)
        except ConnectionResetError:
            return b""

    async def test_nobody_there(self) -> None:
        """An upstream that nobody listens for is told as that."""
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        service = self.in_front_of(self.standin, f"https://localhost:{port}")
        self.assertEqual((await self.refusal(service))[0], "upstream_unreachable")
