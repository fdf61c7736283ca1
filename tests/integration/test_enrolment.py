"""Devices get certificates with codes: with our own commands, and with openssl and curl as any client of EST."""

from __future__ import annotations

import base64
import http.client
import re
import shutil
import socket
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import ClassVar
from unittest import skipUnless
from urllib.request import urlopen

from cryptography import x509

from openai_relay.authority.directory import Authority
from openai_relay.authority.invitations import Invitations
from openai_relay.core.enrolment_code import Code, read_code
from tests.integration.running import BIN, WITHIN, Running, SiteTestCase, StandIn, child_environment, wait_for
from tests.integration.running import Relay as RunningRelay
from tests.integration.test_disconnect import CHAT

FAKETIME = shutil.which("faketime")
TOOLS = shutil.which("openssl") and shutil.which("curl")


class EnrolmentCase(SiteTestCase):
    """A relay with a port for devices."""

    standin: ClassVar[StandIn]
    relay: ClassVar[RunningRelay]
    url: ClassVar[str]
    authority: ClassVar[Authority]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.standin = StandIn(cls.site)
        cls.addClassCleanup(cls.standin.stop)
        enrol = {"enrol": {"address": "127.0.0.1:0", "authority": "authority"}}
        cls.relay = RunningRelay.configured(cls.site, cls.standin.url, enrol)
        cls.addClassCleanup(cls.relay.close)
        cls.url = f"https://localhost:{cls.relay.announced(r'devices enrol at 127.0.0.1:([0-9]+)')[1]}"
        cls.authority = Authority.open(cls.site.directory / "authority")

    def setUp(self) -> None:
        self.device = self.site.directory / self.id().rpartition(".")[2]
        self.device.mkdir()
        self.asked = self.standin.stats().requests

    def run_in(self, *words: object, status: int = 0) -> str:
        """What a command prints that is typed on the device; its errors, where it is to fail."""
        done = subprocess.run(
            [str(word) for word in words],
            cwd=self.device,
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=WITHIN,
            check=False,
        )
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stderr if status else done.stdout

    def command(self, *words: object, status: int = 0) -> str:
        return self.run_in(BIN / "openai-relay", *words, status=status)

    def invite(self, name: str, *words: object) -> str:
        """The code of an invitation, as it is printed."""
        certificate = self.site.directory / "server.pem"
        said = self.command(
            *("invite", name, "--dir", self.site.directory / "authority", "--url", self.url),
            *("--server-certificate", certificate, *words),
        )
        found = re.search(rf"^  openai-relay enrol {self.url} ([a-z2-7]+)$", said, re.MULTILINE)
        assert found is not None, said
        return found[1]

    def ask(self, certificate: str, key: str) -> int:
        """The status of a request through the relay's main door."""
        tls = ssl.create_default_context(cafile=str(self.site.ca))
        tls.load_cert_chain(self.device / certificate, self.device / key)
        connection = self.relay.connect(tls)
        self.addCleanup(connection.close)
        connection.request("GET", "/v1/models")
        return connection.getresponse().status

    def assertUntouched(self) -> None:
        """Nothing has reached the upstream."""
        self.assertEqual(self.standin.stats().requests, self.asked)


