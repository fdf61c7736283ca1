"""Enrolling a device, as it is typed; with a real relay in ``tests/integration/test_enrolment.py``."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.errors import AuthorityError
from openai_relay.core.enrolment_code import Code
from openai_relay.enrolling import files
from openai_relay.enrolling.device import NotEnrolled
from tests.authority.directories import new_directory
from tests.certificates import client
from tests.cli.commands import typed

CODE = str(Code(b"x" * 16, None))


class EnrolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.out = new_directory(self)
        self.asked: list[str] = []

        def enrol(url: str, code: Code, into: Path) -> files.Enrolled:
            self.asked.append(url)
            if self.problem is not None:
                raise self.problem
            return files.Enrolled(into / "phone.pem", into / "phone.key", into / "ca.pem", client().certificate)

        self.problem: Exception | None = None
        self.patch(files, "enrol", enrol)

    def test_told(self) -> None:
        """Where the files are, when and how to renew, and what to paste is told."""
        said = typed("enrol", "https://relay.example:8444", CODE, "--out", self.out).stdout
        self.assertIn("Enrolled, until ", said)
        self.assertIn(f"openai-relay renew {self.out}/phone.pem\n", said)
        self.assertIn("https://relay.example:8443/v1/", said)
        self.assertIn(f"OPENAI_MTLS_PRIVATE_KEY={self.out}/phone.key", said.replace("'", ""))
        said = typed("enrol", "https://enrol.example", CODE, "--relay", "https://api.example/v1").stdout
        self.assertIn("https://api.example/v1/", said)

    def test_refused(self) -> None:
        """Why there is no certificate is said in a line; a code that is none is not sent."""
        for problem, told in (
            (NotEnrolled("This code has been used."), "This code has been used.\n"),
            (AuthorityError("This file is here", "Choose another", self.out), "This file is here"),
        ):
            self.problem = problem
            result = typed("enrol", "https://relay.example:8444", CODE, "--out", self.out)
            self.assertEqual((result.exit_code, result.stdout), (1, ""))
            self.assertIn(told, result.stderr)
        self.asked.clear()
        result = typed("enrol", "https://relay.example:8444", "abcdefgh")
        self.assertEqual((result.exit_code, self.asked), (1, []))
        self.assertIn("The code is not whole, or was mistyped; copy it again.", result.stderr)
