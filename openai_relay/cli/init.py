"""``openai-relay init``: an authority, a server certificate and a commented configuration in one directory."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from openai_relay.cli.directories import DEFAULT
from openai_relay.cli.output import heading, json_option, minute, print_json, printable
from openai_relay.cli.passphrases import ca_passphrase_option, new_ca_passphrase

SERVER_NAMES: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Made:
    """What ``init --json`` prints."""

    directory: Path
    ca_file: Path
    crl_file: Path
    certificate_file: Path
    key_file: Path
    configuration_file: Path
    server_names: tuple[str, ...]
    ca_key_encrypted: bool
    ca_not_after: datetime
    certificate_not_after: datetime


@click.command("init", short_help="Set up an authority, a server certificate and a relay.toml.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=DEFAULT, metavar="[DIR]")
@click.option(
    "--server-name",
    "server_names",
    multiple=True,
    metavar="NAME",
    help="What clients call the relay, a host name or an address; more than once if need be."
    f"  [default: {', '.join(SERVER_NAMES)}]",
)
@click.option("--name", help="The authority's name.  [default: openai-relay CA, and a random number]")
@click.option(
    "--days",
    type=click.IntRange(1, 36_500),
    default=3650,
    show_default=True,
    help="How long the authority is good for.",
)
@click.option(
    "--server-days",
    type=click.IntRange(1, 36_500),
    default=397,
    show_default=True,
    help="How long the server certificate is.",
)
@click.option("--encrypt-key", is_flag=True, help="Put a passphrase on ca.key: it opens whatever is to be signed.")
@ca_passphrase_option
@json_option
def command(
    directory: Path,
    server_names: tuple[str, ...],
    name: str | None,
    days: int,
    server_days: int,
    encrypt_key: bool,
    ca_passphrase_from: str | None,
    as_json: bool,
) -> None:
    """Set up a relay in DIR (default: ./openai-relay).

    Makes a certificate authority, its revocation list, a server certificate and a commented
    relay.toml, and says what to do next. Nothing that exists is overwritten. With --encrypt-key or
    --ca-passphrase-from, every command that signs asks for the passphrase of ca.key.
    """
    from openai_relay.authority.directory import Authority
    from openai_relay.authority.files import PUBLIC, refuse_existing, write_file
    from openai_relay.authority.names import host_names
    from openai_relay.config.example import render

    server_names = server_names or SERVER_NAMES
    host_names(server_names)  # refused before anything is made
    configuration = directory / "relay.toml"
    for path in (configuration, directory / "server.pem", directory / "server.key"):
        refuse_existing(path, "Choose another directory, or go on with what is there")
    encrypted = encrypt_key or ca_passphrase_from is not None
    passphrase = new_ca_passphrase(ca_passphrase_from) if encrypted else None
    authority = Authority.create(directory, name, days, passphrase=passphrase)
    server = authority.issue_server(server_names, days=server_days, stem="server")
    text = render(certificate="server.pem", key="file:server.key", client_ca="ca.pem", crl="crl.pem")
    write_file(configuration, text.encode(), PUBLIC)
    made = Made(
        directory=directory,
        ca_file=authority.certificate_path,
        crl_file=authority.crl_path,
        certificate_file=server.certificate,
        key_file=server.key,
        configuration_file=configuration,
        server_names=server_names,
        ca_key_encrypted=encrypted,
        ca_not_after=authority.not_after,
        certificate_not_after=server.issued.not_after,
    )
    if as_json:
        print_json(made)
    else:
        _explain(made)


def _explain(made: Made) -> None:
    place = shlex.quote(str(made.directory))
    configuration = shlex.quote(str(made.configuration_file))
    key = "its private key: whoever has it can let anybody in; keep it safe, and keep a backup"
    if made.ca_key_encrypted:
        key = "its private key, encrypted: worth nothing without its passphrase, nor you; keep a backup of both"
    click.echo(f"Made in {printable(str(made.directory))}:")
    for file, meaning in (
        ("ca.pem", f"the authority, good until {minute(made.ca_not_after)}: clients and the relay trust it"),
        ("ca.key", key),
        ("index.jsonl", "what it has issued: back it up with the key"),
        ("crl.pem", "its revocation list: `openai-relay crl --if-due` belongs in a daily timer"),
        (
            "server.pem",
            f"the certificate for {', '.join(made.server_names)}, until {minute(made.certificate_not_after)}",
        ),
        ("server.key", "the private key of that certificate"),
        ("relay.toml", "the configuration, with every key explained"),
    ):
        click.echo(f"  {file:<12} {meaning}")
    heading("Next")
    click.echo(
        "  1. Give the relay its API key (relay.toml says env:OPENAI_API_KEY; a file or a credential works too):"
    )
    click.echo("     export OPENAI_API_KEY=...")
    click.echo("  2. Issue a certificate for each client; the command prints what to paste there:")
    click.echo(f"     openai-relay cert issue alice --dir {place}")
    click.echo("  3. Check and start:")
    click.echo(f"     openai-relay check-config {configuration}")
    click.echo(f"     twistd -n --pidfile= openai-relay --config {configuration}")
