"""What ``cert issue`` and ``cert renew`` share: reading a request, asking for a bundle, telling what was issued."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from openai_relay.cli import snippets
from openai_relay.cli.output import WATCHED, day, heading, plural, printable
from openai_relay.cli.passphrases import P12_OPTION, secret

if TYPE_CHECKING:
    from openai_relay.authority.bundle import Bundle
    from openai_relay.authority.directory import Credential, Signed
    from openai_relay.authority.index import Issued
    from openai_relay.authority.requests import SigningRequest

_STDIN: Final = "-"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A certificate that was issued, with the files that were written."""

    issued: Issued
    certificate: Path
    key: Path | None  #: ``None``: it is where the request was made
    bundle: Path | None
    shortened: bool
    days: int | None

    @classmethod
    def of_credential(cls, made: Credential, days: int | None) -> Outcome:
        return cls(made.issued, made.certificate, made.key, made.bundle, made.shortened, days)

    @classmethod
    def of_signed(cls, signed: Signed, days: int | None) -> Outcome:
        assert signed.file is not None
        return cls(signed.issued, signed.file, None, None, signed.shortened, days)


def read_csr(source: str) -> SigningRequest:
    """The request in a file, or on standard input."""
    from openai_relay.authority.files import read_file
    from openai_relay.authority.requests import LARGEST, read_request

    if source == _STDIN:
        return read_request(sys.stdin.buffer.read(LARGEST + 1), "standard input")
    path = Path(source)
    return read_request(read_file(path, "Name the file of a certificate signing request", LARGEST + 1), path)


def wanted_bundle(p12: bool, compatible: bool, source: str | None) -> Bundle | None:
    """The ``.p12`` file that was asked for, with its password."""
    from openai_relay.authority.bundle import Bundle

    if not (p12 or compatible):
        if source is not None:
            raise click.UsageError(f"{P12_OPTION} is for a .p12 file: add --p12 or --p12-compat.")
        return None
    password = secret(source, "Password of the .p12 file", P12_OPTION, confirm=True)
    return Bundle(password.decode("utf-8", "replace"), compatible)


def access(outcome: Outcome, url: str, ca: Path, csr: str | None) -> snippets.Access:
    """What the lines to paste say; the key of a request is looked for beside it."""
    key = outcome.key
    if key is None:
        key = Path(f"{outcome.certificate.stem}.key")
        if csr is not None and csr != _STDIN and (beside := Path(csr).with_suffix(".key")).is_file():
            key = beside
    return snippets.Access(url, ca, outcome.certificate, key)


def explain(outcome: Outcome) -> None:
    """Say what was issued, and where it is."""
    issued = outcome.issued
    name = printable(issued.name)
    click.echo(f"Issued to {name}, good until {day(issued.not_after)}.")
    if outcome.shortened:
        asked = (
            "what was asked for" if outcome.days is None else f"the {plural(outcome.days, 'day')} that were asked for"
        )
        click.echo(f"The authority itself ends then, before {asked}.", err=True)
    if issued.names:
        click.echo(f"  names        {printable(', '.join(issued.names))}")
    click.echo(f"  certificate  {printable(str(outcome.certificate))}")
    if outcome.key is None:
        click.echo("  key          where the request was made")
    else:
        click.echo(f"  key          {printable(str(outcome.key))} (secret: whoever has it is {name})")
    if outcome.bundle is not None:
        click.echo(f"  both in one  {printable(str(outcome.bundle))} (as secret as the key, behind its password)")
    click.echo(f"  serial       {issued.serial}")
    click.echo(f"  fingerprint  {issued.fingerprint}")


def print_lines(outcome: Outcome, access: snippets.Access | None) -> None:
    """What to paste where the certificate is used; for a server: what to do next."""
    if access is None:
        click.echo(f"\n{WATCHED}")
        return
    if outcome.key is None:
        click.echo(f"\n{printable(str(access.key))} below is the key that the request was made with.")
    if outcome.bundle is not None:
        heading("Phones and browsers")
        ca, bundle = (printable(shlex.quote(str(path))) for path in (access.ca, outcome.bundle))
        click.echo(f"Import {bundle} with its password, and trust {ca}, then open {access.base_url}/models")
    heading("curl")
    click.echo(snippets.curl(access))
    heading("Python (pip install openai)")
    click.echo(snippets.heredoc("python3 -", snippets.python(access)), nl=False)
    heading("Node (npm install openai undici@6)")
    click.echo(snippets.heredoc("node --input-type=module -", snippets.node(access)), nl=False)
    heading("Environment, for programs written after the mTLS recipes of the SDKs")
    click.echo(snippets.environment(access), nl=False)
