"""Reload under load: nothing is lost, nothing altered; and what is broken is refused while the old goes on serving."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import ClassVar

from openai_relay.authority.directory import Authority
from tests.integration.running import BIN, WITHIN, Relay, SiteTestCase, StandIn, Tables, child_environment, wait_for

STREAMS = 100
TIMES = 10
#: 100 events of which each differs, over ten seconds.
TARGET = "/v1/chat/completions?standin.events=100&standin.interval_ms=100"
BODY = json.dumps({"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}).encode()


class ReloadCase(SiteTestCase):
    """A relay with an admin listener at a known port, so that the command finds it."""

    tables: ClassVar[Tables] = {}

    def setUp(self) -> None:
        self.standin = StandIn(self.site)
        self.addCleanup(self.standin.stop)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            admin = f"127.0.0.1:{free.getsockname()[1]}"
        self.configuration = self.site.write_configuration(
            self.standin.url, {**self.tables, "admin": {"address": admin}}
        )
        self.relay = Relay(self.site, ["twistd", "-n", "--pidfile=", "openai-relay", "--config", self.configuration])
        self.addCleanup(self.relay.close)
        self.tls = self.site.client_tls()  # read once: the files are broken by the tests

    def reload(self) -> subprocess.CompletedProcess[str]:
        """``openai-relay reload``, as it is typed."""
        return subprocess.run(
            [BIN / "openai-relay", "reload", self.configuration],
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=WITHIN,
            check=False,
        )

    def ask(self, connection: HTTPSConnection | None = None) -> int:
        """The status of an answer, on a new connection unless one is given."""
        asking = connection or self.relay.connect(self.tls)
        asking.request("GET", "/v1/models")
        answer = asking.getresponse()
        answer.read()
        if connection is None:
            asking.close()
        return answer.status

    def stream(self) -> str:
        """The hash of a whole stream's events, without what tells one stream from another."""
        connection = self.relay.connect(self.tls)
        connection.request("POST", TARGET, BODY, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()  # fails when the end is not clean
        connection.close()
        assert answer.status == 200, body
        pieces = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
        own = {piece["id"] for piece in pieces}
        assert len(own) == 1, own
        told = [(piece["choices"], sorted(piece)) for piece in pieces]
        return hashlib.sha256(json.dumps([told, body.count(b"\n"), body[-14:].decode()]).encode()).hexdigest()


class UnderLoadTests(ReloadCase):
    """A hundred streams run while everything is replaced."""

    def test_streams(self) -> None:
        """A hundred streams, through ten reloads of every kind of file: each arrives whole and unaltered."""
        expected = self.stream()
        with ThreadPoolExecutor(STREAMS) as threads:
            streams = [threads.submit(self.stream) for _ in range(STREAMS)]
            wait_for(lambda: self.relay.active() == STREAMS, "all streams to run")
            for number in range(TIMES):
                self.change(number)
                self.assertEqual(self.reload().stdout, "Reloaded.\n")
                self.assertEqual(self.ask(), 200)
            self.assertEqual(self.relay.active(), STREAMS, "they must have outlived the reloads, or nothing was shown")
            found = [stream.result(WITHIN) for stream in streams]
        self.assertEqual(set(found), {expected})
        self.assertEqual(self.relay.errors.count(" reloaded"), TIMES)
        ends = {line["end"] for line in self.relay.lines_after(0, 1 + STREAMS + TIMES)}
        self.assertEqual(ends, {"done"})

    def change(self, number: int) -> None:
        """Something else to take up each time."""
        authority = Authority.open(self.site.directory / "authority")
        text = self.configuration.read_text()
        kind = number % 5
        if kind == 0:  # the certificate and its key
            for file in ("server.pem", "server.key"):
                self.site.file(file).unlink()
            authority.issue_server(["localhost", "127.0.0.1"], into=self.site.directory, stem="server")
        elif kind == 1:  # the revocation list
            authority.refresh_crl(30)
        elif kind == 2:  # the authorities
            ca = self.site.directory / "authority" / "ca.pem"
            ca.write_bytes(ca.read_bytes() + b"\n")
        elif kind == 3:  # limits and rules
            self.configuration.write_text(f"{text}[clients.device-{number}]\nrequests_per_minute = 5\n")
        else:  # the upstream's key, with which new requests go
            other = self.site.file(f"openai-{number}.key")
            shutil.copy(self.site.file("openai.key"), other)
            keyed = text.replace("[upstream]\n", f'[upstream]\nproject = "proj_{number}"\n')
            self.configuration.write_text(keyed if "project" not in text else text)


class RefusedTests(ReloadCase):
    """What is broken is refused, by name, and the old goes on serving."""

    def refused(self, *told: str) -> None:
        """A reload says this, exits with 1, and all is served as before: on kept connections and on new ones."""
        result = self.reload()
        self.assertEqual((result.returncode, result.stdout), (1, ""), result.stderr)
        for each in told:
            self.assertIn(each, result.stderr)
        self.assertTrue(result.stderr.endswith("Error: Not reloaded: the relay goes on as it was.\n"))
        self.assertEqual((self.ask(self.kept), self.ask()), (200, 200))

    def broken(self, file: Path, content: bytes, *told: str) -> None:
        """A file that is spoilt is refused, and taken up when it is whole again."""
        kept = file.read_bytes()
        file.write_bytes(content)
        self.refused(*told)
        file.write_bytes(kept)
        self.assertEqual(self.reload().stdout, "Reloaded.\n")

    def test_each(self) -> None:
        """Certificate, key, authorities, list and configuration, each broken in its own way."""
        self.kept = self.relay.connect(self.tls)
        self.addCleanup(self.kept.close)
        self.assertEqual(self.ask(self.kept), 200)
        site, authority = self.site.directory, self.site.directory / "authority"
        self.broken(site / "server.pem", b"", "listen.certificate: ", "holds no certificate in PEM form")
        self.broken(site / "server.key", (site / "client.key").read_bytes(), "listen.key: does not belong to")
        self.broken(site / "server.key", b"-----BEGIN", "listen.key: is no private key in PEM form")
        self.broken(authority / "ca.pem", b"\0" * 100, "listen.client_ca: ", "holds no certificate")
        half = (authority / "crl.pem").read_bytes()[:200]
        self.broken(authority / "crl.pem", half, "listen.crl: ", "holds no revocation list")
        self.broken(
            self.configuration,
            self.configuration.read_bytes().replace(b"[upstream]", b"[upstream]\nproyect = 1"),
            'upstream.proyect: is not known; did you mean "project"?',
        )
        self.broken(site / "openai.key", b"\n", "upstream.api_key: ")
        bound = self.configuration.read_text().replace("[listen]", '[identity]\nlimit_by = "name"\n[listen]')
        self.broken(self.configuration, bound.encode(), "identity.limit_by has changed, which takes a restart")

    def test_signal(self) -> None:
        """SIGHUP does the same, and says in the log how it went."""
        crl = self.site.directory / "authority" / "crl.pem"
        kept = crl.read_bytes()
        self.configuration.write_text(self.configuration.read_text() + "[")
        self.relay.process.send_signal(signal.SIGHUP)
        self.relay.announced("not reloaded, all goes on as before: .*relay.toml")
        self.configuration.write_text(self.configuration.read_text()[:-1])
        self.relay.process.send_signal(signal.SIGHUP)
        self.relay.announced(r"Reload#info\] reloaded\n")
        self.assertEqual((self.ask(), crl.read_bytes()), (200, kept))


class WatchedTests(ReloadCase):
    """Files of certificates are taken up without a word."""

    def test_certificate_follows_its_link(self) -> None:
        """A certificate that is renewed as certbot does it, by links, is shown to whoever connects next."""
        live, archive = self.site.directory / "live", self.site.directory / "archive"
        live.mkdir()
        archive.mkdir()
        authority = Authority.open(self.site.directory / "authority")
        for number in (1, 2):
            authority.issue_server(["localhost", "127.0.0.1"], into=archive, stem=f"cert{number}")
        for name, end in (("fullchain.pem", "pem"), ("privkey.pem", "key")):
            (live / name).symlink_to(archive / f"cert1.{end}")
        text = self.configuration.read_text().replace('"server.pem"', '"live/fullchain.pem"')
        self.configuration.write_text(text.replace('"file:server.key"', '"file:live/privkey.pem"'))
        self.assertEqual(self.reload().stdout, "Reloaded.\n")
        first = self.shown()
        for name, end in (("fullchain.pem", "pem"), ("privkey.pem", "key")):
            (live / name).unlink()
            (live / name).symlink_to(archive / f"cert2.{end}")
        wait_for(lambda: self.shown() != first, "the renewed certificate to be shown")
        self.assertNotIn("not reloaded", self.relay.errors)

    def shown(self) -> bytes:
        """The certificate that a client is shown."""
        with (
            socket.create_connection(("127.0.0.1", self.relay.port), WITHIN) as plain,
            self.tls.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            return connection.getpeercert(binary_form=True) or b""

    def test_revocation(self) -> None:
        """``openai-relay cert revoke`` ends what runs, without any further step."""
        authority = Authority.open(self.site.directory / "authority")
        authority.issue_client("phone", into=self.site.directory, stem="phone")
        tls = ssl.create_default_context(cafile=str(self.site.ca))
        tls.load_cert_chain(self.site.file("phone.pem"), self.site.file("phone.key"))
        connection = self.relay.connect(tls)
        self.addCleanup(connection.close)
        connection.request("POST", f"{TARGET}&standin.endless=1", BODY, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        self.assertTrue(answer.readline().startswith(b"data: "))
        subprocess.run(
            [BIN / "openai-relay", "cert", "revoke", "phone", "--dir", "authority"],
            cwd=self.site.directory,
            env=child_environment(),
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=WITHIN,
        )
        rest = b""
        try:
            while block := answer.read1():
                rest += block
        except (HTTPException, OSError):  # cut, so that it does not look complete
            pass
        self.assertIn(b'"code": "client_certificate_revoked"', rest)
