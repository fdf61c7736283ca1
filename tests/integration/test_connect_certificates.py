"""
``openai-relay connect`` in front of a real relay, all in this process: which certificate it shows, and what is told.

A relay says in a TLS alert what it has against a certificate; the tool behind
``connect`` has to read it in words.
"""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from openai_relay.config.sources import Sources
from openai_relay.connect.service import ConnectService
from openai_relay.core.connect_settings import ConnectSettings, Listen
from openai_relay.service import RelayService
from openai_relay.standin.service import StandIn
from tests import certificates
from tests.certificates import DAY, NOW, Credential, authority, client, revocation_list
from tests.integration.in_process import WITHIN, InProcessCase, in_thread, reactor, until

REVOKED = client("revoked")


def ask(connection: HTTPConnection, path: str = "/v1/models") -> tuple[int, Any]:
    """Status and JSON of an answer."""
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


class ConnectCase(InProcessCase):
    """A relay, and ``connect`` with a certificate whose files the test may change."""

    def setUp(self) -> None:
        super().setUp()
        self.standin: StandIn = self.upstream()
        self.said: list[str] = []
        self.lines: list[bytes] = []

    def relay(self, **listen: Any) -> RelayService:
        return self.start(self.settings(self.standin, **listen))

    def write(self, credential: Credential) -> tuple[Path, Path]:
        return credential.write(self.directory, "phone")

    def connect(self, relay: str, credential: Credential, ca: Credential | None = None) -> ConnectService:
        """``connect`` to a relay, given as ``host:port``."""
        certificate, _ = self.write(credential)
        trusted = self.directory / "relay-ca.pem"
        trusted.write_bytes((ca or authority()).pem)
        settings = ConnectSettings(
            f"https://{relay}", certificate, "file:phone.key", trusted, listen=Listen("127.0.0.1", 0)
        )
        sources = Sources(self.directory, {})
        service = ConnectService(reactor, settings, sources, self.said.append, self.lines.append, 100)
        service.startService()
        self.addCleanup(service.stopService)
        return service

    def tool(self, service: ConnectService) -> HTTPConnection:
        connection = HTTPConnection(service.address, timeout=WITHIN)
        self.addCleanup(connection.close)
        return connection

    async def told(self, relay: str, credential: Credential, ca: Credential | None = None) -> tuple[int, Any]:
        """Status and error object of what a tool is answered."""
        status, body = await in_thread(ask, self.tool(self.connect(relay, credential, ca)))
        return status, body["error"]

    def assertUntouched(self) -> None:
        self.assertEqual((self.standin.counters.connections, self.standin.counters.requests), (0, 0))


class RefusedTests(ConnectCase):
    """The relay does not take the certificate."""

    async def check(self, credential: Credential, why: str, **listen: Any) -> None:
        relay = self.relay(**listen)
        status, error = await self.told(relay.address, credential)
        self.assertEqual((status, error["code"]), (401, "client_certificate_refused"))
        self.assertIn(f"The relay at {relay.address} refused the client certificate in", error["message"])
        self.assertIn(why, error["message"])
        self.assertUntouched()

    async def test_expired(self) -> None:
        """Of an expired certificate the tool reads when it has expired, and that one can be renewed."""
        ended = NOW - DAY
        await self.check(client("late", not_before=-3 * DAY, not_after=-DAY), f"it expired on {ended:%Y-%m-%d %H:%M}")

    async def test_revoked(self) -> None:
        """Of a revoked one it reads that."""
        await self.check(REVOKED, "it has been revoked", crl=revocation_list([REVOKED]))

    async def test_unknown_authority(self) -> None:
        """Of one whose authority the relay does not know it reads that."""
        await self.check(client("stranger", authority("Another CA")), "its authority is not one that the relay trusts")

    async def test_not_for_clients(self) -> None:
        """Of one that is made for servers it reads that."""
        await self.check(client("server", purpose="server"), "it is not meant for clients")

    async def test_not_yet(self) -> None:
        """Of one that is not valid yet it reads that it may be so."""
        await self.check(client("early", not_before=DAY, not_after=2 * DAY), "it is not valid yet")

    async def test_list_out_of_date(self) -> None:
        """Where the relay calls a certificate expired that is not, the tool reads what else it can be."""
        late = revocation_list(this_update=-3 * DAY, next_update=-DAY)
        await self.check(client(), "list of revoked certificates out of date", crl=late)

    async def test_told_in_http(self) -> None:
        """A relay that refuses in HTTP is quoted as it is, status, code and all."""
        relay = self.relay(client_auth="optional")
        status, error = await self.told(relay.address, client("stranger", authority("Another CA")))
        self.assertEqual((status, error["code"]), (401, "client_certificate_required"))
        self.assertUntouched()

    async def test_tls_1_2(self) -> None:
        """The same is told where the alert comes within the handshake, as in TLS 1.2."""
        relay = self.relay(crl=revocation_list([REVOKED]))
        relay._listener.context().set_max_proto_version(0x0303)
        status, error = await self.told(relay.address, REVOKED)
        self.assertEqual((status, error["code"]), (401, "client_certificate_refused"))
        self.assertIn("it has been revoked", error["message"])


