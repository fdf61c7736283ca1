"""``openai-relay serve``: the same as ``twistd -n --pidfile= openai-relay``, for installations without ``twistd``."""

from __future__ import annotations

import sys
from typing import Final

import click

#: In the foreground, and without the file that a crash would leave in the way of the next start.
TWISTD: Final = ("twistd", "-n", "--pidfile=", "openai-relay")


@click.command(
    "serve",
    short_help="Run the relay, as `twistd openai-relay` does.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    add_help_option=False,
    options_metavar="",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS]")
def command(arguments: tuple[str, ...]) -> None:
    """Run the relay; the options are those of `twistd openai-relay`.

    `openai-relay serve --help` lists them.
    """
    from twisted.scripts import twistd

    sys.argv = [*TWISTD, *arguments]
    twistd.run()
