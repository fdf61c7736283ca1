"""Where a conversation ends on demand."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.controls import Controls
from openai_relay.standin.endings import Ending, Script
from openai_relay.standin.frames import Frames, Message

FRAME = b"\x81\x01x"


def endless() -> Iterator[Message]:
    for _ in count():
        yield Message(b"x")


class ScriptTests(SynchronousTestCase):
    def script(self, **controls: Any) -> Script:
        self.said = 0
        return Script(Frames(fragment=controls.get("fragment")), Controls(**controls), self.count)

    def count(self) -> None:
        self.said += 1

    def test_no_ending(self) -> None:
        """When nothing is asked for, all is said and counted, and it goes on."""
        script = self.script()
        for _ in range(2):
            self.assertEqual(list(script.frames(iter([Message(b"x")] * 3))), [FRAME] * 3)
        self.assertEqual((script.ending, self.said), (None, 6))

    def test_each_ending(self) -> None:
        """After so many messages, over all replies together, the ending is due and no more is said."""
        for name, ending in (
            ("cut_after", Ending.CUT),
            ("close_after", Ending.CLOSE),
            ("silent_after", Ending.SILENCE),
        ):
            script = self.script(**{name: 5})
            self.assertEqual(list(script.frames(iter([Message(b"x")] * 3))), [FRAME] * 3)
            self.assertIsNone(script.ending)
            self.assertEqual(list(script.frames(endless())), [FRAME] * 2)
            self.assertEqual((script.ending, self.said), (ending, 5))
            self.assertEqual(list(script.frames(endless())), [])

    def test_at_once(self) -> None:
        """After no message at all it is due before the first; a close code alone means that."""
        for controls in ({"cut_after": 0}, {"silent_after": 0}, {"close_code": 4000}, {"close_after": 0}):
            self.assertIsNotNone(self.script(**controls).ending)
        self.assertIsNone(self.script(close_code=4000, close_after=1).ending)

    def test_the_first_counts(self) -> None:
        """Of several endings the one that is due first is taken."""
        script = self.script(cut_after=3, close_after=2)
        self.assertEqual(len(list(script.frames(endless()))), 2)
        self.assertIs(script.ending, Ending.CLOSE)

    def test_cut_inside_a_frame(self) -> None:
        """A number of bytes cuts wherever it falls."""
        for length in range(8):
            script = self.script(cut_after_bytes=length)
            self.assertEqual(b"".join(script.frames(endless())), (FRAME * 3)[:length])
            self.assertIs(script.ending, Ending.CUT)

    def test_fragments_are_one_message(self) -> None:
        """A message in several frames is whole before the ending, and counts as one."""
        script = self.script(close_after=1, fragment=1)
        self.assertEqual(b"".join(script.frames(iter([Message(b"ab"), Message(b"c")]))), b"\x01\x01a\x80\x01b")
        self.assertEqual(self.said, 1)

    def test_made_when_taken(self) -> None:
        """A message is made when its frame is taken, and counted once it was."""
        made: list[int] = []

        def messages() -> Iterator[Message]:
            for number in count():
                made.append(number)
                yield Message(b"x")

        frames = self.script().frames(messages())
        next(frames)
        next(frames)
        self.assertEqual((made, self.said), ([0, 1], 1))