class RelayTests(ConnectCase):
    """There is no relay, or it is not the right one: nothing is sent to it."""

    async def check(self, relay: str, code: str, why: str, ca: Credential | None = None) -> None:
        status, error = await self.told(relay, client(), ca)
        self.assertEqual((status, error["code"]), (502, code))
        self.assertIn(why, error["message"])
        self.assertIn(relay, error["message"])
        self.assertUntouched()

    async def test_not_there(self) -> None:
        """A port on which nobody listens is told as that."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            await self.check(f"127.0.0.1:{port}", "relay_unreachable", "connection refused")

    async def test_no_tls(self) -> None:
        """So is one that speaks something else."""
        plain = StandIn(reactor, "127.0.0.1:0")
        plain.startService()
        self.addCleanup(plain.stopService)
        await self.check(f"127.0.0.1:{plain.port}", "relay_unreachable", "does not speak TLS")

    async def test_other_authority(self) -> None:
        """A relay whose authority is not a trusted one is sent nothing, and the tool reads about --ca."""
        relay = self.relay()
        await self.check(relay.address, "relay_certificate_invalid", "with --ca", authority("Another CA"))

    async def test_other_name(self) -> None:
        """So is one whose certificate is for another name."""
        relay = self.relay()
        of_another = certificates.server(("relay.example",))
        relay._listener.context().use_certificate(of_another.certificate)
        relay._listener.context().use_privatekey(of_another.private_key)
        await self.check(relay.address, "relay_certificate_invalid", "it is for another name")

    async def test_expired(self) -> None:
        """So is one whose certificate has expired."""
        relay = self.relay()
        late = certificates.server(not_before=-3 * DAY, not_after=-DAY)
        relay._listener.context().use_certificate(late.certificate)
        relay._listener.context().use_privatekey(late.private_key)
        await self.check(relay.address, "relay_certificate_invalid", "it has expired")

    async def test_starts_later(self) -> None:
        """What was not there may come: the next request is served."""
        relay = self.relay()
        service = self.connect(relay.address, client())
        tool = self.tool(service)
        stopped = self.stop(relay)
        assert stopped is not None
        await stopped
        status, body = await in_thread(ask, tool)
        self.assertEqual((status, body["error"]["code"]), (502, "relay_unreachable"))
        again = self.settings(self.standin)
        self.start(replace(again, listen=replace(again.listen, address=relay.address)))
        self.assertEqual((await in_thread(ask, tool))[0], 200)


class RenewalTests(ConnectCase):
    """The certificate is replaced on disk."""

    def setUp(self) -> None:
        super().setUp()
        self.serving = self.relay(crl=revocation_list([REVOKED]))

    async def name(self, tool: HTTPConnection) -> str:
        """Whom the relay took the tool for: the line of ``connect`` and the relay's certificate check agree."""
        status, body = await in_thread(ask, tool)
        self.assertEqual(status, 200, body)
        return self.lines[-1].split()[1].decode()

    async def test_taken_up(self) -> None:
        """A renewed certificate and key are used without a restart, on new connections and never on an old one."""
        service = self.connect(self.serving.address, client("alice"))
        tool = self.tool(service)
        self.assertEqual(await self.name(tool), "alice")
        (before,) = self.serving._factory.connections
        self.write(client("alice-renewed"))
        service.watch.look()
        await until(lambda: self.said)
        self.assertIn("a renewed certificate is in use: alice-renewed, until", self.said[0])
        self.assertEqual(await self.name(tool), "alice-renewed")
        (after,) = self.serving._factory.connections
        self.assertIsNot(before, after)
        self.assertEqual(after.client.name, "alice-renewed")

    async def test_cures_a_refusal(self) -> None:
        """A tool that was refused is served as soon as a good certificate is there, on the connection it has."""
        service = self.connect(self.serving.address, REVOKED)
        tool = self.tool(service)
        self.assertEqual((await in_thread(ask, tool))[0], 401)
        self.write(client("bob"))
        service.watch.look()
        await until(lambda: self.said)
        self.assertEqual(await self.name(tool), "bob")

    async def test_half_replaced(self) -> None:
        """A certificate whose key is still the old one is not taken up: the one before serves on, and it is told."""
        service = self.connect(self.serving.address, client("alice"))
        tool = self.tool(service)
        (self.directory / "phone.pem").write_bytes(client("carol").pem)
        for _ in range(3):
            service.watch.look()
            await until(lambda: service.watch._looking is None)
        self.assertEqual(len(self.said), 1)
        self.assertIn("--key does not belong to the certificate", self.said[0])
        self.assertEqual(await self.name(tool), "alice")
        (self.directory / "phone.key").write_bytes(client("carol").key_pem)
        service.watch.look()
        await until(lambda: len(self.said) == 2)
        self.assertEqual(await self.name(tool), "carol")

    async def test_running_stream_goes_on(self) -> None:
        """A stream that runs while the certificate is replaced is not touched by it."""
        service = self.connect(self.serving.address, client("alice"))
        tool = self.tool(service)
        body = json.dumps({"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "Hi"}]})
        target = "/v1/chat/completions?standin.events=30&standin.interval_ms=20"
        await in_thread(tool.request, "POST", target, body)
        answer = await in_thread(tool.getresponse)
        await in_thread(answer.readline)
        self.write(client("bob"))
        service.watch.look()
        await until(lambda: self.said)
        rest = await in_thread(answer.read)
        self.assertTrue(rest.endswith(b"data: [DONE]\n\n"))
        self.assertIn(b" alice POST ", self.lines[-1])
        self.assertEqual(await self.name(tool), "bob")

    async def test_expiring_soon(self) -> None:
        """At the start it is told that a certificate ends soon, or has ended."""
        self.connect(self.serving.address, client("soon", not_after=2 * DAY))
        self.connect(self.serving.address, client("late", not_before=-3 * DAY, not_after=-DAY))
        self.assertIn(f"the certificate expires on {NOW + 2 * DAY:%Y-%m-%d}", self.said[0])
        self.assertIn(f"the certificate has expired on {NOW - DAY:%Y-%m-%d}", self.said[1])
