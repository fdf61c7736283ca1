"""Which commands there are, and with which exit code each ends."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from typing import NoReturn

import click
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.errors import AuthorityError
from openai_relay.cli.main import COMMANDS, Commands, commands
from openai_relay.cli.output import Failure
from tests.cli.commands import typed


def ending(error: BaseException) -> tuple[int, str]:
    """Exit code and complaint of a command that ends with this error."""

    def fail() -> NoReturn:
        raise error

    result = CliRunner().invoke(Commands("openai-relay", callback=fail, invoke_without_command=True), [])
    return result.exit_code, result.stderr


class CommandsTests(SynchronousTestCase):
    def test_help_names_every_command(self) -> None:
        """The help shows each command with what it does; so does no command at all, as a usage error."""
        result = typed("--help")
        self.assertEqual(result.exit_code, 0)
        for name in COMMANDS:
            self.assertRegex(result.stdout, rf"\n  {name} +\S")
        self.assertEqual(typed().exit_code, 2)

    def test_every_command_explains_itself(self) -> None:
        """Each command and subcommand has a help text, and each option in it says what it does."""
        waiting: list[tuple[str, click.Command]] = [("", commands)]
        while waiting:
            path, command = waiting.pop()
            self.assertTrue(command.help or command.short_help, path)
            for parameter in command.params:
                if isinstance(parameter, click.Option) and not parameter.hidden:
                    self.assertTrue(parameter.help, f"{path} {parameter.name}")
            if isinstance(command, click.Group):
                context = click.Context(command)
                for name in command.list_commands(context):
                    below = command.get_command(context, name)
                    assert below is not None
                    waiting.append((f"{path} {name}", below))

    def test_version(self) -> None:
        """The version is the package's."""
        result = typed("--version")
        self.assertEqual((result.exit_code, result.stdout), (0, f"openai-relay {version('openai-relay')}\n"))

    def test_usage(self) -> None:
        """What is not understood ends with 2 and says what was probably meant."""
        result = typed("crt")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("No such command 'crt'", result.stderr)
        result = typed("cert", "isue", "alice")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("issue", result.stderr)
        result = typed("crl", "--shwo")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("--show", result.stderr)

    def test_failures(self) -> None:
        """What cannot be done ends with 1 and its reason, in printable words."""
        self.assertEqual(ending(AuthorityError("No\x1b", "Wait", "a\nb")), (1, "Error: a\nb: No\\x1b. Wait.\n"))
        self.assertEqual(ending(Failure("Taken.")), (1, "Error: Taken.\n"))

    def test_interrupt(self) -> None:
        """Ctrl-C ends with 130 and no traceback."""
        code, complaint = ending(KeyboardInterrupt())
        self.assertEqual((code, complaint.strip()), (130, ""))

    def test_quick_start(self) -> None:
        """What every command imports is light: neither Twisted nor cryptography nor cattrs."""
        program = "import sys, openai_relay.cli.main; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        loaded = {name.partition(".")[0] for name in done.stdout.split()}
        self.assertIn("click", loaded)
        self.assertFalse(loaded & {"twisted", "cryptography", "OpenSSL", "cattrs", "msgspec", "treq"})
