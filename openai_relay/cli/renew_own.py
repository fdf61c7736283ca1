"""``openai-relay renew``: on a device, have its certificate renewed over itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from openai_relay.cli.output import Failure, day, minute, printable


@click.command("renew", short_help="On a device: renew its certificate over itself.")
@click.argument("certificate", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--key", type=click.Path(dir_okay=False, path_type=Path), help="Its key.  [default: beside it]")
@click.option("--url", metavar="URL", help="Where it is renewed.  [default: where it was enrolled]")
@click.option(
    "--ca", type=click.Path(dir_okay=False, path_type=Path), help="With --url: trusted instead of the system's."
)
@click.option("--if-due", is_flag=True, help="Only when two thirds of its life are over: for a timer.")
def command(certificate: Path, key: Path | None, url: str | None, ca: Path | None, if_due: bool) -> None:
    """Renew CERTIFICATE at the relay that it was enrolled with, while it is still good.

    The key stays; the file of the certificate is replaced in one step. One that has expired or
    was revoked cannot be renewed: it takes a new invitation.
    """
    from openai_relay.enrolling.device import NotEnrolled, Relay
    from openai_relay.enrolling.files import due, read_leaf, renew

    try:
        leaf = read_leaf(certificate)
        if leaf.not_valid_after_utc <= datetime.now(UTC):
            raise Failure(f"{certificate} has expired on {day(leaf.not_valid_after_utc)}: ask for another invitation.")
        if if_due and datetime.now(UTC) < due(leaf):
            click.echo(f"Not due before {minute(due(leaf))}.")
            return
        renewed = renew(certificate, key, None if url is None else Relay(url.rstrip("/"), ca=ca))
    except NotEnrolled as error:
        raise Failure(f"{str(error).rstrip('.')}.") from None
    click.echo(f"{printable(str(certificate))} is renewed, until {day(renewed.leaf.not_valid_after_utc)}.")
