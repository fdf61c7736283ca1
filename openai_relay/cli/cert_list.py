"""``openai-relay cert list``: every certificate with its state, what ends soon, and when each was last seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import click

from openai_relay.cli.directories import authority_directory, directory_option
from openai_relay.cli.output import (
    Failure,
    day,
    json_option,
    minute,
    plural,
    print_json,
    printable,
    styled,
    table,
)

if TYPE_CHECKING:
    from openai_relay.authority.index import Issued
    from openai_relay.cli.documents import ListDocument, ListedDocument
    from openai_relay.ledger.last_seen import LastSeen

Sort = Literal["expiry", "name", "issued", "seen"]

COLOURS: Final = {"valid": "green", "revoked": "red", "expired": "yellow", "not-yet-valid": "yellow"}
_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
#: What can still be used comes first, and of that what ends first.
_RANK: Final = {"valid": 0, "not-yet-valid": 1, "expired": 2, "revoked": 3}


@click.command("list")
@directory_option
@click.option(
    "--sort",
    type=click.Choice(get_args(Sort)),
    default="expiry",
    show_default=True,
    help="What is in force by its end, then the rest; by name; oldest first; or last seen first.",
)
@click.option("--database", type=_FILE, help="The ledger that knows when each was last seen.  [default: relay.toml's]")
@json_option
def list_certificates(directory: Path | None, sort: Sort, database: Path | None, as_json: bool) -> None:
    """List every certificate the authority has issued.

    When each was last seen stands in the ledger, if the relay.toml here names one.
    """
    from openai_relay.authority.directory import Authority
    from openai_relay.cli.documents import ListDocument, ListedDocument

    authority = Authority.open(authority_directory(directory))
    now = authority.clock()
    issued = authority.issued()
    ledger = _found_ledger(authority.directory) if database is None else database
    last = None if ledger is None else _last_seen(ledger, issued, must=database is not None)
    seen = {} if last is None else {each.fingerprint: _moment(each.at_ms) for each in last.certificates}
    documents = [ListedDocument.seen(each, now, seen.get(each.fingerprint)) for each in issued]
    documents.sort(key=_order(sort))
    since = None if last is None or last.since_ms is None else _moment(last.since_ms)
    document = ListDocument(tuple(documents), None if last is None else ledger, since)
    if as_json:
        print_json(document)
    elif documents:
        _print(document)
    else:
        click.echo("No certificate has been issued yet: `openai-relay cert issue NAME` makes one.")


def _print(document: ListDocument) -> None:
    titles = ["NAME", "KIND", "SERIAL", "STATE", "EXPIRES", "DAYS LEFT", "SOON"]
    if document.ledger is not None:
        titles.append("LAST SEEN")
    rows = [_row(each)[: len(titles)] for each in document.certificates]
    first, *lines = table(titles, rows, right=("DAYS LEFT",))
    click.echo(styled(first, bold=True))
    for line, each in zip(lines, document.certificates, strict=True):
        # The serial, all hex, comes first and cannot hold the word.
        before, state, after = line.partition(f"{each.serial}  {each.state}")
        colour = "yellow" if each.expires_soon else COLOURS[each.state]
        click.echo(f"{before}{each.serial}  {styled(each.state, fg=colour)}{after}" if state else line)
    soon = sum(each.expires_soon for each in document.certificates)
    if soon:
        ends = "ends" if soon == 1 else "end"
        click.echo(f"\n{plural(soon, 'certificate')} {ends} soon: `openai-relay cert renew NAME` makes the next one.")
    if document.ledger is not None:
        reach = "is empty" if document.seen_since is None else f"goes back to {minute(document.seen_since)}"
        click.echo(f"\nLAST SEEN, in UTC, is from {printable(str(document.ledger))}, which {reach}.")


def _row(each: ListedDocument) -> tuple[str, ...]:
    return (
        printable(each.name),
        each.kind,
        each.serial,
        each.state,
        day(each.not_after),
        str(each.days_left) if each.state == "valid" else "-",
        "soon" if each.expires_soon else "",
        "-" if each.last_seen is None else f"{each.last_seen:%Y-%m-%d %H:%M}",
    )


def _order(sort: Sort) -> Callable[[ListedDocument], Any]:
    match sort:
        case "expiry":
            return lambda each: (_RANK[each.state], each.not_after, each.name)
        case "name":
            return lambda each: (each.name, each.not_before)
        case "issued":
            return lambda each: 0  # they are
        case "seen":
            return lambda each: _NEVER - (each.last_seen or _NEVER)


def _last_seen(ledger: Path, issued: Sequence[Issued], *, must: bool) -> LastSeen | None:
    """
    What the ledger says of these.

    :param must: it was named; one that was only found is passed over with a word when it cannot be read
    """
    from openai_relay.ledger.errors import LedgerError
    from openai_relay.ledger.last_seen import SightingReader

    try:
        reader = SightingReader(ledger)
        try:
            return reader.last_seen(each.fingerprint for each in issued)
        finally:
            reader.close()
    except LedgerError as error:
        if must:
            raise Failure(f"{error}.") from None
        click.echo(f"When certificates were last seen is not known: {printable(str(error))}.", err=True)
        return None


def _found_ledger(directory: Path) -> Path | None:
    """The ledger that the configuration beside the authority names; whatever is wrong with that is passed over."""
    import tomllib

    try:
        named = tomllib.loads((directory / "relay.toml").read_text(encoding="utf-8"))["ledger"]["database"]
        path = directory / named
        return path if path.exists() else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)
