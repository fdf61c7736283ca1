"""The upstream in force, and those before it on which something still runs."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, DeferredList

from openai_relay.core.settings import UpstreamSettings
from openai_relay.upstream import Upstream, client_context


class Upstreams:
    """
    Replaces an upstream by another, and loses nothing that runs.

    :ivar current: for requests that begin from now on.
    :raises BadUpstream: the settings cannot be used.
    """

    def __init__(self, reactor: Any, settings: UpstreamSettings) -> None:
        self._reactor = reactor
        self._settings = settings
        self._ca = ca_of(settings)
        self.current = Upstream(reactor, settings, client_context(settings.ca))
        self._before: list[Upstream] = []

    @property
    def busy(self) -> int:
        """How many connections carry an exchange."""
        return sum(each.pool.open - each.pool.idle for each in (self.current, *self._before))

    @property
    def idle(self) -> int:
        """How many connections wait for one."""
        return self.current.pool.idle

    def renew(self, settings: UpstreamSettings, context: SSL.Context, ca: bytes) -> None:
        """
        Put other settings in force, if they are others: as long as they are not, connections are kept.

        :param ca: what the file of trusted authorities holds.
        :raises BadUpstream: they cannot be used, and nothing has changed.
        """
        if (settings, ca) == (self._settings, self._ca):
            return
        renewed = Upstream(self._reactor, settings, context)
        self.current.retire()
        self._before = [each for each in (*self._before, self.current) if each.pool.open]
        self.current, self._settings, self._ca = renewed, settings, ca

    def close(self) -> Deferred[Any]:
        """Close all connections; fires when there is none."""
        return DeferredList([each.close() for each in (self.current, *self._before)])


def ca_of(settings: UpstreamSettings) -> bytes:
    """What the file of trusted authorities holds; empty: they are the system's."""
    try:
        return b"" if settings.ca is None else settings.ca.read_bytes()
    except OSError:  # said by who loads it
        return b""
