"""However much comes, and whatever it is, no more of it is held than the limits say."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.http1.client import MAX_HEAD as MAX_ANSWER_HEAD
from openai_relay.http1.client import ClientConnection
from openai_relay.http1.patience import READ_AHEAD
from openai_relay.http1.server_connection import ServerConnection
from tests.fuzz.course import MAX_HEAD, Course, Handed
from tests.fuzz.reading import Reading
from tests.http1.wire import Wire

HEAD = b"POST /v1 HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\n"
#: A beginning, and what then comes again and again.
FLOODS = {
    "nothing": (b"", b"x" * 997),
    "empty lines": (b"", b"\r\n" * 499),
    "a target": (b"GET /", b"x" * 997),
    "one field": (HEAD + b"X-A: ", b"x" * 997),
    "many fields": (HEAD, b"a:\r\n" * 250),
    "a counted body": (HEAD + b"Content-Length: 999999999\r\n\r\n", b"x" * 997),
    "a chunk": (HEAD + CHUNKED + b"fffffff\r\n", b"x" * 997),
    "small chunks": (HEAD + CHUNKED, b"1\r\nx\r\n" * 150),
    "a chunk extension": (HEAD + CHUNKED + b"5;", b"x" * 997),
    "zeros of a chunk size": (HEAD + CHUNKED, b"0" * 997),
    "trailers": (HEAD + CHUNKED + b"0\r\n", b"a: b\r\n" * 160),
    "one trailer": (HEAD + CHUNKED + b"0\r\na: ", b"x" * 997),
    "requests": (b"", b"GET /v1 HTTP/1.1\r\nHost: a\r\n\r\n" * 30),
    "requests behind one that is not answered": (HEAD + b"Content-Length: 2\r\n\r\nok", b"GET / HTTP/1.1\r\n" * 60),
}
ANSWER_FLOODS = {
    "nothing": (b"", b"x" * 997),
    "a reason": (b"HTTP/1.1 200 ", b"x" * 997),
    "one field": (ANSWER + b"X-A: ", b"x" * 997),
    "many fields": (ANSWER, b"a:\r\n" * 250),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40),
    "a counted body": (ANSWER + b"Content-Length: 999999999\r\n\r\n", b"x" * 997),
    "a body to the close": (ANSWER + b"\r\n", b"x" * 997),
    "small chunks": (ANSWER + CHUNKED, b"1\r\nx\r\n" * 150),
    "a chunk extension": (ANSWER + CHUNKED + b"5;", b"x" * 997),
    "trailers": (ANSWER + CHUNKED + b"0\r\n", b"a: b\r\n" * 160),
    "one trailer": (ANSWER + CHUNKED + b"0\r\na: ", b"x" * 997),
    "an answer too many": (ANSWER + b"Content-Length: 0\r\n\r\n", ANSWER * 50),
}
BLOCKS = 300
#: What a line of a chunked body, or its trailers, may take.
LINE = 16_384


def held(connection: ServerConnection | ClientConnection) -> int:
    """Bytes that a connection keeps to itself."""
    decoder = (connection._incoming if isinstance(connection, ServerConnection) else connection)._decoder
    return len(connection._buffer) + (0 if decoder is None else len(decoder._held))


def unanswered(handed: Handed, forwarded: Reading) -> None:
    """An upstream that says nothing."""


class FloodTests(SynchronousTestCase):
    def flood(self, wire: Wire, start: bytes, again: bytes, most: int, look: Callable[[], int]) -> None:
        """Send until it is refused, is left unread, or has been enough; ``look`` is asked after each block."""
        wire.send(start)
        for _ in range(BLOCKS):
            if wire.ended or not wire.reads:
                break
            wire.send(again)
            self.assertLessEqual(look(), most + len(again))

    def test_client_that_floods(self) -> None:
        """A client that sends and sends is refused, passed on or left unread; never is it kept."""
        for name, (start, again) in FLOODS.items():
            with self.subTest(flood=name):
                course = Course()
                most = max(MAX_HEAD, LINE, READ_AHEAD if "requests" in name else 0)

                def both(course: Course = course) -> int:
                    course.play([], unanswered)
                    return held(course.connection) + sum(far.wire.unsent for far in course.fars)

                self.flood(course.client, start, again, most, both)
                course.play([], unanswered)
                course.leave()

    def test_upstream_that_floods(self) -> None:
        """An upstream that answers and answers is refused or passed on."""
        for name, (start, again) in ANSWER_FLOODS.items():
            with self.subTest(flood=name):
                course = Course()
                course.play([b"GET /v1 HTTP/1.1\r\nHost: a\r\n\r\n"], unanswered)
                far = course.fars[0]

                def both(course: Course = course) -> int:
                    course.received += course.client.taken()
                    return held(course.fars[0].connection)

                self.flood(far.wire, start, again, max(MAX_ANSWER_HEAD, LINE), both)
                course.leave()

    def test_reader_that_stops(self) -> None:
        """A client that does not read stops its upstream: what it is owed is bounded."""
        course = Course()
        course.client.make_room(0)
        course.play([b"GET /v1 HTTP/1.1\r\nHost: a\r\n\r\n"], unanswered)
        far = course.fars[0]
        far.wire.send(ANSWER + b"\r\n")
        for _ in range(BLOCKS):
            far.wire.send(b"x" * 4_096)
        self.assertFalse(far.wire.reads)
        self.assertGreater(far.wire.unread, BLOCKS * 2_048)
        self.assertLess(course.client.unsent + held(far.connection), 2 * READ_AHEAD)
        course.leave()
