"""Every way to start the relay, what it says when it cannot start, how it ends, and what it writes meanwhile."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.trial.unittest import SkipTest

from tests.integration.running import (
    BIN,
    CLIENT,
    END_WITHIN,
    ROOT,
    TWISTD,
    Relay,
    RelayTestCase,
    SiteTestCase,
    StandIn,
    child_environment,
)

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
#: Where the admin listener is when nobody says otherwise: the one port here that the system does not choose.
USUAL_ADMIN_PORT = 9464


class ServingTests(SiteTestCase):
    """Each door leads to the same relay."""

    standin: ClassVar[StandIn]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.standin = StandIn(cls.site)
        cls.addClassCleanup(cls.standin.stop)

    def assert_serves(self, relay: Relay) -> None:
        """A client with a certificate is answered by the upstream, with the relay's key."""
        self.addCleanup(relay.close)
        before = self.standin.stats().keys_matched
        client = relay.connect()
        self.addCleanup(client.close)
        client.request("GET", "/v1/models")
        answer = client.getresponse()
        self.assertEqual((answer.status, json.loads(answer.read())["object"]), (200, "list"))
        self.assertEqual(self.standin.stats().keys_matched, before + 1)
        self.assertEqual(json.loads(relay.admin("/readyz"))["status"], "ready")
        self.assertEqual(relay.stop(), 0)

    def test_twistd_lists_it(self) -> None:
        """``twistd --help`` knows the relay."""
        done = subprocess.run(
            [BIN / "twistd", "--help"],
            cwd=self.site.directory,
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=END_WITHIN,
            check=True,
        )
        self.assertRegex(done.stdout, r"(?m)^    openai-relay +A gate to the OpenAI API")

    def test_twistd_with_a_file(self) -> None:
        """``twistd -n openai-relay --config relay.toml`` serves."""
        self.assert_serves(Relay.configured(self.site, self.standin.url))

    def test_twistd_with_options(self) -> None:
        """``twistd -n openai-relay`` serves without a file, from options that name the files."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", USUAL_ADMIN_PORT))
            except OSError:
                raise SkipTest(f"something listens on port {USUAL_ADMIN_PORT}, which no option can change") from None
        options: dict[str, str | Path] = {
            "--listen": "127.0.0.1:0",
            "--certificate": "server.pem",
            "--key": "server.key",
            "--client-ca": self.site.ca,
            "--crl": self.site.ca.with_name("crl.pem"),
            "--upstream": self.standin.url.replace("127.0.0.1", "localhost"),
            "--upstream-ca": self.site.upstream_ca,
            "--api-key-from": "env:THE_KEY",
            "--requests-per-minute": "600",
            "--burst": "7",
        }
        words = [word for option in options.items() for word in option]
        relay = Relay(self.site, [*TWISTD, *words], {"THE_KEY": self.site.api_key})
        self.addCleanup(relay.close)
        self.assertEqual(relay.admin_port, USUAL_ADMIN_PORT)
        client = relay.connect()
        self.addCleanup(client.close)
        client.request("GET", "/v1/models")
        self.assertEqual(client.getresponse().getheader("x-ratelimit-limit-requests"), "7")
        self.assert_serves(relay)

    def test_tac(self) -> None:
        """``twistd -ny relay.tac`` serves what ``$OPENAI_RELAY_CONFIG`` names."""
        named = self.site.write_configuration(self.standin.url, name="named.toml")
        command = (BIN / "twistd", "--pidfile=", "-ny", ROOT / "relay.tac")
        self.assert_serves(Relay(self.site, command, {"OPENAI_RELAY_CONFIG": str(named)}))

    def test_tac_with_the_usual_file(self) -> None:
        """Without that variable it serves ``relay.toml`` in the current directory."""
        self.site.write_configuration(self.standin.url)
        shutil.copy(ROOT / "relay.tac", self.site.directory)
        self.assert_serves(Relay(self.site, (BIN / "twistd", "--pidfile=", "-ny", "relay.tac")))

    def test_command(self) -> None:
        """``openai-relay serve`` serves, with the same options as ``twistd``."""
        configuration = self.site.write_configuration(self.standin.url)
        self.assert_serves(Relay(self.site, (BIN / "openai-relay", "serve", "--config", configuration)))


class RefusedStartTests(SiteTestCase):
    """What cannot be served is not served: the message says what is wrong, the exit code of what kind it is."""

    #: Where nothing has to be: it is never asked.
    upstream = "https://127.0.0.1:9"

    def run_to_its_end(self, command: Sequence[str | Path]) -> tuple[int, str]:
        """Exit code and everything that was said; nothing of it is a traceback, nor the key."""
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.site.directory,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=END_WITHIN,
            check=False,
        )
        self.assertNotIn("Traceback", done.stdout)
        self.assertNotIn(self.site.api_key, done.stdout)
        return done.returncode, done.stdout

    def assert_refused(self, text: str, wanted: str, *more: Sequence[str | Path]) -> None:
        """A file with this text is refused as bad configuration, in the same words by who serves and who checks it."""
        (self.site.directory / "bad.toml").write_text(text)
        for command in ((*TWISTD, "--config"), (BIN / "openai-relay", "check-config"), *more):
            code, told = self.run_to_its_end([*command, "bad.toml"])
            self.assertEqual(code, 78, told)
            self.assertRegex(told, wanted)
            self.assertEqual(len(told.splitlines()), 1, told)

    def good(self) -> str:
        return self.site.write_configuration(self.upstream, name="good.toml").read_text()

    def test_no_toml(self) -> None:
        """A file that is no TOML is refused with the line."""
        self.assert_refused(self.good().replace("[upstream]", "[upstream"), r"^bad\.toml:\d+: is not TOML: ")

    def test_unknown_key(self) -> None:
        """An unknown key is refused with file, line, key and what was probably meant."""
        self.assert_refused(
            self.good().replace("address =", "adress =", 1),
            r'^bad\.toml:2: listen\.adress: is not known; did you mean "address"\?$',
            (BIN / "openai-relay", "serve", "--config"),
        )

    def test_bad_value(self) -> None:
        """A value that cannot be is refused with file, line, key and what can be."""
        self.assert_refused(
            self.good() + "[limits]\nconcurrent = 0\n",
            r"^bad\.toml:\d+: limits\.concurrent: 0 is out of range; give a whole number from 1 to 1000000$",
        )

    def test_file_that_is_named_and_missing(self) -> None:
        """A certificate that is not there is refused with the key that names it, and its whole path."""
        self.assert_refused(
            self.good().replace('"server.pem"', '"gone.pem"'),
            rf'^bad\.toml:3: listen\.certificate: "{re.escape(str(self.site.directory))}/gone\.pem" does not exist',
        )

    def test_key_of_another_certificate(self) -> None:
        """A private key that does not belong to the certificate is refused with the key that names it."""
        other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.site.file("other.key").write_bytes(other)
        self.assert_refused(
            self.good().replace("file:server.key", "file:other.key"),
            r"^bad\.toml:4: listen\.key: does not belong to the certificate in .*/server\.pem",
        )

    def test_file_that_holds_something_else(self) -> None:
        """A file with something else than it should hold is refused with the key that names it."""
        self.site.file("text.pem").write_text("not a certificate")
        for key, good in (("listen.client_ca", "authority/ca.pem"), ("upstream.ca", "upstream-authority/ca.pem")):
            self.assert_refused(
                self.good().replace(f'"{good}"', '"text.pem"'),
                rf"^bad\.toml:\d+: {re.escape(key)}: .*/text\.pem: .*holds no certificate in PEM form",
            )

    def test_secret_in_the_file(self) -> None:
        """A key that stands in the file itself is refused, and not repeated."""
        self.assert_refused(
            self.good().replace("file:openai.key", self.site.api_key), r"^bad\.toml:\d+: upstream\.api_key: "
        )

    def test_missing_file(self) -> None:
        """A configuration that is not there is refused with the way to make one."""
        code, told = self.run_to_its_end([*TWISTD, "--config", "none.toml"])
        self.assertEqual(code, 78, told)
        self.assertRegex(told, r'^none\.toml: ".*/none\.toml" does not exist; .*openai-relay init')

    def test_port_in_use(self) -> None:
        """A port that somebody else has ends the relay with 1 and the address."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            for table in ("listen", "admin"):
                path = self.site.write_configuration(self.upstream, {table: {"address": address}})
                doors: tuple[tuple[str | Path, ...], ...] = (TWISTD, (BIN / "openai-relay", "serve"))
                for door in doors:
                    command: list[str | Path] = [*door, "--config", path]
                    code, told = self.run_to_its_end(command)
                    self.assertEqual(code, 1, told)
                    self.assertIn(f"cannot listen on {address}: Address already in use", told)

    def test_unknown_option(self) -> None:
        """A wrong option ends with a suggestion: with 1 where ``twistd`` reads it, with 2 where the command does."""
        code, told = self.run_to_its_end([*TWISTD, "--confg", "relay.toml"])
        self.assertEqual((code, told.splitlines()[-1].partition(": ")[2]), (1, told_of_option("confg", "config")))
        code, told = self.run_to_its_end([BIN / "openai-relay", "--confg"])
        self.assertEqual(code, 2)
        self.assertIn("No such option", told)

    def test_nothing_given(self) -> None:
        """Without file and options the relay says what it needs."""
        code, told = self.run_to_its_end(TWISTD)
        self.assertEqual(code, 1)
        self.assertIn("--config relay.toml", told)
        self.assertIn("openai-relay init", told)

    def test_version(self) -> None:
        """The version is printed, and that is no failure."""
        for command in ((BIN / "openai-relay", "--version"), (*TWISTD, "--version")):
            code, told = self.run_to_its_end(command)
            self.assertEqual(code, 0)
            self.assertRegex(told, r"^openai-relay \S+\n$")


