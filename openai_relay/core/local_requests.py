"""
Decide whether a request on a local plain-HTTP port comes from a program of this machine, or from somebody's web page.

A browser reaches local ports for any page that it shows.  What gives a page
away is the ``Origin`` that the browser adds or, where a name of the page's own
was made to lead here (DNS rebinding), that name in ``Host``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import ClassVar, Final

from openai_relay.core.errors import Pair, RelayError

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]*)?")
_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(.*)")
#: What browsers, which cannot set Authorization, hide a key in.
_KEY_PROTOCOL: Final = b"openai-insecure-api-key."


class HostRefused(RelayError):
    """The request was meant for another host: a name that somebody made lead here, or that was not foreseen."""

    status: ClassVar[int] = 403
    type: ClassVar[str] = "invalid_request_error"
    code: ClassVar[str] = "host_not_allowed"


class OriginRefused(RelayError):
    """A web page has sent the request, and not one of this machine."""

    status: ClassVar[int] = 403
    type: ClassVar[str] = "invalid_request_error"
    code: ClassVar[str] = "origin_not_allowed"


def is_loopback(host: str) -> bool:
    """Whether a name or an address (without brackets) always leads to this machine itself."""
    name = host.lower().removesuffix(".")
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")  # RFC 6761 §6.3


class LocalRequests:
    """
    Which requests are served; asked once for each, before anything of it goes on.

    :param names: further hosts by which this port may be asked for, addresses and names.
    :param any_address: whether every address is one: of a port that other machines reach.  No page has an
        address of ours for its name, so that rebinding needs a name.
    """

    __slots__ = ("_any_address", "_names")

    def __init__(self, names: Iterable[str] = (), *, any_address: bool = False) -> None:
        self._names = frozenset(_folded(name) for name in names)
        self._any_address = any_address

    def check(self, fields: Iterable[Pair]) -> None:
        """
        Let the request pass, in silence.

        :raises HostRefused: it asks for a host that is not this port's.
        :raises OriginRefused: a page that is not of this machine has sent it.
        """
        hosts, origins, sites = [], [], []
        for name, value in fields:
            lower = name.lower()
            if lower == b"host":
                hosts.append(value.decode("latin-1"))
            elif lower == b"origin":
                origins.append(value.decode("latin-1"))
            elif lower == b"sec-fetch-site":
                sites.append(value)
        if not hosts or not all(map(self._is_ours, hosts)):
            raise HostRefused(
                told="This port serves requests for localhost and 127.0.0.1 (or the address in --listen), and the "
                "request's Host is another. Use the base URL that `openai-relay connect` printed, or allow the name "
                "with --allow-host."
            )
        if not all(map(self._is_page_of_ours, origins)) or (not origins and b"cross-site" in sites):
            raise OriginRefused(
                told="This port serves programs and pages of this machine, and a web page from elsewhere has sent "
                "this request (its Origin says so)."
            )

    def _is_ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = _folded(found[1])
        return is_loopback(name) or name in self._names or (self._any_address and _is_address(name))

    def _is_page_of_ours(self, origin: str) -> bool:
        found = _ORIGIN.fullmatch(origin)
        return found is not None and self._is_ours(found[1])


def without_credentials(fields: Iterable[Pair]) -> list[Pair]:
    """A request's fields without the API key that its sender put there, be it among WebSocket subprotocols."""
    kept = []
    for name, value in fields:
        lower = name.lower()
        if lower in (b"authorization", b"api-key"):
            continue
        if lower == b"sec-websocket-protocol":
            offered = [each.strip() for each in value.split(b",")]
            value = b", ".join([each for each in offered if not each.lower().startswith(_KEY_PROTOCOL)])
            if not value:
                continue
        kept.append((name, value))
    return kept


def _folded(host: str) -> str:
    return host.lower().removeprefix("[").removesuffix("]").removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
