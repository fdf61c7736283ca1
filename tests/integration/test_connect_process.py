"""The process of ``openai-relay connect``: how it starts, what it says, and how it ends."""

from __future__ import annotations

import http.client
import re
import shutil
import signal
import socket

from openai import APIConnectionError, APIError, OpenAI

from openai_relay.authority.directory import Authority
from tests.integration.connecting import CREDENTIAL, BetweenTestCase, Connect, ToolByHand
from tests.integration.running import BIN, TWISTD, Relay, Running, SiteTestCase
from tests.integration.test_disconnect import CHAT
from tests.integration.test_streams import EVENTS


class ProcessTests(SiteTestCase):
    """What the command cannot do."""

    def complaint(self, *words: str) -> str:
        """What it says of words that it cannot use; it exits with 2."""
        process = Running((BIN / "openai-relay", "connect", *words), self.site.directory)
        self.assertEqual((process.ended(), process.output), (2, ""))
        self.assertNotIn("Traceback", process.errors)
        return process.errors

    def test_port_in_use(self) -> None:
        """A port that is taken is named, with what to do."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            where = f"127.0.0.1:{taken.getsockname()[1]}"
            said = self.complaint("https://localhost", *CREDENTIAL, "--listen", where)
        self.assertIn(f"--listen: cannot listen on {where}: Address already in use; choose another port", said)


class EndTests(BetweenTestCase):
    def start(self, *more: str) -> Connect:
        connecting = Connect(self.site, self.relay.url, *more)
        self.addCleanup(connecting.stop)
        return connecting

    def test_drains(self) -> None:
        """SIGTERM lets what runs finish, takes nothing new, and ends with 0."""
        connecting = self.start()
        tool = ToolByHand(connecting)
        self.addCleanup(tool.leave)
        tool.request("POST", "/v1/chat/completions", CHAT)
        upstream = self.accept()
        upstream.read_head()
        upstream.begin_events()
        answer = tool.answer()
        connecting.process.send_signal(signal.SIGTERM)
        connecting.announced(r"stopping: what runs \(1\) gets 30 s to finish")
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", connecting.port))
        upstream.chunk(EVENTS[0])
        upstream.chunk(b"")
        self.assertEqual(answer.read(), EVENTS[0])
        self.assertEqual(connecting.ended(), 0)
        self.assertRegex(connecting.errors, r"alice POST /v1/chat/completions 200 in .*\n")

    def test_second_signal(self) -> None:
        """A second Ctrl-C does not wait: a stream ends with an error event and a cut."""
        connecting = self.start()
        tool = ToolByHand(connecting)
        self.addCleanup(tool.leave)
        tool.request("POST", "/v1/chat/completions", CHAT)
        upstream = self.accept()
        upstream.read_head()
        upstream.begin_events()
        answer = tool.answer()
        connecting.process.send_signal(signal.SIGINT)
        connecting.announced("stopping")
        connecting.process.send_signal(signal.SIGINT)
        with self.assertRaises(http.client.IncompleteRead) as caught:
            answer.read()
        self.assertIn(b"`openai-relay connect` has stopped.", caught.exception.partial)
        self.assertEqual(connecting.ended(), 0)

    def test_quiet(self) -> None:
        """With --quiet nothing is said of an exchange; a key that a tool sends is never said anywhere."""
        for more, lines in ((("--quiet",), 0), ((), 1)):
            connecting = self.start(*more)
            tool = ToolByHand(connecting)
            self.addCleanup(tool.leave)
            tool.request("GET", "/v1/models?key=sk-canary-query", fields="Authorization: Bearer sk-canary-tool\r\n")
            upstream = self.accept()
            upstream.read_head()
            upstream.answer()
            self.assertEqual(tool.answer().read(), b"{}")
            self.assertEqual(connecting.stop(), 0)
            self.assertEqual(len(connecting.errors.splitlines()), lines, connecting.errors)
            self.assertNotIn("canary", connecting.output + connecting.errors)

    def test_no_relay(self) -> None:
        """Without a relay the SDK raises what it raises for a broken server, and its message says where to look."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            connecting = Connect(self.site, f"https://127.0.0.1:{free.getsockname()[1]}")
            self.addCleanup(connecting.stop)
            client = OpenAI(base_url=connecting.base_url, api_key="unused", max_retries=0)
            self.addCleanup(client.close)
            with self.assertRaises(APIError) as caught:
                client.models.list()
        self.assertNotIsInstance(caught.exception, APIConnectionError)
        self.assertIn("connection refused. Is the relay running", str(caught.exception))

    def test_renewed(self) -> None:
        """A certificate that is replaced on disk is taken up while it runs, and it is the one that the relay sees."""
        for name in ("client.pem", "client.key"):
            shutil.copy(self.site.file(name), self.site.file(f"phone-{name}"))
        connecting = self.start("--certificate", "phone-client.pem", "--key", "file:phone-client.key")
        Authority.open(self.site.directory / "authority").issue_client("bob", into=self.site.directory, stem="bob")
        self.site.file("bob.pem").replace(self.site.file("phone-client.pem"))
        self.site.file("bob.key").replace(self.site.file("phone-client.key"))
        connecting.announced("openai-relay connect: a renewed certificate is in use: bob, until ")
        before = len(self.relay.lines())
        tool = ToolByHand(connecting)
        self.addCleanup(tool.leave)
        tool.request("GET", "/v1/models")
        upstream = self.accept()
        upstream.read_head()
        upstream.answer()
        self.assertEqual(tool.answer().read(), b"{}")
        self.assertEqual(self.relay.lines_after(before)[0]["client"], "bob")

    def test_drop_authorization(self) -> None:
        """With --drop-authorization a tool's key does not reach a relay that would pass it on."""
        path = self.site.write_configuration(
            self.upstream.url, {"upstream": {"authorization": "passthrough"}}, "p.toml"
        )
        path.write_text(re.sub("(?m)^api_key = .*$", "", path.read_text()))
        relay = Relay(self.site, [*TWISTD, "--config", path])
        self.addCleanup(relay.close)
        for more, wanted in (((), True), (("--drop-authorization",), False)):
            connecting = Connect(self.site, relay.url, *more)
            self.addCleanup(connecting.stop)
            tool = ToolByHand(connecting)
            self.addCleanup(tool.leave)
            tool.request("GET", "/v1/models", fields="Authorization: Bearer sk-of-the-tool\r\n")
            upstream = self.accept()
            self.assertEqual("sk-of-the-tool" in upstream.read_head(), wanted)
            upstream.answer()
            self.assertEqual(tool.answer().status, 200)