def told_of_option(wrong: str, right: str) -> str:
    return f"option --{wrong} not recognized; did you mean --{right}?"


class EndTests(RelayTestCase):
    """A relay that is told to end."""

    def setUp(self) -> None:
        self.relay = Relay.configured(self.site, self.standin.url)  # type: ignore[misc]  # one for each test
        self.addCleanup(self.relay.close)

    def test_running_stream_is_finished(self) -> None:
        """On SIGTERM a running stream comes to its end, new clients are not let in, and the exit code is 0."""
        connection = self.connect()
        query = "standin.events=40&standin.interval_ms=30"
        connection.request("POST", f"/v1/chat/completions?{query}", json.dumps(CHAT | {"stream": True}))
        answer = connection.getresponse()
        self.assertTrue(answer.readline().startswith(b"data: {"))
        self.relay.process.terminate()
        self.relay.announced(r"stopping: what runs \(1\)")
        self.assertRaises(ConnectionError, self.relay.connect().connect)
        rest = answer.read()
        self.assertTrue(rest.endswith(b"data: [DONE]\n\n"))
        self.assertEqual(rest.count(b"data: {"), 41)
        self.assertEqual(self.relay.ended(), 0)
        (line,) = self.relay.lines()
        self.assertEqual((line["end"], line["status"]), ("done", 200))

    def test_kept_connection_is_closed(self) -> None:
        """A client's idle connection does not keep the relay from ending."""
        connection = self.connect()
        connection.request("GET", "/v1/models")
        self.assertEqual(connection.getresponse().read(8), b'{"object')
        self.assertEqual(self.relay.stop(), 0)

    def test_nothing_is_left_behind(self) -> None:
        """No pid file, no log and no other file is left where the relay ran."""
        before = {path.name for path in self.site.directory.iterdir()}
        self.assertEqual(self.relay.stop(), 0)
        self.assertEqual({path.name for path in self.site.directory.iterdir()} - before, set())


