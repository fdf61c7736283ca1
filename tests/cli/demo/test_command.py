"""The demo's command line; that it serves is for the integration tests."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.authority.directories import new_directory
from tests.cli.commands import typed


class DemoCommandTests(SynchronousTestCase):
    def test_help(self) -> None:
        """The help says where things go and how to choose other ports."""
        said = typed("demo", "--help").stdout
        for part in ("--dir", ".demo", "--port", "8443", "--admin-port", "9464", "OPENAI_API_KEY", "127.0.0.1"):
            self.assertIn(part, said)

    def test_usage(self) -> None:
        """What is no port, and what is no directory, is a usage error and makes nothing."""
        directory = new_directory(self)
        for words in (("--port", "65536"), ("--port", "x"), ("--admin-port", "-1"), ("--dir", __file__), ("extra",)):
            result = typed("demo", "--dir", directory / "demo", *words)
            self.assertEqual((result.exit_code, result.stdout), (2, ""))
        self.assertEqual(list(directory.iterdir()), [])
