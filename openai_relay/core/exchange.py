"""``Exchange``: the record of one request; each stage fills in its own fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from openai_relay.core.errors import RelayError
from openai_relay.core.identity import Identity
from openai_relay.core.usage import Usage

#: How far its course an exchange came.
Stage = Literal["accepted", "authenticated", "admitted", "forwarded", "streamed"]


@dataclass(slots=True)
class Exchange:
    """
    One request and its answer, from accepted to accounted.

    Times are nanoseconds of the monotonic clock that the course was given.
    """

    opened_ns: int
    relay_request_id: str
    method: str = ""
    path: str = ""  #: without the query, which may hold what is not ours to log
    http_version: str = "1.1"
    client_address: str = ""
    identity: Identity | None = None
    status: int = 0  #: what the client was answered; 0: nothing; 499: it left before an answer
    bytes_in: int = 0  #: of the request body
    bytes_out: int = 0  #: of the response body
    first_byte_ns: int | None = None  #: when the upstream's head arrived
    closed_ns: int | None = None
    upstream_request_id: str | None = None
    upstream_status: int | None = None  #: None: the upstream was not asked, or did not answer
    error: RelayError | None = None
    messages_in: int | None = None  #: of a WebSocket, from the client; None: it was none
    messages_out: int | None = None
    close_code: int | None = None  #: of a WebSocket's close frame, whoever sent the first
    stage: Stage = "accepted"  #: in which it is, or ended
    queue_ns: int = 0  #: how long it waited for a limit
    model: str | None = None  #: as the request names it; None: it names none, or nobody looked
    usage: Usage | None = None  #: what it used, as the upstream told or as it was estimated; None: nothing is known
    cost_micro_usd: int | None = None  #: None: nothing that has a price
    fallback_price: bool = False  #: the price of unknown models was used
    events: int = 0  #: of a stream, that came down
    first_event_ns: int | None = None  #: when the first of them came

    @property
    def end(self) -> str:
        """How it ended: ``done`` or the cause's ``end``."""
        return "done" if self.error is None else self.error.end

    @property
    def duration_ns(self) -> int:
        """From the request's head to the last byte; 0 while it is open."""
        return 0 if self.closed_ns is None else self.closed_ns - self.opened_ns

    def close(self, now_ns: int) -> Exchange:
        """The exchange is over, whatever way; returns itself for who accounts it."""
        assert self.closed_ns is None, "an exchange is closed once"
        self.closed_ns = now_ns
        return self
