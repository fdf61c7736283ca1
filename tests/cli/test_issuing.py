"""What is told of a certificate that was issued."""

from __future__ import annotations

from pathlib import Path

from click import UsageError
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.cli.issuing import Outcome, access, explain, wanted_bundle
from tests.authority.directories import new_directory
from tests.authority.test_index import SAMPLE

OUTCOME = Outcome(SAMPLE, Path("c/alice.pem"), None, None, shortened=False, days=3)


class IssuingTests(SynchronousTestCase):
    def test_key_of_a_request(self) -> None:
        """The key of a request is looked for beside it; where it is not, it is called after the certificate."""
        directory = new_directory(self)
        for source in (None, "-", str(directory / "x.csr")):
            self.assertEqual(access(OUTCOME, "https://r", Path("ca.pem"), source).key, Path("alice.key"))
        (directory / "x.key").write_bytes(b"")
        self.assertEqual(
            access(OUTCOME, "https://r", Path("ca.pem"), str(directory / "x.csr")).key, directory / "x.key"
        )

    def test_shortened(self) -> None:
        """A certificate that ends sooner than asked, by a number of days or as usual, is said to do so."""
        for days, words in ((3, "the 3 days that were asked for"), (None, "what was asked for")):
            outcome = Outcome(SAMPLE, Path("alice.pem"), None, None, shortened=True, days=days)
            with CliRunner().isolation() as streams:
                explain(outcome)
            self.assertIn(f"before {words}.".encode(), streams[1].getvalue())

    def test_bundle(self) -> None:
        """A password without a file that wants one is a usage error; without both there is none."""
        self.assertIsNone(wanted_bundle(False, False, None))
        self.assertRaises(UsageError, wanted_bundle, False, False, "env:HOME")
        bundle = wanted_bundle(False, True, f"file:{self.password()}")
        assert bundle is not None
        self.assertEqual((bundle.password, bundle.compatible), ("hunter2", True))

    def password(self) -> Path:
        path = new_directory(self) / "password"
        path.write_text("hunter2\r\n")
        return path
