"""``openai-relay cert issue``: a certificate, its key, and the lines that make a client use them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from openai_relay.cli import snippets
from openai_relay.cli.directories import authority_directory, directory_option, relay_url
from openai_relay.cli.output import RESTART, day, heading, json_option, plural, print_json, printable

if TYPE_CHECKING:
    from openai_relay.authority.directory import Credential
    from openai_relay.authority.profile import KeyType


@click.command("issue")
@click.argument("name")
@directory_option
@click.option(
    "--days", type=click.IntRange(1, 36_500), help="How long it is good for.  [default: 365, with --server 397]"
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where certificate and key go.  [default: clients/ in the authority's directory; with --server that itself]",
)
@click.option("--dns", multiple=True, metavar="NAME", help="An alternative name: a host name.  Repeatable.")
@click.option("--uri", multiple=True, metavar="URI", help="An alternative name: a URI.  Repeatable.")
@click.option("--email", multiple=True, metavar="ADDRESS", help="An alternative name: an e-mail address.  Repeatable.")
@click.option("--ip", multiple=True, metavar="ADDRESS", help="With --server: an address it answers to.  Repeatable.")
@click.option("--server", is_flag=True, help="For a server, as server.pem: NAME, --dns, --ip are what clients call it.")
@click.option("--renew", is_flag=True, help="Replace an earlier certificate of this name; its other names stay.")
@click.option("--rsa", is_flag=True, help="Make an RSA key, for software that cannot do ECDSA.")
@click.option("--url", metavar="URL", help="The relay's address in the lines to paste.  [default: guessed]")
@json_option
def issue(
    name: str,
    directory: Path | None,
    days: int | None,
    out: Path | None,
    dns: tuple[str, ...],
    uri: tuple[str, ...],
    email: tuple[str, ...],
    ip: tuple[str, ...],
    server: bool,
    renew: bool,
    rsa: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Issue a certificate with a new key for the client NAME.

    Prints lines to paste for curl and the openai packages. Without --dns, --uri and --email, a
    NAME that is a host name or an e-mail address becomes the alternative name too.
    """
    from openai_relay.authority.directory import CLIENT_DAYS, SERVER_DAYS, Authority
    from openai_relay.authority.names import AlternativeNames
    from openai_relay.cli.documents import CertificateDocument, IssuedDocument

    if server and (uri or email):
        raise click.UsageError("A server is called by host names and addresses: --dns and --ip, not --uri or --email.")
    if ip and not server:
        raise click.UsageError("--ip is for servers: add --server, or leave it out.")
    authority = Authority.open(authority_directory(directory))
    key_type: KeyType = "rsa" if rsa else "p256"
    if server:
        days = SERVER_DAYS if days is None else days
        made = authority.issue_server(
            [name, *dns, *ip], days=days, into=out, stem="server", renew=renew, key_type=key_type
        )
        access = None
    else:
        days = CLIENT_DAYS if days is None else days
        alternative = AlternativeNames(dns, uri, email) if dns or uri or email else None
        made = authority.issue_client(
            name, days=days, alternative=alternative, into=out, renew=renew, key_type=key_type
        )
        url = (url or relay_url(authority.directory, authority.issued())).rstrip("/").removesuffix("/v1")
        access = snippets.Access(url, authority.certificate_path, made.certificate, made.key)
    if as_json:
        print_json(
            IssuedDocument(
                certificate=CertificateDocument.of(made.issued, authority.clock()),
                certificate_file=made.certificate,
                key_file=made.key,
                ca_file=authority.certificate_path,
                shortened=made.shortened,
                base_url=None if access is None else access.base_url,
            )
        )
        return
    _explain(made, days)
    if access is None:
        click.echo(f"\n{RESTART}")
    else:
        _print_lines(access)


def _explain(made: Credential, days: int) -> None:
    issued = made.issued
    click.echo(f"Issued to {printable(issued.name)}, good until {day(issued.not_after)}.")
    if made.shortened:
        click.echo(f"The authority itself ends then, before the {plural(days, 'day')} that were asked for.", err=True)
    if issued.names:
        click.echo(f"  names        {printable(', '.join(issued.names))}")
    click.echo(f"  certificate  {printable(str(made.certificate))}")
    click.echo(f"  key          {printable(str(made.key))} (secret: whoever has it is {printable(issued.name)})")
    click.echo(f"  serial       {issued.serial}")
    click.echo(f"  fingerprint  {issued.fingerprint}")


def _print_lines(access: snippets.Access) -> None:
    heading("curl")
    click.echo(snippets.curl(access))
    heading("Python (pip install openai)")
    click.echo(snippets.heredoc("python3 -", snippets.python(access)), nl=False)
    heading("Node (npm install openai undici@6)")
    click.echo(snippets.heredoc("node --input-type=module -", snippets.node(access)), nl=False)
    heading("Environment, for programs written after the mTLS recipes of the SDKs")
    click.echo(snippets.environment(access), nl=False)
