"""How long, and how much, a peer may keep a connection waiting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Bytes of pipelined requests that are read ahead.
READ_AHEAD: Final = 65_536
#: Requests of one connection that are answered at one go, where the answers need nobody else.
FAIR_SHARE: Final = 16
#: How long a closing connection still takes what the client is sending, so that the answer is not lost in a reset.
LINGER: Final = 5.0
LINGER_BYTES: Final = 16 * 1024 * 1024
#: How long a closing connection may take when the whole server closes.
LAST_MOMENT: Final = 2.0


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a client may cost the server; seconds and bytes."""

    handshake_timeout: float = 10.0
    head_timeout: float = 10.0
    idle_timeout: float = 75.0
    stall_timeout: float = 600.0
    max_head: int = 65_536
    max_fields: int = 256


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """How long the upstream may keep us waiting, in seconds, and how many idle connections are kept."""

    connect_timeout: float = 10.0
    first_byte_timeout: float = 600.0
    idle_timeout: float = 600.0
    keepalive_timeout: float = 50.0
    max_idle: int = 1_024
