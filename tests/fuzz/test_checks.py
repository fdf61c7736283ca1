"""The checks see what is wrong: each is shown another reader that disagrees with the relay."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import client_check, server_check
from tests.fuzz.reading import Message, Reading, read_response

POST = (
    b"POST /v1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    b"GET /v1/a HTTP/1.1\r\nHost: a\r\n\r\n"
)
HALF = b"POST /v1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel"
ANSWER = (
    b"HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
)


def message_of(reading: Reading) -> Message:
    assert reading.message is not None
    return reading.message


class ServerCheckTests(SynchronousTestCase):
    def assertSeen(self, data: bytes, expected: list[Reading], about: str) -> None:
        error = self.assertRaises(AssertionError, server_check.serve, [data], expected)
        self.assertIn(about, str(error))

    def test_agreement(self) -> None:
        """Who reads the same as the relay is in agreement with it."""
        for data in (POST, HALF, b"", b"nonsense\n"):
            server_check.serve([data], server_check.requests_of(data))

    def test_another_message(self) -> None:
        """A method, a field, a body or a trailer that is read in another way is seen."""
        post, *others = server_check.requests_of(POST)
        message = message_of(post)
        for other, about in (
            (replace(message, first=(b"PUT", *message.first[1:])), "is read as"),
            (replace(message, fields=message.fields[1:]), "is read as"),
            (replace(message, body=b"hell"), "another body"),
            (replace(message, trailers=()), "other trailers"),
        ):
            with self.subTest(about=about):
                self.assertSeen(POST, [replace(post, message=other), *others], about)

    def test_other_boundaries(self) -> None:
        """One message more or fewer, or one that ends elsewhere, is seen."""
        post, get, end = server_check.requests_of(POST)
        self.assertSeen(POST, [post], "where another reader finds none")
        self.assertSeen(POST, [post, get, get], "more is waited for")
        self.assertSeen(POST, [post, replace(get, last=True)], "goes on behind its last request")
        self.assertSeen(POST, [replace(post, end="open"), get, end], "an end that the client has not sent")
        (half,) = server_check.requests_of(HALF)
        self.assertSeen(HALF, [replace(half, end="complete")], "more is waited for")
        self.assertSeen(HALF, [replace(half, end="refused")], "more is waited for")

    def test_laxer(self) -> None:
        """A request where the other reader finds nothing good is seen."""
        refused = Reading("refused", None, b"", True)
        self.assertSeen(POST, [refused], "where another reader finds none")
        self.assertSeen(b"GET", [refused], "more is waited for")

    def test_other_cutting(self) -> None:
        """What becomes of an input shows each request with its end, to be compared with other cuttings."""
        outcome = server_check.serve([POST + HALF], server_check.requests_of(POST + HALF))
        self.assertEqual([request[-1] for request in outcome.requests], ["complete", "complete", "open"])
        self.assertFalse(outcome.closed)
        outcome = server_check.serve([POST + b"\n"], server_check.requests_of(POST + b"\n"))
        self.assertEqual(([request[-1] for request in outcome.requests][2:], outcome.closed), (["refused"], True))


class ClientCheckTests(SynchronousTestCase):
    def assertSeen(self, data: bytes, expected: Reading, about: str) -> None:
        error = self.assertRaises(AssertionError, client_check.ask, b"GET", [data], expected)
        self.assertIn(about, str(error))

    def test_agreement(self) -> None:
        """Who reads the same as the relay is in agreement with it."""
        outcome = client_check.ask(b"GET", [ANSWER], read_response(ANSWER, b"GET", True))
        self.assertEqual((outcome.end, outcome.kept), ("complete", True))

    def test_another_answer(self) -> None:
        """A status, a field, a body, a trailer or an interim answer that is read in another way is seen."""
        expected = read_response(ANSWER, b"GET", True)
        message = message_of(expected)
        for other, about in (
            (replace(message, first=(b"201", b"OK", b"1.1")), "the client reads"),
            (replace(message, fields=message.fields[1:]), "the client reads"),
            (replace(message, body=b"hell"), "another body"),
            (replace(message, trailers=()), "behind it"),
            (replace(message, interims=()), "before it"),
        ):
            with self.subTest(about=about):
                self.assertSeen(ANSWER, replace(expected, message=other), about)

    def test_faked_ending(self) -> None:
        """An answer that is complete for the client, and for nobody else, is seen."""
        expected = read_response(ANSWER, b"GET", True)
        self.assertSeen(ANSWER, replace(expected, end="refused"), "an ending is faked")
        self.assertSeen(ANSWER, Reading("refused", None, b"", True), "where another reader finds none")

    def test_connection_that_is_not_to_be_kept(self) -> None:
        """A connection that is kept behind the last answer, or with bytes behind it, is seen."""
        expected = read_response(ANSWER, b"GET", True)
        self.assertSeen(ANSWER, replace(expected, rest=b"x"), "bytes that answer nothing")
        data = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        expected = read_response(data, b"GET", False)
        self.assertSeen(data, replace(expected, last=True), "that was to be closed")
