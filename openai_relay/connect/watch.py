"""
Take up a renewed certificate: look at the files every few seconds, and swap what they hold when it is good.

Files are compared by what they hold, so that it does not matter how they were
replaced.  What cannot be used is told once, when it is still so at the second
look: a certificate and its key are two files, and are not replaced at one go.
Whoever renews the certificate by itself writes its files, and may call `look`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from openai_relay.connect.certificate import CertificateFiles, ClientCertificate, Contents, Unusable

#: Seconds between two looks.
INTERVAL: Final = 5.0


class CertificateWatch(Service):
    """
    Tells of each renewed certificate.

    :param in_thread: calls what reads files, and fires with what it returns.
    :param current: what is in use.
    :param say: is told, in a line, what cannot be used.
    """

    def __init__(
        self,
        clock: IReactorTime,
        files: CertificateFiles,
        current: Contents,
        in_thread: Callable[[Callable[[], Contents]], Deferred[Contents]],
        renewed: Callable[[ClientCertificate], None],
        say: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._files = files
        self._current = current
        self._in_thread = in_thread
        self._renewed = renewed
        self._say = say
        self._problem = ""
        self._seen = 0  # how often in a row there was this problem
        self._next: IDelayedCall | None = None
        self._looking: Deferred[None] | None = None

    def startService(self) -> None:
        """Look from now on."""
        super().startService()
        self._next = self._clock.callLater(INTERVAL, self.look)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        next_look, self._next = self._next, None
        for pending in (next_look, self._looking):
            if pending is not None:
                pending.cancel()

    def look(self) -> None:
        """Look now, unless that is being done."""
        if self._looking is not None or not self.running:
            return
        next_look, self._next = self._next, None
        if next_look is not None and next_look.active():
            next_look.cancel()
        looking = self._looking = Deferred.fromCoroutine(self._look())
        looking.addBoth(self._looked)

    async def _look(self) -> None:
        try:
            contents = await self._in_thread(self._files.read)
            if contents == self._current:
                self._problem = ""
                return
            certificate = self._files.build(contents)
        except CancelledError:
            return
        except Unusable as error:
            self._unusable(f"{error.option} {error}")
            return
        self._current, self._problem = contents, ""
        self._renewed(certificate)

    def _unusable(self, problem: str) -> None:
        self._seen = self._seen + 1 if problem == self._problem else 1
        self._problem = problem
        if self._seen == 2:
            self._say(f"not taken up, the certificate from before stays in use: {problem}")

    def _looked(self, result: Any) -> Any:
        self._looking = None
        if self.running:
            self._next = self._clock.callLater(INTERVAL, self.look)
        return result
