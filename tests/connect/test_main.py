"""The program: what stops it before it serves; that it serves, drains and ends is for the integration tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from openai_relay.connect.main import CannotConnect, run
from tests.connect.files import FilesCase


class RunTests(FilesCase):
    def test_files(self) -> None:
        """A file that cannot be used is named with its option, and nothing is announced."""
        announced: list[Any] = []
        for changed, option in (
            ({"certificate": self.file("missing.pem")}, "--certificate"),
            ({"certificate": self.file("phone.pem"), "key": "file:missing.key"}, "--key"),
            ({"certificate": self.file("phone.pem"), "key": f"file:{self.file('phone.key')}"}, "--ca"),
        ):
            settings = replace(self.settings, **changed, ca=Path("missing-ca.pem"))
            error = self.assertRaises(CannotConnect, run, settings, lambda *all_of_it: announced.append(1), quiet=True)
            self.assertEqual(error.option, option)
            self.assertIn("missing", str(error))
        self.assertEqual(announced, [])
