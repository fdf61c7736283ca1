"""Whoever was started for us does not outlive us."""

from __future__ import annotations

import signal
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

_PROGRAM = """
import signal
from openai_relay.cli.lifeline import end_with_stdin
end_with_stdin()
print("ready", flush=True)
while True:
    signal.pause()
"""


class LifelineTests(SynchronousTestCase):
    def test_ends_with_standard_input(self) -> None:
        """When the other end of standard input closes, the process gets SIGTERM; what is written there is ignored."""
        process = subprocess.Popen([sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(process.kill)
        assert process.stdin is not None and process.stdout is not None
        self.addCleanup(process.stdout.close)
        self.assertEqual(process.stdout.readline(), b"ready\n")
        process.stdin.write(b"noise\n")
        process.stdin.flush()
        self.assertIsNone(process.poll())
        process.stdin.close()
        self.assertEqual(process.wait(60), -signal.SIGTERM)

    def test_closed_from_the_start(self) -> None:
        """Without a standard input there is nobody to live for."""
        done = subprocess.run(
            ["sh", "-c", 'exec "$0" -c "$1" <&-', sys.executable, _PROGRAM],
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode, -signal.SIGTERM)
