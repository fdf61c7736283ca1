"""``Counters``: what reached the stand-in, so that a test can prove that nothing did."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec


@dataclass(slots=True)
class Counters:
    """All numbers since the start; requests for these numbers themselves are not among them."""

    connections: int = 0  #: accepted, over TLS even if the handshake then failed
    requests: int = 0
    by_path: dict[str, int] = field(default_factory=dict)  #: by method and route, such as ``GET /v1/files/{id}``
    by_status: dict[str, int] = field(default_factory=dict)  #: of answers that were begun
    malformed: int = 0
    open: int = 0  #: exchanges that have neither ended nor been left
    most_open: int = 0
    aborted: int = 0  #: exchanges whose client left before their end
    cut: int = 0  #: exchanges that were ended uncleanly on demand
    finished: int = 0
    bytes_received: int = 0  #: of request bodies
    bytes_sent: int = 0  #: of response bodies; of those under way, what was sent when the numbers were last asked for
    keys_matched: int = 0  #: requests that brought the expected key
    keys_wrong: int = 0  #: requests that brought another one
    last_key_matched: bool | None = None  #: None: no request yet, or no key is expected
    keys_in_protocols: int = 0  #: requests that offered a key as a WebSocket's subprotocol, as browsers do
    websockets: int = 0  #: requests that became one
    messages_received: int = 0  #: whole messages on them
    messages_sent: int = 0
    pings: int = 0  #: received
    closes: dict[str, int] = field(default_factory=dict)  #: close frames received, by code; 1005: one without a code

    def begin(self, route: str) -> None:
        """A request has come."""
        self.requests += 1
        self.by_path[route] = self.by_path.get(route, 0) + 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)

    def answer(self, status: int) -> None:
        """The head of an answer goes out."""
        name = str(status)
        self.by_status[name] = self.by_status.get(name, 0) + 1

    def key(self, matched: bool) -> None:
        """A request brought a key, and one is expected."""
        self.last_key_matched = matched
        if matched:
            self.keys_matched += 1
        else:
            self.keys_wrong += 1

    def close(self, code: int) -> None:
        """A close frame has come."""
        name = str(code)
        self.closes[name] = self.closes.get(name, 0) + 1

    def to_json(self) -> bytes:
        """All of them."""
        return msgspec.json.encode(self)
