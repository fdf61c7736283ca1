"""What repeats."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.frames import Message
from openai_relay.standin.websocket_echo import Repeats


class RepeatsTests(SynchronousTestCase):
    def test_repeats(self) -> None:
        """It begins with nothing, and says each message as it heard it."""
        self.assertEqual(list(Repeats().opening()), [])
        for message in (Message(b"a"), Message(b"\xff", True), Message(b"")):
            self.assertEqual(list(Repeats().hear(message)), [message])
