"""Content that is made as it is sent."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.controls import Controls
from openai_relay.standin.generated import LARGEST_BLOCK, blocks, generated


class GeneratedTests(SynchronousTestCase):
    @given(st.integers(0, 5_000), st.integers(1, 700))
    def test_each_byte_is_known_by_its_place(self, length: int, size: int) -> None:
        """The content is the same whatever the blocks: byte number i is i modulo 256."""
        found = list(blocks(length, size))
        self.assertEqual(b"".join(found), bytes(place % 256 for place in range(length)))
        self.assertTrue(all(len(block) == size for block in found[:-1]))

    def test_length_is_told(self) -> None:
        """The length is the one that was asked for, else the usual one."""
        self.assertEqual(generated(b"audio/mpeg", Controls(bytes=1 << 40), 5).length, 1 << 40)
        self.assertEqual(generated(b"audio/mpeg", Controls(), 5).length, 5)

    def test_endless(self) -> None:
        """Endless content has no length and goes on."""
        answer = generated(b"x/y", Controls(endless=True, event_bytes=10), 5)
        assert answer.blocks is not None
        self.assertIsNone(answer.length)
        self.assertEqual([len(block) for block in islice(answer.blocks, 1_000)], [10] * 1_000)

    def test_blocks_are_bounded(self) -> None:
        """No block is larger than what may be in memory for one client."""
        answer = generated(b"x/y", Controls(event_bytes=1 << 40, bytes=1 << 40), 5)
        assert answer.blocks is not None
        self.assertEqual(len(next(answer.blocks)), LARGEST_BLOCK)
