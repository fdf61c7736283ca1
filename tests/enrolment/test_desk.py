"""The desk: a code gives one certificate, a certificate gives the next."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.directory import Authority, utc_now
from openai_relay.authority.index import Issued, record
from openai_relay.authority.invitations import Invitations
from openai_relay.core.enrolment_code import Code
from openai_relay.core.identity import Identity
from openai_relay.core.settings import Secret
from openai_relay.enrolment.desk import Desk, Refused
from tests.authority.csrs import csr
from tests.authority.directories import SetClock, new_directory

REQUEST = csr("somebody-else", encoding=Encoding.DER)


class DeskTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self) / "authority"
        self.clock = SetClock(utc_now())
        self.authority = Authority.create(self.directory, clock=self.clock)
        self.desk = Desk(self.directory, None, self.clock)

    def code(self, name: str = "phone", days: int = 30) -> str:
        secret = Invitations(self.directory).invite(name, days, timedelta(hours=1), self.clock())[1]
        return str(Code(secret, None))

    def refused(self, typed: str, body: bytes = REQUEST, user: str = "") -> Refused:
        error: Refused = self.assertRaises(Refused, self.desk.enrol, user, typed, body)
        return error

    def test_enrol(self) -> None:
        """A code gives a certificate for the invited name, whatever the request says, and is recorded as any other."""
        certificate = self.desk.enrol("", self.code(), REQUEST)
        found = record(certificate)
        self.assertEqual((found.name, found.kind), ("phone", "client"))
        self.assertIn(found.days_left(self.clock()), (29, 30))
        self.assertEqual([each.serial for each in self.authority.issued()], [found.serial])
        self.assertTrue(self.authority.has_issued(certificate))
        self.assertEqual(self.desk.authorities(), self.authority.certificate)

    def test_refusals(self) -> None:
        """A code that is used, expired, damaged or unknown is refused with its reason, and nothing is issued."""
        used = self.code()
        self.desk.enrol("phone", used, REQUEST)
        late = self.code()
        self.clock.now += timedelta(hours=2)
        for typed, why, told in (
            (used, "used", "has been used"),
            (late, "expired", "has expired"),
            (str(Code(b"x" * 16, None)), "unknown", "not known here"),
            ("nonsense!", "unknown", "copy it again"),
        ):
            error = self.refused(typed)
            self.assertEqual((error.status, error.why), (401, why))
            self.assertIn(told, error.told)
        self.assertEqual(len(self.authority.issued()), 1)

    def test_in_vain(self) -> None:
        """A request that cannot be certified, and the name of another, do not burn the code."""
        code = self.code()
        self.assertEqual(self.refused(code, b"no request").status, 400)
        self.assertEqual(self.refused(code, csr("x", encoding=Encoding.DER)[:-4] + b"\0\0\0\0").status, 400)
        self.assertEqual(self.refused(code, user="laptop").why, "name")
        self.desk.enrol("", code, REQUEST)

    def identity(self, issued: Issued) -> Identity:
        return Identity(issued.name, issued.fingerprint, issued.serial, 0.0)

    def test_renew(self) -> None:
        """Who shows a certificate gets the next: same name, as long a life, the key of the request."""
        first = record(self.desk.enrol("", self.code(days=90), REQUEST))
        self.clock.now += timedelta(days=60)
        request = csr("whatever", encoding=Encoding.DER)
        second = record(self.desk.renew(self.identity(first), request))
        self.assertEqual(second.name, "phone")
        self.assertTrue(89 <= second.days_left(self.clock()) <= 90)
        self.assertNotEqual(second.serial, first.serial)

    def test_not_renewed(self) -> None:
        """One of another authority, a server's, or one that was revoked is not renewed, and is told why."""
        server = self.authority.issue_server(["localhost"], stem="server").issued
        first = record(self.desk.enrol("", self.code(), REQUEST))
        self.authority.revoke(first.serial)
        namesake = replace(first, fingerprint="a" * 64)
        for issued, why in ((namesake, "other"), (server, "other"), (first, "refused")):
            error = self.assertRaises(Refused, self.desk.renew, self.identity(issued), REQUEST)
            self.assertEqual((error.status, error.why), (403, why))

    def test_encrypted_key(self) -> None:
        """The key of an authority that has a passphrase is opened with it."""
        directory = new_directory(self) / "encrypted"
        Authority.create(directory, passphrase=lambda: b"correct horse battery", clock=self.clock)
        desk = Desk(directory, Secret(b"correct horse battery"), self.clock)
        secret = Invitations(directory).invite("phone", 30, timedelta(hours=1), self.clock())[1]
        self.assertEqual(record(desk.enrol("", str(Code(secret, None)), REQUEST)).name, "phone")
