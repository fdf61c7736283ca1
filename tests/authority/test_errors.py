"""What a person is told."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.errors import AuthorityError


class AuthorityErrorTests(SynchronousTestCase):
    def test_says_where_what_and_what_to_do(self) -> None:
        """The text starts with the place and ends with the way out, a sentence each."""
        error = AuthorityError("There is no such file", "Make it", Path("ca.pem"))
        self.assertEqual(str(error), "ca.pem: There is no such file. Make it.")
        self.assertEqual((error.what, error.do, error.where), ("There is no such file", "Make it", Path("ca.pem")))

    def test_without_a_place(self) -> None:
        """Where there is no place, none is made up."""
        self.assertEqual(str(AuthorityError("It rains", "Wait")), "It rains. Wait.")
