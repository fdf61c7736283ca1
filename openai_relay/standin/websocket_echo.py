"""``/v1/standin/websocket``: says each message again as it came; no I/O."""

from __future__ import annotations

from collections.abc import Iterator

from openai_relay.standin.frames import Message


class Repeats:
    """Repeats what it hears, text as text and binary as binary."""

    def opening(self) -> Iterator[Message]:
        """Nothing."""
        return iter(())

    def hear(self, message: Message) -> Iterator[Message]:
        """The message itself."""
        return iter((message,))
