"""``openai-relay cert issue``: a certificate, its key, and the lines that make a client use them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from openai_relay.cli.directories import authority_directory, directory_option, relay_url
from openai_relay.cli.issuing import Outcome, access, explain, print_lines, read_csr, wanted_bundle
from openai_relay.cli.output import json_option, print_json
from openai_relay.cli.passphrases import ca_passphrase, ca_passphrase_option, p12_options

if TYPE_CHECKING:
    from openai_relay.authority.profile import KeyType


@click.command("issue")
@click.argument("name", required=False)
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
@click.option(
    "--csr",
    metavar="FILE",
    help="Make no key: certify that of this request (PKCS #10, PEM or DER; - is standard input).",
)
@click.option("--csr-names", is_flag=True, help="Take the alternative names from the request.")
@p12_options
@ca_passphrase_option
@click.option("--url", metavar="URL", help="The relay's address in the lines to paste.  [default: guessed]")
@json_option
def issue(
    name: str | None,
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
    csr: str | None,
    csr_names: bool,
    p12: bool,
    p12_compat: bool,
    p12_password_from: str | None,
    ca_passphrase_from: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Issue a certificate with a new key for the client NAME, or for the key of a request.

    Prints lines to paste for curl and the openai packages. Without --dns, --uri and --email, a
    NAME that is a host name or an e-mail address becomes the alternative name too. With --csr,
    NAME may be left out: it is then the request's CN, and nothing else of it is believed.
    """
    from openai_relay.authority.directory import CLIENT_DAYS, SERVER_DAYS, Authority
    from openai_relay.authority.names import AlternativeNames
    from openai_relay.cli.documents import CertificateDocument, IssuedDocument

    if server and (uri or email):
        raise click.UsageError("A server is called by host names and addresses: --dns and --ip, not --uri or --email.")
    if ip and not server:
        raise click.UsageError("--ip is for servers: add --server, or leave it out.")
    if server and (csr or p12 or p12_compat or p12_password_from):
        raise click.UsageError("--csr and --p12 are for clients: leave them out, or --server.")
    if csr_names and (csr is None or dns or uri or email):
        raise click.UsageError("--csr-names needs --csr, and stands in place of --dns, --uri and --email.")
    if csr is not None and (rsa or p12 or p12_compat):
        raise click.UsageError("With --csr no key is made here: leave out --rsa and --p12.")
    if name is None and csr is None:
        raise click.UsageError("Missing argument 'NAME'.")
    request = None if csr is None else read_csr(csr)
    authority = Authority.open(authority_directory(directory), passphrase=ca_passphrase(ca_passphrase_from))
    key_type: KeyType = "rsa" if rsa else "p256"
    alternative = AlternativeNames(dns, uri, email) if dns or uri or email else None
    usual = SERVER_DAYS if server else CLIENT_DAYS
    days = usual if days is None else days
    if request is not None:
        if csr_names:
            alternative = request.alternative()
        name = request.name() if name is None else name
        place = authority.place_for(name, out, renew)
        signed = authority.sign_request(request, name, days=days, alternative=alternative, place=place)
        outcome = Outcome.of_signed(signed, days)
    elif server:
        assert name is not None
        made = authority.issue_server(
            [name, *dns, *ip], days=days, into=out, stem="server", renew=renew, key_type=key_type
        )
        outcome = Outcome.of_credential(made, days)
    else:
        assert name is not None
        made = authority.issue_client(
            name,
            days=days,
            alternative=alternative,
            into=out,
            renew=renew,
            key_type=key_type,
            bundle=wanted_bundle(p12, p12_compat, p12_password_from),
        )
        outcome = Outcome.of_credential(made, days)
    lines = None
    if not server:
        url = (url or relay_url(authority.directory, authority.issued())).rstrip("/").removesuffix("/v1")
        lines = access(outcome, url, authority.certificate_path, csr)
    if as_json:
        print_json(
            IssuedDocument(
                certificate=CertificateDocument.of(outcome.issued, authority.clock()),
                certificate_file=outcome.certificate,
                key_file=outcome.key,
                p12_file=outcome.bundle,
                ca_file=authority.certificate_path,
                shortened=outcome.shortened,
                base_url=None if lines is None else lines.base_url,
            )
        )
        return
    explain(outcome)
    print_lines(outcome, lines)
