"""Write a commented ``relay.toml``: every key is in it, those that are set live, the others with their defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from datetime import date
from typing import Any, Final

from openai_relay.config.read import DEFAULT_STATE
from openai_relay.config.shape import tables

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")

_HEADING: Final = """\
# openai_relay: where it listens, who may call, where requests go.
#
# What stands behind a "#" is the default; remove the "#" to change it, check the file with
# `openai-relay check-config`, and have it read by `openai-relay reload`. Times are seconds, sizes are bytes.
# Relative paths start at the directory of this file. Secrets are never written here, but
# named: "file:PATH", "env:NAME" or "credential:NAME" (systemd).
"""

_TABLES: Final = {
    "listen": "Where clients connect, and what they must show.",
    "identity": "Who a client certificate is.",
    "upstream": "The API that requests go to.",
    "websocket": "WebSockets to the upstream, such as /v1/realtime.",
    "limits": "What each certificate may do; a limit that is not set does not apply.",
    "accounting": "What things cost, and when a day begins.",
    "state": "What outlives the process.",
    "ledger": "Where each exchange is written down, for `openai-relay usage`.",
    "log": "The line that is written for each exchange.",
    "enrol": "Where devices get certificates with a code of `openai-relay invite`; off without an address.",
    "admin": "Health and metrics, in plain HTTP: keep it on this machine.",
}

#: For each key: what it means, and a value to show where the default is to leave it out.
_KEYS: Final[dict[tuple[str, str], tuple[str, object]]] = {
    ("listen", "certificate"): ("The server's certificate and its intermediates, PEM.", "server.pem"),
    ("listen", "key"): ("The private key of that certificate, PEM.", "file:server.key"),
    ("listen", "client_ca"): ("The authorities whose client certificates are let in, PEM.", "ca.pem"),
    ("listen", "address"): ('"host:port", "[::]:port", or "systemd:NAME" for a socket unit.', None),
    ("listen", "crl"): ("Revoked client certificates: the authority's list, or a directory of lists.", "crl.pem"),
    ("listen", "crl_expired"): ('What to do when a list is out of date: "refuse" everybody, or "warn".', None),
    ("listen", "deny"): ("Clients that are let in no more, whatever their authority says.", ["name:lost-phone"]),
    ("listen", "deny_file"): ("More of them, one to a line.", "deny.txt"),
    ("listen", "client_auth"): (
        '"required": no handshake without a certificate; "optional": a 401 that says why.',
        None,
    ),
    ("listen", "backlog"): ("Connections that may wait to be accepted.", None),
    ("listen", "handshake_timeout"): ("For the TLS handshake.", None),
    ("listen", "head_timeout"): ("For the request line and header fields.", None),
    ("listen", "idle_timeout"): ("For a kept connection to send its next request.", None),
    ("listen", "stall_timeout"): ("For a client that neither reads nor sends inside an exchange.", None),
    ("listen", "drain_timeout"): ("For running exchanges to finish when the relay stops.", None),
    ("listen", "max_head"): ("Largest request line and header fields.", None),
    ("listen", "max_fields"): ("Most header fields of a request.", None),
    ("listen", "max_connections"): ("Open client connections, all together.", None),
    ("listen", "max_connections_per_identity"): ("Open connections of one certificate.", None),
    ("identity", "name"): (
        'Where a client\'s name stands: "cn", or the first "dns", "uri" or "email" alternative name.',
        None,
    ),
    ("identity", "limit_by"): (
        '"certificate": each has its own limits; "name": certificates of one name share them.',
        None,
    ),
    ("identity", "default_tier"): ("The tier of every client that is in none by its own rules.", "standard"),
    ("upstream", "url"): ("https://host[:port]; the client's path is added.", None),
    ("upstream", "ca"): ("Trust these authorities instead of the system's, PEM.", "upstream-ca.pem"),
    ("upstream", "authorization"): ('"inject": send api_key; "passthrough": let clients send their own key.', None),
    ("upstream", "api_key"): ("Where the API key is.", "env:OPENAI_API_KEY"),
    ("upstream", "keys"): ("Other keys, by the name that upstream_key says.", {"research": "file:research.key"}),
    ("upstream", "include_usage"): (
        "Ask for the usage of chat streams where the client does not, and keep it from him.",
        None,
    ),
    ("upstream", "organization"): ("Sent as OpenAI-Organization, in place of the client's.", "org-example"),
    ("upstream", "project"): ("Sent as OpenAI-Project, in place of the client's.", "proj_example"),
    ("upstream", "allow_paths"): ("Only these paths, and what is beneath them, are forwarded.", None),
    ("upstream", "deny_paths"): ("These are refused, although allowed above.", None),
    ("upstream", "connect_timeout"): ("For a connection, TLS included.", None),
    ("upstream", "first_byte_timeout"): ("For the head of the answer.", None),
    ("upstream", "idle_timeout"): ("For the next block of an answer.", None),
    ("upstream", "keepalive_timeout"): ("How long an unused connection is kept.", None),
    ("upstream", "max_idle_connections"): ("How many unused connections are kept.", None),
    ("websocket", "enabled"): ("false: an upgrade is refused at once, with 501.", None),
    ("websocket", "idle_timeout"): ("For either side to send something.", None),
    ("limits", "requests_per_minute"): ("Requests, on average.", 60),
    ("limits", "burst"): ("Requests at once; by default a minute's worth.", 10),
    ("limits", "concurrent"): ("Requests that are open at the same time.", 20),
    ("limits", "tokens_per_minute"): ("Tokens, on average: those of requests and of answers.", 100_000),
    ("limits", "token_burst"): ("Tokens at once; by default a minute's worth.", 50_000),
    ("limits", "max_wait"): ("How long a request over a limit may wait for its turn; 0: it is refused at once.", None),
    ("limits", "max_queue"): ("How many requests of one certificate may wait; goes with max_wait.", None),
    ("limits", "shadow"): ("Count what would be refused, and refuse nothing.", None),
    ("limits", "expected_output"): ("Tokens set aside for an answer whose request sets no bound of its own.", None),
    ("accounting", "prices"): ("A table of prices, TOML, in the place of the one that is shipped.", "prices.toml"),
    ("accounting", "time_zone"): ("Where days, weeks and months begin.", "UTC"),
    ("state", "directory"): ('A directory of the relay\'s own; "": nothing outlives the process.', "state"),
    ("ledger", "enabled"): ("false: nothing is written down.", None),
    ("ledger", "database"): (
        "The file; by default ledger.sqlite3 in the directory of the state.",
        "state/ledger.sqlite3",
    ),
    ("ledger", "retention_days"): ("How long single exchanges are kept, sums longer; 0: for ever.", None),
    ("log", "format"): ('"auto" (text on a terminal, else json), "json", "combined", "text" or "off".', None),
    ("enrol", "address"): ('"host:port"; it is not the clients\' own.', "0.0.0.0:8444"),
    ("enrol", "authority"): ("The authority's directory, with ca.key: whoever has this machine has that.", "authority"),
    ("enrol", "passphrase"): ("Where the passphrase of ca.key is, if it has one.", "credential:ca-passphrase"),
    ("admin", "address"): ('"host:port", or "" for none.', None),
}
#: The defaults that are no plain constants of the settings.
_DEFAULTS: Final[dict[tuple[str, str], object]] = {
    ("accounting", "prices"): None,
    ("accounting", "time_zone"): "UTC",
    ("state", "directory"): DEFAULT_STATE,
}

_ACCOUNTS: Final = """\
# What a group of clients may do. What a tier does not say, [limits] says; what a client does not
# say, its tier says. All keys of a tier, with values for example:
"""
_TIER: Final[dict[str, tuple[str, object]]] = {
    "models": ("Names and globs; a request for any other model is refused.", ["gpt-5*", "text-embedding-3-*"]),
    "paths": ("Only these, of those that are forwarded at all.", ["/v1/chat/", "/v1/responses", "/v1/models"]),
    "methods": ("Only these.", ["GET", "POST"]),
    "upstream_key": ("The key that is sent, by its name in upstream.keys.", "research"),
    "organization": ("Sent as OpenAI-Organization.", "org-example"),
    "project": ("Sent as OpenAI-Project.", "proj_example"),
    "requests_per_minute": ('These five as under [limits]; "unlimited" lifts a rate or concurrent.', 60),
    "burst": ("", 10),
    "concurrent": ("", 20),
    "tokens_per_minute": ("", 100_000),
    "token_burst": ("", 50_000),
    "max_wait": ("These three as under [limits].", 5),
    "max_queue": ("", 10),
    "shadow": ("", False),
    "not_after": ("Access ends with this day, or at a moment such as 2030-12-31T18:00:00+01:00.", date(2030, 12, 31)),
    "disabled": ("true: every request is refused.", False),
    "budgets": (
        'For each "day", "week" or "month": dollars or tokens, refused beyond that; and when to warn in the log.',
        [
            {"per": "day", "dollars": 5, "warn_dollars": 4},
            {"per": "month", "tokens": 50_000_000, "warn_tokens": 40_000_000},
        ],
    ),
    "model_limits": (
        "Limits of their own for some models; all that one glob stands for share its limits.",
        {"gpt-5-pro*": {"requests_per_minute": 5, "concurrent": 1}},
    ),
}
_CLIENT: Final[dict[str, tuple[str, object]]] = {
    "tier": ("The tier whose rules stand behind these.", "standard"),
    "tokens_per_minute": ("Any other key of a tier.", "unlimited"),
}


def render(
    *,
    certificate: str,
    key: str,
    client_ca: str,
    api_key: str | None = "env:OPENAI_API_KEY",
    address: str | None = None,
    crl: str | None = None,
    upstream: str | None = None,
    upstream_ca: str | None = None,
    requests_per_minute: float | None = None,
    burst: int | None = None,
    concurrent: int | None = None,
    admin: str | None = None,
) -> str:
    """
    The text of a ``relay.toml`` that sets these values.

    :param key: as the file holds it, for example ``file:server.key``; so is ``api_key``.
    :param address: ``None``, here and below: the default, behind a ``#``.
    :param admin: the admin listener's address; empty switches it off.
    """
    live = {
        ("listen", "certificate"): certificate,
        ("listen", "key"): key,
        ("listen", "client_ca"): client_ca,
        ("listen", "address"): address,
        ("listen", "crl"): crl,
        ("upstream", "url"): upstream,
        ("upstream", "ca"): upstream_ca,
        ("upstream", "api_key"): api_key,
        ("limits", "requests_per_minute"): requests_per_minute,
        ("limits", "burst"): burst,
        ("limits", "concurrent"): concurrent,
        ("admin", "address"): admin,
    }
    lines = [_HEADING]
    for table, kind in tables().items():
        lines.append(f"[{table}]  # {_TABLES[table]}")
        for entry in fields(kind):
            meaning, sample = _KEYS[table, entry.name]
            default = _DEFAULTS.get((table, entry.name), _default(entry))
            lines.extend(_entry(entry.name, default, meaning, sample, live.get((table, entry.name))))
        lines.append("")
        if table == "limits":
            lines.extend(_accounts())
    return "\n".join(lines)


def _accounts() -> Iterator[str]:
    """Tiers and clients: nothing is set, all is shown."""
    yield _ACCOUNTS + "# [tiers.standard]"
    yield from _shown(_TIER)
    yield "\n# What one client may do, by the name in its certificate; quote a name with dots or spaces."
    yield '# [clients."alice.example"]'
    yield from _shown(_CLIENT)
    yield ""


def _shown(samples: Mapping[str, tuple[str, object]]) -> Iterator[str]:
    for key, (meaning, sample) in samples.items():
        if meaning:
            yield f"# {meaning}"
        yield f"# {key} = {toml_value(sample)}"


def _default(entry: Field[Any]) -> object:
    return None if entry.default is MISSING else entry.default


def _entry(name: str, default: object, meaning: str, sample: object, value: object) -> Iterator[str]:
    """A comment and a line: the value that is set, else the default or, where it is to leave it out, a sample."""
    if value is not None:
        yield f"# {meaning}"
        yield f"{name} = {toml_value(value)}"
    elif default is not None:
        yield f"# {meaning}"
        yield f"# {name} = {toml_value(default)}"
    else:
        yield f"# {meaning} Not set; for example:"
        yield f"# {name} = {toml_value(sample)}"


def toml_value(value: object) -> str:
    """A value as TOML writes it, on one line; what JSON writes is TOML too, but for DEL."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str | int | float):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple | list):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        if not value:
            return "{}"
        return f"{{ {', '.join(f'{_key(key)} = {toml_value(item)}' for key, item in value.items())} }}"
    raise TypeError(f"no setting is a {type(value).__name__}")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else toml_value(name)
