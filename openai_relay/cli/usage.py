"""``openai-relay usage``: who used what, out of the ledger, while the relay writes it or afterwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from openai_relay.cli.directories import configuration_file
from openai_relay.cli.output import BAD_CONFIGURATION, Failure, json_option, print_json, printable

if TYPE_CHECKING:
    from openai_relay.ledger.reading import By, Group

_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_BY: Final = ("client", "model", "day", "endpoint")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _BadConfiguration(Failure):
    exit_code = BAD_CONFIGURATION


@click.command("usage", short_help="Show who used what: requests, tokens, cost.")
@click.option("--database", type=_FILE, help="The ledger.  [default: as the configuration says]")
@click.option(
    "--config",
    "configuration",
    type=_FILE,
    help="The configuration that names the ledger.  [default: ./relay.toml, else ./openai-relay/relay.toml]",
)
@click.option("--by", type=click.Choice(_BY), default="client", show_default=True, help="A line for each of these.")
@click.option("--since", default="30d", show_default=True, metavar="WHEN", help="today, 12h, 7d, 2026-11-01 ...")
@click.option("--until", metavar="WHEN", help="As --since; a date includes that day.  [default: now]")
@click.option("--client", metavar="NAME", help="Only this client's.")
@click.option(
    "--timezone",
    metavar="ZONE",
    help="Where days begin: Europe/Berlin.  [default: as the configuration says; UTC with --database]",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV for spreadsheets.")
@json_option
def command(
    database: Path | None,
    configuration: Path | None,
    by: By,
    since: str,
    until: str | None,
    client: str | None,
    timezone: str | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show who used what: requests, tokens and cost, by client, model, day or endpoint.

    Reads the ledger without disturbing a relay that writes it. Times are rounded down to a quarter of an hour.
    """
    from openai_relay.cli import usage_report
    from openai_relay.cli.moments import moment, time_zone

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other: leave one out.")
    if database is not None and configuration is not None:
        raise click.UsageError("--database names the ledger itself: leave out --config, or --database.")
    now = datetime.now(UTC)
    path, usual = (database, "UTC") if database is not None else _configured(configuration_file(configuration))
    timezone = usual if timezone is None else timezone
    option = "--timezone"
    try:
        zone = time_zone(timezone)
        option = "--since"
        begin = _quarter(moment(since, now, zone))
        option = "--until"
        end = None if until is None else _quarter(moment(until, now, zone, whole_days=True))
    except ValueError as error:
        raise click.BadParameter(printable(str(error)), param_hint=option) from None
    if end is not None and end <= begin:
        raise click.UsageError(
            f"--until {until} is not a quarter of an hour later than --since {since}: nothing lies between."
        )
    groups = _read(path, by, begin, end, client, timezone)
    asked = usage_report.Asked(by, begin.astimezone(zone), (end or now).astimezone(zone), client, timezone)
    if as_json:
        print_json(usage_report.document(asked, groups))
    elif as_csv:
        click.echo(usage_report.comma_separated(by, groups), nl=False)
    else:
        for line in usage_report.lines(asked, groups):
            click.echo(line)


def _read(
    path: Path, by: By, begin: datetime, end: datetime | None, client: str | None, timezone: str
) -> tuple[Group, ...]:
    from openai_relay.cli.moments import time_zone
    from openai_relay.ledger.errors import Damaged, LedgerError, Unavailable
    from openai_relay.ledger.reading import LedgerReader, Stretch

    stretch = Stretch(_ms(begin), None if end is None else _ms(end), client)
    try:
        reader = LedgerReader(path)
        try:
            return reader.by_day(stretch, time_zone(timezone)) if by == "day" else reader.by(by, stretch)
        finally:
            reader.close()
    except Damaged as error:
        raise Failure(
            f"{error}. A running relay sets it aside and begins a new one; restore a copy to read it."
        ) from None
    except Unavailable as error:
        raise Failure(f"{error}. Try again, as the account that runs the relay.") from None
    except LedgerError as error:
        raise Failure(f"{error}.") from None


def _configured(file: Path) -> tuple[Path, str]:
    """
    The ledger of the relay that a configuration describes, and the zone in which its days begin.

    The rest of it is not looked at: whoever asks for usage need not have the secrets and files that it refers to.
    """
    from openai_relay.config.problems import BadConfiguration
    from openai_relay.config.read import load_ledger

    if not file.exists():
        raise Failure(f"{file} does not exist: name the ledger with --database FILE, or --config relay.toml.")
    try:
        ledger, accounting = load_ledger(file)
    except BadConfiguration as bad:
        raise _BadConfiguration("\n".join(bad.messages)) from None
    if not ledger.enabled:
        raise Failure(
            f"{file}: ledger.enabled is false, so that the relay keeps no ledger: "
            "name one that it kept before with --database FILE."
        )
    if ledger.database is None:
        raise Failure(
            f'{file}: there is no ledger, since state.directory is "" and ledger.database is not set: '
            "set one of them, or name the ledger with --database FILE."
        )
    return ledger.database, str(accounting.time_zone)


def _quarter(when: datetime) -> datetime:
    """What the ledger counts by; rounded here already, so that the time that is told is the one that counted."""
    return when - (when - _EPOCH) % timedelta(minutes=15)


def _ms(when: datetime) -> int:
    return max(0, (when - _EPOCH) // timedelta(milliseconds=1))
