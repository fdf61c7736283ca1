"""
The trap: a certificate stops being valid while its connections are open.

Each way in which it can stop, against each way in which a connection can be
open already. Whatever is tried from then on, no further request reaches the
upstream; what runs is ended, and told why where it can be told.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import hashes

from openai_relay.config.deny_file import deny_file
from openai_relay.core.policy import ClientRules, Rules
from openai_relay.core.settings import CRLExpired, Settings
from openai_relay.service import RelayService, Settled, relay_service
from openai_relay.standin.service import StandIn
from tests.certificates import NOW, Credential, authority, client, intermediate, revocation_list
from tests.integration.in_process import WITHIN, InProcessCase, in_thread, reactor, until

ASK = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
ASK_AND_LEAVE = ASK[:-2] + b"Connection: close\r\n\r\n"
ENDLESS = "/v1/chat/completions?standin.endless=1&standin.interval_ms=20"
STREAM = b'{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Hello"}]}'
UPGRADE = (
    b"GET /v1/standin/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
#: A masked text frame with a letter in it.
FRAME = b"\x81\x81\0\0\0\0x"


def from_now(seconds: float) -> timedelta:
    """As `tests.certificates` takes times."""
    return datetime.now(UTC) - NOW + timedelta(seconds=seconds)


@dataclass(slots=True)
class Open:
    """One connection that is open in some way."""

    socket: ssl.SSLSocket | socket.socket
    tls: ssl.SSLContext
    way: str

    def go_on(self) -> bytes:
        """Go on as its client would, and return all that comes until the end."""
        if not isinstance(self.socket, ssl.SSLSocket):
            try:
                self.socket = self.tls.wrap_socket(self.socket, server_hostname="localhost")
            except (ssl.SSLError, ConnectionError):
                return b"refused in the handshake"
        others = {"half a head": ASK_AND_LEAVE[10:], "upload": b"x" * 500, "stream": b"", "websocket": FRAME}
        more = others.get(self.way, ASK_AND_LEAVE)
        blocks = []
        try:
            self.socket.sendall(more)
            while block := self.socket.recv(65_536):
                blocks.append(block)
        except (ssl.SSLError, ConnectionError):
            pass  # cut, which is how a stream ends that must not look complete
        finally:
            self.socket.close()
        return b"".join(blocks)


class TrapCase(InProcessCase):
    """A relay whose files and settings change, and a client with a connection of each kind."""

    def setUp(self) -> None:
        super().setUp()
        self.standin: StandIn = self.upstream()
        self.deny = self.directory / "deny.txt"
        self.deny.touch()
        self.wanted = self.settings(self.standin, crl=revocation_list() + revocation_list(issuer=intermediate()))

    def serve(self, settings: Settings) -> RelayService:
        """A relay that is reloaded with what ``wanted`` is then, and looks at the deny file anew."""
        self.wanted = settings
        service = relay_service(reactor, settings, Reread(self), lambda: Reread(self))
        self.addCleanup(self.stop, service)
        service.privilegedStartService()
        service.startService()
        return service

    def open(self, service: RelayService, credential: Credential) -> list[Open]:
        """A connection in each way; blocking."""
        tls = self.client_tls(credential)
        host, _, port = service.address.rpartition(":")
        found = []
        for way in ("no handshake", "nothing asked", "kept", "half a head", "upload", "stream", "websocket"):
            plain = socket.create_connection((host, int(port)), WITHIN)
            self.addCleanup(plain.close)
            if way == "no handshake":
                found.append(Open(plain, tls, way))
                continue
            wrapped = tls.wrap_socket(plain, server_hostname="localhost")
            self.addCleanup(wrapped.close)
            if way == "kept":
                wrapped.sendall(ASK)
                self.assertIn(b"200 OK", self.until(wrapped, b'"list"'))
            elif way == "half a head":
                wrapped.sendall(ASK[:10])
            elif way == "upload":
                wrapped.sendall(
                    b"POST /v1/standin/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500
                )
            elif way == "stream":
                head = f"POST {ENDLESS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                wrapped.sendall(f"{head}Content-Length: {len(STREAM)}\r\n\r\n".encode() + STREAM)
                self.until(wrapped, b"data: ")
            elif way == "websocket":
                wrapped.sendall(UPGRADE)
                self.until(wrapped, b"\r\n\r\n")
                wrapped.sendall(FRAME)
                self.until(wrapped, b"x")
            found.append(Open(wrapped, tls, way))
        return found

    def until(self, connection: ssl.SSLSocket, wanted: bytes) -> bytes:
        """Read until this has come."""
        came = b""
        while wanted not in came:
            block = connection.recv(65_536)
            assert block, came
            came += block
        return came

    async def trap(
        self, service: RelayService, credential: Credential, code: str, change: Callable[[], Awaitable[object]]
    ) -> None:
        """
        Open all, change something, and go on with all.

        :param code: of the error that the client is told.
        """
        opened = await in_thread(self.open, service, credential)
        await until(lambda: self.standin.counters.open == 3)  # upload, stream, websocket
        await change()
        await until(lambda: service.relay.running == 0)  # ended without a word from their clients
        asked = self.standin.counters.requests
        for each in opened:
            said = await in_thread(each.go_on)
            if each.way == "websocket":
                self.assertEqual(said[:1], b"\x88", each.way)  # a close frame
                self.assertEqual(int.from_bytes(said[2:4], "big"), 1008)
            elif each.way != "no handshake":
                self.assertIn(f'"code": "{code}"'.encode(), said, each.way)
                self.assertFalse(
                    each.way == "stream" and said.endswith(b"0\r\n\r\n"), "a stream must not look complete"
                )
            elif said != b"refused in the handshake" and b"alert" not in said:
                self.assertIn(said.partition(b"\r\n")[0][9:12], (b"", b"401", b"403"), each.way)
        self.assertEqual(self.standin.counters.requests, asked, "something reached the upstream")
        await until(lambda: self.standin.counters.open == 0)


class Reread(Settled):
    """Settings whose deny file is read again, as it is with a configuration."""

    def __init__(self, case: TrapCase) -> None:
        super().__init__(case.wanted)
        self._case = case

    def settings(self) -> Settings:
        wanted = self._case.wanted
        return replace(wanted, listen=replace(wanted.listen, deny_file=deny_file(self._case.deny)))

    def watched(self) -> tuple[Path, ...]:
        return (*super().watched(), self._case.deny)


class TrapTests(TrapCase):
    """No request of a client that is not valid any more reaches the upstream."""

    async def test_revoked(self) -> None:
        """Its authority's list has it now; the file is found to have changed."""
        service = self.serve(self.wanted)
        crl = self.wanted.listen.crl
        assert crl is not None

        async def change() -> None:
            crl.write_bytes(revocation_list([client()]) + revocation_list(issuer=intermediate()))

        await self.trap(service, client(), "client_certificate_revoked", change)

    async def test_authority_revoked(self) -> None:
        """The root's list has the intermediate now."""
        bob, middle = client("bob", intermediate()), intermediate()
        service = self.serve(self.wanted)
        crl = self.wanted.listen.crl
        assert crl is not None

        async def change() -> None:
            crl.write_bytes(revocation_list([middle]) + revocation_list(issuer=middle))

        await self.trap(service, bob, "client_certificate_revoked", change)

    async def test_denied(self) -> None:
        """The operator's deny file has it now: by name, by serial number, by fingerprint."""
        service = self.serve(self.wanted)
        for number, kind in enumerate(("name", "serial", "sha256")):
            credential = client(f"device-{number}")
            value = {
                "name": f"device-{number}",
                "serial": f"{credential.certificate.serial_number:x}",
                "sha256": credential.certificate.fingerprint(hashes.SHA256()).hex(),
            }[kind]

            async def change(entry: str = f"{kind}:{value}\n") -> None:
                self.deny.write_text(self.deny.read_text() + entry)

            await self.trap(service, credential, "client_certificate_denied", change)

    async def test_authority_removed(self) -> None:
        """Its authority is not among those that are trusted any more."""
        other = authority("Other CA")
        listen = self.wanted.listen
        listen.client_ca.write_bytes(authority().pem + other.pem)
        service = self.serve(replace(self.wanted, listen=replace(listen, crl=None)))

        async def change() -> None:
            listen.client_ca.write_bytes(authority().pem)

        await self.trap(service, client("carol", other), "client_certificate_untrusted", change)

    async def test_expired(self) -> None:
        """Its time is up."""
        short = client("short", not_after=from_now(4))
        service = self.serve(self.wanted)

        async def change() -> None:
            """Nothing but time."""

        await self.trap(service, short, "client_certificate_expired", change)

    async def test_disabled(self) -> None:
        """The configuration disables it by name, and is reloaded."""
        service = self.serve(self.wanted)

        async def change() -> None:
            self.wanted = replace(self.wanted, clients={"alice": ClientRules(Rules(disabled=True))})
            await service.reload()

        await self.trap(service, client(), "client_disabled", change)


