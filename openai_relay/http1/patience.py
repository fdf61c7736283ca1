"""How long, and how much, a peer may keep a connection waiting."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a client may cost the server; seconds and bytes."""

    handshake_timeout: float = 10.0
    head_timeout: float = 10.0
    idle_timeout: float = 75.0
    stall_timeout: float = 600.0
    max_head: int = 65_536


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """How long the upstream may keep us waiting, in seconds, and how many idle connections are kept."""

    connect_timeout: float = 10.0
    first_byte_timeout: float = 600.0
    idle_timeout: float = 600.0
    keepalive_timeout: float = 50.0
    max_idle: int = 1_024
