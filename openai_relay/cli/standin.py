"""``openai-relay standin``: a small server that answers like the OpenAI API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openai_relay.cli.output import Failure

if TYPE_CHECKING:
    from openai_relay.core.settings import Secret

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("standin", short_help="Run the stand-in for the OpenAI API alone.")
@click.option(
    "--listen", default="127.0.0.1:9443", show_default=True, metavar="IP:PORT", help="Where it listens; port 0 is any."
)
@click.option("--certificate", type=_FILE, help="Its certificate, PEM; without one it speaks plain HTTP, on loopback.")
@click.option("--key", type=_FILE, help="The private key of that certificate, PEM.")
@click.option(
    "--interval-ms",
    type=click.FloatRange(0, 60_000),
    default=0,
    show_default=True,
    help="The pause between two events of a stream, unless a request asks for another.",
)
@click.option(
    "--api-key-from",
    metavar="SECRET",
    help="Answer 401 to other keys than this: file:PATH, env:NAME or credential:NAME.  [default: any key will do]",
)
@click.option("--exit-with-stdin", is_flag=True, help="End when standard input does.")
def command(
    listen: str,
    certificate: Path | None,
    key: Path | None,
    interval_ms: float,
    api_key_from: str | None,
    exit_with_stdin: bool,
) -> None:
    """Run the stand-in for the OpenAI API, to try and test a relay without an account.

    docs/standin.md says what it answers and how a request asks it for errors, pauses and sizes.
    """
    from openai_relay.standin.main import run
    from openai_relay.standin.service import CannotListen

    expected = None if api_key_from is None else _secret(api_key_from)
    try:
        run(
            listen,
            certificate,
            key,
            exit_with_stdin=exit_with_stdin,
            interval_ms=interval_ms,
            expected_key=expected,
            announce=click.echo,
        )
    except CannotListen as error:
        raise Failure(str(error)) from None


def _secret(source: str) -> Secret:
    from openai_relay.config.problems import Wrong
    from openai_relay.config.sources import Sources

    try:
        return Sources(Path.cwd(), os.environ).api_key(source)
    except Wrong as wrong:
        raise click.BadParameter(str(wrong), param_hint="--api-key-from") from None
