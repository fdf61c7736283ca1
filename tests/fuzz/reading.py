"""What another reader, h11, makes of the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import h11

from openai_relay.http1.fields import Pair

#: How a message ends for a reader: all of it is there, more has to come, or it is none.
End = Literal["complete", "open", "refused"]
#: More than any input has: h11 would refuse a long head where the relay's own limit is tested.
_ANY_SIZE = 1 << 24


@dataclass(frozen=True, slots=True)
class Message:
    """
    One message, or as much of it as has been read.

    :ivar first: method, target and version, or status, reason and version.
    :ivar interims: the status and the fields of the answers before it.
    """

    first: tuple[bytes, ...]
    fields: tuple[Pair, ...]
    body: bytes
    trailers: tuple[Pair, ...] = ()
    interims: tuple[tuple[int, tuple[Pair, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """
    What a reader makes of the beginning of some bytes.

    :ivar message: ``None`` while its head is not complete.
    :ivar rest: what stands behind a complete message.
    :ivar last: nothing may follow the message on its connection.
    """

    end: End
    message: Message | None
    rest: bytes
    last: bool


def read_request(data: bytes) -> Reading:
    """The first request in these bytes."""
    return _read(h11.Connection(h11.SERVER, _ANY_SIZE), data, closed=False)


def read_response(data: bytes, method: bytes, closed: bool) -> Reading:
    """
    The answer to a request of this method.

    :param closed: nothing comes behind these bytes.
    """
    connection = h11.Connection(h11.CLIENT, _ANY_SIZE)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    return _read(connection, data, closed)


def _read(connection: h11.Connection, data: bytes, closed: bool) -> Reading:
    if data:
        connection.receive_data(data)
    if closed:
        connection.receive_data(b"")
    head: Any = None
    body = bytearray()
    trailers: tuple[Pair, ...] = ()
    interims: list[tuple[int, tuple[Pair, ...]]] = []
    end: End = "open"
    rest = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request | h11.Response):
                head = event
            elif isinstance(event, h11.InformationalResponse):
                interims.append((event.status_code, tuple(event.headers.raw_items())))
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                trailers = tuple(event.headers.raw_items())
                end = "complete"
                rest = connection.trailing_data[0]
                if connection.our_role is h11.SERVER and connection.their_state not in (h11.DONE, h11.MUST_CLOSE):
                    # An upgrade was asked for: until it is answered nobody knows what becomes of the connection.
                    connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                break
            else:
                break
    except h11.RemoteProtocolError:
        end = "refused"
    message = None
    if head is not None:
        message = Message(_first(head), tuple(head.headers.raw_items()), bytes(body), trailers, tuple(interims))
    last = connection.their_state in (h11.MUST_CLOSE, h11.CLOSED, h11.ERROR)
    return Reading(end, message, rest, last)


def _first(head: Any) -> tuple[bytes, ...]:
    if isinstance(head, h11.Request):
        return head.method, head.target, head.http_version
    return b"%d" % head.status_code, bytes(head.reason), head.http_version


def comparable(fields: list[Pair] | tuple[Pair, ...]) -> tuple[Pair, ...]:
    """Fields as h11 keeps them: it writes the transfer coding in lower case."""
    return tuple((name, value.lower() if name.lower() == b"transfer-encoding" else value) for name, value in fields)
