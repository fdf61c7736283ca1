"""Decide whether one value may stand for its key: types, ranges, addresses, URLs, paths."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from openai_relay.config.problems import Finding, Wrong, Wrongs, did_you_mean, shown
from openai_relay.core.errors import RelayError
from openai_relay.core.paths import PathPolicy

#: Turns what TOML gave into what the settings hold, or raises ``Wrong``.
Rule = Callable[[object], object]

Name = TypeVar("Name", str, int)

#: Longer time-outs are slips, and too long ones overflow a timer.
LONGEST_TIMEOUT: Final = 604_800

_TYPES: Final = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
_HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_SOCKET_NAME: Final = re.compile(r"[A-Za-z0-9_.@-]{1,255}")


def type_name(value: object) -> str:
    """What a person calls the type of a TOML value."""
    return _TYPES.get(type(value), "a table" if isinstance(value, dict) else "a date or time")


def text(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"must be text, and this is {type_name(value)}; write it in double quotes")
    return value


def whole_number(least: int, most: int) -> Rule:
    """A rule: an integer from ``least`` to ``most``."""

    def rule(value: object) -> int:
        if isinstance(value, float):
            raise Wrong(f"must be a whole number, and {shown(value)} has a fraction; write it without a point")
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(f"must be a whole number, and this is {type_name(value)}; write a number without quotes")
        if not least <= value <= most:
            raise Wrong(f"{shown(value)} is out of range; give a whole number from {least} to {most}")
        return value

    return rule


def number(least: float, most: float) -> Rule:
    """A rule: a finite number from ``least`` to ``most``; integers are taken."""

    def rule(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Wrong(f"must be a number, and this is {type_name(value)}; write a number without quotes")
        if not least <= value <= most:  # NaN fails this too
            raise Wrong(f"{shown(value)} is out of range; give a number from {least:g} to {most:.10g}")
        return float(value)

    return rule


def seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Wrong(f"must be a number of seconds, and this is {type_name(value)}; write a number without quotes")
    if not 0 < value <= LONGEST_TIMEOUT:  # NaN fails this too
        raise Wrong(f"{shown(value)} is no time-out; give seconds, more than 0 and at most {LONGEST_TIMEOUT} (a week)")
    return float(value)


def yes_or_no(value: object) -> bool:
    """A rule: true or false."""
    if not isinstance(value, bool):
        raise Wrong(f"must be true or false, and this is {type_name(value)}; write it without quotes")
    return value


def one_of(*words: str) -> Rule:
    """A rule: one of a few words."""

    def rule(value: object) -> str:
        choice = text(value)
        if choice in words:
            return choice
        listed = ", ".join(f'"{word}"' for word in words)
        meant = did_you_mean(choice, words)
        hint = f'did you mean "{meant}"? It' if meant else "it"
        raise Wrong(f"{shown(choice)} is not known; {hint} is one of {listed}")

    return rule


def listen_address(value: object) -> str:
    """``host:port``, ``[v6]:port`` or ``systemd:NAME``."""
    address = text(value)
    if not address.startswith("systemd:"):
        return tcp_address(address)
    if not _SOCKET_NAME.fullmatch(address.removeprefix("systemd:")):
        raise Wrong('names no systemd socket; write "systemd:NAME" with the FileDescriptorName= of the socket unit')
    return address


def admin_address(value: object) -> str | None:
    """``host:port`` or ``[v6]:port``; empty or false: none."""
    if value in ("", False):
        return None
    if isinstance(value, str) and value.startswith("systemd:"):
        raise Wrong('cannot be a systemd socket; write "host:port", or "" for no admin listener')
    return tcp_address(value)


def tcp_address(value: object) -> str:
    """``host:port`` or ``[v6]:port``; port 0 lets the system choose."""
    address = text(value)
    host, colon, port = address.rpartition(":")
    if not colon:
        raise Wrong(f'{shown(address)} lacks a host or a port; write "host:port", for example "127.0.0.1:8443"')
    _require_port(port)
    if not host:
        raise Wrong(f'{shown(address)} lacks a host; write "0.0.0.0:{port}" or "[::]:{port}" for every interface')
    if ":" in host and not host.startswith("["):
        raise Wrong(f'{shown(address)} is ambiguous; put an IPv6 address in brackets: "[::1]:8443"')
    _require_host(host)
    return address


def https_url(value: object) -> str:
    """``https://host[:port]``, and nothing else; a lone ``/`` at the end is dropped."""
    url = text(value)
    example = 'for example "https://api.openai.com"'
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise Wrong(f"holds a space or a character that no URL has; write plain ASCII, {example}")
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise Wrong(f'is no URL; write "https://" before the host, {example}')
    if scheme.lower() != "https":
        raise Wrong(f"must begin with https://, since the upstream's TLS is always verified; write {example}")
    authority, _, path = rest.partition("/")
    if "@" in rest:  # not repeated: it may hold a password
        raise Wrong('holds a user name or a password; take it out and set "api_key"')
    if "?" in rest or "#" in rest:
        raise Wrong("holds a query or a fragment; give scheme, host and port alone")
    if path:
        raise Wrong("holds a path; give scheme, host and port alone: the path that the client asks for is added")
    host, port = _host_and_port(authority.lower())
    _require_host(host)
    if port:
        _require_port(port[1:])
        if int(port[1:]) == 0:
            raise Wrong("port 0 cannot be connected to; give a port from 1 to 65535")
    return f"https://{host}{port}"


