"""``openai-relay connect`` with real tools that know nothing of certificates: SDK, curl, WebSockets, and by hand."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import socket
import subprocess
from unittest import skipUnless

from openai import AsyncOpenAI, OpenAI, RateLimitError
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect as connect_websocket

from openai_relay.standin.prose import INTRODUCTION
from tests.integration.connecting import ConnectTestCase
from tests.integration.running import WITHIN, wait_for
from tests.integration.test_disconnect import CHAT, SOON

CURL = shutil.which("curl")
MODEL = "gpt-4o-mini"
QUESTION = "Name three rivers."
REPLY = f"{INTRODUCTION} You said: {QUESTION}"
BIG = 50 * 1024 * 1024
PATTERN = bytes(range(256)) * 4_096


class SDKTests(ConnectTestCase):
    def sdk(self) -> OpenAI:
        client = OpenAI(base_url=self.connecting.base_url, api_key="unused", max_retries=0, timeout=WITHIN)
        self.addCleanup(client.close)
        return client

    def test_whole(self) -> None:
        """The official SDK needs nothing but the base URL."""
        answer = self.sdk().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": QUESTION}])
        self.assertEqual(answer.choices[0].message.content, REPLY)

    def test_stream(self) -> None:
        """A stream arrives with every event."""
        stream = self.sdk().chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": QUESTION}], stream=True
        )
        self.assertEqual("".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices), REPLY)

    def test_many_streams_at_once(self) -> None:
        """So does each of many at once of the asynchronous client."""

        async def one(client: AsyncOpenAI) -> str:
            stream = await client.responses.create(model=MODEL, input=QUESTION, stream=True)
            return "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])

        async def all_of_them() -> list[str]:
            async with AsyncOpenAI(base_url=self.connecting.base_url, api_key="unused", max_retries=0) as client:
                return await asyncio.gather(*(one(client) for _ in range(30)))

        self.assertEqual(asyncio.run(all_of_them()), [REPLY] * 30)

    def test_relay_request_id(self) -> None:
        """The identifier that the tool reads is the relay's own: its operator finds the exchange by it."""
        before = len(self.relay.lines())
        response = self.sdk().models.with_raw_response.list()
        (line,) = self.relay.lines_after(before)
        self.assertEqual(response.headers["x-relay-request-id"], line["relay_request_id"])


class LimitedTests(ConnectTestCase):
    configuration = {"limits": {"requests_per_minute": 1}}

    def test_refusals_pass(self) -> None:
        """A 429 of the relay, and what its fields say of trying again, pass as they are."""
        with OpenAI(base_url=self.connecting.base_url, api_key="unused", max_retries=0) as client:
            client.models.list()
            with self.assertRaises(RateLimitError) as caught:
                client.models.list()
        fields = caught.exception.response.headers
        self.assertEqual(caught.exception.code, "rate_limit_exceeded")
        self.assertGreater(int(fields["retry-after-ms"]), 30_000)
        self.assertEqual(fields["x-ratelimit-limit-requests"], "1")


@skipUnless(CURL, "curl is not installed")
class CurlTests(ConnectTestCase):
    def curl(self, path: str, *words: str, given: bytes | None = None) -> bytes:
        assert CURL is not None
        base = self.connecting.base_url.removesuffix("/v1")
        done = subprocess.run(
            [CURL, "-sS", "--max-time", f"{WITHIN:g}", f"{base}{path}", *words],
            input=given,
            capture_output=True,
            timeout=2 * WITHIN,
            check=False,
        )
        self.assertEqual((done.stderr.decode(), done.returncode), ("", 0))
        return done.stdout

    def echoed(self, *words: str) -> dict[str, str]:
        """The fields that the upstream got, by lower-case name."""
        fields: list[list[str]] = json.loads(self.curl("/v1/standin/echo", *words))["headers"]
        return {name.lower(): value for name, value in fields}

    def test_events(self) -> None:
        """curl prints a stream to its end, over plain HTTP and without any option for TLS."""
        body = self.curl("/v1/chat/completions", "-N", "-H", "Content-Type: application/json", "-d", CHAT.decode())
        self.assertTrue(body.endswith(b"data: [DONE]\n\n"))

    def test_big_download(self) -> None:
        """50 MB arrive with every byte."""
        body = self.curl(f"/v1/files/file-generated-{BIG}/content")
        self.assertEqual(len(body), BIG)
        self.assertEqual(hashlib.sha256(body).digest(), hashlib.sha256(PATTERN * (BIG // len(PATTERN))).digest())

    def test_big_upload(self) -> None:
        """50 MB go up with every byte, their length told ahead or not."""
        body = PATTERN * (BIG // len(PATTERN))
        for fields in ((), ("-H", "Transfer-Encoding: chunked")):
            told = json.loads(self.curl("/v1/standin/digest", "-T", "-", *fields, given=body))
            self.assertEqual((told["bytes"], told["sha256"]), (BIG, hashlib.sha256(body).hexdigest()))

    def test_refused(self) -> None:
        """A web page's request, be it of another origin or of a name that was made to lead here, goes nowhere."""
        before = self.standin.stats().requests
        for field, code in (
            ("Host: evil.example", "host_not_allowed"),
            ("Host: 127.0.0.1.evil.example:8088", "host_not_allowed"),
            ("Origin: https://evil.example", "origin_not_allowed"),
            ("Origin: null", "origin_not_allowed"),
            ("Sec-Fetch-Site: cross-site", "origin_not_allowed"),
        ):
            answer = self.curl("/v1/models", "-H", field, "-w", " %{http_code}")
            self.assertTrue(answer.endswith(b" 403"), answer)
            self.assertEqual(json.loads(answer[:-4])["error"]["code"], code)
        self.assertEqual(self.standin.stats().requests, before)
        self.assertIn(b'"list"', self.curl("/v1/models", "-H", "Origin: http://localhost:3000"))


class WebSocketTests(ConnectTestCase):
    def url(self, target: str) -> str:
        return f"{self.connecting.base_url.replace('http', 'ws', 1)}{target}"

    def test_echo(self) -> None:
        """Messages of a WebSocket go both ways, byte for byte, and so does its end."""
        with connect_websocket(self.url("/standin/websocket"), proxy=None, max_size=None) as client:
            for message in ("text", b"\0\xff", "é" * 50_000, PATTERN):
                client.send(message)
                self.assertEqual(client.recv(WITHIN), message)
        self.assertEqual(client.close_code, 1000)

    def test_refused(self) -> None:
        """A page from elsewhere gets no WebSocket."""
        with self.assertRaises(InvalidStatus) as caught:
            connect_websocket(self.url("/standin/websocket"), proxy=None, origin="https://evil.example")  # type: ignore[arg-type]
        self.assertEqual(caught.exception.response.status_code, 403)

    def test_left(self) -> None:
        """A tool that is gone without a word is gone at the upstream, too."""
        aborted = self.standin.stats().aborted
        client = connect_websocket(self.url("/realtime?model=gpt-realtime&standin.endless=1"), proxy=None)
        client.recv(WITHIN)
        client.socket.shutdown(socket.SHUT_RDWR)
        with self.assertRaises(ConnectionClosedError):
            while True:
                client.recv(WITHIN)
        wait_for(lambda: self.standin.stats().aborted == aborted + 1, "the stand-in to be left", SOON)
