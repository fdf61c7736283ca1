"""Write a commented ``relay.toml``: every key is in it, those that are set live, the others with their defaults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any, Final

from openai_relay.config.shape import tables

_HEADING: Final = """\
# openai_relay: where it listens, who may call, where requests go.
#
# What stands behind a "#" is the default; remove the "#" to change it, check the file with
# `openai-relay check-config`, and restart. Times are seconds, sizes are bytes.
# Relative paths start at the directory of this file. Secrets are never written here, but
# named: "file:PATH", "env:NAME" or "credential:NAME" (systemd).
"""

_TABLES: Final = {
    "listen": "Where clients connect, and what they must show.",
    "identity": "Who a client certificate is.",
    "upstream": "The API that requests go to.",
    "websocket": "WebSockets to the upstream, such as /v1/realtime.",
    "limits": "What each certificate may do; a limit that is not set does not apply.",
    "log": "The line that is written for each exchange.",
    "admin": "Health and metrics, in plain HTTP: keep it on this machine.",
}

#: For each key: what it means, and a value to show where the default is to leave it out.
_KEYS: Final[dict[tuple[str, str], tuple[str, str | int | None]]] = {
    ("listen", "certificate"): ("The server's certificate and its intermediates, PEM.", "server.pem"),
    ("listen", "key"): ("The private key of that certificate, PEM.", "file:server.key"),
    ("listen", "client_ca"): ("The authorities whose client certificates are let in, PEM.", "ca.pem"),
    ("listen", "address"): ('"host:port", "[::]:port", or "systemd:NAME" for a socket unit.', None),
    ("listen", "crl"): ("Revoked client certificates: the authority's list, or a directory of lists.", "crl.pem"),
    ("listen", "client_auth"): (
        '"required": no handshake without a certificate; "optional": a 401 that says why.',
        None,
    ),
    ("listen", "backlog"): ("Connections that may wait to be accepted.", None),
    ("listen", "handshake_timeout"): ("For the TLS handshake.", None),
    ("listen", "head_timeout"): ("For the request line and header fields.", None),
    ("listen", "idle_timeout"): ("For a kept connection to send its next request.", None),
    ("listen", "stall_timeout"): ("For a client that neither reads nor sends inside an exchange.", None),
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
    ("upstream", "url"): ("https://host[:port]; the client's path is added.", None),
    ("upstream", "ca"): ("Trust these authorities instead of the system's, PEM.", "upstream-ca.pem"),
    ("upstream", "authorization"): ('"inject": send api_key; "passthrough": let clients send their own key.', None),
    ("upstream", "api_key"): ("Where the API key is.", "env:OPENAI_API_KEY"),
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
    ("log", "format"): ('"auto" (text on a terminal, else json), "json", "combined", "text" or "off".', None),
    ("admin", "address"): ('"host:port", or "" for none.', None),
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
            lines.extend(_entry(entry, meaning, sample, live.get((table, entry.name))))
        lines.append("")
    return "\n".join(lines)


def _entry(entry: Field[Any], meaning: str, sample: str | int | None, value: object) -> Iterator[str]:
    """A comment and a line: the value that is set, else the default or, where it is to leave it out, a sample."""
    default = None if entry.default is MISSING else entry.default
    if value is not None:
        yield f"# {meaning}"
        yield f"{entry.name} = {toml_value(value)}"
    elif default is not None:
        yield f"# {meaning}"
        yield f"# {entry.name} = {toml_value(default)}"
    else:
        yield f"# {meaning} Not set; for example:"
        yield f"# {entry.name} = {toml_value(sample)}"


def toml_value(value: object) -> str:
    """A value as TOML writes it; what JSON writes is TOML too, but for DEL."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str | int | float):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    raise TypeError(f"no setting is a {type(value).__name__}")
