"""Kinds of a soak: WebSockets, said goodbye to or left, whose messages must come back as they were sent."""

from __future__ import annotations

from typing import Final

from wsproto.frame_protocol import FrameProtocol, Opcode

from tests.soak import leaving
from tests.soak.calling import Caller, Line, Lost, Met502

_BLOCK: Final = 65_536
_UPGRADE: Final = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def opened(caller: Caller) -> tuple[Line, FrameProtocol]:
    """
    A WebSocket at which everything is repeated.

    :raises Met502: it met a kept upstream connection in the moment of its end.
    """
    line = caller.new_line()
    line.request("GET", "/v1/standin/websocket", fields=_UPGRADE)
    status = line.invited()
    if status == 502:
        raise Met502()
    if status != 101:
        raise Lost(f"answered {status} instead of 101")
    return line, FrameProtocol(client=True, extensions=[])


def exchange(caller: Caller, line: Line, frames: FrameProtocol) -> None:
    """Send one message and read it back."""
    said = caller.rng.randbytes(caller.rng.choice((0, 1, 125, 126, 70_000, 300_000)))
    line.send(bytes(frames.send_data(said, fin=True)))
    back = bytearray()
    while True:
        for frame in frames.received_frames():
            if frame.opcode is not Opcode.BINARY or not isinstance(frame.payload, bytes | bytearray):
                raise Lost(f"a {frame.opcode.name} came in the middle")
            back += frame.payload
            if frame.message_finished and frame.frame_finished:
                if bytes(back) != said:
                    raise Lost(f"{len(said)} bytes came back as {len(back)} others")
                return
        received = line.socket.recv(_BLOCK)
        if not received:
            raise Lost("the tunnel ended in a message")
        frames.receive_bytes(received)


def tunnel(caller: Caller) -> None:
    """Messages there and back, and an orderly end."""
    line, frames = opened(caller)
    for _ in range(caller.rng.randint(1, 10)):
        exchange(caller, line, frames)
    line.send(bytes(frames.close(1000)))
    while received := line.socket.recv(_BLOCK):
        frames.receive_bytes(received)
    if [frame.opcode for frame in frames.received_frames()] != [Opcode.CLOSE]:
        raise Lost("nobody said goodbye")
    line.close()
    caller.done.ended("done")


def left(caller: Caller) -> None:
    """A tunnel that is left without a word."""
    line, frames = opened(caller)
    exchange(caller, line, frames)
    leaving.gone(caller, line)
