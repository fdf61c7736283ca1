"""Invitations: once, for a while, and for nobody who only reads the directory."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.directory import utc_now
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.invitations import DIRECTORY, Invitations, NotInvited
from tests.authority.directories import new_directory

NOW = utc_now()
HOUR = timedelta(hours=1)


class InvitationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self)
        self.invitations = Invitations(self.directory)

    def invite(self, name: str = "phone") -> bytes:
        return self.invitations.invite(name, 30, HOUR, NOW)[1]

    def why(self, secret: bytes, later: timedelta = timedelta()) -> str:
        return str(self.assertRaises(NotInvited, self.invitations.take, secret, NOW + later).why)

    def test_once(self) -> None:
        """An invitation is taken once; while it is taken, and after it was used, nobody else has it."""
        secret = self.invite()
        taken = self.invitations.take(secret, NOW)
        self.assertEqual((taken.invitation.name, taken.invitation.days), ("phone", 30))
        self.assertEqual(self.why(secret), "used")
        taken.used()
        self.assertEqual(self.why(secret), "used")

    def test_given_back(self) -> None:
        """One that was taken in vain is good again."""
        secret = self.invite()
        self.invitations.take(secret, NOW).give_back()
        self.invitations.take(secret, NOW).used()

    def test_expired(self) -> None:
        """One that is over is said to be, however often it is tried."""
        secret = self.invite()
        for _ in range(2):
            self.assertEqual(self.why(secret, HOUR), "expired")
        self.assertEqual(self.invitations.open(NOW + HOUR), [])

    def test_unknown(self) -> None:
        """Any other secret is unknown."""
        self.invite()
        self.assertEqual(self.why(b"x" * 16), "unknown")

    def test_withdrawn(self) -> None:
        """What was withdrawn is unknown, and only that."""
        first, second, other = self.invite(), self.invite(), self.invite("laptop")
        self.assertEqual(self.invitations.withdraw("phone"), 2)
        self.assertEqual((self.why(first), self.why(second)), ("unknown", "unknown"))
        self.invitations.take(other, NOW)

    def test_no_secret_is_kept(self) -> None:
        """Whoever reads the directory finds no code, and others may not even read it."""
        secret = self.invite()
        (path,) = Path(self.directory / DIRECTORY).iterdir()
        self.assertNotIn(secret, path.read_bytes())
        self.assertNotIn(secret.hex(), path.name)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)

    def test_tidied(self) -> None:
        """What has been over for a week is forgotten with the next invitation."""
        self.invite()
        self.invitations.invite("laptop", 30, HOUR, NOW + timedelta(days=8))
        self.assertEqual(len(list((self.directory / DIRECTORY).iterdir())), 1)

    def test_bad_name(self) -> None:
        """A name that no certificate can have invites nobody."""
        self.assertRaises(AuthorityError, self.invite, "")
        self.assertFalse((self.directory / DIRECTORY).exists())

    def test_damaged(self) -> None:
        """A file that is no invitation is named."""
        self.invite()
        (path,) = Path(self.directory / DIRECTORY).iterdir()
        path.write_text("{}")
        self.assertIn("This is no invitation", str(self.assertRaises(AuthorityError, self.invitations.open, NOW)))
