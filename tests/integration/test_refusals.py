"""
What the relay refuses, as a client with a good certificate meets it: over mTLS, with the relay as a process.

Each refusal says in words what was wrong, nothing of it reaches the upstream,
and the next good request, on a new connection, is served.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any, ClassVar

from tests.integration.by_hand import ClientByHand
from tests.integration.running import WITHIN, RelayTestCase, Tables, wait_for

HOST = b"Host: localhost\r\n"
MALFORMED = "The request's head is malformed (RFC 9112)"


@dataclass(frozen=True, slots=True)
class Refused:
    """What came back."""

    status: int
    error: dict[str, Any]
    fields: dict[str, str]  #: with lower-case names
    closed: bool  #: the relay has closed the connection, and said so in TLS


class RefusalCase(RelayTestCase):
    """Sends what is bad, and looks what becomes of it."""

    def by_hand(self) -> ClientByHand:
        client = ClientByHand(self.relay)
        self.addCleanup(client.leave)
        return client

    def read(self, client: ClientByHand, method: str = "GET") -> Refused:
        """Read one refusal, and the end of the connection where one was announced."""
        response = HTTPResponse(client.socket, method=method)
        response.begin()
        body = response.read()
        fields = {name.lower(): value for name, value in response.getheaders()}
        self.assertEqual(fields["content-type"], "application/json")
        self.assertRegex(fields["x-relay-request-id"], r"^rly_[0-9a-f]{26}$")
        closed = fields.get("connection") == "close"
        if closed:
            self.assertEqual(client.socket.recv(1), b"")
        error = json.loads(body)["error"] if method != "HEAD" else {}
        return Refused(response.status, error, fields, closed)

    def refused(self, data: bytes, method: str = "GET") -> Refused:
        """Send this on a new connection, and read the refusal."""
        client = self.by_hand()
        client.send(data)
        return self.read(client, method)

    @contextmanager
    def nothing_upstream(self) -> Iterator[None]:
        """Nothing reaches the upstream meanwhile, and afterwards a good request is served."""
        before = self.standin.stats()
        yield
        after = self.standin.stats()
        self.assertEqual((after.requests, after.malformed), (before.requests, before.malformed))
        self.assert_serving()

    def assertRefused(
        self, found: Refused, status: int, code: str, message: str, error_type: str = "invalid_request_error"
    ) -> None:
        self.assertEqual(found.error, {"message": message, "type": error_type, "param": None, "code": code})
        self.assertEqual(found.status, status)


class MalformedTests(RefusalCase):
    """What is no request, or could be read as two."""

    def test_heads(self) -> None:
        """A malformed head is answered 400 with what is wrong about it, and the connection is closed."""
        get = b"GET /v1/models HTTP/1.1\r\n"
        post = b"POST /v1/files HTTP/1.1\r\n" + HOST
        anything = f"{MALFORMED}: check line ends, names and white space."
        no_number = f"{MALFORMED}: Invalid character in Content-Length."
        a_host = "A request must have exactly one Host field."
        a_target = "The request target must be a path, or a URL of this very host."
        cases = [
            (b"GET /v1/models HTTP/1.1\nHost: localhost\n\n", f"{MALFORMED}: check the first byte and the line ends."),
            (get + b"Host: localhost\r\nX: a\rb\r\n\r\n", anything),
            (get + b"Host : localhost\r\n\r\n", anything),
            (get + HOST + b"X-A: 1\r\n folded\r\n\r\n", anything),
            (get + HOST + b"no colon\r\n\r\n", anything),
            (get + HOST + b"X-A: \x01\r\n\r\n", anything),
            (b"GET  /v1/models HTTP/1.1\r\n" + HOST + b"\r\n", anything),
            (b"GET /v1/mod els HTTP/1.1\r\n" + HOST + b"\r\n", anything),
            ("GET /v1/modèles HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), anything),
            (b"GET /v1/models HTTP/2.0\r\n" + HOST + b"\r\n", anything),
            (b"GET /v1/models\r\n\r\n", anything),
            (b"\x16\x03\x01 not even text\r\n\r\n", anything),
            (get + b"\r\n", a_host),
            (get + HOST + HOST + b"\r\n", a_host),
            (get + b"Host: local host\r\n\r\n", "The Host field is not a host name with an optional port."),
            (b"GET http://evil.example/v1/models HTTP/1.1\r\n" + HOST + b"\r\n", a_target),
            (b"GET v1/models HTTP/1.1\r\n" + HOST + b"\r\n", f"{MALFORMED}: Unexpected char in url schema."),
            (post + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", f"{MALFORMED}: Duplicate Content-Length."),
            (post + b"Content-Length: 5, 5\r\n\r\nhello", no_number),
            (post + b"Content-Length: +5\r\n\r\nhello", no_number),
            (post + b"Content-Length: 0x5\r\n\r\nhello", no_number),
            (
                post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                f"{MALFORMED}: Transfer-Encoding can't be present with Content-Length.",
            ),
            (
                post + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                "The only Transfer-Encoding that the relay accepts is: chunked.",
            ),
            (
                b"POST /v1/files HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "Transfer-Encoding is not part of HTTP/1.0.",
            ),
        ]
        with self.nothing_upstream():
            found = [self.refused(data) for data, _ in cases]
        self.assertEqual([each.error["message"] for each in found], [message for _, message in cases])
        for each in found:
            self.assertRefused(each, 400, "malformed_request", each.error["message"])
            self.assertTrue(each.closed)

    def test_smuggled_request(self) -> None:
        """What stands behind a malformed request is served to nobody."""
        smuggled = b"GET /v1/models HTTP/1.1\r\n" + HOST + b"\r\n"
        with self.nothing_upstream():
            found = self.refused(
                b"POST /v1/files HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"0\r\n\r\n" + smuggled * 10
            )
        self.assertEqual((found.status, found.closed), (400, True))

    def test_chunks(self) -> None:
        """A malformed chunked body is answered 400, and the upstream never takes what came of it for a whole."""
        head = b"POST /v1/files HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        with self.nothing_upstream():
            for body in (b"x\r\n", b"-5\r\nhello\r\n", b"5 \r\nhello\r\n", b"5\nhello\n", b"5\r\nhello!\r\n0\r\n\r\n"):
                found = self.refused(head + body)
                message = "The request's chunked body is malformed (RFC 9112 §7.1)."
                self.assertRefused(found, 400, "malformed_request", message)
                self.assertTrue(found.closed)

    def test_chunk_in_the_middle(self) -> None:
        """A chunk that is malformed after others were good is answered 400, and the upstream sees an aborted upload."""
        before = self.standin.stats()
        client = self.by_hand()
        client.send(b"POST /v1/files HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        wait_for(lambda: self.standin.stats().open > before.open, "the upload to begin")
        client.send(b"nonsense\r\n")
        found = self.read(client)
        self.assertEqual((found.status, found.error["code"], found.closed), (400, "malformed_request", True))
        wait_for(lambda: self.standin.stats().aborted > before.aborted, "the upload to be aborted")
        self.assertEqual(self.standin.stats().finished, before.finished)
        self.assert_serving()

    def test_too_large_a_head(self) -> None:
        """A head of more than 64 KiB is answered 431, whether its end ever comes or not."""
        start = b"GET /v1/models HTTP/1.1\r\n" + HOST
        with self.nothing_upstream():
            for data in (
                start + b"X-Large: " + b"x" * 70_000 + b"\r\n\r\n",
                start + b"X-Many: x\r\n" * 10_000 + b"\r\n",
                b"GET /v1/" + b"x" * 100_000,
            ):
                found = self.refused(data)
                self.assertRefused(found, 431, "head_too_large", "The request's header fields are too large.")
                self.assertTrue(found.closed)

    def test_expectations(self) -> None:
        """An expectation that nobody knows is answered 417."""
        with self.nothing_upstream():
            found = self.refused(b"GET /v1/models HTTP/1.1\r\n" + HOST + b"Expect: the-unexpected\r\n\r\n")
        message = "The relay supports no expectation but 100-continue."
        self.assertRefused(found, 417, "expectation_failed", message)


class NotForwardedTests(RefusalCase):
    """Requests that are well-formed, and that this relay does not forward."""

    def refuse(self, method: str, target: str, fields: bytes = b"") -> Refused:
        return self.refused(f"{method} {target} HTTP/1.1\r\n".encode() + HOST + fields + b"\r\n", method)

    def test_paths(self) -> None:
        """A path outside the allowed ones is 403, in any disguise; the message says what is allowed."""
        message = "The relay does not allow this path. It forwards: /v1/"
        with self.nothing_upstream():
            for target in (
                "/",
                "/v1beta/models",
                "/V1/models",
                "/dashboard?next=/v1/",
                "/v1/../dashboard",
                "/v1/%2e%2e/dashboard",
                "/v1/%252e%252e/dashboard",
                "/v1/..%2fdashboard",
                "/v1/.;x=1/../dashboard",
                "/v1/x/../../dashboard",
                "//dashboard",
            ):
                self.assertRefused(self.refuse("GET", target), 403, "path_not_allowed", message)

    def test_denied_paths(self) -> None:
        """The administration of the organization is denied, in any disguise."""
        message = "The relay does not allow this path: its operator has denied it."
        with self.nothing_upstream():
            for target in (
                "/v1/organization",
                "/v1/organization/users",
                "/v1/Organization/users",
                "/v1//organization/users",
                "/v1/./organization/users",
                "/v1/models/../organization/users",
                "/v1/models/%2e%2e/organization/users",
                "/v1/%6frganization/users",
                "/v1/%256frganization/users",
                "/v1/organization%2fusers",
                "/v1/organization;x/users",
            ):
                self.assertRefused(self.refuse("POST", target), 403, "path_not_allowed", message)

    def test_bad_targets(self) -> None:
        """A target that is no path is 400, with what is wrong about it."""
        cases = {
            "/v1/models%zz": "The request path holds a % that is not followed by two hexadecimal digits.",
            "/v1/models%00": "The request path holds an encoded control character.",
            "/v1/models%ff": "The request path holds encoded bytes that are not UTF-8.",
            "/v1\\models": "The request target holds a character that must be percent-encoded "
            "(a space, a backslash, a #, a control character, or one outside ASCII).",
        }
        with self.nothing_upstream():
            for target, message in cases.items():
                self.assertRefused(self.refuse("GET", target), 400, "malformed_request", message)

    def test_methods(self) -> None:
        """TRACE and CONNECT are 405; a method that nobody knows is 501."""
        message = "The relay does not forward this method."
        with self.nothing_upstream():
            self.assertRefused(self.refuse("TRACE", "/v1/models"), 405, "method_not_allowed", message)
            self.assertRefused(self.refuse("CONNECT", "api.openai.com:443"), 405, "method_not_allowed", message)
            found = self.refuse("BREW", "/v1/models")
        self.assertRefused(found, 501, "method_not_implemented", "The relay does not know this method.")

    def test_upgrade(self) -> None:
        """An upgrade to anything but WebSocket is 501, and SDKs are told not to try again."""
        with self.nothing_upstream():
            found = self.refuse("GET", "/v1/models", b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c\r\n")
        message = "The relay carries no protocol upgrade but WebSocket."
        self.assertRefused(found, 501, "upgrade_not_supported", message)
        self.assertEqual(found.fields["x-should-retry"], "false")

    def test_connection_goes_on(self) -> None:
        """A refusal that is about one request leaves the connection to the next."""
        client = self.by_hand()
        client.request("GET", "/nowhere")
        self.assertFalse(self.read(client).closed)
        client.request("GET", "/v1/models")
        answer = client.answer()
        self.assertEqual((answer.status, json.loads(answer.read())["object"]), (200, "list"))

    def test_large_refused_upload(self) -> None:
        """A client that is still sending a large body when it is refused reads the refusal, and no reset."""
        client = self.by_hand()
        client.send(b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Content-Length: 8000000\r\n\r\n")
        for _ in range(80):
            client.send(b"x" * 100_000)
        with self.nothing_upstream():
            found = self.read(client, "POST")
        self.assertEqual((found.status, found.closed), (403, True))

    def test_line_in_the_log(self) -> None:
        """A refusal leaves one line: who, what, and why."""
        start = self.relay.lines_until_now()
        self.refuse("GET", "/nowhere?secret=1")
        (line,) = self.relay.lines_after(start)
        self.assertEqual(
            {key: line[key] for key in ("client", "method", "path", "status", "upstream_status", "end", "error")},
            {
                "client": "alice",
                "method": "GET",
                "path": "/nowhere",
                "status": 403,
                "upstream_status": None,
                "end": "refused",
                "error": "path_not_allowed",
            },
        )


class RateTests(RefusalCase):
    """The limit of requests: two at once, one a minute."""

    configuration: ClassVar[Tables] = {"limits": {"requests_per_minute": 1, "burst": 2}}

    def test_over_the_limit(self) -> None:
        """The third of two is 429 with a wait of at most a minute; nothing of it reaches the upstream."""
        for remaining in ("1", "0"):
            connection = self.connect()
            connection.request("GET", "/v1/models")
            answer = connection.getresponse()
            answer.read()
            self.assertEqual((answer.status, answer.headers["x-ratelimit-limit-requests"]), (200, "2"), answer.headers)
            self.assertEqual(answer.headers["x-ratelimit-remaining-requests"], remaining)
        before = self.standin.stats().requests
        found = self.refused(b"GET /v1/models HTTP/1.1\r\n" + HOST + b"\r\n")
        self.assertEqual(self.standin.stats().requests, before)
        waited = re.fullmatch(
            r"Rate limit reached for requests: 1 per minute for this client\. Please try again in (.+)\.",
            found.error["message"],
        )
        assert waited is not None, found.error
        self.assertRegex(waited[1], r"^(1m0s|[0-9.]+s)$")
        self.assertEqual((found.status, found.error["type"]), (429, "requests"))
        self.assertEqual(found.error["code"], "rate_limit_exceeded")
        self.assertTrue(0 < int(found.fields["retry-after-ms"]) <= 60_000)
        self.assertTrue(0 < int(found.fields["retry-after"]) <= 60)
        self.assertEqual(found.fields["x-ratelimit-remaining-requests"], "0")
        self.assertFalse(found.closed)


class ConcurrencyTests(RefusalCase):
    """The limit of open exchanges: two."""

    configuration: ClassVar[Tables] = {"limits": {"concurrent": 2}}

    def test_over_the_limit(self) -> None:
        """The third at once is 429; as soon as one of the two is given up, a request is served again."""
        open_before = self.standin.stats().open
        waiting = [self.by_hand() for _ in range(2)]
        for client in waiting:
            client.request("GET", "/v1/models?standin.hang=1")
        wait_for(lambda: self.standin.stats().open == open_before + 2, "both to reach the upstream")
        before = self.standin.stats().requests
        found = self.refused(b"GET /v1/models HTTP/1.1\r\n" + HOST + b"\r\n")
        self.assertEqual(self.standin.stats().requests, before)
        message = (
            "Concurrency limit reached: 2 open at once for this client. "
            "Please try again in 1s, or when one of them has ended."
        )
        self.assertRefused(found, 429, "concurrency_limit_exceeded", message, "requests")
        self.assertEqual((found.fields["retry-after-ms"], found.fields["retry-after"]), ("1000", "1"))
        waiting[0].leave()
        wait_for(self.served, "the place to be given back", WITHIN)

    def served(self) -> bool:
        return self.ask("GET", "/v1/models")[0] == 200
