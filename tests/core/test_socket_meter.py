"""What a WebSocket has cost, by what came down."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.socket_meter import SocketMeter
from openai_relay.core.usage import Usage


def delta(kind: str = "response.output_text", text: str = "word ") -> bytes:
    return json.dumps({"type": f"{kind}.delta", "delta": text}).encode()


def done(entering: int, leaving: int) -> bytes:
    usage = {"input_tokens": entering, "output_tokens": leaving}
    return json.dumps({"type": "response.done", "response": {"usage": usage}}).encode()


class SocketMeterTests(SynchronousTestCase):
    def usage(self, *messages: bytes, whole: bool = True) -> Usage | None:
        meter = SocketMeter()
        for message in messages:
            meter.look(message)
        return meter.usage(whole=whole)

    def test_nothing(self) -> None:
        """A session in which nothing was answered has cost nothing that anybody knows."""
        self.assertIsNone(self.usage(b'{"type":"session.created"}', b"no JSON", b""))

    def test_told(self) -> None:
        """What the ends of responses tell is added up, and their text counts no more."""
        self.assertEqual(self.usage(delta(), done(7, 5), delta(), done(1, 2)), Usage(8, output_tokens=7))

    def test_left_before_the_end(self) -> None:
        """Text that came since it was told last is estimated, so that leaving early is not free."""
        self.assertEqual(self.usage(done(7, 5), *[delta()] * 100), Usage(7, output_tokens=105, estimated=True))
        self.assertEqual(self.usage(*[delta()] * 100), Usage(0, output_tokens=100, estimated=True))

    def test_sound(self) -> None:
        """Sound counts by its length in time, not as text."""
        usage = self.usage(*[delta("response.output_audio", "x" * 3_200)] * 10)
        self.assertEqual(usage, Usage(0, output_tokens=10, estimated=True))

    def test_missed(self) -> None:
        """Where messages could not be read, what was told is marked as not certain."""
        self.assertEqual(self.usage(done(7, 5), whole=False), Usage(7, output_tokens=5, estimated=True))

    @given(st.lists(st.binary(max_size=200)))
    def test_any_messages(self, messages: list[bytes]) -> None:
        """Whatever comes, it is metered without an error."""
        self.usage(*messages)
