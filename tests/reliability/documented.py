"""
The documented differences between what is sent directly and what crosses the relay, applied to bytes.

`docs/headers.md` and `docs/http.md` promise them; whatever else differs is a
fault.  Written from those pages, not from the relay's tables.
"""

from __future__ import annotations

import re
from typing import Final

from tests.reliability.case import KEY, REQUEST_ID, TIME, UPSTREAM_HOST
from tests.reliability.messages import Message

#: Of the fields that the faithful cases use: those that concern one connection.
_HOP_BY_HOP: Final = frozenset({b"connection", b"keep-alive", b"te", b"transfer-encoding"})
#: Of the answers' fields: what is not for the relay's clients.
_NOT_FOR_CLIENTS: Final = frozenset({b"set-cookie", b"alt-svc", b"strict-transport-security"})
_BODYLESS: Final = (204, 304)
_ID: Final = re.compile(rb"\brly_[0-9a-f]{26}\b")
_TIMING: Final = re.compile(rb"(?<=\r\n)server-timing: relay;dur=[0-9]+\.[0-9]{3}(?=\r\n)")
_OWN_TIME: Final = b"server-timing: relay;dur=" + TIME


def masked(raw: bytes, upstream_host: bytes, api_key: str) -> bytes:
    """With what differs from run to run replaced by what cases are written with."""
    raw = raw.replace(b"Host: " + upstream_host + b"\r\n", b"Host: " + UPSTREAM_HOST + b"\r\n", 1)
    raw = raw.replace(b"Authorization: Bearer " + api_key.encode(), b"Authorization: Bearer " + KEY)
    return _TIMING.sub(_OWN_TIME, _ID.sub(REQUEST_ID, raw))


def request_head(direct: Message) -> bytes:
    """What the upstream must get when a direct client sent this."""
    first, *lines = direct.lines
    method, target, _ = first.split(b" ")
    authority = re.match(rb"https?://[^/]*", target)
    if authority is not None:  # the URL of the very host that Host names becomes a path
        target = target[authority.end() :] or b"/"
    kept = [b"%b %b HTTP/1.1" % (method, target)]
    names = set()
    for line in lines:
        name = line.partition(b":")[0].lower()
        names.add(name)
        if name == b"host":
            kept.append(b"Host: " + UPSTREAM_HOST)
        elif name == b"authorization":
            kept.append(b"Authorization: Bearer " + KEY)
        elif name not in _HOP_BY_HOP:
            kept.append(line)
    if b"host" not in names:
        kept.insert(1, b"Host: " + UPSTREAM_HOST)
    if b"authorization" not in names:
        kept.append(b"Authorization: Bearer " + KEY)
    if b"x-client-request-id" not in names:
        kept.append(b"X-Client-Request-Id: " + REQUEST_ID)
    if direct.chunks is not None:
        kept.append(b"Transfer-Encoding: chunked")
    return b"".join(line + b"\r\n" for line in [*kept, b""])


def interim_head(direct: bytes) -> bytes:
    """What the client must get of an interim answer."""
    first, *lines = direct.split(b"\r\n")[:-2]
    return b"".join(line + b"\r\n" for line in [first, *_for_client(lines), b""])


def answer_head(direct: Message, version: bytes, *, closes: bool, asked: bytes) -> bytes:
    """
    What the client must get when a direct client got this.

    :param version: of the client.
    :param closes: the client has asked for the connection to be closed.
    :param asked: the method.
    """
    first, *lines = direct.lines
    kept = [b"HTTP/1.1" + first[8:], *_for_client(lines)]
    media_types = [value.split(b";")[0] for value in direct.values(b"content-type")]
    if b"text/event-stream" in media_types and not direct.values(b"x-accel-buffering"):
        kept.append(b"X-Accel-Buffering: no")
    kept += [_OWN_TIME, b"x-relay-request-id: " + REQUEST_ID]
    bodyless = asked == b"HEAD" or direct.status in _BODYLESS
    counted = bodyless or (direct.chunks is None and bool(direct.values(b"content-length")))
    if version == b"1.0":
        kept.append(b"Connection: close" if closes or not counted else b"Connection: keep-alive")
    else:
        kept += [] if counted else [b"Transfer-Encoding: chunked"]
        kept += [b"Connection: close"] if closes else []
    return b"".join(line + b"\r\n" for line in [*kept, b""])


def _for_client(lines: list[bytes]) -> list[bytes]:
    return [line for line in lines if line.partition(b":")[0].lower() not in _HOP_BY_HOP | _NOT_FOR_CLIENTS]
