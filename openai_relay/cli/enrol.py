"""``openai-relay enrol``: on a device, get a certificate with a code."""

from __future__ import annotations

from pathlib import Path

import click

from openai_relay.cli import snippets
from openai_relay.cli.output import Failure, day, heading, printable


@click.command("enrol", short_help="On a device: get a certificate with a code.")
@click.argument("url")
@click.argument("code")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Where the files go.  [default: .]"
)
@click.option(
    "--relay", metavar="URL", help="The relay's address in the lines to paste.  [default: URL, with port 8443]"
)
def command(url: str, code: str, out: Path, relay: str | None) -> None:
    """Make a key here, and have it certified by the relay at URL with the CODE of an invitation.

    Writes NAME.pem, NAME.key, ca.pem and NAME.json, which says where NAME.pem is renewed.
    The key never leaves this machine. Nothing is overwritten.
    """
    from openai_relay.core.enrolment_code import BadCode, read_code
    from openai_relay.enrolling.device import NotEnrolled
    from openai_relay.enrolling.files import enrol

    try:
        enrolled = enrol(url, read_code(code), out)
    except BadCode as bad:
        raise Failure(f"The code {bad}.") from None
    except NotEnrolled as error:
        raise Failure(f"{str(error).rstrip('.')}.") from None
    click.echo(f"Enrolled, until {day(enrolled.leaf.not_valid_after_utc)}; to be renewed from {day(enrolled.due)} on:")
    click.echo(f"  openai-relay renew {printable(str(enrolled.certificate))}")
    click.echo(f"  certificate  {printable(str(enrolled.certificate))}")
    click.echo(f"  key          {printable(str(enrolled.key))} (secret)")
    base = (relay or f"{url.rstrip('/').rpartition(':')[0]}:8443").rstrip("/").removesuffix("/v1")
    access = snippets.Access(base, enrolled.ca, enrolled.certificate, enrolled.key)
    heading("curl")
    click.echo(snippets.curl(access))
    heading("Environment, for programs written after the mTLS recipes of the SDKs")
    click.echo(snippets.environment(access), nl=False)
