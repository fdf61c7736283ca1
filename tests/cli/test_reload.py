"""Asking a running relay to reload, and hearing whether it did."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.authority.directories import new_directory
from tests.cli.commands import typed


class Answering(BaseHTTPRequestHandler):
    """In the place of a relay's admin listener."""

    status: ClassVar[int] = 200
    said: ClassVar[object] = {"status": "reloaded"}
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.asked.append(self.path)
        body = json.dumps(self.said).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class ReloadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = new_directory(self) / "relay.toml"

    def configure(self, admin: str) -> None:
        self.file.write_text(f"[admin]\naddress = {json.dumps(admin)}\n")

    def relay(self, status: int, said: object) -> None:
        """A relay that answers so."""
        answering = type("Answering", (Answering,), {"status": status, "said": said, "asked": []})
        server = HTTPServer(("127.0.0.1", 0), answering)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        self.configure(f"127.0.0.1:{server.server_port}")

    def test_reloaded(self) -> None:
        """A relay that did is good news, in a word."""
        self.relay(200, {"status": "reloaded"})
        result = typed("reload", self.file)
        self.assertEqual((result.exit_code, result.output), (0, "Reloaded.\n"))

    def test_refused(self) -> None:
        """One that did not says why, and the exit status says so."""
        self.relay(409, {"status": "not reloaded", "reasons": ["relay.toml:3: a: is odd", "b\x1b"]})
        result = typed("reload", self.file)
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(
            result.stderr, "relay.toml:3: a: is odd\nb\\x1b\nError: Not reloaded: the relay goes on as it was.\n"
        )

    def test_something_else(self) -> None:
        """What is no relay, or an older one, is not taken for one."""
        for status, said in ((404, {"error": "nothing here"}), (409, ["?"]), (500, "x")):
            self.relay(status, said)
            result = typed("reload", self.file)
            self.assertEqual(result.exit_code, 1)
            self.assertIn(f"is no relay that can reload (status {status})", result.stderr)

    def test_nobody_there(self) -> None:
        """Where nobody answers, the address and the file it is from are named."""
        self.relay(200, {})
        self.doCleanups()
        self.file.parent.mkdir(exist_ok=True)
        self.configure("127.0.0.1:1")
        result = typed("reload", self.file)
        self.assertEqual(result.exit_code, 1)
        self.assertIn(f"No relay answers at 127.0.0.1:1, where {self.file} has its admin listener", result.stderr)

    def test_no_admin_listener(self) -> None:
        """Without an admin listener at a known port there is the signal."""
        for admin in ("", "127.0.0.1:0"):
            self.configure(admin)
            result = typed("reload", self.file)
            self.assertEqual(result.exit_code, 1)
            self.assertIn("systemctl kill --signal=HUP openai-relay", result.stderr)

    def test_broken_configuration(self) -> None:
        """A file that is no TOML, or has no such address, asks nobody, and ends with 78."""
        for text in ("[admin", "admin = 1\n", '[admin]\naddress = "nowhere"\n'):
            self.file.write_text(text)
            result = typed("reload", self.file)
            self.assertEqual(result.exit_code, 78, text)
            self.assertIn("Nothing was asked of the relay", result.stderr)

    def test_no_configuration(self) -> None:
        """A file that is not there is named."""
        result = typed("reload", self.file)
        self.assertEqual(result.exit_code, 1)
        self.assertIn(f"{self.file} cannot be read (No such file or directory)", result.stderr)
