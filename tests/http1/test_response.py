"""An answer as Twisted's clients see it."""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse
from zope.interface.verify import verifyObject

from tests.http1.asking import CHUNKED, OK, ClientCase


class ResponseTests(ClientCase):
    def test_interfaces(self) -> None:
        """It is a response of `IAgent`, and the transport of its own body."""
        wire = self.connect()
        asked = self.ask(wire, late=True)
        wire.send(OK)
        verifyObject(IResponse, asked.head)
        verifyObject(IPushProducer, asked.head)

    def test_headers(self) -> None:
        """Its fields are Twisted's `Headers` for who asks with them, in order and case all the same."""
        wire = self.connect()
        asked = self.ask(wire, late=True)
        wire.send(b"HTTP/1.1 200 OK\r\nX-a: 1\r\nContent-Length: 0\r\nx-A: 2\r\n\r\n")
        headers = asked.head.headers
        self.assertIsInstance(headers, Headers)
        self.assertEqual(headers.getRawHeaders(b"X-A"), [b"1", b"2"])
        self.assertEqual([name for name, _ in headers.getAllRawHeaders()], [b"X-a", b"Content-Length", b"x-A"])

    def test_length(self) -> None:
        """The length is what the head says, and not known where only the end will tell."""
        for answer, length in (
            (OK, 2),
            (CHUNKED, None),
            (b"HTTP/1.1 200 OK\r\n\r\n", None),
            (b"HTTP/1.1 204 X\r\n\r\n", 0),
        ):
            with self.subTest(answer=answer):
                wire = self.connect()
                asked = self.ask(wire, late=True)
                wire.send(answer)
                self.assertEqual(asked.head.length, length)

    def test_follows_nothing(self) -> None:
        """It answers the one request that was made: there is none before it."""
        wire = self.connect()
        asked = self.ask(wire, late=True)
        wire.send(OK)
        self.assertIsNone(asked.head.previousResponse)
        self.assertRaises(ValueError, asked.head.setPreviousResponse, asked.head)

    def test_is_the_bodys_transport(self) -> None:
        """The protocol that takes the body is connected to it, once, and can pause, resume and abort."""
        wire = self.connect()
        asked = self.ask(wire)
        wire.send(CHUNKED + b"1\r\na\r\n")
        self.assertIs(asked.sink.transport, asked.head)
        asked.head.pauseProducing()
        wire.send(b"1\r\nb\r\n")
        self.assertEqual((asked.sink.body, wire.unread), (b"a", 6))
        asked.head.resumeProducing()
        self.turns.settle()
        self.assertEqual(asked.sink.body, b"ab")
        asked.head.loseConnection()
        self.assertEqual(wire.ended, "reset")

    def test_delivered_once(self) -> None:
        """A body can be taken once."""
        wire = self.connect()
        asked = self.ask(wire)
        wire.send(OK)
        self.assertRaises(AssertionError, asked.head.deliverBody, asked.sink)

    def test_late_words(self) -> None:
        """What a finished response is told to do does not touch the exchange that its connection serves now."""
        wire = self.connect()
        first = self.ask(wire)
        wire.send(OK)
        first.head.stopProducing()
        first.head.pauseProducing()
        self.assertEqual((wire.ended, wire.reads), ("", True))
        second = self.ask(wire)
        wire.send(CHUNKED + b"1\r\na\r\n")
        first.head.pauseProducing()
        first.head.abortConnection()
        self.assertEqual((wire.ended, wire.reads), ("", True))
        second.head.pauseProducing()
        first.head.resumeProducing()
        self.assertFalse(wire.reads)
        second.head.resumeProducing()
        wire.send(b"0\r\n\r\n")
        self.assertTrue(second.sink.complete)
