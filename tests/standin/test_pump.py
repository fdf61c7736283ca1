"""Blocks at their pace, in virtual time."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from itertools import count, islice

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from openai_relay.standin.pump import GATHERED, NEXT_TURN, PER_TURN, Pump, compressed, cut_short


class PumpTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.client = StringTransport()

    def start(self, blocks: Iterable[bytes], interval: float = 0.0, first_after: float = 0.0) -> Deferred[None]:
        self.pump = Pump(self.clock, self.client, iter(blocks), interval)
        return self.pump.run(first_after)

    def sent(self) -> bytes:
        data: bytes = self.client.value()
        self.client.clear()
        return data

    def test_is_a_push_producer(self) -> None:
        """A transport can pause and resume it."""
        verifyObject(IPushProducer, Pump(self.clock, self.client, iter(()), 0.0))

    def test_pace(self) -> None:
        """One block per interval, the first one at once, and the end together with the last one."""
        ended = self.start([b"a", b"b", b"c"], interval=2.0)
        self.assertEqual(self.sent(), b"a")
        self.clock.advance(1.9)
        self.assertEqual(self.sent(), b"")
        self.clock.advance(0.1)
        self.assertEqual(self.sent(), b"b")
        self.assertNoResult(ended)
        self.clock.advance(2.0)
        self.assertEqual(self.sent(), b"c")
        self.successResultOf(ended)

    def test_pace_does_not_drift(self) -> None:
        """A turn that comes late does not move the blocks after it."""
        self.start((b"x" for _ in count()), interval=1.0)
        self.clock.pump([1.25, 0.75, 1.0])
        self.assertEqual(self.sent(), b"xxxx")

    def test_first_block_may_wait(self) -> None:
        """The first block comes after its own delay."""
        ended = self.start([b"a"], first_after=5.0)
        self.clock.advance(4.9)
        self.assertEqual(self.sent(), b"")
        self.clock.advance(0.1)
        self.assertEqual(self.sent(), b"a")
        self.successResultOf(ended)

    def test_paused_sends_nothing(self) -> None:
        """While the client does not read, nothing is sent and no block is made."""
        made = []

        def blocks() -> Iterator[bytes]:
            for number in count():
                made.append(number)
                yield b"x"

        self.start(blocks(), interval=1.0)
        self.pump.pauseProducing()
        before = len(made)
        self.clock.advance(100)
        self.assertEqual((self.sent(), len(made)), (b"x", before))
        self.pump.resumeProducing()
        self.clock.pump([0, 1, 1])
        self.assertEqual(self.sent(), b"xxx")

    def test_paused_in_the_middle_of_a_burst(self) -> None:
        """A client that has enough stops a burst at once, and gets the rest when it reads on."""
        self.start([b"x" * GATHERED] * 3)
        self.assertEqual(len(self.sent()), 3 * GATHERED)

        class Full(StringTransport):
            def write(self, data: bytes) -> None:
                super().write(data)
                assert isinstance(self.producer, Pump)
                self.producer.pauseProducing()

        self.client = Full()
        ended = self.start([b"x" * GATHERED] * 3)
        for number in range(3):
            self.assertEqual(len(self.sent()), GATHERED, number)
            self.pump.resumeProducing()
        self.successResultOf(ended)

    def test_burst_gives_others_a_turn(self) -> None:
        """Without a pace, an endless body leaves each turn of the reactor after a bounded number of bytes."""
        self.start(b"x" * 1_000 for _ in count())
        self.assertLess(len(self.sent()), PER_TURN + GATHERED + 1_000)
        self.clock.advance(NEXT_TURN)
        self.assertGreaterEqual(len(self.sent()), PER_TURN)

    @given(st.lists(st.binary(min_size=1, max_size=40_000), max_size=20), st.booleans())
    def test_everything_arrives_once(self, blocks: list[bytes], paced: bool) -> None:
        """At any pace, the blocks arrive whole and in order."""
        self.setUp()
        ended = self.start(blocks, interval=1.0 if paced else 0.0)
        self.clock.pump([1.0] * len(blocks))
        self.successResultOf(ended)
        self.assertEqual(self.sent(), b"".join(blocks))

    def test_broken_blocks(self) -> None:
        """When the next block cannot be made, whoever waits for the end is told why, at any pace."""
        for interval in (0.0, 1.0):
            self.setUp()
            blocks = (b"x" * (1 // (2 - number)) for number in count())
            ended = self.start(blocks, interval)
            self.clock.pump([1, 1, 1])
            self.failureResultOf(ended, ZeroDivisionError)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_client_leaves(self) -> None:
        """Cancelled or stopped, it sends no more and leaves no timer behind."""
        for stop in (lambda ended: ended.cancel(), lambda ended: self.pump.stopProducing()):
            self.setUp()
            ended = self.start([b"a", b"b"], interval=1.0)
            ended.addErrback(lambda _: None)
            stop(ended)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.assertEqual(self.sent(), b"a")


class BlocksTests(SynchronousTestCase):
    @given(st.lists(st.binary(max_size=30)), st.integers(1, 200))
    def test_cut_short(self, blocks: list[bytes], length: int) -> None:
        """The first bytes arrive, however they are cut into blocks."""
        self.assertEqual(b"".join(cut_short(iter(blocks), length)), b"".join(blocks)[:length])

    @given(st.lists(st.binary(max_size=200)))
    def test_compressed(self, blocks: list[bytes]) -> None:
        """What is compressed is the body."""
        self.assertEqual(gzip.decompress(b"".join(compressed(iter(blocks)))), b"".join(blocks))

    def test_compressed_at_once(self) -> None:
        """Each block can be read before the next one comes."""
        stream = compressed(f"event {number}".encode() for number in count())
        inflate = zlib.decompressobj(wbits=31)
        read = [inflate.decompress(block) for block in islice(stream, 3)]
        self.assertEqual(read, [b"event 0", b"event 1", b"event 2"])
