"""What an exchange's record takes from an answer."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.exchange import Exchange
from openai_relay.noting import is_plain_stream, kind_of, note_response


class Answer:
    """The head of an answer."""

    def __init__(self, *fields: tuple[bytes, bytes], code: int = 200) -> None:
        self.fields, self.code = fields, code


class NotingTests(SynchronousTestCase):
    def kind(self, *fields: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        answer: Any = Answer(*fields)
        return kind_of(answer)

    def test_kind(self) -> None:
        """The media type is taken without its parameters, the codings in their order, however they are written."""
        self.assertEqual(self.kind(), (b"", b""))
        self.assertEqual(
            self.kind((b"CONTENT-TYPE", b"Text/Event-Stream; charset=utf-8"), (b"content-encoding", b"GZIP")),
            (b"text/event-stream", b"gzip"),
        )

    def test_plain_streams(self) -> None:
        """Only a stream of events that nobody has coded can be looked into."""
        self.assertTrue(is_plain_stream(b"text/event-stream", b""))
        self.assertTrue(is_plain_stream(b"text/event-stream", b"identity"))
        self.assertFalse(is_plain_stream(b"text/event-stream", b"gzip"))
        self.assertFalse(is_plain_stream(b"application/json", b""))

    @given(st.binary(max_size=40))
    def test_request_id(self, value: bytes) -> None:
        """The upstream's request identifier is noted whatever bytes it has, and so is the status."""
        exchange = Exchange(0, "rly_1")
        answer: Any = Answer((b"X-Request-ID", value), code=207)
        note_response(exchange, answer)
        self.assertEqual((exchange.status, exchange.upstream_status), (207, 207))
        self.assertEqual(exchange.upstream_request_id, value.decode("latin-1"))
