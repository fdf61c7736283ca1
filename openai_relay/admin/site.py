"""
Answer ``/livez``, ``/readyz``, ``/metrics`` and ``/reload`` on the admin listener's own address.

Plain HTTP by ``twisted.web``: small answers to few askers, none of whom is a
client of the relay.  Only a reload changes anything, and only to what the
relay's own files say; it is asked for on its own machine, by no browser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from openai_relay.admin import answers
from openai_relay.core.readiness import Check
from openai_relay.core.restart import NotReloaded
from openai_relay.metrics import Exposition, Metrics

#: Calls a function in a thread; the ``Deferred`` fires in the reactor's with what it returned.
InThread = Callable[[Callable[[], Exposition]], Deferred[Exposition]]

#: Seconds after which a connection that asks nothing is closed.
_IDLE_TIMEOUT: Final = 60


_READING: Final = "GET, HEAD"
_ALLOWED: Final = {b"/reload": "POST"}


class _BodylessRequest(Request):
    """A request whose body, which nothing here asks for, is thrown away instead of kept."""

    def handleContentChunk(self, data: bytes) -> None:
        pass


class _QuietSite(Site):
    """A site without an access log: the probes of a day would bury the lines of the relay's exchanges."""

    noisy = False

    def log(self, request: object) -> None:
        pass


class AdminResource(Resource):
    """The whole tree in one leaf, so that every miss and every wrong method is answered alike."""

    isLeaf = True

    def __init__(
        self,
        metrics: Metrics,
        readiness: Callable[[], Sequence[Check]],
        in_thread: InThread,
        reload: Callable[[], Deferred[None]],
    ) -> None:
        super().__init__()
        self._metrics = metrics
        self._readiness = readiness
        self._in_thread = in_thread
        self._reload = reload
        self._paths: dict[bytes, Callable[[Request], None]] = {
            b"/livez": self._livez,
            b"/healthz": self._livez,
            b"/readyz": self._readyz,
            b"/metrics": self._scrape,
            b"/reload": self._reload_now,
        }

    def render(self, request: Request) -> int:
        """Answer, now or when the thread is done."""
        request.responseHeaders.removeHeader(b"server")
        respond = self._paths.get(request.path)
        if respond is None:
            _send(request, answers.not_found([path.decode() for path in self._paths]))
        elif request.method.decode("latin-1") not in (allowed := _ALLOWED.get(request.path, _READING)).split(", "):
            _send(request, answers.method_not_allowed(allowed))
        else:
            respond(request)
        return NOT_DONE_YET

    def _livez(self, request: Request) -> None:
        _send(request, answers.alive())

    def _readyz(self, request: Request) -> None:
        # By hand: Twisted's parser drops a name without a value.
        asked = [part.partition(b"=")[0] for part in request.uri.partition(b"?")[2].split(b"&")]
        _send(request, answers.readiness(self._readiness(), verbose=b"verbose" in asked))

    def _scrape(self, request: Request) -> None:
        # In a thread: the text of a thousand clients takes a tenth of a second, and streams go on meanwhile.
        made = self._in_thread(self._metrics.scrape(request.getHeader("accept") or ""))
        request.notifyFinish().addErrback(lambda _: made.cancel())
        made.addCallback(lambda exposition: _send(request, answers.scraped(exposition)))
        made.addErrback(_failed, request)

    def _reload_now(self, request: Request) -> None:
        client = request.getClientAddress()
        here = isinstance(client, IPv4Address | IPv6Address) and ip_address(client.host).is_loopback
        if not here or request.getHeader("origin") is not None:
            _send(request, answers.not_from_there())
            return
        reloading = self._reload()
        left = request.notifyFinish()
        left.addErrback(lambda _: None)  # what has begun goes on
        answering = reloading.addCallbacks(lambda _: answers.reloaded(), _reasons)
        answering.addCallback(lambda answer: None if left.called else _send(request, answer))
        answering.addErrback(_failed, request)


def admin_site(
    reactor: IReactorTime,
    metrics: Metrics,
    readiness: Callable[[], Sequence[Check]],
    in_thread: InThread,
    reload: Callable[[], Deferred[None]],
) -> Site:
    """
    The factory to listen with.

    :param readiness: asked at every ``/readyz``; quick, and without I/O.
    :param in_thread: ``partial(deferToThreadPool, reactor, reactor.getThreadPool())``.
    :param reload: fires when that is done; fails with `NotReloaded`.
    """
    return _QuietSite(
        AdminResource(metrics, readiness, in_thread, reload),
        requestFactory=_BodylessRequest,
        timeout=_IDLE_TIMEOUT,
        reactor=reactor,
        parsePOSTFormSubmission=False,
    )


def _send(request: Request, answer: answers.Answer) -> None:
    request.setResponseCode(answer.code)
    request.setHeader(b"content-type", answer.content_type)
    request.setHeader(b"content-length", b"%d" % len(answer.body))
    request.setHeader(b"cache-control", b"no-store")
    request.setHeader(b"x-content-type-options", b"nosniff")
    if answer.allow is not None:
        request.setHeader(b"allow", answer.allow)
    request.write(answer.body)  # to a HEAD, Twisted sends the head only
    request.finish()


def _reasons(failure: Failure) -> answers.Answer:
    error = failure.value
    if not isinstance(error, NotReloaded):
        failure.raiseException()
    return answers.not_reloaded(error.reasons)


def _failed(failure: Failure, request: Request) -> None:
    if not failure.check(CancelledError):  # cancelled: the asker left
        request.processingFailed(failure)
