"""Where passphrases come from: a terminal, or the place that an option names; never the command line itself."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from openai_relay.cli.output import Failure

_Function = TypeVar("_Function", bound=Callable[..., Any])

CA_OPTION: Final = "--ca-passphrase-from"
P12_OPTION: Final = "--p12-password-from"
_FORMS: Final = "file:PATH, env:NAME or credential:NAME"


def ca_passphrase_option(function: _Function) -> _Function:
    """Give a command that signs its ``--ca-passphrase-from``."""
    return click.option(
        CA_OPTION,
        metavar="SECRET",
        help=f"Where the passphrase of an encrypted ca.key is: {_FORMS}.  [default: the terminal asks]",
    )(function)


def p12_options(function: _Function) -> _Function:
    """Give a command that makes keys its ``--p12``."""
    for option in (
        click.option(
            P12_OPTION,
            metavar="SECRET",
            help=f"Where the password of the .p12 file is: {_FORMS}.  [default: the terminal asks]",
        ),
        click.option("--p12-compat", is_flag=True, help="As --p12, in the old form that old iOS, macOS, Windows read."),
        click.option("--p12", is_flag=True, help="Write certificate and key as NAME.p12 too, for phones and browsers."),
    ):
        function = option(function)
    return function


def ca_passphrase(source: str | None) -> Callable[[], bytes]:
    """Asks for the passphrase of a key that has one, once, when it is needed."""
    return functools.cache(lambda: secret(source, "Passphrase of ca.key", CA_OPTION))


def new_ca_passphrase(source: str | None) -> Callable[[], bytes]:
    """As ``ca_passphrase``, for a key that is to be made: typed twice."""
    return functools.cache(lambda: secret(source, "Passphrase for ca.key", CA_OPTION, confirm=True))


def secret(source: str | None, prompt: str, option: str, *, confirm: bool = False) -> bytes:
    """
    A passphrase: from its source, or typed at the terminal.

    :param option: what names a source on the command line
    :param confirm: it is new, and typed twice
    """
    if source is not None:
        return _found(source, option)
    # The prompt goes to the terminal itself; standard input or output may be a pipe.
    if not (sys.stdin.isatty() or sys.stderr.isatty()):
        raise Failure(f"{prompt}: there is no terminal to ask for it. Name where it is with {option} {_FORMS}.")
    typed: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return typed.encode()


def _found(source: str, option: str) -> bytes:
    from openai_relay.config.problems import Wrong
    from openai_relay.config.sources import Sources

    try:
        # The line end that editors and `echo` add is not part of it.
        return Sources(Path.cwd(), os.environ).key(source).reveal().rstrip(b"\r\n")
    except Wrong as wrong:
        raise click.BadParameter(str(wrong), param_hint=option) from None
