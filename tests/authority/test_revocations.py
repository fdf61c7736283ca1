"""The revocation list in its file."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority import profile
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.reading import read_revocation_list
from openai_relay.authority.revocations import (
    BACKDATING,
    CRL_DAYS,
    RevocationList,
    list_is_due,
    list_is_old,
    read_list,
    write_list,
)
from tests.authority.directories import NOW, new_directory
from tests.authority.test_index import SAMPLE
from tests.authority.test_profile import START, new_signer

CA = new_signer()
MONTH = timedelta(days=30)
SECOND = timedelta(seconds=1)


class ListTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = new_directory(self) / "crl.pem"

    def write(self, now: datetime = NOW, days: int = CRL_DAYS) -> RevocationList:
        return write_list(self.path, [replace(SAMPLE, revoked_at=START), replace(SAMPLE, serial="2f")], CA, now, days)

    def test_written_and_read(self) -> None:
        """The list says what the index calls revoked, and is read as it was written."""
        written = self.write()
        self.assertEqual(read_list(self.path), written)
        self.assertEqual((written.revoked, written.next_update), (1, START + timedelta(days=CRL_DAYS)))
        self.assertEqual(written.this_update, START - BACKDATING)
        self.assertEqual([each.serial_number for each in read_revocation_list(self.path, "")], [0x1F])

    def test_lost(self) -> None:
        """A list that is not there is an error for who wants to read it, and due."""
        self.assertIn("Make it with `openai-relay crl`", str(self.assertRaises(AuthorityError, read_list, self.path)))
        self.assertTrue(list_is_due(self.path, NOW))

    def test_due(self) -> None:
        """The next list is due when two thirds of the time have gone, and not a second sooner."""
        made = RevocationList(self.path, 1, START, START + MONTH, 0)
        due = START + timedelta(days=20)
        self.assertEqual(made.due, due)
        self.assertEqual([made.is_due(now) for now in (START, due - SECOND, due)], [False, False, True])

    def test_old(self) -> None:
        """A list is replaced in passing when the new one would last a day longer, is due, or there is none."""
        self.assertTrue(list_is_old(self.path, START))
        self.write(START, 30)
        self.assertFalse(list_is_old(self.path, START + timedelta(days=1)))
        self.assertTrue(list_is_old(self.path, START + timedelta(days=1) + SECOND))
        self.write(START, 100)
        self.assertFalse(list_is_old(self.path, START + timedelta(days=66)))
        self.assertTrue(list_is_old(self.path, START + timedelta(days=67)))

    def test_from_the_future(self) -> None:
        """A list that is not in force yet shuts everybody out, so another is due."""
        made = RevocationList(self.path, 1, START, START + MONTH, 0)
        self.assertTrue(made.is_due(START - SECOND))

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.integers(-7_200, 7_200) | st.just(0), max_size=15))
    def test_clock_that_goes_as_it_likes(self, steps: list[int]) -> None:
        """
        With a clock that goes, stands or goes back: numbers grow, and each list is later than the last.

        Only a list that would then lie in the future, where it would shut everybody out, is not later.
        """
        self.path.unlink(missing_ok=True)
        now, before = START, self.write(START)
        for step in steps:
            now += timedelta(seconds=step)
            made = self.write(now)
            self.assertGreater(made.number, before.number)
            self.assertLessEqual(made.this_update, now)
            self.assertFalse(made.is_due(now))
            if before.this_update < now:
                self.assertGreater(made.this_update, before.this_update)
            before = made

    def test_clock_that_stands_still(self) -> None:
        """A burst of lists within one second uses up the time before it, and each is later than the last."""
        made = [self.write() for _ in range(50)]
        self.assertEqual(len({each.this_update for each in made}), 50)
        self.assertEqual([each.number - made[0].number for each in made], list(range(50)))

    def test_signed(self) -> None:
        """It is signed by the authority."""
        self.write()
        key = CA.certificate.public_key()
        self.assertTrue(read_revocation_list(self.path, "").is_signature_valid(key))  # type: ignore[arg-type]
        self.assertIsInstance(CA, profile.Signer)
