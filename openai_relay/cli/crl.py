"""``openai-relay crl``: write the revocation list anew, or show it."""

from __future__ import annotations

from pathlib import Path

import click

from openai_relay.cli.directories import authority_directory, directory_option
from openai_relay.cli.output import json_option, minute, plural, print_json, printable
from openai_relay.cli.passphrases import ca_passphrase, ca_passphrase_option


@click.command("crl", short_help="Write the revocation list anew, or show it.")
@directory_option
@click.option("--days", type=click.IntRange(1, 36_500), help="How long the new list is good for.  [default: 30]")
@click.option("--show", "show_only", is_flag=True, help="Only show the list that is there.")
@click.option("--if-due", is_flag=True, help="Write it only when two thirds of its time have gone: for a timer.")
@ca_passphrase_option
@json_option
def command(
    directory: Path | None,
    days: int | None,
    show_only: bool,
    if_due: bool,
    ca_passphrase_from: str | None,
    as_json: bool,
) -> None:
    """Write the revocation list anew.

    A relay refuses everybody once its list is out of date, so this belongs in a daily timer, with
    --if-due. The exit status is 0 when the list that is there then is good, written or not.
    """
    from openai_relay.authority.directory import Authority
    from openai_relay.authority.revocations import CRL_DAYS
    from openai_relay.cli.documents import CrlDocument

    if show_only and days is not None:
        raise click.UsageError("--days is for a new list: leave out --show, or --days.")
    if show_only and if_due:
        raise click.UsageError("--if-due may write a new list: leave out --show, or --if-due.")
    authority = Authority.open(authority_directory(directory), passphrase=ca_passphrase(ca_passphrase_from))
    days = CRL_DAYS if days is None else days
    written = None
    if if_due:
        written = authority.refresh_if_due(authority.clock(), days)
    elif not show_only:
        written = authority.refresh_crl(days)
    document = CrlDocument.of(written or authority.crl(), authority.clock(), written=written is not None)
    if as_json:
        print_json(document)
        return
    until = f"{minute(document.next_update)} ({plural(document.days_left, 'day')} left)"
    revoked = plural(document.revoked, "certificate")
    click.echo(f"{printable(str(document.file))}: {revoked} revoked; good until {until}; number {document.number}")
    if if_due:
        click.echo("It was due and is written anew." if document.written else f"Not due before {minute(document.due)}.")
