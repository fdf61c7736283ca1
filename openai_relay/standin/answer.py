"""``Call`` and ``Answer``: what an endpoint of the stand-in is given, and what it returns; no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from openai_relay.standin.controls import Controls
from openai_relay.standin.forms import Content, Form
from openai_relay.standin.problems import Problem, invalid

Pair = tuple[bytes, bytes]
T = TypeVar("T")

JSON: Final = b"application/json"
EVENT_STREAM: Final = b"text/event-stream; charset=utf-8"

#: Bodies may be nested so deep; whoever walks through one can do it by recursion.
DEEPEST: Final = 100

_WHERE: Final = re.compile(r"(?P<wrong>.*?)(?: - at `(?:key in )?\$\.?(?P<where>[^`]*)`)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Head:
    """What stood before the body of a request, as it was received."""

    method: bytes
    target: bytes
    version: bytes
    fields: list[Pair]
    length: int | None  #: of the body; None: chunked
    trailers: list[Pair]


@dataclass(frozen=True, slots=True)
class Call:
    """One request, with its body taken in as its route wanted it."""

    controls: Controls
    number: int  #: of this request since the start, for ids that never repeat
    created: int  #: seconds since the epoch
    parameter: str = ""  #: the variable part of the path, such as a file's id
    query: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    form: Form | None = None
    head: Head | None = None
    content: Content | None = None  #: of a body that is only counted and hashed

    def identifier(self, prefix: str) -> str:
        """An id in the API's manner, unlike those of all other requests."""
        return f"{prefix}standin{self.number:012x}"


#: Makes the `Call` of each message on a WebSocket, from its text.
Calls = Callable[[bytes], Call]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: a whole body, or blocks that are sent one by one."""

    content_type: bytes
    body: bytes = b""
    blocks: Iterator[bytes] | None = None  #: instead of ``body``
    length: int | None = None  #: of all blocks, where it is known
    fields: tuple[Pair, ...] = ()
    status: int = 200


def json_answer(value: object) -> Answer:
    """A unary answer."""
    return Answer(JSON, msgspec.json.encode(value))


def event_answer(events: Iterator[bytes]) -> Answer:
    """A stream of server-sent events, each of them one block."""
    return Answer(EVENT_STREAM, blocks=events, fields=((b"Cache-Control", b"no-cache"),))


def decode(body: bytes, shape: type[T]) -> T:
    """
    The JSON body of a request.

    :raises Problem: 400, as the API does, naming the parameter that is wrong.
    """
    try:
        if body.count(b"[") + body.count(b"{") > DEEPEST and _nesting(msgspec.json.decode(body)) > DEEPEST:
            raise invalid(f"The body of the request is nested deeper than {DEEPEST} levels.")
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        found = _WHERE.fullmatch(str(error))
        assert found is not None
        wrong, where = found["wrong"], found["where"] or None
        place = f" in '{where}'" if where else " in the body"
        raise invalid(f"Invalid request{place}: {wrong}.", where or _missing(wrong)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"The body of the request is not JSON that can be read: {error}.") from error


def _nesting(value: Any) -> int:
    """How many lists and objects are inside each other, counted without recursion."""
    level, depth = [value], 0
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def form_of(call: Call) -> Form:
    """
    The multipart body of a request.

    :raises Problem: 400 when the request has none.
    """
    if call.form is None:
        raise invalid("This endpoint takes multipart/form-data with a boundary.", None, "invalid_content_type")
    return call.form


def no_such(kind: str, identifier: str, param: str = "id") -> Problem:
    """404 for a thing that the path names and that is not there."""
    return Problem(404, f"No such {kind}: {identifier[:128]!r}.", param=param, code="not_found")


def _missing(wrong: str) -> str | None:
    name = re.search(r"missing required field `(\w+)`", wrong)
    return name[1] if name else None


#: Decoded JSON whose shape is the client's business.
Opaque = dict[str, Any]
