"""Passphrases typed at a terminal: asked for there, never shown, and twice when they are new."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import termios
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.directory import Authority
from tests.authority.directories import new_directory

COMMAND = [sys.executable, "-m", "openai_relay.cli.main"]
#: A bound of every wait, in seconds, and no expectation.
WITHIN = 60.0
SETSID = shutil.which("setsid")


class Terminal:
    """A command that has a terminal of its own; what it prints comes out, and what is typed goes in."""

    def __init__(self, test: SynchronousTestCase, *words: object) -> None:
        assert SETSID is not None
        self.screen, device = pty.openpty()
        # A session of its own whose terminal is the new one: passphrases are read from that, not from stdin.
        command = [SETSID, "--wait", "--ctty", *COMMAND, *map(str, words)]
        self.process = subprocess.Popen(command, stdin=device, stdout=device, stderr=device)
        test.addCleanup(self._end)
        self._device = device
        self.seen = ""

    def answer(self, prompt: str, line: str) -> None:
        """Wait for a prompt (and for the terminal to hide what is typed), then type."""
        while not self.seen.endswith(prompt):
            self._read()
        for _ in range(1_000_000):
            if not termios.tcgetattr(self._device)[3] & termios.ECHO:
                break
            os.sched_yield()
        os.write(self.screen, line.encode() + b"\n")

    def end(self) -> int:
        """Everything is read; the exit code."""
        code = self.process.wait(WITHIN)
        while select.select([self.screen], [], [], 0)[0]:
            self._read()
        return code

    def _read(self) -> None:
        if not select.select([self.screen], [], [], WITHIN)[0]:
            raise AssertionError(f"waited in vain after {self.seen!r}")
        self.seen += os.read(self.screen, 4_096).decode().replace("\r\n", "\n")

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._device)
        os.close(self.screen)


@skipUnless(SETSID, "setsid is not installed (Debian: apt install util-linux)")
class PromptTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory: Path = new_directory(self) / "ca"

    def test_new_and_used(self) -> None:
        """A new passphrase is typed twice, and is asked for by what signs; the terminal shows neither."""
        making = Terminal(self, "init", self.directory, "--encrypt-key")
        making.answer("Passphrase for ca.key: ", "first try")
        making.answer("Repeat for confirmation: ", "first tyr")
        making.answer("do not match.\nPassphrase for ca.key: ", "correct horse")
        making.answer("Repeat for confirmation: ", "correct horse")
        self.assertEqual(making.end(), 0, making.seen)
        self.assertIn("Made in ", making.seen)
        using = Terminal(self, "cert", "issue", "alice", "--p12", "--dir", self.directory)
        using.answer("Password of the .p12 file: ", "battery")
        using.answer("Repeat for confirmation: ", "battery")
        using.answer("Passphrase of ca.key: ", "correct horse")
        self.assertEqual(using.end(), 0, using.seen)
        self.assertIn("Issued to alice", using.seen)
        for secret in ("first try", "correct horse", "battery"):
            self.assertNotIn(secret, making.seen + using.seen)

    def test_wrong(self) -> None:
        """A wrong passphrase is a failure in words, and nothing is issued."""
        authority = Authority.create(self.directory, passphrase=lambda: b"secret")
        terminal = Terminal(self, "cert", "issue", "alice", "--dir", self.directory)
        terminal.answer("Passphrase of ca.key: ", "guess")
        self.assertEqual(terminal.end(), 1)
        self.assertIn("The passphrase is not this key's", terminal.seen)
        self.assertEqual(authority.issued(), [])
