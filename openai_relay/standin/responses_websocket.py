"""
The Responses API as a WebSocket: ``response.create`` is answered with the events of the stream, one a message.

Responses are made one after the other, those of different ``stream_id`` too;
errors are told on the open connection.  No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from openai_relay.standin.answer import Calls, decode
from openai_relay.standin.frames import Message
from openai_relay.standin.problems import Problem, invalid
from openai_relay.standin.prose import quoted
from openai_relay.standin.responses import response_events


class _Asked(msgspec.Struct):
    """What every event of a client has."""

    type: str
    stream_id: Annotated[str, Meta(max_length=256)] | None = None


class ResponsesConversation:
    """One connection."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def opening(self) -> Iterator[Message]:
        """Nothing: the client begins."""
        return iter(())

    def hear(self, message: Message) -> Iterator[Message]:
        """An event of the client."""
        stream_id = None
        try:
            if message.binary:
                raise invalid("Events are text, not binary messages.")
            asked = decode(message.data, _Asked)
            stream_id = asked.stream_id
            if asked.type != "response.create":
                told = f"{asked.type[:64]!r} is no event that this endpoint takes; there is 'response.create'."
                raise invalid(told, "type", "unknown_event")
            events = response_events(self._calls(message.data))
        except Problem as problem:
            events = iter((_error(problem),))
        return _marked(events, stream_id)


def _marked(events: Iterator[bytes], stream_id: str | None) -> Iterator[Message]:
    """The events as messages, each with the id of its lane, where the client gave one."""
    end = b"}" if stream_id is None else b',"stream_id":%b}' % quoted(stream_id)
    for event in events:
        yield Message(event[:-1] + end)


def _error(problem: Problem) -> bytes:
    told = {"type": problem.type, "code": problem.code, "message": problem.message, "param": problem.param}
    return msgspec.json.encode({"type": "error", "status": problem.status, "error": told})
