"""What the client is told when the upstream breaks off, is silent, or sends what is not HTTP."""

from __future__ import annotations

import json
from http.client import HTTPResponse, IncompleteRead
from typing import Any

from tests.integration.by_hand import ClientByHand, Conversation
from tests.integration.running import RelayTestCase, wait_for
from tests.integration.test_streams import EVENTS, ByHandTestCase

STREAM = json.dumps(
    {"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "Name three rivers."}]}
).encode()


def broken(answer: HTTPResponse) -> bytes:
    """The body of an answer that does not come to its end."""
    try:
        whole = answer.read()
    except IncompleteRead as error:
        return error.partial
    raise AssertionError(f"the answer looks complete: {whole[-200:]!r}")


def last_event(body: bytes) -> dict[str, Any]:
    """The JSON of the last event, which has to be one that says ``error``."""
    *_, name, data, end = body.decode().split("\n", body.count(b"\n") - 1)
    assert (name, end) == ("event: error", "\n"), body[-500:]
    told = json.loads(data.removeprefix("data: "))
    assert isinstance(told, dict)
    return told


class FaultTestCase(RelayTestCase):
    def stream(self, query: str) -> HTTPResponse:
        """The answer to a streamed chat completion."""
        connection = self.connect()
        connection.request("POST", f"/v1/chat/completions?{query}", STREAM)
        return connection.getresponse()

    def assert_logged(self, before: int, **wanted: object) -> None:
        """Exactly one line came since, and says this; and the next good request is answered."""
        (line,) = self.relay.lines_after(before)
        self.assertEqual({name: line[name] for name in wanted}, wanted)
        self.assertEqual(self.relay.lines_until_now(), before + 1)
        self.assertEqual(self.relay.active(), 0)
        self.assert_serving()


class CutTests(FaultTestCase):
    def test_stream_of_events(self) -> None:
        """A stream that is cut ends with an error event and without a clean end, and never with ``[DONE]``."""
        before = self.relay.lines_until_now()
        answer = self.stream("standin.cut_after=5")
        self.assertEqual(answer.status, 200)
        body = broken(answer)
        self.assertEqual(body.count(b"data: {"), 6)
        self.assertNotIn(b"[DONE]", body)
        told = last_event(body)
        self.assertEqual((told["type"], told["code"], told["error"]["code"]), ("error", *["upstream_closed"] * 2))
        self.assert_logged(before, end="upstream_error", error="upstream_closed", status=200, bytes_out=len(body))

    def test_within_an_event(self) -> None:
        """When half an event was sent, the error is an event of its own and not a part of that one."""
        body = broken(self.stream("standin.cut_after_bytes=700"))
        sent, _, told = body.partition(b"\n\nevent: error\n")
        self.assertEqual(len(sent), 700)
        self.assertFalse(sent.endswith(b"\n\n"))
        self.assertIn("upstream_closed", json.loads(told.removeprefix(b"data: "))["code"])

    def test_body_with_a_length(self) -> None:
        """A download that is cut is cut for the client: it gets what came, and no more, of what was promised."""
        before = self.relay.lines_until_now()
        connection = self.connect()
        connection.request("GET", "/v1/standin/bytes?standin.bytes=1000000&standin.cut_after_bytes=300000")
        answer = connection.getresponse()
        self.assertEqual(answer.getheader("content-length"), "1000000")
        self.assertEqual(broken(answer), (bytes(range(256)) * 1_172)[:300_000])
        self.assert_logged(before, end="upstream_error", error="upstream_closed", status=200, bytes_out=300_000)

    def test_body_without_a_length(self) -> None:
        """A chunked body that is no stream of events is cut without a last chunk, and nothing is written into it."""
        before = self.relay.lines_until_now()
        connection = self.connect()
        connection.request("GET", "/v1/standin/bytes?standin.chunked=1&standin.cut_after_bytes=300000")
        self.assertEqual(broken(connection.getresponse()), (bytes(range(256)) * 1_172)[:300_000])
        self.assert_logged(before, end="upstream_error", error="upstream_closed", bytes_out=300_000)

    def test_compressed_stream(self) -> None:
        """Into a compressed stream no event can be written: it is only cut."""
        before = self.relay.lines_until_now()
        body = broken(self.stream("standin.gzip=1&standin.cut_after=5"))
        self.assertTrue(body.startswith(b"\x1f\x8b"))
        self.assertNotIn(b"error", body)
        self.assert_logged(before, end="upstream_error", error="upstream_closed", bytes_out=len(body))

    def test_in_the_head(self) -> None:
        """An answer that breaks off in its head is a 502 that says so, on a connection that is kept."""
        before = self.relay.lines_until_now()
        connection = self.connect()
        connection.request("POST", "/v1/chat/completions?standin.cut_in_head=1", STREAM)
        answer = connection.getresponse()
        told = json.loads(answer.read())["error"]
        self.assertEqual((answer.status, told["code"], told["type"]), (502, "upstream_closed", "upstream_error"))
        self.assertTrue(str(answer.getheader("x-relay-request-id")).startswith("rly_"))
        self.assert_logged(before, end="upstream_error", error="upstream_closed", status=502, upstream_status=None)
        connection.request("GET", "/v1/models")
        self.assertEqual(connection.getresponse().status, 200)


class SilenceTests(FaultTestCase):
    configuration = {"upstream": {"first_byte_timeout": 1, "idle_timeout": 1}}

    def test_before_the_head(self) -> None:
        """An upstream that does not begin to answer in time is a 504, and is left alone at once."""
        before, aborted = self.relay.lines_until_now(), self.standin.stats().aborted
        answer = self.stream("standin.hang=1")
        told = json.loads(answer.read())["error"]
        self.assertEqual((answer.status, told["code"], told["type"]), (504, "upstream_timeout", "upstream_error"))
        self.assert_logged(before, end="timeout", error="upstream_timeout", status=504, level="warning")
        wait_for(lambda: self.standin.stats().aborted == aborted + 1, "the stand-in to be left")

    def test_within_a_stream(self) -> None:
        """An upstream that falls silent in a stream is cut off: an error event, and no clean end."""
        before, aborted = self.relay.lines_until_now(), self.standin.stats().aborted
        answer = self.stream("standin.interval_ms=60000")
        body = broken(answer)
        self.assertEqual(body.count(b"data: {"), 2)
        self.assertEqual(last_event(body)["code"], "upstream_timeout")
        self.assert_logged(before, end="timeout", error="upstream_timeout", status=200, level="warning")
        wait_for(lambda: self.standin.stats().aborted == aborted + 1, "the stand-in to be left")

    def test_slow_but_not_silent(self) -> None:
        """A stream that takes longer than the time-outs, but is never silent for so long, comes to its end."""
        answer = self.stream("standin.events=8&standin.interval_ms=200")
        self.assertTrue(answer.read().endswith(b"data: [DONE]\n\n"))


class MalformedTests(ByHandTestCase):
    def asked(self) -> tuple[ClientByHand, Conversation]:
        """A client that has asked, and the upstream's end, which has read all of it."""
        client = self.client()
        client.request("POST", "/v1/chat/completions", STREAM)
        upstream = self.accept()
        upstream.read_head()
        upstream.read(len(STREAM))
        return client, upstream

    def assert_refused(self, client: ClientByHand, code: str, why: object = None) -> None:
        answer = client.answer()
        self.assertEqual((answer.status, json.loads(answer.read())["error"]["code"]), (502, code), why)

    def test_heads(self) -> None:
        """An answer that is not HTTP, or could be read in two ways, is a 502, and nothing of it is passed on."""
        for head in (
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        ):
            client, upstream = self.asked()
            upstream.send(head)
            self.assert_refused(client, "upstream_malformed", head)

    def test_no_answer_at_all(self) -> None:
        """An upstream that closes instead of answering is a 502, and is not asked again: it may have acted."""
        client, upstream = self.asked()
        upstream.leave()
        self.assert_refused(client, "upstream_closed")

    def test_chunks(self) -> None:
        """A stream whose framing is broken ends with an error event after what could be read, and no clean end."""
        for bad in (b"zz\r\nnonsense\r\n", b"-5\r\n", b"5 5\r\n", b"5\nhello\n"):
            client, upstream = self.asked()
            upstream.begin_events()
            upstream.chunk(EVENTS[0])
            answer = client.answer()
            self.assertEqual(answer.read(len(EVENTS[0])), EVENTS[0])
            upstream.send(bad)
            self.assertEqual(last_event(broken(answer))["code"], "upstream_malformed")


class KeptConnectionTests(ByHandTestCase):
    def test_closed_while_idle(self) -> None:
        """A kept connection that the upstream closed is not used again: the next request takes a new one."""
        client = self.client()
        for method, body in (("GET", b""), ("POST", b"{}"), ("GET", b"")):
            client.request(method, "/v1/models", body)
            upstream = self.accept()
            upstream.read_head()
            upstream.answer(fields="")  # kept, as far as it says
            self.assertEqual(client.answer().read(), b"{}")
            upstream.leave()
            # Nothing is kept any more once the relay has seen the end.
            self.relay.wait_for_metric('openai_relay_upstream_connections{state="idle",upstream="127.0.0.1"}', 0)

    def test_closed_as_a_safe_request_came(self) -> None:
        """A request without effects that meets such a connection in the moment of its end goes out once more."""
        self.assertEqual(self.meet_a_closing_connection("GET", b"").status, 200)

    def test_closed_as_another_request_came(self) -> None:
        """A request that may have been acted upon is not repeated: the client is told, and decides."""
        answer = self.meet_a_closing_connection("POST", b"{}")
        self.assertEqual((answer.status, json.loads(answer.read())["error"]["code"]), (502, "upstream_closed"))

    def meet_a_closing_connection(self, method: str, body: bytes) -> HTTPResponse:
        """The answer to a request that the upstream reads on a kept connection, and then closes that."""
        client = self.client()
        client.request("GET", "/v1/models")
        kept = self.accept()
        kept.read_head()
        kept.answer(fields="")
        self.assertEqual(client.answer().read(), b"{}")
        client.request(method, "/v1/models", body)
        kept.read_head()
        kept.read(len(body))
        kept.leave()
        if method == "GET":
            again = self.accept()
            again.read_head()
            again.answer()
        return client.answer()

    def test_unasked_bytes(self) -> None:
        """What an upstream sends on an idle connection answers nothing: it is dropped with the connection."""
        client = self.client()
        client.request("GET", "/v1/models")
        upstream = self.accept()
        upstream.read_head()
        upstream.answer(b"mine", fields="")
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
        self.assertEqual(client.answer().read(), b"mine")
        self.relay.wait_for_metric('openai_relay_upstream_connections{state="idle",upstream="127.0.0.1"}', 0)
        client.request("GET", "/v1/models")
        upstream = self.accept()
        upstream.read_head()
        upstream.answer(b"mine too")
        self.assertEqual(client.answer().read(), b"mine too")
