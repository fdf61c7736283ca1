"""Kinds of a soak: clients that go away, in every phase and in every way; what they left must end with them."""

from __future__ import annotations

import json
from typing import Final

from tests.soak.calling import LEAVINGS, Caller, Line, Lost, Met502

_CHAT: Final = json.dumps(
    {"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
).encode()
_JSON: Final = "Content-Type: application/json\r\n"


def begin(caller: Caller, line: Line, method: str, target: str, length: int) -> None:
    """
    Announce a body and wait until the upstream asks for it: now the exchange exists for certain.

    :raises Met502: it met a kept upstream connection in the moment of its end.
    """
    line.send(
        f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
        f"{_JSON}Expect: 100-continue\r\n\r\n".encode()
    )
    status = line.invited()
    if status == 502:
        raise Met502()
    if status != 100:
        raise Lost(f"answered {status} instead of 100")


def gone(caller: Caller, line: Line) -> None:
    """Leave in any way."""
    line.leave(caller.rng.choice(LEAVINGS))
    caller.done.ended("client_gone")


def stream(caller: Caller) -> None:
    """A client that has read a part of a stream."""
    rng = caller.rng
    line = caller.new_line()
    query = f"standin.endless=1&standin.interval_ms={rng.choice((1, 10, 1_000))}"
    line.request("POST", f"/v1/chat/completions?{query}", _CHAT, _JSON)
    answer = line.answer("POST")
    caller.expect(answer, 200)
    if not answer.readline().startswith(b"data: {"):
        raise Lost("is no stream of events")
    gone(caller, line)


def unread(caller: Caller) -> None:
    """A client that had stopped reading before it left."""
    line = caller.new_line(receive_buffer=16_384)
    line.request("GET", "/v1/standin/bytes?standin.endless=1")
    answer = line.answer()
    caller.expect(answer, 200)
    answer.read(10_000)
    caller.shared.pause.wait(caller.rng.random())
    gone(caller, line)


def before_the_head(caller: Caller) -> None:
    """A client that does not wait for the head of its answer."""
    line = caller.new_line()
    begin(caller, line, "POST", "/v1/chat/completions?standin.hang=1", len(_CHAT))
    line.send(_CHAT)
    caller.shared.pause.wait(caller.rng.random() * 0.1)
    gone(caller, line)


def upload(caller: Caller) -> None:
    """A client that leaves in the middle of its upload."""
    line = caller.new_line()
    begin(caller, line, "POST", "/v1/standin/digest", 10_000_000)
    line.send(b"x" * caller.rng.randint(0, 500_000))
    gone(caller, line)
