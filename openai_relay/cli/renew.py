"""``openai-relay cert renew``: a new certificate for somebody who has one; both are good for a while."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from openai_relay.cli.directories import authority_directory, directory_option, relay_url
from openai_relay.cli.issuing import Outcome, access, explain, print_lines, read_csr, wanted_bundle
from openai_relay.cli.output import json_option, minute, print_json, printable
from openai_relay.cli.passphrases import ca_passphrase, ca_passphrase_option, p12_options

if TYPE_CHECKING:
    from openai_relay.authority.profile import KeyType


@click.command("renew")
@click.argument("which")
@directory_option
@click.option(
    "--days", type=click.IntRange(1, 36_500), help="How long the new one is good for.  [default: 365, a server's 397]"
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the files go.  [default: clients/ in the authority's directory; a server's that itself]",
)
@click.option("--rsa", is_flag=True, help="Make an RSA key, for software that cannot do ECDSA.")
@click.option("--csr", metavar="FILE", help="Make no key: certify that of this request (- is standard input).")
@p12_options
@ca_passphrase_option
@click.option("--url", metavar="URL", help="The relay's address in the lines to paste.  [default: guessed]")
@json_option
def renew(
    which: str,
    directory: Path | None,
    days: int | None,
    out: Path | None,
    rsa: bool,
    csr: str | None,
    p12: bool,
    p12_compat: bool,
    p12_password_from: str | None,
    ca_passphrase_from: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Renew WHICH: a name (its newest certificate), a serial number, a fingerprint, or the file of a certificate.

    The new certificate has the same names and a new key, or that of --csr, and replaces the files of
    the old one. The old one stays good until it ends, so that there is time to change over.
    """
    from openai_relay.authority.directory import Authority
    from openai_relay.cli.documents import CertificateDocument, RenewedDocument

    if csr is not None and (rsa or p12 or p12_compat):
        raise click.UsageError("With --csr no key is made here: leave out --rsa and --p12.")
    request = None if csr is None else read_csr(csr)
    authority = Authority.open(authority_directory(directory), passphrase=ca_passphrase(ca_passphrase_from))
    old = authority.renewable(which)
    if old.kind == "server" and (csr or p12 or p12_compat):
        raise click.UsageError("This is a server's certificate: --csr and --p12 are for clients.")
    if request is not None:
        place = authority.place_for(old.name, out, renew=True)
        outcome = Outcome.of_signed(authority.renew_request(old.serial, request, days=days, place=place), days)
    else:
        key_type: KeyType = "rsa" if rsa else "p256"
        bundle = wanted_bundle(p12, p12_compat, p12_password_from)
        made = authority.renew(which, days=days, into=out, key_type=key_type, bundle=bundle)
        outcome = Outcome.of_credential(made, days)
    lines = None
    if old.kind == "client":
        url = (url or relay_url(authority.directory, authority.issued())).rstrip("/").removesuffix("/v1")
        lines = access(outcome, url, authority.certificate_path, csr)
    now = authority.clock()
    if as_json:
        print_json(
            RenewedDocument(
                certificate=CertificateDocument.of(outcome.issued, now),
                certificate_file=outcome.certificate,
                key_file=outcome.key,
                p12_file=outcome.bundle,
                ca_file=authority.certificate_path,
                shortened=outcome.shortened,
                base_url=None if lines is None else lines.base_url,
                renewed=CertificateDocument.of(old, now),
            )
        )
        return
    explain(outcome)
    if now > old.not_after:
        click.echo(f"It replaces {old.serial}, which expired on {minute(old.not_after)}.")
    else:
        click.echo(
            f"It replaces {old.serial}, which stays good until {minute(old.not_after)}.\n"
            f"To end that sooner, once the new one is in use: "
            f"openai-relay cert revoke {old.serial} --reason superseded"
        )
    stale = outcome.certificate.with_suffix(".p12")
    if outcome.bundle is None and stale.exists():
        click.echo(f"{printable(str(stale))} still holds the old one: --p12 replaces it, too.", err=True)
    print_lines(outcome, lines)
