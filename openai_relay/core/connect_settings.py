"""The settings of ``openai-relay connect``: which relay, where to listen, and what is not allowed unless told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from openai_relay.core.local_requests import is_loopback

_LISTEN: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+)):([0-9]{1,5})")
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where local tools connect."""

    host: str  #: an address, without brackets
    port: int  #: 0: any free one

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class ConnectSettings:
    """Everything that can be chosen."""

    relay: str  #: ``https://host[:port]``
    certificate: Path
    key: str  #: where it is: ``file:PATH``, ``env:NAME`` or ``credential:NAME``
    ca: Path | None = None  #: ``None``: the system's authorities
    listen: Listen = Listen("127.0.0.1", 8088)
    names: tuple[str, ...] = ()  #: further hosts that requests may ask for
    pass_authorization: bool = True

    @property
    def place(self) -> str:
        """The relay as ``host:port``, for messages."""
        parts = urlsplit(self.relay)
        return joined(parts.hostname or "", parts.port or 443)


def relay_url(text: str) -> str:
    """
    The relay's URL, without a slash at its end.

    :raises ValueError: it is none; in words.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"{text!r} is no URL; write https://HOST:PORT") from None
    if parts.scheme == "http":
        raise ValueError("a relay speaks TLS only; write https:// in place of http://")
    if parts.scheme != "https" or not parts.hostname or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{text!r} is no URL of a relay; write https://HOST:PORT")
    if parts.username is not None:
        raise ValueError("a relay knows its clients by certificate; leave out the name before the @")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"leave out what follows the host (tools add the path); write https://{parts.netloc}")
    if port == 0:
        raise ValueError("0 is no port to connect to; write the relay's, or leave it out for 443")
    return f"https://{parts.netloc}"


def listen_address(text: str, *, allow_remote: bool) -> Listen:
    """
    Where to listen.

    :raises ValueError: it is no address, or one that other machines reach without its being allowed; in words.
    """
    found = _LISTEN.fullmatch(text)
    if found is None or int(found[3]) > 65_535:
        raise ValueError(f"{text!r} is no address to listen on; write 127.0.0.1:8088, [::1]:8088, or port 0 for any")
    host = "127.0.0.1" if (found[2] or "").lower() == "localhost" else found[1] or found[2]
    try:
        host = str(ip_address(host))
    except ValueError:
        raise ValueError(f"{host!r} is no IP address; write for example 127.0.0.1:{found[3]}") from None
    listen = Listen(host, int(found[3]))
    if not listen.loopback and not allow_remote:
        raise ValueError(
            f"whoever reaches {joined(host, listen.port)} would use your certificate, without a password. "
            f"Listen on 127.0.0.1:{listen.port}, or add --allow-remote if this is what you want"
        )
    return listen


def host_name(text: str) -> str:
    """
    A host by which this port may be asked for.

    :raises ValueError: it is no name; in words.
    """
    if _NAME.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no host name; write it alone, without a scheme and without a port")
    return text


def joined(host: str, port: int) -> str:
    """``host:port``, with brackets where the host is of IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