class OutputTests(RelayTestCase):
    """What is written while it serves: the access log, for programs, and nothing that is secret."""

    def documented_members(self) -> list[str]:
        """The members of a line, in their order, as the manual shows them."""
        manual = (ROOT / "docs" / "logs.md").read_text()
        example = re.search(r"```json\n(\{.*\})\n```", manual)
        assert example is not None
        return list(json.loads(example[1]))

    def test_lines(self) -> None:
        """Standard output holds a line of valid JSON for each exchange, with the documented members, and only that."""
        targets = [
            "/v1/models",
            "/v1/models?standin.status=500",
            "/v2/nothing",
            '/v1/\\"\t',
            "/v1/models/" + "x" * 3_000,
        ]
        for target in targets:
            connection = self.connect()
            connection.putrequest("GET", "/", skip_host=True)
            connection._buffer[0] = b"GET %b HTTP/1.1" % target.encode()  # type: ignore[attr-defined]
            connection.putheader("Host", "localhost")
            connection.endheaders()
            connection.getresponse().read()
        self.relay.lines_until_now()
        lines = self.relay.output.splitlines()
        self.assertEqual(len(lines), len(targets))
        for line in lines:
            self.assertEqual(list(json.loads(line)), self.documented_members())
        ends = [json.loads(line)["end"] for line in lines]
        self.assertEqual(ends, ["done", "done", "refused", "refused", "done"])
        first = json.loads(lines[0])
        self.assertEqual(
            {name: first[name] for name in ("client", "method", "path", "status", "error", "http_version")},
            {"client": CLIENT, "method": "GET", "path": "/v1/models", "status": 200, "error": None}
            | {"http_version": "1.1"},
        )
        self.assertTrue(first["request_id"].startswith("req_"))

    def test_no_secret_and_no_content(self) -> None:
        """Whatever goes well or wrong: no key, body, query or field of a request is in any output or metric."""
        canary = f"canary{secrets.token_hex(8)}"
        content = json.dumps(CHAT | {"messages": [{"role": "user", "content": canary}]}).encode()
        fields = {"Authorization": f"Bearer {canary}", "X-Secret": canary, "Cookie": canary, "Host": "localhost"}
        for query in (
            "",
            "standin.status=500",
            "standin.status=429",
            "standin.cut_in_head=1",
            "standin.cut_after_bytes=10",
            "standin.nonsense=1",
        ):
            connection = self.connect()
            connection.request("POST", f"/v1/chat/completions?{query}&q={canary}", content, fields)
            try:
                connection.getresponse().read()
            except OSError:
                pass
            except Exception as error:  # noqa: BLE001 - the cut answer; what is looked at is the log
                self.assertIn("IncompleteRead", repr(error))
        for bad in (
            f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nBad {canary}: x\r\n\r\n",
            f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: {canary}\r\n\r\n",
            f"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{canary}\r\n",
            f"{canary}\r\n\r\n",
        ):
            connection = self.connect()
            connection.connect()
            connection.send(bad.encode())
            connection.sock.recv(4_096)
        self.relay.lines_until_now()
        written = self.relay.output + self.relay.errors + self.relay.admin("/metrics")
        self.assertNotIn(canary, written)
        self.assertNotIn(self.site.api_key, written)
        self.assertNotIn(self.site.api_key.removeprefix("sk-"), written)
        self.assertIn("upstream_closed", written)
        self.assertIn("malformed_request", written)

    def test_key_is_in_no_argument(self) -> None:
        """Whoever lists processes sees no secret."""
        process = Path(f"/proc/{self.relay.process.pid}")
        self.assertNotIn(os.fsencode(self.site.api_key), (process / "cmdline").read_bytes())