class CommandTests(EnrolmentCase):
    """``invite``, ``enrol``, ``renew``, as they are typed."""

    def test_whole_life(self) -> None:
        """Invited, enrolled, served; renewed, and served again; revoked, and neither served nor renewed."""
        code = self.invite("phone", "--days", 90)
        said = self.command("enrol", self.url, code)
        self.assertIn("openai-relay renew phone.pem", said)
        self.assertEqual(
            {path.name for path in self.device.iterdir()}, {"phone.pem", "phone.key", "phone.json", "ca.pem"}
        )
        self.assertEqual((self.device / "phone.key").stat().st_mode & 0o777, 0o600)
        self.assertEqual((self.device / "ca.pem").read_bytes(), self.site.ca.read_bytes())
        self.assertEqual(self.ask("phone.pem", "phone.key"), 200)
        self.assertIn("Not due before", self.command("renew", "phone.pem", "--if-due"))
        before = (self.device / "phone.pem").read_bytes()
        self.assertIn("phone.pem is renewed", self.command("renew", "phone.pem"))
        self.assertNotEqual((self.device / "phone.pem").read_bytes(), before)
        self.assertEqual(self.ask("phone.pem", "phone.key"), 200)
        self.authority.revoke("phone")
        wait_for(lambda: "taken up" in self.relay.errors, "the list to be taken up")
        self.assertIn("it has been revoked", self.command("renew", "phone.pem", status=1))

    def test_refusals(self) -> None:
        """A code that is used, withdrawn, expired or mistyped says which it is, and nothing is written."""
        used = self.invite("laptop")
        self.command("enrol", self.url, used, "--out", "first")
        withdrawn = self.invite("tablet")
        self.command("invite", "tablet", "--withdraw", "--dir", self.site.directory / "authority")
        past = self.authority.clock() - timedelta(hours=2)
        over = Invitations(self.authority.directory).invite("watch", 30, timedelta(hours=1), past)[1]
        pin = read_code(used).pin
        for code, told in (
            (used, "This code has been used"),
            (withdrawn, "This code is not known here"),
            (str(Code(over, pin)), "This code has expired"),
            (used[:-1], "is not whole, or was mistyped"),
            ("hello!", "holds characters that no code has"),
        ):
            self.assertIn(told, self.command("enrol", self.url, code, "--out", "second", status=1))
        written = self.device / "second"
        self.assertEqual([path.name for path in written.iterdir()] if written.exists() else [], [])
        self.assertUntouched()

    def test_another_server(self) -> None:
        """Who answers in the relay's place, with whatever certificate, is not given the code."""
        heard: list[bytes] = []
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.site.file("upstream.pem"), self.site.file("upstream.key"))
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(WITHIN)

            def listen() -> None:
                plain = server.accept()[0]
                try:
                    with tls.wrap_socket(plain, server_side=True) as connection:
                        heard.append(connection.recv(1000))
                except OSError:
                    pass

            spy = threading.Thread(target=listen, daemon=True)
            spy.start()
            url = f"https://localhost:{server.getsockname()[1]}"
            self.assertIn(
                "is not the relay that the code is for", self.command("enrol", url, self.invite("x"), status=1)
            )
            spy.join(WITHIN)
        self.assertIn(heard, ([], [b""]))

    def test_race(self) -> None:
        """Of several devices with one code exactly one gets a certificate."""
        code = self.invite("race")

        def enrol(number: int) -> int:
            command: list[str | Path] = [BIN / "openai-relay", "enrol", self.url, code, "--out", str(number)]
            done = subprocess.run(
                command, cwd=self.device, env=child_environment(), capture_output=True, timeout=WITHIN, check=False
            )
            return done.returncode

        with ThreadPoolExecutor(4) as threads:
            self.assertEqual(sorted(threads.map(enrol, range(4))), [0, 1, 1, 1])
        self.assertEqual(len([each for each in self.authority.issued() if each.name == "race"]), 1)

    def test_nothing_is_overwritten(self) -> None:
        """Where files of that name lie already, the new ones get another, and no code is lost."""
        for _ in range(2):
            self.command("enrol", self.url, self.invite("twin"))
        self.assertEqual(len(list(self.device.glob("twin*.key"))), 2)
        self.assertEqual(len({path.read_bytes() for path in self.device.glob("twin*.pem")}), 2)


