"""
The settings, frozen: what a checked configuration looks like to everything that runs.

``config.py`` makes them from TOML or from command-line options; nothing else
does.  Times are seconds, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Literal

from openai_relay.core.deny import DenyFile, DenyList
from openai_relay.core.identity import LimitBy as LimitBy
from openai_relay.core.limit_rules import LimitSettings as LimitSettings  # one of them, wherever it lives
from openai_relay.core.policy import ClientRules, Rules
from openai_relay.core.prices import NO_PRICES, PriceTable

ClientAuth = Literal["required", "optional"]
CRLExpired = Literal["refuse", "warn"]
NameFrom = Literal["cn", "dns", "uri", "email"]
Authorization = Literal["inject", "passthrough"]
LogFormat = Literal["auto", "json", "combined", "text", "off"]

#: The system's own directory of trusted authorities, as OpenSSL finds it.
SYSTEM_CA: None = None


class Secret:
    """A value that never shows in a log, an error or a traceback: its text is masked."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The value itself, for the one who sends or loads it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where clients connect, and what they must show."""

    certificate: Path
    key: Secret  #: the private key, PEM
    client_ca: Path
    address: str = "127.0.0.1:8443"  #: ``host:port``, ``[v6]:port``, or ``systemd:NAME``
    crl: Path | None = None
    crl_expired: CRLExpired = "refuse"  #: what to do about clients when a list is out of date
    deny: DenyList | None = None
    deny_file: DenyFile | None = None
    client_auth: ClientAuth = "required"
    backlog: int = 4096
    handshake_timeout: float = 10.0
    head_timeout: float = 10.0
    idle_timeout: float = 75.0  #: of a kept connection between two requests
    stall_timeout: float = 600.0  #: of a client that sends or reads nothing inside an exchange
    drain_timeout: float = 30.0  #: that running exchanges get to finish when the relay stops
    max_head: int = 65_536
    max_fields: int = 256  #: header fields of a request
    max_connections: int = 10_000
    max_connections_per_identity: int = 1_000

    @property
    def denied(self) -> DenyList:
        """Who is on either deny list."""
        return (self.deny or DenyList()) | (DenyList() if self.deny_file is None else self.deny_file.denied)


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Who a certificate is, and what its limits are counted by."""

    name: NameFrom = "cn"
    limit_by: LimitBy = "certificate"
    default_tier: str | None = None  #: of every client that is in none by its own rules


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """The API that requests go to."""

    url: str = "https://api.openai.com"
    ca: Path | None = SYSTEM_CA
    authorization: Authorization = "inject"
    api_key: Secret | None = None
    keys: Mapping[str, Secret] = field(default_factory=dict)  #: others, by the name that a client's rules say
    include_usage: bool = True  #: ask for the usage of chat streams where the client does not, and keep it from him
    organization: str | None = None
    project: str | None = None
    allow_paths: tuple[str, ...] = ("/v1/",)
    deny_paths: tuple[str, ...] = ("/v1/organization/",)
    connect_timeout: float = 10.0
    first_byte_timeout: float = 600.0
    idle_timeout: float = 600.0
    keepalive_timeout: float = 50.0  #: an idle pooled connection is closed after this
    max_idle_connections: int = 1_024


@dataclass(frozen=True, slots=True)
class WebSocketSettings:
    """Tunnels to the upstream."""

    enabled: bool = True
    idle_timeout: float = 600.0  #: of a tunnel in which neither side sends anything


@dataclass(frozen=True, slots=True)
class StateSettings:
    """What outlives the process; ``None``: nothing does."""

    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Where each exchange is written down."""

    enabled: bool = True
    database: Path | None = None  #: ``None``: ``ledger.sqlite3`` in the state's directory; without that there is none
    retention_days: int | None = 90  #: of single exchanges, whose sums are kept longer; ``None``: for ever


@dataclass(frozen=True, slots=True)
class AccountingSettings:
    """What things cost, and when a day begins."""

    prices: PriceTable = NO_PRICES
    time_zone: tzinfo = UTC


@dataclass(frozen=True, slots=True)
class EnrolSettings:
    """Where devices get their certificates; without an address nowhere."""

    address: str | None = None
    authority: Path | None = None  #: its directory, with the key
    passphrase: Secret | None = None  #: of that key, where it is encrypted


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The line that is written for each exchange."""

    format: LogFormat = "auto"  #: ``auto``: text when standard error is a terminal, else json


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """Health and metrics; ``None`` switches the listener off."""

    address: str | None = "127.0.0.1:9464"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be configured."""

    listen: ListenSettings
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    upstream: UpstreamSettings = field(default_factory=UpstreamSettings)
    websocket: WebSocketSettings = field(default_factory=WebSocketSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    tiers: Mapping[str, Rules] = field(default_factory=dict)
    clients: Mapping[str, ClientRules] = field(default_factory=dict)
    accounting: AccountingSettings = field(default_factory=AccountingSettings)
    state: StateSettings = field(default_factory=StateSettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    log: LogSettings = field(default_factory=LogSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    enrol: EnrolSettings = field(default_factory=EnrolSettings)
