"""``openai-relay demo`` as a newcomer meets it: start it, paste what it prints, end it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from unittest import skipUnless
from urllib.error import HTTPError
from urllib.parse import urlsplit

from twisted.trial.unittest import SynchronousTestCase

COMMAND = Path(sys.executable).with_name("openai-relay")
#: Bounds for what takes a second or two; nothing is expected to come near them.
TIMEOUT = 60


@skipUnless(COMMAND.exists(), "openai-relay is not installed beside this interpreter")
class DemoTests(SynchronousTestCase):
    """Each test runs a demo of its own on free ports, in an empty directory."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="openai-relay-demo-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.said = ""

    def start(self, *words: str, api_key: str | None = None) -> subprocess.Popen[str]:
        """Start the demo."""
        environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
        if api_key is not None:
            environment["OPENAI_API_KEY"] = api_key
        process = subprocess.Popen(
            [str(COMMAND), "demo", *words],
            cwd=self.directory,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.addCleanup(self.clear_away, process)
        return process

    def clear_away(self, process: subprocess.Popen[str]) -> None:
        """The demo is gone, and by that its children."""
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def started(self, api_key: str | None = None) -> subprocess.Popen[str]:
        """Start the demo on free ports and read until it says that all is ready."""
        process = self.start("--port", "0", "--admin-port", "0", api_key=api_key)
        assert process.stdout is not None
        for line in process.stdout:
            self.said += line
            if line.endswith("Ctrl-C\n"):
                return process
        raise AssertionError(f"the demo did not become ready:\n{self.said}")

    def ended(self, process: subprocess.Popen[str]) -> int:
        """The exit code, once the demo and whoever inherited its output are gone."""
        rest, _ = process.communicate(timeout=TIMEOUT)
        self.said += rest
        return process.returncode

    def pasted(self, command: str) -> str:
        """What a command prints in another terminal."""
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.directory, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def port_of(self, table: str, key: str) -> int:
        """A port out of the configuration that the demo has written."""
        address = tomllib.loads((self.directory / ".demo" / "relay.toml").read_text())[table][key]
        port = urlsplit(address if "//" in address else f"//{address}").port
        assert port is not None
        return port

    def assertClosed(self, port: int) -> None:
        """Nobody listens there."""
        with self.assertRaises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), TIMEOUT):
            pass

    def curl_line(self) -> str:
        return next(line for line in self.said.splitlines() if line.startswith("curl -N "))

    @skipUnless(shutil.which("curl"), "curl is not installed")
    def test_curl(self) -> None:
        """The printed curl line streams a chat completion to its end; without the certificate it gets nothing."""
        self.started()
        events = self.pasted(self.curl_line()).strip().split("\n\n")
        self.assertEqual(events[-1], "data: [DONE]")
        self.assertGreater(len(events), 3)
        without = re.sub(r"--cert \S+ --key \S+", "", self.curl_line())
        done = subprocess.run(
            ["bash", "-c", without], cwd=self.directory, capture_output=True, timeout=TIMEOUT, check=False
        )
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stdout, b"")

    @skipUnless(find_spec("openai"), "the openai package is not installed")
    def test_sdk(self) -> None:
        """The printed program streams a chat completion with the SDK."""
        self.started()
        lines = self.said.splitlines()
        first = next(number for number, line in enumerate(lines) if line.endswith("- <<'EOF'"))
        program = lines[first : lines.index("EOF") + 1]
        self.assertIn("stand-in", self.pasted("\n".join(program)))

    def test_usage(self) -> None:
        """What was asked stands in the ledger, which the printed command shows, in the demo's own directory."""
        process = self.started()
        self.pasted(self.curl_line())
        process.terminate()
        self.ended(process)
        found = re.search(r"(\S+ usage --config \.demo/relay\.toml)$", self.said, re.MULTILINE)
        assert found is not None
        program, *words = found[1].split()
        self.assertEqual(Path(program).name, "openai-relay")
        shown = self.pasted(" ".join([str(COMMAND), *words]))
        self.assertRegex(shown, r"(?m)^demo +1 +0 ")
        self.assertEqual([path.name for path in self.directory.iterdir()], [".demo"])
        self.assertTrue((self.directory / ".demo" / "state" / "ledger.sqlite3").is_file())

    def test_metrics(self) -> None:
        """The printed address has metrics."""
        self.started()
        found = re.search(r"curl (http://127\.0\.0\.1:\d+/metrics)", self.said)
        assert found is not None
        with urllib.request.urlopen(found[1], timeout=TIMEOUT) as response:
            self.assertIn(b"openai_relay_build_info", response.read())

    def test_json(self) -> None:
        """With --json standard output holds one object and nothing else, and what it names is there."""
        process = subprocess.Popen(
            [str(COMMAND), "demo", "--port", "0", "--admin-port", "0", "--json"],
            cwd=self.directory,
            env={name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(self.clear_away, process)
        assert process.stdout is not None
        for line in process.stdout:
            self.said += line
            if line == "}\n":
                break
        process.terminate()
        self.assertEqual(self.ended(process), 0)
        document = json.loads(self.said)
        self.assertEqual(document["base_url"], f"https://localhost:{self.port_of('listen', 'address')}/v1")
        self.assertTrue(document["standin"])
        for name in ("ca_file", "certificate_file", "key_file", "configuration_file"):
            self.assertTrue((self.directory / document[name]).is_file(), name)

    def test_signals_end_it(self) -> None:
        """SIGTERM and Ctrl-C end the demo with 0 and leave nothing behind; a second start reuses the certificates."""
        certificates = set()
        for number in (signal.SIGTERM, signal.SIGINT):
            process = self.started()
            ports = [
                self.port_of("listen", "address"),
                self.port_of("upstream", "url"),
                self.port_of("admin", "address"),
            ]
            certificates.add((self.directory / ".demo" / "client.pem").read_bytes())
            process.send_signal(number)
            self.assertEqual(self.ended(process), 0, self.said)
            self.assertNotIn("Traceback", self.said)
            for port in ports:
                self.assertClosed(port)
        self.assertEqual(len(certificates), 1)

    def test_killed(self) -> None:
        """When the demo is killed outright, relay and stand-in end by themselves."""
        process = self.started()
        relay, standin = self.port_of("listen", "address"), self.port_of("upstream", "url")
        with socket.create_connection(("127.0.0.1", standin), TIMEOUT) as connection:
            process.kill()
            self.ended(process)  # whoever holds its output is the relay
            try:
                self.assertEqual(connection.recv(1), b"")
            except ConnectionResetError:
                pass
        self.assertClosed(relay)
        self.assertClosed(standin)

    def test_child_dies(self) -> None:
        """When the stand-in or the relay ends, so does the rest, with exit code 1 and the reason."""
        for index, reason in enumerate(("The stand-in for the API has ended", "The relay has ended")):
            process = self.started()
            ports = [self.port_of("listen", "address"), self.port_of("upstream", "url")]
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(children[index]), signal.SIGKILL)
            self.assertEqual(self.ended(process), 1)
            self.assertIn(f"Error: {reason} (killed by SIGKILL)", self.said)
            for port in ports:
                self.assertClosed(port)

    def test_port_taken(self) -> None:
        """A port that is taken is named, with what to type instead; nothing is started or written."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            process = self.start("--port", str(port))
            self.assertEqual(self.ended(process), 1)
        self.assertIn(f"Error: 127.0.0.1:{port}: Another program listens there already", self.said)
        self.assertIn("make demo PORT=9443", self.said)
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_real_key_shows_nowhere(self) -> None:
        """With an API key the real API is the upstream, and the key is neither printed nor written."""
        process = self.started(api_key="sk-canary")
        self.assertIn("forwards to https://api.openai.com", self.said)
        process.terminate()
        self.assertEqual(self.ended(process), 0)
        self.assertNotIn("sk-canary", self.said)
        for path in self.directory.rglob("*"):
            if path.is_file():
                self.assertNotIn(b"sk-canary", path.read_bytes(), path)

    def test_dummy_key_shows_nowhere(self) -> None:
        """The key that opens the stand-in is in its own file only, and what goes there without it is refused."""
        process = self.started()
        request = urllib.request.Request(
            f"https://localhost:{self.port_of('upstream', 'url')}/v1/models",
            headers={"Authorization": "Bearer guessed"},
        )
        trust = ssl.create_default_context(cafile=self.directory / ".demo" / "ca.pem")
        error = self.assertRaises(HTTPError, urllib.request.urlopen, request, timeout=TIMEOUT, context=trust)
        self.assertEqual(error.code, 401)
        error.close()
        process.terminate()
        self.ended(process)
        key = (self.directory / ".demo" / "api.key").read_text().strip()
        files = [path for path in (self.directory / ".demo").rglob("*") if path.is_file()]
        self.assertEqual([path.name for path in files if key.encode() in path.read_bytes()], ["api.key"])
        self.assertNotIn(key, self.said)