def api_path(value: object) -> str:
    """The beginning of a request's path."""
    path = text(value)
    if not path.startswith("/"):
        raise Wrong(f'{shown(path)} does not begin with "/"; write for example "/v1/"')
    try:
        PathPolicy([path], [])
    except (ValueError, RelayError):
        raise Wrong(
            f"{shown(path)} cannot be allowed or denied; write the plain path, without ?, *, %, ;, // or dot segments"
        ) from None
    return path


def paths(*, may_be_empty: bool) -> Rule:
    """A rule: a list of beginnings of paths."""
    return items(api_path, '["/v1/"]', may_be_empty=may_be_empty)


def items(of_each: Rule, example: str, *, may_be_empty: bool = False) -> Rule:
    """A rule: a list, each item of which has a rule."""

    def rule(value: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise Wrong(f"must be a list, and this is {type_name(value)}; write for example {example}")
        if not value and not may_be_empty:
            raise Wrong(f"is empty, so that nothing would be let through; write for example {example}")
        return tuple(each(of_each, enumerate(value)).values())

    return rule


def each(rule: Rule, named: Iterable[tuple[Name, object]]) -> dict[Name, object]:
    """
    Each value by its name or number, as the rule takes it.

    :raises Wrongs: with all that is wrong, not only the first.
    """
    taken: dict[Name, object] = {}
    findings: list[Finding] = []
    for name, value in named:
        try:
            taken[name] = rule(value)
        except Wrong as wrong:
            findings.append(((name,), str(wrong)))
        except Wrongs as wrongs:
            findings.extend(wrongs.beneath(name))
    if findings:
        raise Wrongs(findings)
    return taken


def unlimited_or(limit: Rule) -> Rule:
    """A rule: a limit, or the word that lifts one."""

    def rule(value: object) -> object:
        if value == "unlimited":
            return value
        if isinstance(value, str):
            raise Wrong(f'{shown(value)} is no limit; write a number without quotes, or "unlimited"')
        return limit(value)

    return rule


def header_word(value: object) -> str:
    """What is sent as the value of one header field: visible ASCII."""
    word = text(value)
    if not word:
        raise Wrong("is empty; give the identifier, or leave the key out")
    if len(word) > 256 or not all("!" <= character <= "~" for character in word):
        raise Wrong("holds a space, a control character or one beyond ASCII, or is too long; give the identifier alone")
    return word


def _host_and_port(authority: str) -> tuple[str, str]:
    """Cut before the colon of the port; brackets stay with the host, the colon with the port."""
    end = authority.find("]") + 1 if authority.startswith("[") else authority.find(":")
    if end < 0 or authority[end:].count(":") > 1:
        return authority, ""
    if authority[end:] and authority[end] != ":":
        raise Wrong('has something between "]" and the port; write for example "https://[::1]:8443"')
    return authority[:end], authority[end:]


def _require_port(port: str) -> None:
    if not (_PORT.fullmatch(port) and int(port) <= 65_535):
        raise Wrong(f"{shown(port)} is no port; give a number up to 65535 after the colon")


def _require_host(host: str) -> None:
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]"))
        except ValueError:
            raise Wrong(f'{shown(host)} is no IPv6 address; write for example "[::1]"') from None
        if not host.endswith("]"):
            raise Wrong(f'{shown(host)} lacks its closing bracket; write for example "[::1]"')
        return
    if re.fullmatch(r"[0-9.]+", host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise Wrong(f"{shown(host)} is no IPv4 address; give four numbers from 0 to 255, or a host name") from None
    elif len(host) > 253 or not _HOST_NAME.fullmatch(host):
        raise Wrong(f"{shown(host)} is no host name; use letters, digits, hyphens and dots, or an IP address")
