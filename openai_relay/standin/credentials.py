"""Reads a request's fields once: its bearer key, its controls, and the few that the answer depends on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final

from openai_relay.core.settings import Secret
from openai_relay.standin.handshake import protocols
from openai_relay.standin.problems import Problem, invalid

Pair = tuple[bytes, bytes]
#: The API takes no longer ``X-Client-Request-Id``.
LONGEST_REQUEST_ID = 512
#: What stands before a key that is offered as a WebSocket's subprotocol.
KEY_PROTOCOL: Final = b"openai-insecure-api-key."


@dataclass(slots=True)
class Received:
    """What the stand-in wants to know of a request's fields."""

    authorization: list[bytes]
    content_type: bytes
    client_request_id: bytes
    protocols: list[bytes]  #: the fields in which a WebSocket's subprotocols are offered
    controls: list[Pair]  #: the ``x-standin-`` fields, without that and in lower case


def received(fields: Iterable[Pair]) -> Received:
    """Sort out the fields of one request."""
    found = Received([], b"", b"", [], [])
    for name, value in fields:
        lower = name.lower()
        if lower == b"authorization":
            found.authorization.append(value)
        elif lower == b"content-type":
            found.content_type = value
        elif lower.startswith(b"x-standin-"):
            found.controls.append((lower[10:], value))
        elif lower == b"x-client-request-id":
            found.client_request_id = value
        elif lower == b"sec-websocket-protocol":
            found.protocols.append(value)
    return found


def bearer(found: Received) -> bytes:
    """
    The key that a request brings.

    :raises Problem: 401 when there is none, or not just one.
    """
    if not found.authorization:
        raise Problem(401, "No API key was sent: it belongs into the field 'Authorization: Bearer KEY'.")
    scheme, _, key = found.authorization[0].partition(b" ")
    if len(found.authorization) > 1 or scheme.lower() != b"bearer" or not key.strip():
        raise Problem(401, "The Authorization field must stand once, as 'Authorization: Bearer KEY'.")
    return key.strip()


def key_offered(found: Received) -> bytes | None:
    """The key that is offered as a subprotocol, which is how browsers bring one to a WebSocket."""
    for protocol in protocols(found.protocols):
        if protocol.startswith(KEY_PROTOCOL):
            return protocol.removeprefix(KEY_PROTOCOL)
    return None


def matches(key: bytes, expected: Secret | None) -> bool | None:
    """Whether it is the expected key; None when any will do."""
    return None if expected is None else compare_digest(key, expected.reveal())


def check_request_id(found: Received) -> None:
    """
    The client's own id for its request, which the API limits.

    :raises Problem: 400.
    """
    identifier = found.client_request_id
    if len(identifier) > LONGEST_REQUEST_ID or not identifier.isascii():
        raise invalid(f"X-Client-Request-Id must be ASCII, at most {LONGEST_REQUEST_ID} characters.")


def wrong_key() -> Problem:
    """401 for a key that is not the expected one; it is not repeated."""
    return Problem(401, "The API key is not the one that this stand-in expects.", code="invalid_api_key")
