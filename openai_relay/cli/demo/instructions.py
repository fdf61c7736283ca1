"""What a person, or a program, is told once a demo serves."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openai_relay.cli import snippets
from openai_relay.cli.output import printable, styled


@dataclass(frozen=True, slots=True)
class Running:
    """What ``demo --json`` prints once everything serves."""

    base_url: str
    ca_file: Path
    certificate_file: Path
    key_file: Path
    configuration_file: Path
    upstream: str
    standin: bool
    admin_url: str


def instructions(running: Running, python: str | None, program: str = "openai-relay") -> Iterator[str]:
    """
    The lines for a person, with what to paste into another terminal.

    :param python: the interpreter that has the ``openai`` package; ``None``: it is to be installed first
    :param program: how this program is called here
    """
    access = snippets.Access(
        running.base_url.removesuffix("/v1"), running.ca_file, running.certificate_file, running.key_file
    )
    yield from ("", styled("The relay is ready.", bold=True))
    yield f"  {running.base_url} lets in holders of a certificate from {printable(str(running.ca_file))}"
    if running.standin:
        yield "  and forwards to the built-in stand-in for the API (set OPENAI_API_KEY to use the real one)."
    else:
        yield f"  and forwards to {running.upstream}, with the key in OPENAI_API_KEY."
    yield from ("", "Paste into another terminal, in this directory:")
    yield from ("", styled("curl", bold=True), snippets.curl(access))
    yield from ("", styled("Python" if python else "Python (pip install openai)", bold=True))
    yield snippets.heredoc(f"{python or 'python3'} -", snippets.python(access)).rstrip("\n")
    yield from ("", styled("More", bold=True))
    yield f"  metrics        curl {running.admin_url}/metrics"
    yield f"  health         curl {running.admin_url}/readyz"
    configuration = shlex.quote(str(running.configuration_file))
    yield f"  usage          {shlex.quote(program)} usage --config {printable(configuration)}"
    yield f"  configuration  {printable(str(running.configuration_file))}"
    yield "  end            Ctrl-C"
