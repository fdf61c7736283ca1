"""``serve`` is ``twistd``."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

from twisted.trial.unittest import SynchronousTestCase

from tests.authority.directories import new_directory


class ServeTests(SynchronousTestCase):
    def serve(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "openai_relay.cli.main", "serve", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=new_directory(self))

    def test_passes_options_on(self) -> None:
        """Every word after it is the plugin's, --version and --help too."""
        self.assertEqual(self.serve("--version").stdout, f"openai-relay {version('openai-relay')}\n")
        said = self.serve("--help").stdout
        for option in ("--config", "--listen", "--client-ca", "--requests-per-minute"):
            self.assertIn(option, said)

    def test_bad_configuration(self) -> None:
        """A configuration that cannot be used ends with 78, which systemd takes as final."""
        done = self.serve("--config", "no.toml")
        self.assertEqual(done.returncode, 78)
        self.assertIn("no.toml", done.stderr)
        self.assertNotIn("Traceback", done.stderr)
