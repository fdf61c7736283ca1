"""What commands print."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.cli.output import day, minute, plural, print_json, printable, styled, table


@dataclass(frozen=True, slots=True)
class Document:
    file: Path
    when: datetime
    name: str


class OutputTests(SynchronousTestCase):
    def test_json(self) -> None:
        """A document is one JSON object; times are in UTC with a Z, paths and names are text."""

        @click.command()
        def command() -> None:
            print_json(Document(Path("a/b"), datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), "Zoë"))

        printed = CliRunner().invoke(command).stdout
        self.assertEqual(json.loads(printed), {"file": "a/b", "when": "2030-01-02T03:04:05Z", "name": "Zoë"})
        self.assertIn('\n  "file"', printed)

    @given(st.text())
    def test_printable(self, text: str) -> None:
        """Nothing that moves a terminal's cursor is left, and what prints stays as it is."""
        shown = printable(text)
        self.assertTrue(all(each.isprintable() or each == "\n" for each in shown))
        if text.isprintable():
            self.assertEqual(shown, text)

    def test_no_colour_without_a_terminal(self) -> None:
        """What goes to a file or a pipe has no colour."""

        @click.command()
        def command() -> None:
            click.echo(styled("valid", fg="green"), color=True)

        self.assertEqual(CliRunner().invoke(command).stdout, "valid\n")

    def test_times(self) -> None:
        """Dates and times are read the same everywhere."""
        moment = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.assertEqual((day(moment), minute(moment)), ("2030-01-02", "2030-01-02 03:04 UTC"))

    def test_plural(self) -> None:
        """One is one, and all else is many."""
        self.assertEqual([plural(count, "day") for count in (0, 1, 2, -1)], ["0 days", "1 day", "2 days", "-1 day"])

    def test_table(self) -> None:
        """Columns line up on the screen, wide letters and accents counted as they show; numbers stand right."""
        self.assertEqual(
            table(("NAME", "DAYS"), [("山田", "7"), ("Zoe\u0308", "365"), ("alice", "-1")], right=("DAYS",)),
            ["NAME   DAYS", "山田      7", "Zoe\u0308     365", "alice    -1"],
        )
        self.assertEqual(table(("A", "B"), [("xx", "y")]), ["A   B", "xx  y"])
