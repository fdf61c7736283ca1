"""Renewing a device's own certificate, as it is typed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.enrolling import files
from openai_relay.enrolling.device import NotEnrolled, Relay
from tests.authority.directories import new_directory
from tests.certificates import DAY, client
from tests.cli.commands import typed


class RenewTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self)
        self.asked: list[Relay | None] = []
        self.problem: Exception | None = None

        def renew(certificate: Path, key: Path | None, relay: Relay | None) -> files.Enrolled:
            self.asked.append(relay)
            if self.problem is not None:
                raise self.problem
            return files.Enrolled(certificate, certificate, certificate, client().certificate)

        self.patch(files, "renew", renew)

    def renew(self, *words: object, left: timedelta = DAY) -> tuple[int, str, str]:
        """Status, output and errors, for a certificate with so much left."""
        made = client("phone", not_after=left)
        path = made.write(self.directory, "phone")[0]
        result = typed("renew", path, *words)
        return result.exit_code, result.stdout, result.stderr

    def test_renewed(self) -> None:
        """It is renewed where it was enrolled, or where it is told to be."""
        code, said, _ = self.renew()
        self.assertEqual((code, self.asked), (0, [None]))
        self.assertIn("phone.pem is renewed, until ", said)
        self.renew("--url", "https://relay.example/", "--ca", "ca.pem")
        self.assertEqual(self.asked[1], Relay("https://relay.example", None, Path("ca.pem")))

    def test_if_due(self) -> None:
        """For a timer: nothing happens before two thirds of its life are over, and that is no error."""
        code, said, _ = self.renew("--if-due", left=365 * DAY)
        self.assertEqual((code, self.asked), (0, []))
        self.assertIn("Not due before ", said)
        self.assertEqual(self.renew("--if-due", left=timedelta(minutes=5))[0], 0)
        self.assertEqual(self.asked, [None])

    def test_refused(self) -> None:
        """Too late, refused, or no certificate at all: each is said in a line."""
        code, said, told = self.renew(left=-timedelta(minutes=1))
        self.assertEqual((code, said, self.asked), (1, "", []))
        self.assertIn(f"has expired on {datetime.now(UTC):%Y-%m-%d}: ask for another invitation.", told)
        self.problem = NotEnrolled("It cannot be renewed: it has been revoked.")
        self.assertEqual(self.renew()[2], "Error: It cannot be renewed: it has been revoked.\n")
        result = typed("renew", self.directory / "lost.pem")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("lost.pem cannot be read (No such file or directory)", result.stderr)
