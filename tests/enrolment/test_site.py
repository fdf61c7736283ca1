"""What devices are answered, before and after the desk has been asked."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.directory import Authority, utc_now
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.index import record
from openai_relay.authority.invitations import Invitations
from openai_relay.core.enrolment_code import Code
from openai_relay.core.errors import Unauthenticated
from openai_relay.core.identity import Identity
from openai_relay.enrolment.desk import Desk
from openai_relay.enrolment.est import LONGEST_BODY, certificates_of
from openai_relay.enrolment.site import EST, est_site
from tests.authority.csrs import csr
from tests.authority.directories import SetClock, new_directory

REQUEST = base64.encodebytes(csr("whatever", encoding=Encoding.DER))


class Answer:
    """What came back on a connection."""

    def __init__(self, received: bytes) -> None:
        head, _, self.body = received.partition(b"\r\n\r\n")
        first, *fields = head.split(b"\r\n")
        self.status = int(first.split()[1])
        self.fields = {name.lower(): value.strip() for name, _, value in (each.partition(b":") for each in fields)}


class SiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self) / "authority"
        now = SetClock(utc_now())
        self.authority = Authority.create(self.directory, clock=now)
        self.clock = Clock()
        self.counted: list[str] = []
        self.shown: Identity | None = None
        self.held: Deferred[x509.Certificate] | None = None
        resource = EST(self.clock, Desk(self.directory, None, now), self.who, self.in_thread, self.counted.append)
        self.site = est_site(self.clock, resource)
        self.site.startFactory()
        self.addCleanup(self.site.stopFactory)
        secret = Invitations(self.directory).invite("phone", 30, timedelta(hours=1), now())[1]
        self.code = str(Code(secret, None))

    def who(self, transport: Any) -> Identity:
        if self.shown is None:
            raise Unauthenticated("none", "You sent none.")
        return self.shown

    def in_thread(self, call: Callable[[], x509.Certificate]) -> Deferred[x509.Certificate]:
        if self.held is not None:
            return self.held
        try:
            return succeed(call())
        except Exception as error:  # noqa: BLE001 - a thread hands over whatever it was
            return fail(error)

    def connection(self) -> tuple[Any, StringTransport]:
        protocol, transport = self.site.buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def send(self, operation: str, body: bytes | None = None, *fields: bytes, method: bytes = b"") -> bytes:
        """A request; what has come back until now."""
        method = method or (b"GET" if body is None else b"POST")
        self.protocol, transport = self.connection()
        head = [b"%s /.well-known/est/%s HTTP/1.1" % (method, operation.encode()), b"Host: relay", *fields]
        if body is not None:
            head.append(b"Content-Length: %d" % len(body))
        self.protocol.dataReceived(b"\r\n".join(head) + b"\r\n\r\n" + (body or b""))
        received: bytes = transport.value()
        return received

    def ask(self, *words: Any, **more: Any) -> Answer:
        return Answer(self.send(*words, **more))

    def password(self, code: str) -> bytes:
        return b"Authorization: Basic " + base64.b64encode(f":{code}".encode())

    def test_authorities(self) -> None:
        """Whoever asks gets the authority's certificate, without showing anything."""
        answer = self.ask("cacerts")
        self.assertEqual((answer.status, certificates_of(answer.body)), (200, [self.authority.certificate]))
        self.assertEqual(answer.fields[b"content-type"], b"application/pkcs7-mime; smime-type=certs-only")
        self.assertEqual(answer.fields[b"content-transfer-encoding"], b"base64")
        self.assertNotIn(b"server", answer.fields)
        self.assertEqual(self.ask("csrattrs").status, 204)

    def test_enrolled(self) -> None:
        """A code gives a certificate, in the form that EST has for it; it is counted."""
        answer = self.ask("simpleenroll", REQUEST, self.password(self.code))
        (certificate,) = certificates_of(answer.body)
        self.assertEqual((answer.status, record(certificate).name), (200, "phone"))
        self.assertEqual(self.counted, ["enrolled"])

    def test_renewed(self) -> None:
        """A certificate that holds gives the next; none, or one that does not hold, is told what it takes."""
        (first,) = certificates_of(self.ask("simpleenroll", REQUEST, self.password(self.code)).body)
        answer = self.ask("simplereenroll", REQUEST)
        self.assertEqual(answer.status, 401)
        self.assertIn(b"You sent none. Renewing takes a certificate that is still good.", answer.body)
        found = record(first)
        self.shown = Identity(found.name, found.fingerprint, found.serial, 0.0)
        answer = self.ask("simplereenroll", REQUEST)
        self.assertEqual(answer.status, 200)
        self.assertNotEqual(certificates_of(answer.body), [first])
        self.assertEqual(self.counted, ["enrolled", "certificate", "renewed"])

    def test_misses(self) -> None:
        """Another place, another method, too much: each has its status, and asks no desk."""
        self.held = Deferred()
        self.assertEqual(self.ask("serverkeygen", REQUEST).status, 404)
        answer = self.ask("simpleenroll", REQUEST, method=b"PUT")
        self.assertEqual((answer.status, answer.fields[b"allow"]), (405, b"POST"))
        answer = self.ask("simpleenroll", b"x" * (LONGEST_BODY + 1), self.password(self.code))
        self.assertEqual(answer.status, 413)
        answer = self.ask("simpleenroll", REQUEST)
        self.assertEqual(answer.status, 401)
        self.assertTrue(answer.fields[b"www-authenticate"].startswith(b"Basic realm="))

    def test_failures(self) -> None:
        """What is the operator's to mend is told to it, and only that much to the device."""
        told = "what only the operator should read"
        self.held = fail(AuthorityError(told, "do", self.directory))
        answer = self.ask("simpleenroll", REQUEST, self.password(self.code))
        self.assertEqual(answer.status, 503)
        self.assertNotIn(told.encode(), answer.body)
        self.held = fail(ZeroDivisionError(told))
        answer = self.ask("simpleenroll", REQUEST, self.password(self.code))
        self.assertEqual(answer.status, 500)
        self.assertNotIn(told.encode(), answer.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.counted, ["failed", "failed"])

    def test_left(self) -> None:
        """Who has left when the desk is done is not written to; what was issued is counted all the same."""
        self.held = Deferred()
        self.assertEqual(self.send("simpleenroll", REQUEST, self.password(self.code)), b"")
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.held.callback(self.authority.certificate)
        self.assertEqual(self.counted, ["enrolled"])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_one_by_one(self) -> None:
        """The desk is asked by one device at a time; the next waits."""
        self.held = Deferred()
        self.send("simpleenroll", REQUEST, self.password(self.code))
        first, self.held = self.held, None
        protocol, transport = self.connection()
        protocol.dataReceived(
            b"POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: %d\r\n\r\n%s"
            % (self.password(self.code), len(REQUEST), REQUEST)
        )
        self.assertEqual(transport.value(), b"")
        first.callback(self.authority.certificate)
        self.assertEqual(Answer(transport.value()).status, 200)
