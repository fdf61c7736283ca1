"""
Answer EST requests: a leaf for each operation, the desk behind them in a thread, one at a time.

By ``twisted.web``: a few small requests from devices, apart from the data path
and on a port of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cryptography import x509
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from openai_relay.authority.errors import AuthorityError
from openai_relay.core.errors import RelayError
from openai_relay.core.identity import Identity
from openai_relay.enrolment import est
from openai_relay.enrolment.desk import Desk, Refused

#: Seconds for a request to come, and for a connection to be idle.
_PATIENCE: Final = 20
#: Seconds between two lines about what was refused: codes are guessed at by whoever likes to.
_APART: Final = 1.0

InThread = Callable[[Callable[[], x509.Certificate]], Deferred[x509.Certificate]]


class _BoundedRequest(Request):
    """A request whose body is read up to a bound."""

    too_long = False
    _came = 0

    def handleContentChunk(self, data: bytes) -> None:
        self._came += len(data)
        if self._came > est.LONGEST_BODY:
            self.too_long = True
        else:
            super().handleContentChunk(data)


class _QuietSite(Site):
    noisy = False

    def log(self, request: object) -> None:
        """Not here: what matters is logged by the one who decides it."""


class EST(Resource):
    """
    All operations in one leaf, so that every miss is answered alike.

    :param who: the client whose certificate a connection shows; raises `RelayError` where there is none that holds.
    :param in_thread: calls the desk, and fires with what it returns.
    :param counted: told of each attempt: ``enrolled``, ``renewed``, or why not.
    """

    isLeaf = True
    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        desk: Desk,
        who: Callable[[Any], Identity],
        in_thread: InThread,
        counted: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._clock = clock
        self._desk = desk
        self._who = who
        self._in_thread = in_thread
        self._counted = counted
        self._one_by_one = DeferredSemaphore(1)
        self._told = -_APART
        self._operations: dict[bytes, tuple[bytes, Callable[[Request], None]]] = {
            b"cacerts": (b"GET", self._authorities),
            b"csrattrs": (b"GET", self._attributes),
            b"simpleenroll": (b"POST", self._enrol),
            b"simplereenroll": (b"POST", self._renew),
        }

    def render(self, request: Request) -> int:
        """Answer, now or when the desk has."""
        request.responseHeaders.removeHeader(b"server")
        method, operation = self._operations.get(request.path.removeprefix(est.ROOT), (b"", None))
        if operation is None or not request.path.startswith(est.ROOT):
            _say(request, 404, "There is nothing here. EST (RFC 7030) is below /.well-known/est/.")
        elif request.method != method:
            request.setHeader(b"allow", method)
            _say(request, 405, f"Only {method.decode()} is allowed here.")
        elif getattr(request, "too_long", False):
            _say(request, 413, f"A request has at most {est.LONGEST_BODY} bytes.")
        else:
            operation(request)
        return NOT_DONE_YET

    def _authorities(self, request: Request) -> None:
        _certificates(request, self._desk.authorities())

    def _attributes(self, request: Request) -> None:
        request.setResponseCode(204)  # RFC 7030 §4.5.2: none are asked for
        request.finish()

    def _enrol(self, request: Request) -> None:
        given = est.password_of(request.getHeader("authorization"))
        if given is None:
            request.setHeader(b"www-authenticate", b'Basic realm="openai-relay: the code as password"')
            self._refused(
                request, Refused(401, "Give the code as the password of HTTP Basic authentication.", "unknown")
            )
            return
        user, typed = given
        body = _body(request)
        self._ask(request, lambda: self._desk.enrol(user, typed, body), "enrolled")

    def _renew(self, request: Request) -> None:
        try:
            identity = self._who(request.transport)
        except RelayError as error:
            self._refused(
                request, Refused(401, f"{error.told} Renewing takes a certificate that is still good.", "certificate")
            )
            return
        body = _body(request)
        self._ask(request, lambda: self._desk.renew(identity, body), "renewed")

    def _ask(self, request: Request, ask: Callable[[], x509.Certificate], done: str) -> None:
        left = request.notifyFinish()
        left.addErrback(lambda _: None)  # it is issued all the same, and can be revoked
        asking = self._one_by_one.run(self._in_thread, ask)
        asking.addCallback(self._issued, request, done, left)
        asking.addErrback(self._failed, request, left)

    def _issued(self, certificate: x509.Certificate, request: Request, done: str, left: Deferred[Any]) -> None:
        self._counted(done)
        self.log.info(
            "{done}: {name}, serial {serial:x}, until {until:%Y-%m-%d}, from {host}",
            done=done,
            name=certificate.subject.rfc4514_string(),
            serial=certificate.serial_number,
            until=certificate.not_valid_after_utc,
            host=getattr(request.getClientAddress(), "host", "-"),
        )
        if not left.called:
            _certificates(request, certificate)

    def _failed(self, failure: Failure, request: Request, left: Deferred[Any]) -> None:
        error = failure.value
        if isinstance(error, Refused):
            refused = error
        elif isinstance(error, AuthorityError):
            self.log.error("nothing can be issued: {error}", error=error)
            refused = Refused(503, "The relay cannot issue certificates now; its operator is told why.", "failed")
        else:
            self.log.failure("bug in issuing a certificate", failure)
            refused = Refused(500, "The relay failed; its log says how.", "failed")
        if left.called:
            self._counted(refused.why)
        else:
            self._refused(request, refused)

    def _refused(self, request: Request, refused: Refused) -> None:
        self._counted(refused.why)
        now = self._clock.seconds()
        if now - self._told >= _APART:
            self._told = now
            self.log.info(
                "not enrolled, from {host}: {told}",
                host=getattr(request.getClientAddress(), "host", "-"),
                told=refused.told,
            )
        _say(request, refused.status, refused.told)


def est_site(reactor: Any, resource: EST) -> Site:
    """The factory to listen with."""
    return _QuietSite(
        resource, requestFactory=_BoundedRequest, timeout=_PATIENCE, reactor=reactor, parsePOSTFormSubmission=False
    )


def _body(request: Request) -> bytes:
    assert request.content is not None
    content: bytes = request.content.read()
    return content


def _certificates(request: Request, *certificates: x509.Certificate) -> None:
    body = est.certificates_body(*certificates)
    request.setHeader(b"content-type", est.CERTIFICATES)
    request.setHeader(b"content-transfer-encoding", b"base64")
    request.setHeader(b"content-length", b"%d" % len(body))
    request.write(body)
    request.finish()


def _say(request: Request, status: int, told: str) -> None:
    body = told.encode() + b"\n"
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    request.setHeader(b"content-length", b"%d" % len(body))
    request.write(body)
    request.finish()
