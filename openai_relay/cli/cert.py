"""``openai-relay cert``: issue, renew, list, revoke and show certificates."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import cast, get_args

import click

from openai_relay.authority.reasons import Reason
from openai_relay.cli.cert_list import COLOURS, list_certificates
from openai_relay.cli.directories import authority_directory, directory_option
from openai_relay.cli.issue import issue
from openai_relay.cli.output import WATCHED, json_option, minute, plural, print_json, printable, styled
from openai_relay.cli.passphrases import ca_passphrase, ca_passphrase_option
from openai_relay.cli.renew import renew


@click.group("cert", short_help="Issue, renew, list, revoke and show certificates.")
def command() -> None:
    """Issue, renew, list, revoke and show certificates."""


for each in (issue, renew, list_certificates):
    command.add_command(each)


@command.command("revoke")
@click.argument("which")
@directory_option
@click.option(
    "--reason",
    type=click.Choice(get_args(Reason)),
    default="unspecified",
    show_default=True,
    help="Why; it stands in the revocation list.",
)
@ca_passphrase_option
@json_option
def revoke(which: str, directory: Path | None, reason: str, ca_passphrase_from: str | None, as_json: bool) -> None:
    """Revoke WHICH: a name, a serial number, a fingerprint, or the file of a certificate.

    A name means every certificate of that name that has not expired. The revocation list is
    written anew; a running relay takes it up when it is restarted.
    """
    from openai_relay.authority.directory import Authority
    from openai_relay.cli.documents import CertificateDocument, RevokedDocument

    authority = Authority.open(authority_directory(directory), passphrase=ca_passphrase(ca_passphrase_from))
    known = {each.serial for each in authority.issued() if each.revoked_at is not None}
    revoked = authority.revoke(which, cast(Reason, reason))
    now = authority.clock()
    documents = tuple(CertificateDocument.of(each, now) for each in revoked)
    if as_json:
        print_json(RevokedDocument(documents, authority.crl_path))
        return
    for each in revoked:
        assert each.revoked_at is not None
        when = f"was revoked already on {minute(each.revoked_at)}" if each.serial in known else "is revoked"
        click.echo(f"{printable(each.name)} (serial {each.serial}) {when}.")
    click.echo(f"{printable(str(authority.crl_path))} says so. {WATCHED}")


@command.command("show")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@directory_option
@json_option
def show(file: Path, directory: Path | None, as_json: bool) -> None:
    """Show what the certificate in FILE says, and whether it is still good."""
    from openai_relay.cli.certificate_file import describe

    document = describe(file, authority_directory(directory))
    if as_json:
        print_json(document)
        return
    lines = asdict(document) | {
        "not_before": minute(document.not_before),
        "not_after": f"{minute(document.not_after)} ({plural(document.days_left, 'day')} left)",
        "names": ", ".join(document.names) or "-",
        "issued_here": {True: "yes", False: "no", None: "no authority here to compare with"}[document.issued_here],
        "state": styled(document.state, fg=COLOURS[document.state]),
    }
    del lines["days_left"]
    for key, value in lines.items():
        text = str(value) if key == "state" else printable(str(value))
        click.echo(f"{key.replace('_', ' '):<12} {text}")
