"""Complain about what is out of date, or soon will be, for as long as it is: revocation lists and the certificate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from openai_relay.tls.accepting import Loaded

#: Seconds between two looks, and two complaints about the same.
INTERVAL: Final = 10.0
AGAIN: Final = 3_600.0
#: Seconds before its end from which the server's certificate is spoken of.
SOON: Final = 7 * 86_400.0


class Overdue(Service):
    """
    Looks at the dates of what is in force.

    :param clock: the reactor's.
    :param wall: seconds since the epoch.
    :param in_force: what the listener has, and whether lists that are out of date refuse everybody.
    """

    log = Logger()

    def __init__(self, clock: Any, wall: Callable[[], float], in_force: Callable[[], tuple[Loaded, bool]]) -> None:
        self._clock = clock
        self._wall = wall
        self._in_force = in_force
        self._told: dict[str, float] = {}
        self._looking = LoopingCall(self.look)
        self._looking.clock = clock

    def startService(self) -> None:
        """Look from now on."""
        super().startService()
        looking: Deferred[LoopingCall] = self._looking.start(INTERVAL)
        looking.addErrback(lambda failure: self.log.failure("dates are watched no more", failure))

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._looking.running:
            self._looking.stop()

    def look(self) -> None:
        """Look now."""
        loaded, refuses = self._in_force()
        now, until = self._wall(), loaded.crl_next_update
        if until is not None and until <= now:
            what = "nobody is let in" if refuses else "it counts all the same (listen.crl_expired)"
            self._tell(f"the list of revoked certificates is out of date since {_date(until)}: {what}; renew it")
        expiry = loaded.certificate_expiry
        if expiry <= now:
            self._tell(f"the server's certificate has expired on {_date(expiry)}: clients refuse it; renew it")
        elif expiry - now < SOON:
            self._tell(f"the server's certificate expires on {_date(expiry)}; renew it")

    def _tell(self, problem: str) -> None:
        now = self._clock.seconds()
        if now - self._told.get(problem, -AGAIN) >= AGAIN:
            self._told = {problem: now, **{other: at for other, at in self._told.items() if now - at < AGAIN}}
            self.log.error("{problem}", problem=problem)


def _date(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