@skipUnless(TOOLS, "openssl and curl are not installed")
class ForeignClientTests(EnrolmentCase):
    """openssl makes keys and requests, curl sends them: RFC 7030 without any of our code."""

    def make_request(self) -> None:
        self.run_in(
            *("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", "/CN=whatever", "-keyout", "d.key", "-out", "d.csr", "-outform", "DER"),
        )
        (self.device / "d.b64").write_bytes(base64.encodebytes((self.device / "d.csr").read_bytes()))

    def enrol(self, *words: object, operation: str = "simpleenroll") -> tuple[str, str]:
        """Status and body of an enrolment."""
        status = self.run_in(
            *("curl", "-sS", "--cacert", self.site.ca, "-o", "answer", "-w", "%{http_code}"),
            *("-H", "Content-Type: application/pkcs10", "--data-binary", "@d.b64", *words),
            f"{self.url}/.well-known/est/{operation}",
        )
        return status, (self.device / "answer").read_text()

    def take(self, name: str) -> None:
        """Unpack the certificate in the answer."""
        (self.device / "answer.der").write_bytes(base64.b64decode((self.device / "answer").read_bytes()))
        self.run_in("openssl", "pkcs7", "-inform", "DER", "-in", "answer.der", "-print_certs", "-out", name)

    def test_enrol_and_renew(self) -> None:
        """A request made by openssl and sent by curl gets a certificate that the relay serves, and then the next."""
        self.make_request()
        code = self.invite("foreign")
        self.assertEqual(self.enrol("-u", f"foreign:{code}")[0], "200")
        self.take("d.pem")
        self.assertEqual(self.ask("d.pem", "d.key"), 200)
        self.assertEqual(self.enrol("--cert", "d.pem", "--key", "d.key", operation="simplereenroll")[0], "200")
        self.take("e.pem")
        self.assertEqual(self.ask("e.pem", "d.key"), 200)
        self.assertNotEqual((self.device / "d.pem").read_bytes(), (self.device / "e.pem").read_bytes())
        self.assertIn("subject=CN = foreign", self.run_in("openssl", "x509", "-in", "e.pem", "-noout", "-subject"))

    def test_refusals(self) -> None:
        """No code, a wrong or used one, no certificate, no request: each is told in words, and nothing is issued."""
        self.make_request()
        used = self.invite("foreigner")
        self.assertEqual(self.enrol("-u", f":{used}")[0], "200")
        issued = len(self.authority.issued())
        code = self.invite("foreigner")
        for words, operation, status, told in (
            ((), "simpleenroll", "401", "Give the code as the password"),
            (("-u", f":{used}"), "simpleenroll", "401", "has been used"),
            (("-u", ":abc"), "simpleenroll", "401", "copy it again"),
            (("-u", f"another:{code}"), "simpleenroll", "401", "for another name"),
            (("-u", f":{code}", "--data-binary", "nonsense"), "simpleenroll", "400", "PKCS #10"),
            ((), "simplereenroll", "401", "you sent none"),
            (("-X", "PUT"), "simpleenroll", "405", "Only POST"),
            ((), "fullcmc", "404", "RFC 7030"),
            (("--data-binary", "x" * 70_000, "-u", f":{code}"), "simpleenroll", "413", "at most"),
        ):
            found = self.enrol(*words, operation=operation)
            self.assertEqual(found[0], status, (words, found))
            self.assertIn(told, found[1])
        self.assertEqual(len(self.authority.issued()), issued)
        self.assertEqual(self.enrol("-u", f":{code}")[0], "200")  # none of that has used it up
        self.assertUntouched()
        metrics = self.relay.admin("/metrics")
        self.assertIn('openai_relay_enrolments_total{outcome="used"}', metrics)
        self.assertNotIn(code, self.relay.errors + self.relay.output)

    def test_wrong_certificate(self) -> None:
        """A certificate of another authority renews nothing."""
        self.make_request()
        other = Authority.create(self.device / "other")
        other.issue_client("phone", into=self.device, stem="o")
        status, told = self.enrol("--cert", "o.pem", "--key", "o.key", operation="simplereenroll")
        self.assertEqual(status, "401")
        self.assertIn("not one that this relay trusts", told)


@skipUnless(FAKETIME, "no faketime (Debian: apt install faketime)")
class ConnectTests(EnrolmentCase):
    """``connect`` renews what it shows."""

    def test_renewed_by_itself(self) -> None:
        """A certificate that is due is renewed while a stream runs, which goes on; then the new one is shown."""
        self.command("enrol", self.url, self.invite("desktop", "--days", 1))
        before = (self.device / "desktop.pem").read_bytes()
        connect = Running(
            [
                *(str(FAKETIME), "-f", "+17h", BIN / "openai-relay", "connect", f"https://localhost:{self.relay.port}"),
                *("--certificate", "desktop.pem", "--key", "file:desktop.key", "--ca", "ca.pem"),
                *("--listen", "127.0.0.1:0"),
            ],
            self.device,
            {"FAKETIME_DONT_FAKE_MONOTONIC": "1"},
        )
        self.addCleanup(connect.stop)
        port = int(connect.announced(r"http://127.0.0.1:([0-9]+)/v1 leads")[1])
        streaming = http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN)
        self.addCleanup(streaming.close)
        paced = {"x-standin-events": "100", "x-standin-interval-ms": "20"}
        streaming.request("POST", "/v1/chat/completions", CHAT, {"content-type": "application/json", **paced})
        stream = streaming.getresponse()
        self.assertEqual(stream.status, 200)
        connect.announced("a renewed certificate is in use: desktop")
        self.assertNotEqual((self.device / "desktop.pem").read_bytes(), before)
        self.assertTrue(stream.read().endswith(b"data: [DONE]\n\n"))
        serial = x509.load_pem_x509_certificate(before).serial_number
        self.authority.revoke(f"{serial:x}")
        wait_for(lambda: "taken up" in self.relay.errors, "the list to be taken up")
        with urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=WITHIN) as answer:
            self.assertEqual(answer.status, 200)
        self.assertNotIn("could not be renewed", connect.errors)