class ListsTests(TrapCase):
    """A revocation list goes out of date while connections are open."""

    def listed(self, policy: CRLExpired) -> Settings:
        """With a list that is good for some seconds."""
        short = revocation_list(next_update=from_now(3)) + revocation_list(issuer=intermediate())
        settings = self.settings(self.standin, crl=short)
        return replace(settings, listen=replace(settings.listen, crl_expired=policy))

    async def test_refuse(self) -> None:
        """By default nobody is let in from then on, on no connection, until there is a new list; what runs goes on."""
        service = self.serve(self.listed("refuse"))
        crl = self.wanted.listen.crl
        assert crl is not None
        opened = {each.way: each for each in await in_thread(self.open, service, client())}
        until_then = service._listener.loaded.crl_next_update
        assert until_then is not None
        await until(lambda: datetime.now(UTC).timestamp() > until_then)
        asked = self.standin.counters.requests
        kept = opened["kept"].socket
        assert isinstance(kept, ssl.SSLSocket)
        kept.sendall(ASK)
        said = await in_thread(self.until, kept, b'"revocation_list_expired"')
        self.assertIn(b"HTTP/1.1 503 ", said)
        self.assertNotIn(b"200 OK", await in_thread(opened["no handshake"].go_on))
        self.assertEqual(self.standin.counters.requests, asked)
        stream = opened["stream"].socket
        assert isinstance(stream, ssl.SSLSocket)
        await in_thread(self.until, stream, b"data: ")
        crl.write_bytes(revocation_list() + revocation_list(issuer=intermediate()))
        await until(lambda: service._listener.loaded.crl_next_update != until_then)
        kept.sendall(ASK)
        self.assertIn(b"200 OK", await in_thread(self.until, kept, b'"list"'))

    async def test_warn(self) -> None:
        """Where it is to be warned of only, everybody goes on, and whoever is on the list stays out."""
        settings = self.listed("warn")
        assert settings.listen.crl is not None
        revoked = client("revoked")
        settings.listen.crl.write_bytes(
            revocation_list([revoked], next_update=from_now(2)) + revocation_list(issuer=intermediate())
        )
        service = self.serve(settings)
        until_then = service._listener.loaded.crl_next_update
        assert until_then is not None
        await until(lambda: datetime.now(UTC).timestamp() > until_then)
        self.assertEqual((await self.ask(service))[0], 200)
        asked = self.standin.counters.requests
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            await self.ask(service, credential=revoked)
        self.assertEqual(self.standin.counters.requests, asked)
        status, text = await self.admin(service, "/readyz?verbose")
        self.assertEqual(status, 200)
        self.assertIn("the revocation list is out of date: it counts all the same", text)
