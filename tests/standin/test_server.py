"""Whole exchanges, in memory and in virtual time."""

from __future__ import annotations

import gzip
import hashlib
import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.settings import Secret
from openai_relay.standin.pump import NEXT_TURN, PER_TURN
from openai_relay.standin.server import StandInOptions
from tests.standin.asking import BOUNDARY, InMemory, multipart, parse_answer, parse_events

CHAT = "/v1/chat/completions"
STREAM = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "stream": True}
UNARY = STREAM | {"stream": False}


class ServerTests(SynchronousTestCase):
    options = StandInOptions()

    def setUp(self) -> None:
        self.standin = InMemory(self.options)
        self.client = self.standin.connect()
        self.clock = self.standin.clock
        self.counters = self.standin.counters

    def error(self, answered: Any) -> dict[str, Any]:
        told: dict[str, Any] = answered.json()["error"]
        self.assertEqual(set(told), {"message", "type", "param", "code"})
        return told


class OrdinaryTests(ServerTests):
    """Requests that ask for nothing special."""

    def test_unary(self) -> None:
        """A unary answer has its length, its type and the fields of the API, and the connection stays."""
        for number in (1, 2):
            answered = self.client.post(CHAT, UNARY)
            self.assertEqual((answered.status, answered.reason, answered.complete), (200, "OK", True))
            self.assertEqual(answered["content-type"], "application/json")
            self.assertEqual(answered["x-request-id"], f"req_{number:032x}")
            self.assertEqual(answered.rest, b"")

    def test_stream(self) -> None:
        """A stream is chunked, is an event stream, and ends as it should."""
        answered = self.client.post(CHAT, STREAM)
        self.assertTrue(answered["content-type"].startswith("text/event-stream"))
        self.assertTrue(answered.complete)
        self.assertEqual(parse_events(answered.body)[-1], (None, "[DONE]"))
        self.assertEqual(self.client.post(CHAT, UNARY).status, 200)

    def test_head(self) -> None:
        """HEAD has the fields of GET and no body."""
        got, asked = self.client.ask("GET", "/v1/models"), self.client.ask("HEAD", "/v1/models")
        self.assertEqual(asked["content-length"], got["content-length"])
        self.assertEqual(asked.body, b"")

    def test_upload(self) -> None:
        """A form is taken apart on the way in, and what was stored comes back."""
        body = multipart(("purpose", None, b"user_data"), ("file", "a.txt", b"hello"))
        kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
        stored = self.client.ask("POST", "/v1/files", kind, body=body).json()
        self.assertEqual(self.client.ask("GET", f"/v1/files/{stored['id']}/content").body, b"hello")
        self.assertEqual(self.client.ask("DELETE", f"/v1/files/{stored['id']}").json()["deleted"], True)
        self.assertEqual(self.client.ask("GET", f"/v1/files/{stored['id']}").status, 404)

    def test_digest(self) -> None:
        """A body of any kind is counted and hashed."""
        answered = self.client.ask("PUT", "/v1/standin/digest", body=b"x" * 100_000)
        told = {"bytes": 100_000, "sha256": hashlib.sha256(b"x" * 100_000).hexdigest()}
        self.assertEqual(answered.json(), {"object": "standin.digest"} | told)

    def test_no_key(self) -> None:
        """Without a key, or with another scheme, the answer is 401 in the API's shape."""
        for fields in ((), ("Authorization: Basic eDp5",)):
            answered = self.client.ask("GET", "/v1/models", *fields, key="")
            self.assertEqual(answered.status, 401)
            self.assertEqual(self.error(answered)["type"], "invalid_request_error")

    def test_unknown_path(self) -> None:
        """An unknown path is 404, a wrong method 405, in the API's shape."""
        self.assertEqual(self.error(self.client.ask("GET", "/v1/nothing"))["code"], "unknown_url")
        answered = self.client.ask("DELETE", "/v1/models")
        self.assertEqual((answered.status, answered["allow"]), (405, "GET"))

    def test_wrong_json(self) -> None:
        """A body that is not JSON, or not of the right shape, is 400 in the API's shape."""
        self.assertEqual(self.client.ask("POST", CHAT, body=b"{").status, 400)
        answered = self.client.post(CHAT, {"model": 3})
        self.assertEqual((answered.status, self.error(answered)["param"]), (400, "model"))

    def test_wrong_control(self) -> None:
        """A misspelt control is 400 with a suggestion, and the connection stays."""
        answered = self.client.post(CHAT + "?standin.evens=3", UNARY)
        self.assertIn("standin.events", self.error(answered)["message"])
        self.assertEqual(self.client.post(CHAT, UNARY).status, 200)

    def test_malformed_request(self) -> None:
        """What is not HTTP gets 400 and a closed connection, and counts as no request."""
        self.client.send(b"GET / HTTP/1.1\nHost: x\r\n\r\n")
        answered = self.client.answered()
        self.assertEqual((answered.status, answered["connection"]), (400, "close"))
        self.assertEqual((self.counters.malformed, self.counters.requests), (1, 0))

    def test_malformed_chunks(self) -> None:
        """A chunked body that breaks its framing gets 400 and a closed connection."""
        self.client.request("POST", "/v1/standin/digest", "Transfer-Encoding: chunked")
        self.client.send(b"zz\r\n")
        self.assertEqual(self.client.answered().status, 400)
        self.assertEqual(self.client.answered()["connection"], "close")

    def test_short_refused_body_keeps_the_connection(self) -> None:
        """A refusal waits for the rest of a short body, so that the connection can go on."""
        body = b"x" * 1_000
        self.client.send(b"POST /v1/nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n" + body[:10])
        self.assertEqual(self.client.transport.value(), b"")
        self.client.send(body[10:])
        self.assertEqual(self.client.answered().status, 404)
        self.assertEqual(self.client.post(CHAT, UNARY).status, 200)

    def test_long_refused_body_does_not(self) -> None:
        """A refusal does not wait for a long body, nor for one that its client is not sending yet."""
        for more in ("Content-Length: 99999999", "Content-Length: 10\r\nExpect: 100-continue"):
            client = self.standin.connect()
            client.send(f"POST /v1/nothing HTTP/1.1\r\nHost: h\r\n{more}\r\n\r\n".encode())
            self.assertEqual((client.answered().status, client.answered()["connection"]), (404, "close"))

    def test_pipelined(self) -> None:
        """Requests sent ahead are answered in their order."""
        for target in ("/v1/models/gpt-4o", "/v1/models/gpt-5"):
            self.client.request("GET", target)
        first = self.client.answered()
        self.assertEqual([first.json()["id"], parse_answer(first.rest).json()["id"]], ["gpt-4o", "gpt-5"])


