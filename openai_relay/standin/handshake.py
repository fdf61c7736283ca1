"""Whether a request becomes a WebSocket, and what is agreed on (RFC 6455 §4.2); no I/O."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import generate_accept_token

from openai_relay.standin.problems import Problem, invalid

Pair = tuple[bytes, bytes]

_VERSION: Final = b"13"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the 101 says, and the extension that both sides then use."""

    fields: tuple[Pair, ...]
    deflate: PerMessageDeflate | None = None


def wants_websocket(method: bytes, upgrade: bytes | None) -> bool:
    """Whether a request offers to go on as a WebSocket; an offer of anything else is passed over."""
    offered = [] if upgrade is None else [name.strip().lower() for name in upgrade.split(b",")]
    return method == b"GET" and b"websocket" in offered


def agree(fields: Iterable[Pair], protocol: bytes | None, deflate: bool) -> Agreement:
    """
    Answer a client's opening handshake.

    :param protocol: is selected when the client offers it.
    :param deflate: permessage-deflate is taken when the client offers it.
    :raises Problem: 400 for a handshake that is incomplete, 426 for another version.
    """
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        found.setdefault(name.lower(), []).append(value)
    versions, keys = found.get(b"sec-websocket-version", []), found.get(b"sec-websocket-key", [])
    if len(keys) != 1 or not _is_nonce(keys[0]):
        raise invalid("The WebSocket handshake needs one Sec-WebSocket-Key: 16 bytes in base64 (RFC 6455 §4.1).")
    if versions != [_VERSION]:
        raise upgrade_required("The WebSocket handshake needs Sec-WebSocket-Version: 13 (RFC 6455 §4.1).")
    answer = [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", generate_accept_token(keys[0]))]
    if protocol is not None and protocol in protocols(found.get(b"sec-websocket-protocol", [])):
        answer.append((b"Sec-WebSocket-Protocol", protocol))
    for offer in _items(found.get(b"sec-websocket-extensions", [])) if deflate else ():
        extension = PerMessageDeflate()
        parameters = _accepted(extension, offer)
        if parameters is not None:
            answer.append((b"Sec-WebSocket-Extensions", b"; ".join(filter(None, (b"permessage-deflate", parameters)))))
            return Agreement(tuple(answer), extension)
    return Agreement(tuple(answer))


def protocols(values: Iterable[bytes]) -> list[bytes]:
    """The names in some Sec-WebSocket-Protocol fields."""
    return list(filter(None, _items(values)))


def upgrade_required(message: str) -> Problem:
    """426: it works as a WebSocket only."""
    problem = Problem(426, message, code="upgrade_required")
    problem.fields += [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", _VERSION)]
    return problem


def _items(values: Iterable[bytes]) -> list[bytes]:
    return [item.strip() for value in values for item in value.split(b",")]


def _is_nonce(value: bytes) -> bool:
    try:
        return len(b64decode(value, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _accepted(extension: PerMessageDeflate, offer: bytes) -> bytes | None:
    """The parameters with which an offer is taken; ``None``: it is not."""
    name = offer.partition(b";")[0].strip()
    if name != b"permessage-deflate":
        return None
    try:
        taken = extension.accept(offer.decode("latin-1"))
    except ValueError:  # a window that is no number
        return None
    return taken.encode("ascii") if isinstance(taken, str) else None
