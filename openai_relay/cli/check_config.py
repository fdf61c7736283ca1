"""``openai-relay check-config``: would a relay start with this file, and for how long is what it names good?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from openai_relay.cli.directories import configuration_file
from openai_relay.cli.output import BAD_CONFIGURATION, json_option, minute, plural, print_json, printable

if TYPE_CHECKING:
    from openai_relay.core.settings import Settings
    from openai_relay.tls.accepting import Loaded

_DAY: Final = 86_400.0
#: What ends sooner is worth a warning.
_SOON: Final = 7 * _DAY


@dataclass(frozen=True, slots=True)
class Checked:
    """What ``check-config --json`` prints."""

    ok: bool
    file: Path
    messages: tuple[str, ...] = ()  #: what is wrong
    warnings: tuple[str, ...] = ()  #: what soon will be


@click.command("check-config", short_help="Check a configuration and all that it names.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@json_option
@click.pass_context
def command(ctx: click.Context, file: Path | None, as_json: bool) -> None:
    """Check the configuration in FILE (default: ./relay.toml, else ./openai-relay/relay.toml).

    Reads everything that it names as the relay would: keys, certificates, revocation list.
    Nothing is started. Exits with 78 when something is wrong.
    """
    from openai_relay.accounting.place import BadState, check_places
    from openai_relay.cli.accounts_table import accounts_table
    from openai_relay.config.problems import BadConfiguration, Problem
    from openai_relay.config.read import CommandLine, load, placed
    from openai_relay.tls.accepting import load as load_files
    from openai_relay.tls.files import BadCertificateFile
    from openai_relay.upstream import BadUpstream, client_context

    file = configuration_file(file)
    summary: list[tuple[str, str]] = []
    accounts: list[str] = []
    try:
        settings = load(file, os.environ)
        loaded = load_files(settings.listen)
        client_context(settings.upstream.ca)
        check_places(settings.state.directory, settings.ledger.database if settings.ledger.enabled else None)
        warnings = (*_warnings(loaded, time.time()), *_forgetful(settings))
        checked = Checked(True, file, warnings=warnings)
        summary = _summary(settings, loaded)
        if settings.tiers or settings.clients:
            accounts = accounts_table(settings)
    except BadConfiguration as bad:
        checked = Checked(False, file, tuple(bad.messages))
    except (BadCertificateFile, BadUpstream, BadState) as wrong:  # inside a file that the configuration names
        key, _, told = str(wrong).partition(": ")
        found = placed(BadConfiguration([Problem("", key, told)]), CommandLine(config=str(file)), Path.cwd())
        checked = Checked(False, file, tuple(found.messages))
    if as_json:
        print_json(checked)
    else:
        if checked.ok:
            click.echo("ok")
        for name, value in summary:
            click.echo(f"  {name:<12} {printable(value)}")
        for line in ("", *accounts) if accounts else ():
            click.echo(f"  {line}".rstrip())
        for message in (*checked.messages, *(f"Warning: {warning}" for warning in checked.warnings)):
            click.echo(printable(message), err=True)
    if not checked.ok:
        ctx.exit(BAD_CONFIGURATION)


def _summary(settings: Settings, loaded: Loaded) -> list[tuple[str, str]]:
    listen, upstream, prices = settings.listen, settings.upstream, settings.accounting.prices
    crl = "not checked" if listen.crl is None else f"{listen.crl}{_until(loaded.crl_next_update)}"
    default_tier = settings.identity.default_tier
    tiers = ", ".join(f"{tier} (default)" if tier == default_tier else tier for tier in settings.tiers)
    own = "has rules of its own" if len(settings.clients) == 1 else "have rules of their own"
    return [
        ("listens", f"{listen.address}, client certificates {listen.client_auth}"),
        ("certificate", f"{listen.certificate}{_until(loaded.certificate_expiry)}"),
        ("trusts", str(listen.client_ca)),
        ("revocations", crl),
        ("forwards", f"{', '.join(upstream.allow_paths)} to {upstream.url}, key: {upstream.authorization}"),
        ("limits", _limits(settings)),
        ("tiers", tiers or "none"),
        ("clients", f"{plural(len(settings.clients), 'client')} {own}" if settings.clients else "all alike"),
        ("prices", f"of {prices.as_of}; days begin in {settings.accounting.time_zone}"),
        ("state", _state(settings)),
        ("ledger", _ledger(settings)),
        ("admin", settings.admin.address or "off"),
    ]


def _limits(settings: Settings) -> str:
    limits = settings.limits
    said = [
        f"{value:,.10g} {meaning}"
        for value, meaning in (
            (limits.requests_per_minute, "requests a minute"),
            (limits.burst, "at once"),
            (limits.tokens_per_minute, "tokens a minute"),
            (limits.token_burst, "tokens at once"),
            (limits.concurrent, "open at the same time"),
        )
        if value is not None
    ]
    if limits.max_queue:
        said.append(f"{limits.max_queue} may wait for {limits.max_wait:g} s")
    if limits.shadow:
        said.append("shadow: nothing is refused")
    return ", ".join(said) or "none"


def _state(settings: Settings) -> str:
    directory = settings.state.directory
    if directory is None:
        return "none: nothing outlives the process"
    return f"{directory}{'' if directory.exists() else ', which the relay makes'}"


def _ledger(settings: Settings) -> str:
    ledger = settings.ledger
    if not ledger.enabled:
        return "off"
    if ledger.database is None:
        return "none, since there is no directory for it"
    kept = "for ever" if ledger.retention_days is None else f"for {plural(ledger.retention_days, 'day')}"
    return f"{ledger.database}, single exchanges kept {kept}"


def _forgetful(settings: Settings) -> Iterator[str]:
    """Budgets that a restart gives back."""
    accounts = (*settings.tiers.values(), *(client.rules for client in settings.clients.values()))
    if any(rules.budgets for rules in accounts) and not (settings.ledger.enabled and settings.ledger.database):
        yield "there are budgets and no ledger: each restart begins them anew; set state.directory or ledger.database."


def _warnings(loaded: Loaded, now: float) -> Iterator[str]:
    for end, what, then, do in (
        (
            loaded.certificate_expiry,
            "the server's certificate",
            "clients refuse the relay",
            "renew it, for example with `openai-relay cert issue NAME --server --renew`, and restart",
        ),
        (
            loaded.crl_next_update,
            "the revocation list",
            "the relay refuses every client",
            "`openai-relay crl` writes a new one, which counts after a restart",
        ),
    ):
        if end is not None and end - now < _SOON:
            when = "has expired: from then on" if end < now else f"is good for {(end - now) / _DAY:.1f} more days: then"
            yield f"{what} {when} {then}; {do}."
    for warning in loaded.warnings:
        yield f"{warning}."


def _until(end: float | None) -> str:
    return "" if end is None else f", good until {minute(datetime.fromtimestamp(end, UTC))}"
