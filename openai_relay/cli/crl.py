"""``openai-relay crl``: write the revocation list anew, or show it."""

from __future__ import annotations

from pathlib import Path

import click

from openai_relay.cli.directories import authority_directory, directory_option
from openai_relay.cli.output import json_option, minute, plural, print_json, printable


@click.command("crl", short_help="Write the revocation list anew, or show it.")
@directory_option
@click.option("--days", type=click.IntRange(1, 36_500), help="How long the new list is good for.  [default: 30]")
@click.option("--show", "show_only", is_flag=True, help="Only show the list that is there.")
@json_option
def command(directory: Path | None, days: int | None, show_only: bool, as_json: bool) -> None:
    """Write the revocation list anew.

    A relay refuses everybody once its list is out of date, so this belongs in a weekly timer
    that restarts the relay as well. Issuing and revoking write a new list too.
    """
    from openai_relay.authority.directory import CRL_DAYS, Authority
    from openai_relay.cli.documents import CrlDocument

    if show_only and days is not None:
        raise click.UsageError("--days is for a new list: leave out --show, or --days.")
    authority = Authority.open(authority_directory(directory))
    crl = authority.crl() if show_only else authority.refresh_crl(CRL_DAYS if days is None else days)
    document = CrlDocument.of(crl, authority.clock())
    if as_json:
        print_json(document)
        return
    until = f"{minute(document.next_update)} ({plural(document.days_left, 'day')} left)"
    revoked = plural(document.revoked, "certificate")
    click.echo(f"{printable(str(document.file))}: {revoked} revoked; good until {until}; number {document.number}")
