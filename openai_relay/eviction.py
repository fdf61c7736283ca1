"""
End what clients have open who may not go on: revoked, denied, disabled, or expired in the meantime.

A handshake is verified once.  Whenever something else is in force, and whenever
somebody's time is up, everybody who is connected is held against it: what runs
ends, with a reason where one can still be told, and the connection's next
request is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from openai_relay.admission import Admission
from openai_relay.core.errors import RelayError
from openai_relay.core.identity import Identity
from openai_relay.core.standing import Refused
from openai_relay.http1.server import ServerConnection
from openai_relay.listener import Listener
from openai_relay.relay import Client, Relay

#: Seconds between two looks at the least: the wall clock may be set while a timer runs.
_LONGEST: Final = 30.0


class Eviction:
    """
    Looks after everybody who is connected.

    :param clock: the reactor's.
    :param wall: seconds since the epoch.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        wall: Callable[[], float],
        connections: Callable[[], Iterable[ServerConnection]],
        listener: Listener,
        admission: Admission,
        relay: Relay,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._connections = connections
        self._listener = listener
        self._admission = admission
        self._relay = relay
        self._until = inf  # when the first of those connected has to go
        self._timer: IDelayedCall | None = None

    def arrived(self, identity: Identity) -> None:
        """Somebody has connected, whose time will be up one day."""
        until = min(identity.not_after, self._admission.until(identity))
        if until < self._until:
            self._until = until
            self._wait()

    def hold_all(self) -> int:
        """
        Hold everybody against what is in force now.

        :returns: how many exchanges were ended.
        """
        self._until = inf
        for connection in self._connections():
            identity = connection.client.identity if isinstance(connection.client, Refused) else connection.client
            if isinstance(identity, Identity):
                error = self._listener.refusal(identity)
                connection.client = identity if error is None else Refused(identity, error)
                if error is None:
                    self._until = min(self._until, identity.not_after, self._admission.until(identity))
        ended = self._relay.end(self._why)
        if ended:
            self.log.info("{ended} exchanges ended, since their clients may not go on", ended=ended)
        self._wait()
        return ended

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _why(self, client: Client) -> RelayError | None:
        if isinstance(client, Refused):
            return client.error
        if isinstance(client, Identity):
            try:
                self._admission.policy(client)
            except RelayError as error:
                return error
        return None

    def _wait(self) -> None:
        self.stop()
        if self._until < inf:
            self._timer = self._clock.callLater(min(max(self._until - self._wall(), 0.0), _LONGEST), self._look)

    def _look(self) -> None:
        self._timer = None
        if self._until <= self._wall():
            self.hold_all()
        else:
            self._wait()
