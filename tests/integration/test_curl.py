"""curl as a client: what can be asked for from a shell, and what HTTP has beside SDKs."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
from unittest import skipUnless

from tests.integration.running import WITHIN, RelayTestCase, wait_for

CURL = shutil.which("curl")
CHAT = '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Name three rivers."}]}'
STREAM = CHAT.replace('"messages"', '"stream":true,"messages"')
JSON = ("-H", "Content-Type: application/json")


@skipUnless(CURL, "curl is not installed")
class CurlTestCase(RelayTestCase):
    def command(self, *arguments: str) -> list[str]:
        """The command line with what every call needs; the first argument is the path."""
        assert CURL is not None
        path, *rest = arguments
        return [
            *(CURL, "--silent", "--show-error", "--max-time", f"{WITHIN:g}", "--cacert", str(self.site.ca)),
            *("--cert", str(self.site.file("client.pem")), "--key", str(self.site.file("client.key"))),
            *(f"{self.relay.url}{path}", *rest),
        ]

    def curl(self, *arguments: str, given: bytes | None = None) -> bytes:
        """Run it; returns what it printed."""
        done = subprocess.run(
            self.command(*arguments), input=given, capture_output=True, timeout=2 * WITHIN, check=False
        )
        self.assertEqual((done.stderr.decode(), done.returncode), ("", 0))
        return done.stdout

    def curl_with_head(self, *arguments: str) -> tuple[str, bytes]:
        """Run it; returns the last head of the answer and its body."""
        head, _, body = self.curl(*arguments, "--include").partition(b"\r\n\r\n")
        return head.decode("latin-1"), body


class AnswerTests(CurlTestCase):
    def test_whole(self) -> None:
        """A unary answer comes with its length, over HTTP/1.1, and the connection is kept."""
        head, body = self.curl_with_head("/v1/chat/completions", *JSON, "-d", CHAT)
        self.assertTrue(head.startswith("HTTP/1.1 200 OK\r\n"), head)
        self.assertIn(f"\r\nContent-Length: {len(body)}", head)
        self.assertNotRegex(head.lower(), r"(?m)^(connection|transfer-encoding|keep-alive):")
        self.assertIn("three rivers", json.loads(body)["choices"][0]["message"]["content"])

    def test_connection_is_kept(self) -> None:
        """Several requests of one client go over one connection."""
        again = (f"{self.relay.url}/v1/models", "-o", os.devnull, "-o", os.devnull)
        self.assertEqual(self.curl("/v1/models", *again, "-w", "%{num_connects} "), b"1 0 ")

    def test_events(self) -> None:
        """A stream is printed event by event to its ``[DONE]``."""
        head, body = self.curl_with_head("/v1/chat/completions", "-N", *JSON, "-d", STREAM)
        self.assertIn("\r\nTransfer-Encoding: chunked", head)
        self.assertIn("\r\nX-Accel-Buffering: no", head)
        events = body.decode().split("\n\n")
        self.assertEqual(events.pop(), "")
        self.assertEqual(events.pop(), "data: [DONE]")
        self.assertTrue(all(json.loads(event.removeprefix("data: "))["choices"] for event in events))

    def test_stream_without_an_end(self) -> None:
        """Events are printed while the upstream goes on sending: none waits for the end."""
        command = self.command(
            "/v1/chat/completions?standin.endless=1&standin.interval_ms=5", "-N", *JSON, "-d", STREAM
        )
        before = self.standin.stats().aborted
        with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
            assert curl.stdout is not None
            events = [curl.stdout.readline() for _ in range(10)]
            curl.kill()
        self.assertEqual([line[:7] for line in events[:4]], [b"data: {", b"\n", b"data: {", b"\n"])
        wait_for(lambda: self.standin.stats().aborted > before, "the stand-in to be left")

    def test_head(self) -> None:
        """HEAD gets the fields of an answer and no body, and the next request on the connection is answered."""
        told = self.curl(
            "/v1/models", "--head", "--next", *self.command("/v1/models", "--write-out", "%{num_connects}")[1:]
        ).decode()
        head, _, rest = told.partition("\r\n\r\n")
        self.assertTrue(head.startswith("HTTP/1.1 200 OK\r\n"), head)
        length = re.search(r"\r\nContent-Length: (\d+)", head)
        assert length is not None
        self.assertTrue(rest.endswith("0"), rest)
        self.assertEqual(len(rest) - 1, int(length[1]))

    def test_compressed(self) -> None:
        """A compressed answer is passed on as it is, and the client unpacks it."""
        plain = self.curl("/v1/models")
        head, packed = self.curl_with_head("/v1/models?standin.gzip=1", "-H", "Accept-Encoding: gzip")
        self.assertIn("\r\nContent-Encoding: gzip", head)
        self.assertEqual(gzip.decompress(packed), plain)
        self.assertEqual(self.curl("/v1/models?standin.gzip=1", "--compressed"), plain)

    def test_compressed_stream(self) -> None:
        """So is a compressed stream."""
        events = self.curl(
            "/v1/chat/completions?standin.gzip=1&standin.events=50", "-N", "--compressed", *JSON, "-d", STREAM
        )
        self.assertTrue(events.endswith(b"data: [DONE]\n\n"))

    def test_nothing_is_asked_for_that_the_client_did_not_ask(self) -> None:
        """What curl sends arrives as curl sent it: no coding is added, no field is changed, credentials aside."""
        told = json.loads(
            self.curl(
                "/v1/any%20thing?b=2&a=%2f&standin.echo=1",
                *("-X", "PROPFIND", "-H", "X-Odd-CASE:  spaced  ", "-H", "x-twice: 1", "-H", "x-twice: 2"),
                *("-H", "Authorization: Bearer mine", "-H", "User-Agent:", "-H", "Accept:", "-d", "body"),
            )
        )
        self.assertEqual((told["method"], told["target"]), ("PROPFIND", "/v1/any%20thing?b=2&a=%2f&standin.echo=1"))
        self.assertEqual(told["body"]["text"], "body")
        self.assertIs(told["expected_key"], True)
        names = [name for name, _ in told["fields"]]
        self.assertEqual(
            names,
            [
                *("Host", "X-Odd-CASE", "x-twice", "x-twice", "Authorization"),
                *("Content-Length", "Content-Type", "X-Client-Request-Id"),
            ],
        )
        self.assertIn(["X-Odd-CASE", "spaced"], told["fields"])
        self.assertIn(["Host", f"127.0.0.1:{self.standin.port}"], told["fields"])

    def test_http_1_0(self) -> None:
        """A client of HTTP/1.0 gets whole answers as ever."""
        head, body = self.curl_with_head("/v1/models", "--http1.0")
        self.assertIn(f"\r\nContent-Length: {len(body)}", head)
        self.assertEqual(json.loads(body)["object"], "list")

    def test_http_1_0_stream(self) -> None:
        """To a client of HTTP/1.0 a stream comes unchunked, and ends with the connection."""
        head, body = self.curl_with_head("/v1/chat/completions", "--http1.0", "-N", *JSON, "-d", STREAM)
        self.assertNotIn("transfer-encoding", head.lower())
        self.assertIn("\r\nConnection: close", head)
        self.assertTrue(body.startswith(b"data: {"))
        self.assertTrue(body.endswith(b"\n\ndata: [DONE]\n\n"))


class UploadTests(CurlTestCase):
    def setUp(self) -> None:
        self.content = os.urandom(3_000_017)
        self.sha256 = hashlib.sha256(self.content).hexdigest()
        self.file = self.site.file("upload.bin")
        self.file.write_bytes(self.content)

    def assert_arrived(self, told: bytes) -> None:
        answer = json.loads(told)
        self.assertEqual((answer["bytes"], answer["sha256"]), (len(self.content), self.sha256))

    def test_form(self) -> None:
        """A file in a form arrives to the byte."""
        self.assert_arrived(self.curl("/v1/files", "-F", "purpose=user_data", "-F", f"file=@{self.file}"))

    def test_length_known(self) -> None:
        """A body with a length arrives to the byte, and with that length."""
        self.assert_arrived(self.curl("/v1/standin/digest", "--data-binary", f"@{self.file}"))
        told = json.loads(self.curl("/v1/standin/echo", "--data-binary", "four"))
        self.assertEqual((told["content_length"], told["chunked"], told["body"]["text"]), (4, False, "four"))

    def test_chunked(self) -> None:
        """A body without a length arrives to the byte, and without a length."""
        chunked = ("-H", "Transfer-Encoding: chunked", "--data-binary")
        self.assert_arrived(self.curl("/v1/standin/digest", *chunked, f"@{self.file}"))
        told = json.loads(self.curl("/v1/standin/echo", *chunked, "four"))
        self.assertEqual((told["content_length"], told["chunked"], told["body"]["text"]), (None, True, "four"))

    def test_standard_input(self) -> None:
        """What a pipe gives is sent on as it comes."""
        self.assert_arrived(self.curl("/v1/standin/digest", "-T", "-", "-X", "PUT", given=self.content))

    def test_continue(self) -> None:
        """A client that waits for leave to send its body gets it from the upstream, and the upstream gets the body."""
        done = subprocess.run(
            self.command(
                "/v1/standin/digest",
                *("-H", "Expect: 100-continue", "--expect100-timeout", f"{WITHIN:g}", "--verbose"),
                *("--data-binary", f"@{self.file}"),
            ),
            capture_output=True,
            timeout=2 * WITHIN,
            check=True,
        )
        self.assertIn(b"\n< HTTP/1.1 100 Continue", done.stderr)
        self.assert_arrived(done.stdout)

    def test_refused_instead_of_continued(self) -> None:
        """A body that waits for leave is not sent when the relay refuses the request."""
        before = self.relay.lines_until_now()
        told = json.loads(
            self.curl(
                "/v2/anything",
                *("-H", "Expect: 100-continue", "--expect100-timeout", f"{WITHIN:g}"),
                *("--data-binary", f"@{self.file}"),
            )
        )
        self.assertEqual(told["error"]["code"], "path_not_allowed")
        (line,) = self.relay.lines_after(before)
        self.assertEqual((line["end"], line["status"], line["bytes_in"]), ("refused", 403, 0))
