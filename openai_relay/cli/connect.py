"""``openai-relay connect``: a local port for tools that have no option for a client certificate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from openai_relay.cli.output import day, printable

if TYPE_CHECKING:
    from openai_relay.core.connect_settings import ConnectSettings
    from openai_relay.core.identity import Identity

T = TypeVar("T")
_FILE: Final = click.Path(path_type=Path)


@click.command("connect", short_help="Let tools without a certificate option use a relay.")
@click.argument("relay", metavar="https://HOST:PORT")
@click.option("--certificate", type=_FILE, required=True, help="Your certificate and its intermediates, PEM.")
@click.option("--key", required=True, metavar="SECRET", help="Its private key: file:PATH, env:NAME or credential:NAME.")
@click.option("--ca", type=_FILE, help="Who may have issued the relay's certificate, PEM.  [default: the system's]")
@click.option(
    "--listen",
    default="127.0.0.1:8088",
    show_default=True,
    metavar="IP:PORT",
    help="Where tools connect; port 0 is any.",
)
@click.option("--allow-remote", is_flag=True, help="Let --listen be an address that other machines reach.")
@click.option(
    "--allow-host", multiple=True, metavar="NAME", help="Serve requests for this host name too (may be repeated)."
)
@click.option("--drop-authorization", is_flag=True, help="Keep the API key that tools send from the relay.")
@click.option("-q", "--quiet", is_flag=True, help="Print no line for each exchange.")
def command(
    relay: str,
    certificate: Path,
    key: str,
    ca: Path | None,
    listen: str,
    allow_remote: bool,
    allow_host: tuple[str, ...],
    drop_authorization: bool,
    quiet: bool,
) -> None:
    """Take plain HTTP on this machine and send it to a relay with your client certificate.

    Prints what to paste where a tool runs; Ctrl-C ends it once running answers are
    complete. A renewed certificate is taken up from its file. docs/connect.md says more.
    """
    from openai_relay.core.connect_settings import ConnectSettings, host_name, listen_address, relay_url

    settings = ConnectSettings(
        _checked("https://HOST:PORT", lambda: relay_url(relay)),
        certificate,
        key,
        ca,
        _checked("--listen", lambda: listen_address(listen, allow_remote=allow_remote)),
        _checked("--allow-host", lambda: tuple(map(host_name, allow_host))),
        not drop_authorization,
    )

    from openai_relay.connect.main import CannotConnect, run

    try:
        run(settings, partial(_announce, settings), quiet=quiet)
    except CannotConnect as error:
        raise _wrong(error.option, str(error)) from None


def _announce(settings: ConnectSettings, address: str, identity: Identity) -> None:
    base_url = f"http://{address}/v1"
    until = day(datetime.fromtimestamp(identity.not_after, UTC))
    if not settings.listen.loopback:
        click.echo(f"Warning: whoever reaches {address} uses your certificate, without a password.", err=True)
    click.echo(f"{base_url} leads to {settings.relay}, as {printable(identity.name)} (certificate until {until}).")
    if settings.pass_authorization:
        click.echo("An API key that a tool sends goes on to the relay; --drop-authorization keeps it here.")
    click.echo("Paste where the tool runs:\n")
    click.echo(f"export OPENAI_BASE_URL={base_url}\nexport OPENAI_API_KEY=unused\n")


def _checked(hint: str, rule: Callable[[], T]) -> T:
    try:
        return rule()
    except ValueError as error:
        raise _wrong(hint, str(error)) from None


def _wrong(hint: str, told: str) -> click.BadParameter:
    return click.BadParameter(f"{printable(told)}.", param_hint=hint)
