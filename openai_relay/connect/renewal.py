"""Renew the certificate by itself, where it was enrolled and when two thirds of its life are over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from openai_relay.authority.errors import AuthorityError
from openai_relay.enrolling.device import NotEnrolled, Relay
from openai_relay.enrolling.files import due, read_leaf, renew

#: Seconds between two looks, and two tries.
INTERVAL: Final = 600.0


class Renewal(Service):
    """
    Looks whether it is time, and renews.

    :param relay: where.
    :param in_thread: calls what speaks with the relay, and fires with what it returns.
    :param renewed: told when the file holds another certificate.
    :param say: told, in a line, what went wrong; the same once only.
    :param now: the time in UTC.
    """

    def __init__(
        self,
        clock: Any,
        certificate: Path,
        key: Path,
        relay: Relay,
        in_thread: Callable[[Callable[[], bool]], Deferred[bool]],
        renewed: Callable[[], None],
        say: Callable[[str], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._certificate, self._key, self._relay = certificate, key, relay
        self._in_thread = in_thread
        self._renewed = renewed
        self._say = say
        self._now = now
        self._told = ""
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def startService(self) -> None:
        """Look now and then."""
        super().startService()
        self._looking.start(INTERVAL)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._looking.running:
            self._looking.stop()

    def _look(self) -> Deferred[None]:
        return self._in_thread(self._renew_if_due).addCallbacks(self._looked, self._failed)

    def _renew_if_due(self) -> bool:
        leaf: x509.Certificate = read_leaf(self._certificate)
        if self._now() < due(leaf):
            return False
        renew(self._certificate, self._key, self._relay)
        return True

    def _looked(self, has_renewed: bool) -> None:
        self._told = ""
        if has_renewed and self.running:
            self._renewed()

    def _failed(self, failure: Any) -> None:
        failure.trap(NotEnrolled, AuthorityError)
        problem = f"the certificate could not be renewed, and is tried again: {failure.getErrorMessage()}"
        if problem != self._told and self.running:
            self._told = problem
            self._say(problem)