class PacedTests(ServerTests):
    """Pace and size on demand."""

    def test_interval(self) -> None:
        """Events come one by one in their interval, and nothing comes ahead of time."""
        self.client.post(CHAT + "?standin.events=3&standin.interval_ms=100", STREAM)
        counts = []
        for _ in range(6):
            counts.append(self.client.answered().body.count(b"data: "))
            self.clock.advance(0.1)
        self.assertEqual(counts, [1, 2, 3, 4, 5, 6])
        self.assertTrue(self.client.answered().complete)

    def test_by_field(self) -> None:
        """The same can be asked for in request fields."""
        answered = self.client.post(CHAT, STREAM, "X-Standin-Events: 7", "x-standin-event-bytes: 3")
        self.assertEqual(answered.body.count(b"data: "), 7 + 3)

    def test_delay(self) -> None:
        """The head can be late."""
        self.client.request("GET", "/v1/models?standin.delay_ms=2000")
        self.clock.advance(1.9)
        self.assertEqual(self.client.transport.value(), b"")
        self.clock.advance(0.1)
        self.assertEqual(self.client.answered()["openai-processing-ms"], "2000")

    def test_first_byte(self) -> None:
        """The body can be late while the head is not."""
        for method, target, body in (("GET", "/v1/models", None), ("POST", CHAT, json.dumps(STREAM).encode())):
            client = self.standin.connect()
            client.request(method, target, "x-standin-first-byte-ms: 2000", body=body)
            self.assertEqual((client.answered().status, client.answered().body), (200, b""))
            self.clock.advance(2)
            self.assertTrue(client.answered().complete)

    def test_download_of_any_length(self) -> None:
        """Generated content has its length and its bytes, and goes on in the next turns."""
        self.client.request("GET", "/v1/standin/bytes?standin.bytes=3000000")
        self.assertLess(len(self.client.answered().body), 2 * PER_TURN)
        self.clock.pump([NEXT_TURN] * 3)
        answered = self.client.answered()
        self.assertEqual(answered["content-length"], "3000000")
        self.assertEqual(answered.body, bytes(place % 256 for place in range(3_000_000)))

    def test_back_pressure(self) -> None:
        """A client that does not read stops the generation, however long it takes."""
        self.client.request("GET", "/v1/standin/bytes?standin.endless=1")
        producer = self.client.transport.producer
        assert producer is not None
        producer.pauseProducing()
        before = len(self.client.transport.value())
        self.clock.pump([1] * 100)
        self.assertEqual(len(self.client.transport.value()), before)
        producer.resumeProducing()
        self.clock.advance(NEXT_TURN)
        self.assertGreater(len(self.client.transport.value()), before)

    def test_default_interval(self) -> None:
        """A stand-in may pace all its streams; a request can still ask for another pace."""
        standin = InMemory(StandInOptions(interval_ms=50))
        client = standin.connect()
        self.assertEqual(client.post(CHAT, STREAM).body.count(b"data: "), 1)
        self.assertTrue(standin.connect().post(CHAT + "?standin.interval_ms=0", STREAM).complete)
        self.assertTrue(standin.connect().post(CHAT, UNARY).complete)

    def test_form_of_the_answer(self) -> None:
        """Status, reason, fields, framing and compression can be asked for."""
        answered = self.client.ask("GET", "/v1/models?standin.status=203&standin.reason=So%20so&standin.field=X-a:%20b")
        self.assertEqual((answered.status, answered.reason, answered["x-a"]), (203, "So so", "b"))
        answered = self.client.ask("GET", "/v1/models?standin.chunked=1")
        self.assertEqual(answered["transfer-encoding"], "chunked")
        self.assertEqual(answered.json()["object"], "list")
        plain = self.client.ask("GET", "/v1/models").body
        for more in ("", "&standin.chunked=1"):
            answered = self.client.ask("GET", "/v1/models?standin.gzip=1" + more)
            self.assertEqual((answered["content-encoding"], gzip.decompress(answered.body)), ("gzip", plain))
        answered = self.client.post(CHAT + "?standin.gzip=1", STREAM)
        self.assertEqual(parse_events(gzip.decompress(answered.body))[-1], (None, "[DONE]"))

    def test_no_content(self) -> None:
        """A status without a body has neither body nor length."""
        answered = self.client.ask("GET", "/v1/models?standin.status=204")
        self.assertEqual((answered.status, answered.rest, answered.body), (204, b"", b""))
        self.assertNotIn("content-length", answered)
        self.assertEqual(self.client.ask("GET", "/v1/models").status, 200)

    def test_close(self) -> None:
        """The connection can be ended after an answer that is whole."""
        answered = self.client.ask("GET", "/v1/models?standin.close=1")
        self.assertEqual((answered["connection"], answered.complete), ("close", True))
        self.assertTrue(self.client.transport.disconnecting)

    def test_early(self) -> None:
        """An answer can come before the body of its request."""
        self.client.request("POST", "/v1/standin/digest?standin.early=1", "Content-Length: 1000")
        self.assertEqual(self.client.answered().json()["bytes"], 0)

    def test_echo_anywhere(self) -> None:
        """Any path can be asked to tell what it received."""
        answered = self.client.ask("PATCH", "/v1/none/such?standin.echo=1&x=1", "X-one: 1", body=b"hello")
        told = answered.json()
        self.assertEqual((told["method"], told["target"]), ("PATCH", "/v1/none/such?standin.echo=1&x=1"))
        self.assertIn(["X-one", "1"], told["fields"])
        self.assertEqual((told["content_length"], told["body"]["text"]), (5, "hello"))

    def test_echo_of_chunks(self) -> None:
        """A chunked body is told with its length, its hash and its trailers."""
        self.client.request("POST", "/v1/standin/echo", "Transfer-Encoding: chunked")
        self.client.send(b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 9\r\n\r\n")
        told = self.client.answered().json()
        self.assertEqual((told["chunked"], told["body"]["text"], told["trailers"]), (True, "abcde", [["X-Sum", "9"]]))


class FailingTests(ServerTests):
    """Failures on demand."""

    def test_rate_limit(self) -> None:
        """A 429 comes with the waits that the SDKs obey."""
        answered = self.client.post(CHAT + "?standin.status=429&standin.retry_after_ms=250", UNARY)
        self.assertEqual((answered.status, answered.reason), (429, "Too Many Requests"))
        self.assertEqual((answered["retry-after-ms"], answered["retry-after"]), ("250", "1"))
        self.assertEqual(self.error(answered)["code"], "rate_limit_exceeded")

    def test_other_errors(self) -> None:
        """Any status and code can be asked for, and the connection stays."""
        for status in (400, 401, 403, 404, 409, 413, 500, 502, 503):
            answered = self.client.post(
                f"{CHAT}?standin.status={status}&standin.code=odd&standin.should_retry=0", UNARY
            )
            self.assertEqual((answered.status, self.error(answered)["code"]), (status, "odd"))
            self.assertEqual(answered["x-should-retry"], "false")

    def test_fails_then_succeeds(self) -> None:
        """The first requests with a key fail, the ones after it succeed, and other keys are counted apart."""
        target = "/v1/models?standin.fail_times=2&standin.status=429"
        statuses = [self.client.ask("GET", target, f"x-standin-key: {key}").status for key in "aabab"]
        self.assertEqual(statuses, [429, 429, 429, 200, 429])
        self.assertEqual(self.client.ask("GET", "/v1/models?standin.fail_times=1").status, 500)

    def test_cut_stream(self) -> None:
        """A stream can be cut after some events: they arrive, and its end does not."""
        answered = self.client.post(CHAT + "?standin.cut_after=2", STREAM)
        self.assertEqual((answered.status, answered.complete), (200, False))
        self.assertEqual(answered.body.count(b"data: "), 2)
        self.assertTrue(self.client.transport.disconnecting)
        self.assertEqual((self.counters.cut, self.counters.finished), (1, 0))

    def test_cut_body(self) -> None:
        """A body with a length can be cut before it is reached, even before its first byte."""
        for more, length in (("cut_after_bytes=10", 10), ("cut_after=0", 0)):
            client = self.standin.connect()
            answered = client.ask("GET", f"/v1/models?standin.{more}")
            self.assertEqual((answered.complete, len(answered.body)), (False, length))
            self.assertTrue(client.transport.disconnecting)

    def test_cut_in_head(self) -> None:
        """The connection can end before the head does."""
        self.client.request("GET", "/v1/models?standin.cut_in_head=1")
        self.assertEqual(self.client.transport.value(), b"HTTP/1.1 200 O")
        self.assertTrue(self.client.transport.disconnecting)
        self.assertEqual((self.counters.cut, self.counters.by_status), (1, {}))

    def test_hang(self) -> None:
        """A request can be left without an answer, until its client leaves."""
        self.client.request("GET", "/v1/models?standin.hang=1")
        self.clock.advance(3_000)
        self.assertEqual((self.client.transport.value(), self.counters.open), (b"", 1))
        self.client.leave()
        self.assertEqual((self.counters.open, self.counters.aborted), (0, 1))


class LeavingTests(ServerTests):
    """Clients that leave."""

    def left(self) -> None:
        self.client.leave()
        self.assertEqual((self.counters.open, self.counters.aborted, self.counters.finished), (0, 1, 0))

    def test_in_the_body(self) -> None:
        """A client that leaves while it sends is counted."""
        self.client.request("POST", "/v1/standin/digest", "Content-Length: 1000")
        self.client.send(b"x" * 10)
        self.left()

    def test_in_the_delay(self) -> None:
        """A client that leaves before the head leaves no timer behind."""
        self.client.request("GET", "/v1/models?standin.delay_ms=1000000")
        self.left()
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_in_the_stream(self) -> None:
        """A client that leaves an endless stream ends it."""
        self.client.post(CHAT + "?standin.endless=1&standin.interval_ms=10", STREAM)
        self.clock.pump([0.01] * 5)
        self.left()
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertGreater(self.counters.bytes_sent, 0)


class CountingTests(ServerTests):
    """The numbers, and the key."""

    options = StandInOptions(expected_key=Secret(b"sk-right"))

    def stats(self) -> dict[str, Any]:
        told: dict[str, Any] = self.client.ask("GET", "/standin/stats", key="").json()
        return told

    def test_nothing_came(self) -> None:
        """Asking for the numbers needs no key and does not change them."""
        self.assertEqual(self.stats(), self.stats())
        self.assertEqual((self.stats()["requests"], self.stats()["by_path"]), (0, {}))

    def test_numbers(self) -> None:
        """Requests are counted by route and status, and bytes of bodies both ways."""
        self.client.ask("POST", "/v1/standin/digest", body=b"12345", key="sk-right")
        for identifier in "ab":
            self.client.ask("GET", f"/v1/files/{identifier}", key="sk-right")
        self.client.ask("GET", "/v1/no?x=1", key="sk-right")
        told = self.stats()
        paths = {"POST /v1/standin/digest": 1, "GET /v1/files/{id}": 2, "no route": 1}
        self.assertEqual((told["requests"], told["by_path"]), (4, paths))
        self.assertEqual(told["by_status"], {"200": 1, "404": 3})
        self.assertEqual((told["bytes_received"], told["open"], told["finished"]), (5, 0, 4))
        self.assertGreater(told["bytes_sent"], 100)

    def test_key(self) -> None:
        """Another key than the expected one is 401, told by its code and never repeated."""
        self.assertEqual(self.client.ask("GET", "/v1/models", key="sk-right").status, 200)
        self.assertIs(self.stats()["last_key_matched"], True)
        answered = self.client.ask("GET", "/v1/models", key="sk-wrong")
        self.assertEqual((answered.status, self.error(answered)["code"]), (401, "invalid_api_key"))
        self.assertNotIn(b"sk-", answered.body)
        told = self.stats()
        self.assertEqual((told["last_key_matched"], told["keys_matched"], told["keys_wrong"]), (False, 1, 1))

    def test_client_request_id(self) -> None:
        """A client's own request id that is too long is refused, as the API does."""
        answered = self.client.ask("GET", "/v1/models", f"X-Client-Request-Id: {'x' * 513}", key="sk-right")
        self.assertEqual(answered.status, 400)
