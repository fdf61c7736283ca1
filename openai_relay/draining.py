"""Drain: give what runs its time to finish, say how it goes, and end what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from openai_relay.relay import Relay
from openai_relay.systemd import Notifier

#: Seconds between two lines about what still runs.
PROGRESS: Final = 5.0
#: Seconds in which whoever was just let in may ask.
NEWCOMERS: Final = 1.0
_A_MOMENT: Final = 0.05
#: Seconds that systemd is asked for, each time, beyond what its unit says.
_MORE: Final = 30.0


class Drain:
    """
    The end of a service.

    :param clock: the reactor's.
    :param monotonic_ns: as the exchanges are timed by.
    :param timeout: seconds for what runs.
    :param newcomers: how many were let in and have asked nothing yet: what they ask is still served.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        monotonic_ns: Callable[[], int],
        relay: Relay,
        notifier: Notifier,
        timeout: float,
        newcomers: Callable[[], int],
    ) -> None:
        self._clock = clock
        self._monotonic_ns = monotonic_ns
        self._relay = relay
        self._notifier = notifier
        self._timeout = timeout
        self._newcomers = newcomers
        self._ends = 0.0
        self._hurried = False

    async def finish(self) -> None:
        """Admit nothing more, but what those ask who have only just come; returns when nothing runs."""
        waited = 0.0
        while self._newcomers() and waited < NEWCOMERS and not self._hurried:
            await deferLater(self._clock, _A_MOMENT, lambda: None)
            waited += _A_MOMENT
        drained = self._relay.drain()
        if self._relay.running:
            self.log.info(
                "stopping: what runs ({running}) gets {timeout:g} s to finish; a second signal ends it at once",
                running=self._relay.running,
                timeout=self._timeout,
            )
        self._ends = self._clock.seconds() + self._timeout
        timer = self._clock.callLater(self._timeout, self._end)
        progress = LoopingCall(self._tell)
        progress.clock = self._clock
        self._extend()
        progress.start(PROGRESS, now=False)
        if self._hurried:
            self._relay.end_all()
        await drained
        progress.stop()
        if timer.active():
            timer.cancel()

    def hurry(self) -> None:
        """End at once what still runs."""
        self._hurried = True
        if self._relay.draining and self._relay.running:
            self.log.warn("ended at once, as asked again: {running} exchanges", running=self._relay.running)
            self._relay.end_all()

    def _end(self) -> None:
        self.log.warn(
            "{running} exchanges did not finish within {timeout:g} s (listen.drain_timeout), and are ended",
            running=self._relay.running,
            timeout=self._timeout,
        )
        self._relay.end_all()

    def _tell(self) -> None:
        running, left = self._relay.under_way, self._extend()
        if not running or not left:  # what ended them has a line already
            return
        oldest = running[0]
        self.log.info(
            "stopping: {running} exchanges still run, the oldest for {age:.0f} s ({client}, {path}); {left:.0f} s left",
            running=len(running),
            age=(self._monotonic_ns() - oldest.opened_ns) / 1_000_000_000,
            client="-" if oldest.identity is None else oldest.identity.name,
            path=oldest.path,
            left=left,
        )

    def _extend(self) -> float:
        left: float = max(self._ends - self._clock.seconds(), 0.0)
        self._notifier.extend(_MORE, f"{self._relay.running} exchanges still run, for {left:.0f} s at most")
        return left
