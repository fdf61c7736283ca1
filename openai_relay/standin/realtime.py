"""
The Realtime API as a WebSocket: a session, a conversation of items, sound that is counted, and answers in text.

An event of the client takes effect when it is heard; what answers it is made
when it can be sent.  So a response that runs can be cancelled.  No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from openai_relay.standin.answer import Call, Calls, Opaque, decode
from openai_relay.standin.frames import Message
from openai_relay.standin.problems import Problem, invalid
from openai_relay.standin.prose import LONGEST_TEXT, pieces, quoted, text_of, tokens
from openai_relay.standin.realtime_shapes import (
    RATE_LIMITS,
    USUAL_MODEL,
    Tokens,
    assistant_item,
    audio_tokens,
    cap_of,
    changed_session,
    checked_item,
    new_session,
    sound_length,
    tokens_of,
    usage,
    user_audio,
)

#: The subprotocol that browsers offer.
PROTOCOL: Final = b"realtime"

_DELTA: Final = (
    b'{"type":"response.output_text.delta","event_id":%b,"response_id":%b,"item_id":%b,'
    b'"output_index":0,"content_index":0,"delta":%b}'
)


class _Asked(msgspec.Struct):
    """What every event of a client has."""

    type: str
    event_id: str | None = None


class _Update(msgspec.Struct):
    session: Opaque


class _ItemCreate(msgspec.Struct):
    item: Opaque


class _Append(msgspec.Struct):
    audio: str


class _Wanted(msgspec.Struct):
    """The members of a ``response.create`` that the answer depends on, or that it repeats."""

    instructions: str | None = None
    input: list[Opaque] | None = None
    conversation: str | None = None
    max_output_tokens: int | str | None = None
    metadata: dict[str, str] | None = None


class _Create(msgspec.Struct):
    response: _Wanted | None = None


@dataclass(slots=True)
class _Running:
    """A response that is being said."""

    cancelled: bool = False


class Realtime:
    """One session."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        call = calls(b"")
        self._call = call
        model = dict(call.query).get("model") or USUAL_MODEL
        self._session = new_session(call.identifier("sess_"), model, call.created)
        self._conversation = call.identifier("conv_")
        self._numbers = 0
        self._items = 0
        self._last_item: str | None = None
        self._question = ""
        self._buffered = 0  # bytes of sound
        self._heard = Tokens()  # all that was said in the conversation
        self._cached = Tokens()  # what of it a response has had before
        self._running: _Running | None = None
        self._takes: dict[str, Callable[[bytes], Iterator[Message] | None]] = {
            "session.update": self._update,
            "conversation.item.create": self._create_item,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "response.create": self._respond,
            "response.cancel": self._cancel,
        }

    def opening(self) -> Iterator[Message]:
        """The session."""
        yield self._event("session.created", session=self._session)

    def hear(self, message: Message) -> Iterator[Message] | None:
        """An event of the client."""
        event_id = None
        try:
            if message.binary:
                raise invalid("Events are text, not binary messages.", code="invalid_event")
            asked = decode(message.data, _Asked)
            event_id = asked.event_id
            take = self._takes.get(asked.type)
            if take is None:
                told = f"Invalid value: {asked.type[:64]!r}. Supported values are: {', '.join(self._takes)}."
                raise invalid(told, "type", "invalid_value")
            return take(message.data)
        except Problem as problem:
            return self._refuse(problem, event_id)

    def _refuse(self, problem: Problem, event_id: str | None) -> Iterator[Message]:
        told = {"type": problem.type, "code": problem.code, "message": problem.message, "param": problem.param}
        yield self._event("error", error=told | {"event_id": event_id})

    def _update(self, event: bytes) -> Iterator[Message]:
        self._session = changed_session(self._session, decode(event, _Update).session)
        return self._say("session.updated", session=self._session)

    def _create_item(self, event: bytes) -> Iterator[Message]:
        item = decode(event, _ItemCreate).item
        checked = checked_item(item)
        if item.get("role", "user") != "assistant":
            self._question = text_of(checked)
        self._heard += tokens_of(item)
        identifier = item.get("id") or self._new_item()
        return self._add(checked | {"id": identifier, "object": "realtime.item", "status": "completed"})

    def _append(self, event: bytes) -> None:
        self._buffered += sound_length(decode(event, _Append).audio)

    def _commit(self, event: bytes) -> Iterator[Message]:
        if not self._buffered:
            raise invalid("The input audio buffer is empty.", code="input_audio_buffer_commit_empty")
        self._heard += Tokens(audio=audio_tokens(self._buffered))
        self._question = f"{self._buffered} bytes of sound"
        self._buffered = 0
        item = user_audio(self._new_item())
        return self._committed(item, self._last_item, self._add(item))

    def _committed(self, item: Opaque, after: str | None, adding: Iterator[Message]) -> Iterator[Message]:
        yield self._event("input_audio_buffer.committed", item_id=item["id"], previous_item_id=after)
        yield from adding

    def _clear(self, event: bytes) -> Iterator[Message]:
        self._buffered = 0
        return self._say("input_audio_buffer.cleared")

    def _cancel(self, event: bytes) -> None:
        if self._running is None:
            raise invalid("There is no response to cancel.", code="response_cancel_not_active")
        self._running.cancelled = True

    def _respond(self, event: bytes) -> Iterator[Message]:
        wanted = decode(event, _Create).response or _Wanted()
        cap = self._session["max_output_tokens"] if wanted.max_output_tokens is None else wanted.max_output_tokens
        most = cap_of(cap, "response.max_output_tokens")
        call = self._calls(b"")
        question = self._question if wanted.input is None else text_of(wanted.input[-1:])
        return self._response(call, wanted, most, pieces(question, call.controls, most, True))

    def _response(self, call: Call, wanted: _Wanted, most: int | None, saying: Iterator[str]) -> Iterator[Message]:
        """The events of one response, in the API's order."""
        running = self._running = _Running()
        heard = self._input(wanted)
        kept = wanted.conversation != "none"
        identifier, item_id = call.identifier("resp_"), self._new_item()
        after = self._last_item
        response = {
            "object": "realtime.response",
            "id": identifier,
            "status": "in_progress",
            "status_details": None,
            "output": [],
            "conversation_id": self._conversation if kept else None,
            "output_modalities": ["text"],
            "max_output_tokens": most or "inf",
            "usage": None,
            "metadata": wanted.metadata,
        }
        ids = {"response_id": identifier}
        place = ids | {"item_id": item_id, "output_index": 0, "content_index": 0}
        begun = assistant_item(item_id, "in_progress", None)
        yield self._event("response.created", response=response)
        yield self._event("response.output_item.added", **ids, output_index=0, item=begun)
        if kept:
            self._last_item = item_id
            yield self._event("conversation.item.added", previous_item_id=after, item=begun)
        yield self._event("response.content_part.added", **place, part={"type": "text", "text": ""})
        said: list[str] = []
        length = 0
        quoted_ids = quoted(identifier), quoted(item_id)
        for piece in saying:
            if running.cancelled:
                break
            yield Message(_DELTA % (quoted(self._event_id()), *quoted_ids, quoted(piece)))
            length += len(piece)
            if length <= LONGEST_TEXT:  # an endless answer has no end that would repeat it
                said.append(piece)
        text = "".join(said)
        status, reason = "completed", None
        if running.cancelled:
            status, reason = "cancelled", "client_cancelled"
        elif len(said) == most:
            status, reason = "incomplete", "max_output_tokens"
        item = assistant_item(item_id, "completed" if status == "completed" else "incomplete", text)
        yield self._event("response.output_text.done", **place, text=text)
        yield self._event("response.content_part.done", **place, part={"type": "text", "text": text})
        if kept:
            yield self._event("conversation.item.done", previous_item_id=after, item=item)
        yield self._event("response.output_item.done", **ids, output_index=0, item=item)
        self._running = None
        yield self._event(
            "response.done",
            response=response
            | {
                "status": status,
                "status_details": None if reason is None else {"type": status, "reason": reason},
                "output": [item],
                "usage": usage(heard, self._cached.within(heard), len(said)),
            },
        )
        if kept:
            self._cached = heard
            self._heard += Tokens(len(said))
        yield self._event("rate_limits.updated", rate_limits=RATE_LIMITS)

    def _input(self, wanted: _Wanted) -> Tokens:
        """All that a response is made from."""
        instructions = wanted.instructions or self._session["instructions"] or ""
        heard = self._heard if wanted.input is None else sum(map(tokens_of, wanted.input), Tokens())
        return heard + Tokens(tokens(instructions) + 3)

    def _add(self, item: Opaque) -> Iterator[Message]:
        after, self._last_item = self._last_item, item["id"]
        return self._added(after, item)

    def _added(self, after: str | None, item: Opaque) -> Iterator[Message]:
        yield self._event("conversation.item.added", previous_item_id=after, item=item)
        yield self._event("conversation.item.done", previous_item_id=after, item=item)

    def _say(self, kind: str, **members: Any) -> Iterator[Message]:
        yield self._event(kind, **members)

    def _event(self, kind: str, **members: Any) -> Message:
        return Message(msgspec.json.encode({"type": kind, "event_id": self._event_id()} | members))

    def _event_id(self) -> str:
        self._numbers += 1
        return f"{self._call.identifier('event_')}_{self._numbers:06x}"

    def _new_item(self) -> str:
        self._items += 1
        return f"{self._call.identifier('item_')}_{self._items:04x}"
