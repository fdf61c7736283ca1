"""``openai-relay invite``: a code with which a device gets a certificate, once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from openai_relay.cli.directories import authority_directory, directory_option, relay_url
from openai_relay.cli.output import Failure, heading, minute, plural, printable

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def _valid(_ctx: click.Context, _option: click.Parameter, text: str) -> timedelta:
    try:
        valid = timedelta(**{_UNITS[text[-1:]]: int(text[:-1])})
    except (KeyError, ValueError):
        raise click.BadParameter(f"{text!r} is no duration; write 30m, 24h or 7d") from None
    if not timedelta(minutes=1) <= valid <= timedelta(days=30):
        raise click.BadParameter("a code is good for a minute to 30 days")
    return valid


@click.command("invite", short_help="Make a code with which a device gets a certificate, once.")
@click.argument("name", required=False)
@directory_option
@click.option("--url", metavar="URL", help="Where devices reach [enrol] address.  [default: guessed, with port 8444]")
@click.option(
    "--valid", default="24h", show_default=True, callback=_valid, help="How long the code is good: 30m, 24h, 7d."
)
@click.option("--days", type=click.IntRange(1, 36_500), default=365, show_default=True, help="Life of the certificate.")
@click.option(
    "--server-certificate",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What the relay shows, to pin its key in the code.  [default: server.pem in the authority's directory]",
)
@click.option("--no-pin", is_flag=True, help="No pin: the relay shows a certificate that devices trust anyway.")
@click.option("--list", "list_only", is_flag=True, help="Show who is invited.")
@click.option("--withdraw", is_flag=True, help="Take back what NAME is invited to.")
def command(
    name: str | None,
    directory: Path | None,
    url: str | None,
    valid: timedelta,
    days: int,
    server_certificate: Path | None,
    no_pin: bool,
    list_only: bool,
    withdraw: bool,
) -> None:
    """Invite NAME: print a code, good once and for a while, and what to type on the device.

    The device makes its key itself and gets a certificate for NAME at the relay's [enrol] address.
    """
    from openai_relay.authority.directory import Authority
    from openai_relay.authority.invitations import Invitations
    from openai_relay.core.enrolment_code import Code

    authority = Authority.open(authority_directory(directory))
    invitations = Invitations(authority.directory)
    now = authority.clock()
    if list_only:
        for each in invitations.open(now):
            click.echo(f"{printable(each.name)}  until {minute(each.ends)}")
        return
    if name is None:
        raise click.UsageError("Missing argument 'NAME'.")
    if withdraw:
        count = invitations.withdraw(name)
        if not count:
            raise Failure(f"{name} is not invited.")
        click.echo(f"Withdrawn: {plural(count, 'invitation')} of {printable(name)}.")
        return
    pin = None if no_pin else _pin(server_certificate or authority.directory / "server.pem")
    invitation, secret = invitations.invite(name, days, valid, now)
    code = Code(secret, pin)
    where = (url or f"{relay_url(authority.directory, authority.issued()).rpartition(':')[0]}:8444").rstrip("/")
    click.echo(f"Invited {printable(invitation.name)}, once, until {minute(invitation.ends)}. On the device:\n")
    click.echo(f"  openai-relay enrol {where} {code}")
    heading("Other clients of EST (RFC 7030)")
    click.echo("openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=device \\")
    click.echo("    -keyout device.key -outform DER | base64 > device.b64")
    click.echo(f"curl --cacert ca.pem -u :{code} -H content-type:application/pkcs10 --data-binary @device.b64 \\")
    click.echo(
        f"    {where}/.well-known/est/simpleenroll | base64 -d | openssl pkcs7 -inform DER -print_certs -out device.pem"
    )


def _pin(path: Path) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    from openai_relay.authority.reading import read_certificate
    from openai_relay.enrolling.device import pin_of

    do = "Name what the relay shows with --server-certificate, or leave the pin out with --no-pin"
    return pin_of(read_certificate(path, do).public_bytes(Encoding.DER))
