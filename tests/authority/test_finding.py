"""What is meant by what somebody types."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority import profile
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.finding import meant, refuse_revoked, renewable
from openai_relay.authority.index import record
from tests.authority.directories import new_directory
from tests.authority.test_index import SAMPLE
from tests.authority.test_profile import START, VALIDITY, new_signer

OLD = SAMPLE
NEW = replace(SAMPLE, serial="2f", fingerprint="cd" * 32)
BOB = replace(SAMPLE, name="bob", serial="3f", fingerprint="ef" * 32)
INDEX = [OLD, NEW, BOB]
CA = new_signer()


class MeantTests(SynchronousTestCase):
    def test_what_is_typed(self) -> None:
        """A name means all that is left of it; a serial number or fingerprint, however it is written, one."""
        for which, expected in (
            ("alice", [OLD, NEW]),
            ("2F", [NEW]),
            ("0x2f", [NEW]),
            ("00:2f", [NEW]),
            ("EF:" * 31 + "EF", [BOB]),
        ):
            self.assertEqual(meant(INDEX, which, START, CA.certificate), expected)

    def test_expired(self) -> None:
        """A name does not mean what has expired; if all has, that is said."""
        short = replace(OLD, not_after=START)
        later = START + timedelta(seconds=1)
        self.assertEqual(meant([short, NEW], "alice", later, CA.certificate), [NEW])
        error = self.assertRaises(AuthorityError, meant, [short], "alice", later, CA.certificate)
        self.assertIn("have expired already", str(error))


class RenewableTests(SynchronousTestCase):
    def renewed(self, which: str, *index: object) -> object:
        return renewable(list(index or INDEX), which, CA.certificate)  # type: ignore[arg-type]

    def refusal(self, which: str, *index: object) -> str:
        return str(self.assertRaises(AuthorityError, self.renewed, which, *index))

    def test_newest(self) -> None:
        """A name means its newest certificate, expired or not; a serial number just that one."""
        self.assertEqual(self.renewed("alice"), NEW)
        self.assertEqual(self.renewed("1f"), OLD)

    def test_revoked(self) -> None:
        """What was revoked is passed over, and is not renewed even when nothing else is left."""
        revoked = replace(NEW, revoked_at=START)
        self.assertEqual(self.renewed("alice", OLD, revoked), OLD)
        for which in ("alice", "2f"):
            self.assertIn("was revoked on 2030-06-15 and is not renewed", self.refusal(which, revoked))

    def test_two_kinds(self) -> None:
        """A name that a client and a server share is not guessed about."""
        self.assertIn("Give the serial number", self.refusal("alice", OLD, replace(NEW, kind="server")))

    def test_unknown(self) -> None:
        """What is nothing here is said to be so."""
        self.assertIn("'carol': No certificate has this name", self.refusal("carol"))

    def test_file(self) -> None:
        """A certificate's file means that certificate, even when the index has lost it."""
        path = new_directory(self) / "x.pem"
        certificate = profile.leaf_certificate(CA, "client", CA.key.public_key(), "dora", [], VALIDITY)
        path.write_bytes(profile.certificate_pem(certificate))
        self.assertEqual(self.renewed(str(path)), record(certificate))
        path.write_bytes(profile.certificate_pem(new_signer().certificate))
        self.assertIn("from another authority", self.refusal(str(path)))

    def test_revoked_meanwhile(self) -> None:
        """What is revoked while it is being renewed is refused."""
        refuse_revoked(INDEX, "2f")
        refuse_revoked(INDEX, None)
        self.assertRaises(AuthorityError, refuse_revoked, [OLD, replace(NEW, revoked_at=START)], "2f")
