"""Type a command and look at what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.directory import Authority
from openai_relay.cli.main import commands
from tests.authority.directories import new_directory

#: Nothing of the machine that runs the tests may show.
ENVIRONMENT = {"OPENAI_API_KEY": None, "OPENAI_RELAY_DIR": None, "NO_COLOR": None}


def typed(
    *words: object, environment: dict[str, str] | dict[str, str | None] | None = None, standard_input: bytes = b""
) -> Result:
    """What came of ``openai-relay WORDS``."""
    arguments = [str(word) for word in words]
    return CliRunner().invoke(commands, arguments, input=standard_input, env={**ENVIRONMENT, **(environment or {})})


class CommandCase(SynchronousTestCase):
    """Commands on an authority in a directory of its own, given as ``--dir``."""

    def setUp(self) -> None:
        self.directory = new_directory(self) / "authority"
        self.authority = Authority.create(self.directory)

    def succeed(self, *words: object) -> str:
        """What the command prints."""
        result = typed(*words, "--dir", self.directory)
        self.assertEqual((result.exit_code, result.exception), (0, None), result.output)
        return result.stdout

    def document(self, *words: object) -> Any:
        """What the command prints with ``--json``."""
        return json.loads(self.succeed(*words, "--json"))

    def fail_with(self, code: int, *words: object) -> str:
        """What the command complains about, in a line and without a traceback."""
        result = typed(*words, "--dir", self.directory)
        self.assertIsInstance(result.exception, SystemExit)
        self.assertEqual(result.exit_code, code, result.output)
        self.assertEqual(result.stdout, "")
        return result.stderr

    def file(self, name: str) -> Path:
        return self.directory / name
