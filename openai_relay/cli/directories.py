"""Where the commands look for the authority and for the relay's configuration, and where the relay is reached."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from openai_relay.authority.index import Issued

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: What ``init`` makes when it is given no name, and where the other commands look then.
DEFAULT: Final = Path("openai-relay")
DEFAULT_PORT: Final = 8443


def directory_option(function: _Function) -> _Function:
    """Give a command its ``--dir``."""
    return click.option(
        "--dir",
        "directory",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="OPENAI_RELAY_DIR",
        show_envvar=True,
        help="The authority's directory.  [default: . when it holds one, else ./openai-relay]",
    )(function)


def authority_directory(given: Path | None) -> Path:
    """The directory that is meant when a command is given this or nothing."""
    if given is not None:
        return given
    here = Path()
    return here if (here / "ca.pem").exists() and (here / "index.jsonl").exists() else DEFAULT


def configuration_file(given: Path | None) -> Path:
    """The configuration that is meant when a command is given this or nothing."""
    if given is not None:
        return given
    here = Path("relay.toml")
    return here if here.exists() else DEFAULT / "relay.toml"


def relay_url(directory: Path, issued: Sequence[Issued]) -> str:
    """Where clients probably reach the relay: the newest server certificate's name, the configured port."""
    names = [each.names for each in issued if each.kind == "server" and each.revoked_at is None]
    hosts = [name.partition(":")[2] for name in (names[-1] if names else ()) if "*" not in name]
    host = hosts[0] if hosts else "localhost"
    return f"https://{f'[{host}]' if ':' in host else host}:{_configured_port(directory)}"


def _configured_port(directory: Path) -> int:
    """The port in ``relay.toml``; anything wrong with that file is for ``check-config`` to say."""
    try:
        listen = tomllib.loads((directory / "relay.toml").read_text())["listen"]["address"]
        return int(listen.rpartition(":")[2])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return DEFAULT_PORT
