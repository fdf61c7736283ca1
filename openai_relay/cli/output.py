"""What commands print: for people, or as JSON whose field names stay."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., Any])

BAD_CONFIGURATION: Final = 78  #: EX_CONFIG of sysexits.h; the systemd unit does not restart on it


#: What becomes of a relay that runs while its files change.
WATCHED: Final = "A running relay watches it, and takes it up within a second."


class Failure(click.ClickException):
    """The command could not do what it was asked; the message says what, where and what to do."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Print the message where errors go."""
        click.echo(f"Error: {printable(self.message)}", err=True)


def json_option(function: _Function) -> _Function:
    """Give a command its ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(function)


def print_json(document: object) -> None:
    """A frozen value as one JSON object, indented; times are ISO 8601 in UTC, paths are text."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2))


def printable(text: str) -> str:
    """Text out of somebody's certificate or file name, with all that could move the cursor escaped."""
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in text
    )


def styled(text: str, **style: Any) -> str:
    """Colour for a terminal that wants it (https://no-color.org), else the plain text."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return click.style(text, **style) if wanted else text


def heading(text: str) -> None:
    click.echo(f"\n{styled(text, bold=True)}")


def day(moment: datetime) -> str:
    """A date as people read it."""
    return f"{moment:%Y-%m-%d}"


def minute(moment: datetime) -> str:
    """A point in time as people read it."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def plural(count: int, thing: str) -> str:
    return f"{count} {thing}" if abs(count) == 1 else f"{count} {thing}s"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> list[str]:
    """
    Lines of a table, columns as wide as their widest cell on the screen.

    :param right: the titles of columns of numbers
    """
    widths = [max(map(_width, column)) for column in zip(titles, *rows, strict=True)]
    return [
        "  ".join(
            _pad(cell, width, title in right) for cell, width, title in zip(row, widths, titles, strict=True)
        ).rstrip()
        for row in (titles, *rows)
    ]


def _pad(cell: str, width: int, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _width(text: str) -> int:
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )
