"""A request's body goes out framed, at the upstream's pace, and looks complete only when it is."""

from __future__ import annotations

from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from openai_relay.core.errors import BadRequest
from openai_relay.http1.sending import Sending, coded, end_of
from tests.http1.asking import Body
from tests.http1.wire import Turns, Wire


class SendingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.turns = Turns()
        self.wire = Wire(self.turns, Protocol())
        self.broken: list[Failure] = []

    def send(self, body: Body, chunked: bool = True) -> Sending:
        sending = Sending(self.wire, body, b"HEAD ", chunked, self.broken.append)
        sending.start()
        return sending

    def test_interface(self) -> None:
        """A body's producer can take it for its consumer."""
        verifyObject(IConsumer, Sending(self.wire, Body(None), b"", True, self.broken.append))

    def test_head_does_not_wait(self) -> None:
        """The head goes out at once, by itself if there is nothing of the body."""
        sending = self.send(Body(None))
        self.assertEqual((self.wire.blocks, sending.done, sending.sent), ([b"HEAD "], False, 0))

    def test_one_write(self) -> None:
        """What is there of the body goes out in one write with the head."""
        self.send(Body(5, b"he", b"llo", complete=True), chunked=False)
        self.assertEqual(self.wire.blocks, [b"HEAD he", b"llo"])

    def test_empty(self) -> None:
        """A body that turns out empty is a head and, where there are chunks, their end: one write."""
        self.send(Body(None, complete=True))
        self.send(Body(0, complete=True), chunked=False)
        self.assertEqual(self.wire.blocks, [b"HEAD 0\r\n\r\n", b"HEAD "])

    def test_ends(self) -> None:
        """The end and the trailers go out when the body is complete; after that nothing does."""
        body = Body(None, b"a")
        sending = self.send(body)
        body.trailers = [(b"X-A", b"b")]
        body.whole.callback(None)
        body.consumer.write(b"more")
        sending.stop()
        self.assertEqual(self.wire.blocks, [b"HEAD 1\r\na\r\n", b"0\r\nX-A: b\r\n\r\n"])
        self.assertEqual((sending.done, sending.sent, body.told, self.wire.producer), (True, 1, [], None))

    def test_breaks_off(self) -> None:
        """A body that breaks off is told, and given no end; after that nothing goes out."""
        body = Body(None, b"a")
        sending = self.send(body)
        body.whole.errback(BadRequest())
        body.consumer.write(b"more")
        sending.stop()
        self.assertEqual(self.wire.blocks, [b"HEAD 1\r\na\r\n"])
        self.assertIsInstance(self.broken[0].value, BadRequest)
        self.assertEqual((sending.done, body.told, self.wire.producer), (True, [], None))

    def test_broken_from_the_start(self) -> None:
        """Of a body that is broken from the start not even the head goes out."""
        sending = self.send(Body(None, error=BadRequest()))
        self.assertEqual((self.wire.blocks, sending.done, len(self.broken)), ([], True, 1))

    def test_stopped(self) -> None:
        """A body that is not wanted any more is stopped once; its end, whichever it is, changes nothing."""
        for ending in ("callback", "errback", "none"):
            with self.subTest(ending=ending):
                self.setUp()
                body = Body(None, b"a")
                sending = self.send(body)
                sending.stop()
                sending.stop()
                body.consumer.write(b"more")
                if ending == "callback":
                    body.whole.callback(None)
                elif ending == "errback":
                    body.whole.errback(BadRequest())
                self.assertEqual((body.told, self.wire.blocks), (["stop"], [b"HEAD 1\r\na\r\n"]))
                self.assertEqual((self.wire.producer, self.broken), (None, []))

    def test_lost(self) -> None:
        """When the transport is lost the body is stopped; the transport has let go of it by itself."""
        body = Body(None, b"a")
        sending = self.send(body)
        self.wire.producer = None
        self.wire.unregisterProducer = lambda: self.fail("nothing is registered")  # type: ignore[method-assign]
        sending.lost()
        sending.lost()
        self.assertEqual((body.told, sending.done), (["stop"], True))

    def test_paced(self) -> None:
        """An upstream that does not read pauses the body; who waits for whom is known at any time."""
        self.wire.room = 0
        body = Body(None, b"a")
        sending = self.send(body)
        self.assertTrue(sending.waits_for_body)
        body.consumer.write(b"x" * 100_000)
        self.assertEqual((body.told, sending.waits_for_body), (["pause"], False))
        self.wire.make_room()
        self.assertEqual((body.told, sending.waits_for_body), (["pause", "resume"], True))
        body.whole.callback(None)
        self.assertFalse(sending.waits_for_body)


class FramingTests(SynchronousTestCase):
    def test_blocks(self) -> None:
        """A block is a chunk or itself; an empty one is nothing, as it would end a chunked body."""
        self.assertEqual([coded(b"a", True), coded(b"a", False)], [b"1\r\na\r\n", b"a"])
        self.assertEqual([coded(b"", True), coded(b"", False)], [b"", b""])

    def test_ends(self) -> None:
        """A chunked body has an end, with the trailers that its producer has; another has none."""
        body = Body(None)
        body.trailers = [(b"X-A", b"b")]
        self.assertEqual(end_of(body, True), b"0\r\nX-A: b\r\n\r\n")
        self.assertEqual(end_of(body, False), b"")
        self.assertEqual(end_of(object(), True), b"0\r\n\r\n")
