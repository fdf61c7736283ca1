"""``Identity``: who a verified certificate is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

LimitBy = Literal["certificate", "name"]


class Link(NamedTuple):
    """One certificate of a verified chain."""

    issuer: str  #: the name of who signed it (RFC 4514)
    serial: int
    fingerprint: bytes  #: SHA-256


@dataclass(frozen=True, slots=True)
class Identity:
    """One client, as its certificate says; made once per connection by ``listener.py``."""

    name: str  #: the CN, or the first SAN of the configured kind; printable, at most 256 characters
    fingerprint: str  #: SHA-256 of the DER certificate, 64 lower-case hex digits
    serial: str  #: lower-case hex, without leading zeros
    not_after: float  #: seconds since the epoch (UTC)
    #: From its own certificate to one that is trusted: how it was let in, and no part of who it is.
    chain: tuple[Link, ...] = field(default=(), compare=False, repr=False)

    def limit_key(self, by: LimitBy) -> str:
        """What this identity's limits are counted under."""
        return self.fingerprint if by == "certificate" else self.name


def is_plain_name(name: str) -> bool:
    """Whether a name can stand in a log line, a metric and a header field as it is."""
    return 0 < len(name) <= 256 and name.isprintable() and name == name.strip()
