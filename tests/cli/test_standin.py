"""Starting the stand-in; that it serves is for the integration tests."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.directory import Authority
from tests.authority.directories import new_directory
from tests.cli.commands import typed


class StandInTests(SynchronousTestCase):
    def refused(self, code: int, *words: object) -> str:
        result = typed("standin", *words)
        self.assertIsInstance(result.exception, SystemExit)
        self.assertEqual((result.exit_code, result.stdout), (code, ""))
        return result.stderr

    def test_bad_address(self) -> None:
        """What is no address, or one that needs a certificate, is refused in words."""
        self.assertIn("IP:PORT", self.refused(1, "--listen", "localhost"))
        self.assertIn("loopback only", self.refused(1, "--listen", "192.0.2.1:9443"))

    def test_bad_certificate(self) -> None:
        """A certificate needs its key, and the two must fit."""
        authority = Authority.create(new_directory(self) / "ca")
        one = authority.issue_server(["localhost"])
        two = authority.issue_server(["localhost"], stem="two")
        self.assertIn("needs its key", self.refused(1, "--certificate", one.certificate))
        self.assertIn(
            f"{two.key} ",
            self.refused(1, "--listen", "127.0.0.1:0", "--certificate", one.certificate, "--key", two.key),
        )

    def test_key_is_named_not_given(self) -> None:
        """A key in place of where it is gets refused, and is not repeated."""
        said = self.refused(2, "--api-key-from", "sk-secret")
        self.assertIn("--api-key-from", said)
        self.assertNotIn("sk-secret", said)

    def test_bad_interval(self) -> None:
        """A pause below zero is a usage error."""
        self.assertIn("--interval-ms", self.refused(2, "--interval-ms", "-1"))
