"""
Wiring of ``openai-relay connect``: builds every object once, and owns the order of start and stop.

What can be wrong with files is found while building, before anything listens.
A certificate that was enrolled here is renewed by a child service: it writes
the file, and has `CertificateWatch` look.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import CannotListenError
from twisted.internet.threads import deferToThreadPool

from openai_relay.access_log import AccessLog
from openai_relay.config.sources import Sources
from openai_relay.connect.certificate import CertificateFiles, ClientCertificate, Unusable
from openai_relay.connect.course import PATIENCE, Course
from openai_relay.connect.local import LocalPort
from openai_relay.connect.renewal import Renewal
from openai_relay.connect.watch import CertificateWatch
from openai_relay.core.connect_settings import ConnectSettings, joined
from openai_relay.core.errors import RelayError
from openai_relay.core.identity import Identity
from openai_relay.core.local_requests import LocalRequests
from openai_relay.core.relay_words import Place, in_words
from openai_relay.core.settings import UpstreamSettings
from openai_relay.enrolling.device import NotEnrolled
from openai_relay.enrolling.files import noted
from openai_relay.http1.server import HTTPServerFactory, ServerLimits
from openai_relay.request_ids import request_ids
from openai_relay.upstream import Upstream

#: Seconds that running exchanges get to finish when the service stops.
DRAIN_TIMEOUT: Final = 30.0
BACKLOG: Final = 256
#: Days before its end from which a certificate is called to attention.
SOON: Final = 7
_DAY: Final = 86_400

T = TypeVar("T")


class ConnectService(MultiService):
    """
    Listens when started, drains when stopped.

    :param say: is told, in a line each, what somebody should know.
    :param write: takes the line of each exchange, as bytes; ``None``: there are none.
    :param max_connections: of tools, at once.
    :raises Unusable: a file cannot be used.
    :ivar address: where tools connect, as ``host:port``, once it is started.
    :ivar watch: takes up what is renewed.
    """

    def __init__(
        self,
        reactor: Any,
        settings: ConnectSettings,
        sources: Sources,
        say: Callable[[str], None],
        write: Callable[[bytes], object] | None,
        max_connections: int,
    ) -> None:
        super().__init__()
        self._reactor, self._settings, self._say = reactor, settings, say
        self._directory = sources.directory
        files = CertificateFiles(settings, sources)
        contents = files.read()
        certificate = files.build(contents)
        self._upstream = Upstream(
            reactor,
            UpstreamSettings(
                url=settings.relay,
                authorization="passthrough",
                first_byte_timeout=PATIENCE,
                idle_timeout=PATIENCE,
            ),
            certificate.context,
        )
        self.course = Course(
            LocalRequests((*settings.names, settings.listen.host), any_address=not settings.listen.loopback),
            self._upstream,
            certificate.identity,
            self._in_words,
            _ignore if write is None else AccessLog(write, "text", time.time_ns).record,
            time.monotonic_ns,
            request_ids("con_"),
            pass_authorization=settings.pass_authorization,
        )
        limits = ServerLimits(stall_timeout=PATIENCE)
        self._factory = HTTPServerFactory(self.course, reactor, limits, max_connections)
        self.watch = CertificateWatch(reactor, files, contents, self._in_thread, self._renewed, say)
        self.addService(self.watch)
        renewal = self._renewal(sources.directory / settings.certificate)
        if renewal is not None:
            self.addService(renewal)
        self._port: LocalPort | None = None
        self.address = ""

    @property
    def identity(self) -> Identity:
        """Whose certificate the relay is shown."""
        return self.course.identity

    def startService(self) -> None:
        """
        Serve.

        :raises CannotListenError: the port is taken, or not allowed.
        """
        listen = self._settings.listen
        self._port = LocalPort(listen.port, self._factory, BACKLOG, listen.host, self._reactor)
        self._port.startListening()
        where = self._port.getHost()
        self.address = joined(where.host, where.port)
        super().startService()
        days_left = (self.identity.not_after - time.time()) / _DAY
        if days_left < SOON:
            what = "has expired" if days_left <= 0 else "expires"
            self._say(f"the certificate {what} on {_day(self.identity)}; a renewed one is taken up from its file")

    def stopService(self) -> Deferred[Any]:
        """Stop accepting, let running exchanges finish for a while, then end them."""
        stopped: list[Deferred[Any]] = [Deferred.fromCoroutine(self._stop())]
        below = super().stopService()
        if below is not None:
            stopped.append(below)
        return DeferredList(stopped)

    async def _stop(self) -> None:
        stopping = None if self._port is None else self._port.stopListening()
        if stopping is not None:
            await stopping
        drained = self.course.drain()
        self._factory.drain()
        if self.course.running:
            self._say(f"stopping: what runs ({self.course.running}) gets {DRAIN_TIMEOUT:g} s to finish")
        timer = self._reactor.callLater(DRAIN_TIMEOUT, self.course.end_all)
        await drained
        if timer.active():
            timer.cancel()
        await self._factory.close()
        await self._upstream.close()

    def _in_thread(self, read: Callable[[], T]) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), read)

    def _renewal(self, certificate: Path) -> Renewal | None:
        """What renews the certificate, if it is known where, and its key is a file."""
        scheme, _, key = self._settings.key.partition(":")
        try:
            relay = noted(certificate)
        except NotEnrolled:
            return None
        if scheme != "file":
            return None
        return Renewal(
            self._reactor, certificate, self._directory / key, relay, self._in_thread, self.watch.look, self._say
        )

    def _renewed(self, certificate: ClientCertificate) -> None:
        self.course.identity = certificate.identity
        self._upstream.renew(certificate.context)
        self._say(f"a renewed certificate is in use: {certificate.identity.name}, until {_day(certificate.identity)}")

    def _in_words(self, error: RelayError) -> RelayError:
        settings = self._settings
        ca = None if settings.ca is None else str(settings.ca)
        place = Place(settings.place, ca, str(settings.certificate), self.identity.not_after)
        return in_words(error, place, time.time())


def why_not(error: CannotListenError) -> str:
    """Why a port cannot be listened on, in words."""
    reason = getattr(error.socketError, "strerror", None) or error.socketError
    return f"cannot listen on {joined(error.interface, error.port)}: {reason}"


def _day(identity: Identity) -> str:
    return f"{datetime.fromtimestamp(identity.not_after, UTC):%Y-%m-%d}"


def _ignore(_: object) -> None:
    """No lines are wanted."""


__all__ = ["ConnectService", "Unusable", "why_not"]
