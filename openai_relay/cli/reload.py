"""``openai-relay reload``: have the running relay read its files again, and say whether it did."""

from __future__ import annotations

import json
import tomllib
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

import click

from openai_relay.cli.directories import configuration_file
from openai_relay.cli.output import BAD_CONFIGURATION, Failure, printable

#: Seconds to wait for the relay: it answers when all is read, revocation lists of any size included.
PATIENCE: Final = 120.0
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_BY_SIGNAL: Final = "Send it SIGHUP instead, and read its log: `systemctl kill --signal=HUP openai-relay`."


@click.command("reload", short_help="Have the running relay read its files again.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
def command(file: Path | None) -> None:
    """Have the relay that runs with the configuration in FILE read it again, and all that it names.

    FILE is by default ./relay.toml, else ./openai-relay/relay.toml. All of it is taken up, or nothing:
    when something is wrong, that is said here, the exit status is 1, and the relay goes on as it was.
    No exchange is lost. Certificates, revocation lists and the deny file are watched, and need no reload.
    """
    path = configuration_file(file)
    host, port = _admin_listener(path)
    try:
        status, said = _ask(host, port)
    except (OSError, HTTPException) as error:
        raise Failure(
            f"No relay answers at {host}:{port}, where {path} has its admin listener ({error}). "
            "Is it running, and with this configuration?"
        ) from None
    if status == 200:
        click.echo("Reloaded.")
        return
    reasons = said.get("reasons") if isinstance(said, dict) else None
    if status != 409 or not isinstance(reasons, list):
        raise Failure(f"What answers at {host}:{port} is no relay that can reload (status {status}). {_BY_SIGNAL}")
    for reason in reasons:
        click.echo(printable(str(reason)), err=True)
    raise Failure("Not reloaded: the relay goes on as it was.")


def _admin_listener(path: Path) -> tuple[str, int]:
    """Where the running relay is asked; of a configuration that may have become wrong since."""
    from openai_relay.config.problems import BadConfiguration, Wrong
    from openai_relay.config.values import admin_address
    from openai_relay.core.settings import AdminSettings

    try:
        tree = tomllib.loads(path.read_text("utf-8"))
        address = admin_address(tree.get("admin", {}).get("address", AdminSettings().address))
    except OSError as error:
        raise Failure(
            f"{path} cannot be read ({error.strerror}); give the path of the relay's configuration."
        ) from None
    except (ValueError, AttributeError, Wrong, BadConfiguration) as error:
        click.echo(f"{printable(str(path))}: {printable(str(error))}", err=True)
        click.echo("Nothing was asked of the relay; see `openai-relay check-config`.", err=True)
        click.get_current_context().exit(BAD_CONFIGURATION)
    if address is None or address.endswith(":0"):
        raise Failure(f"The relay of {path} has no admin listener at a known port ([admin] address). {_BY_SIGNAL}")
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return _EVERYWHERE.get(host, host), int(port)


def _ask(host: str, port: int) -> tuple[int, object]:
    connection = HTTPConnection(host, port, timeout=PATIENCE)
    try:
        connection.request("POST", "/reload")
        response = connection.getresponse()
        body = response.read(1 << 20)
    finally:
        connection.close()
    try:
        return response.status, json.loads(body)
    except ValueError:
        return response.status, None
