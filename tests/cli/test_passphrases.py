"""Where passphrases are found; the terminal's part is in ``tests/integration/test_prompts.py``."""

from __future__ import annotations

from click import BadParameter
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.cli.output import Failure
from openai_relay.cli.passphrases import ca_passphrase, new_ca_passphrase, secret
from tests.authority.directories import new_directory


class SecretTests(SynchronousTestCase):
    def test_sources(self) -> None:
        """A file's or a variable's content is the passphrase, spaces included and line end excluded."""
        path = new_directory(self) / "pass"
        path.write_bytes(b" sec ret \r\n")
        self.assertEqual(secret(f"file:{path}", "P", "--p"), b" sec ret ")
        with CliRunner(env={"PASS": "sécret"}).isolation():
            self.assertEqual(secret("env:PASS", "P", "--p"), "sécret".encode())

    def test_bad_sources(self) -> None:
        """What names no secret is a usage error that names the option, and never repeats what may be the secret."""
        for source in ("hunter2", "env:hunter2", "file:/nowhere/x", "", "credential:x"):
            error = self.assertRaises(BadParameter, secret, source, "P", "--p")
            self.assertEqual(error.param_hint, "--p")
            self.assertNotIn("hunter2", error.format_message())

    def test_no_terminal(self) -> None:
        """Without a source and without a terminal, the way to give one is told."""
        with CliRunner().isolation():
            error = self.assertRaises(Failure, secret, None, "Passphrase of ca.key", "--ca-passphrase-from")
        self.assertEqual(
            error.message,
            "Passphrase of ca.key: there is no terminal to ask for it. "
            "Name where it is with --ca-passphrase-from file:PATH, env:NAME or credential:NAME.",
        )

    def test_asked_once(self) -> None:
        """A command that needs it twice asks once."""
        path = new_directory(self) / "pass"
        path.write_text("secret")
        for ask in (ca_passphrase(f"file:{path}"), new_ca_passphrase(f"file:{path}")):
            path.write_text("secret")
            self.assertEqual(ask(), b"secret")
            path.write_text("changed")
            self.assertEqual(ask(), b"secret")
