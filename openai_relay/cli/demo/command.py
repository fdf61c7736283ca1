"""``openai-relay demo``: the relay and, without an API key, the stand-in, until Ctrl-C."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from openai_relay.cli.demo.instructions import Running, instructions
from openai_relay.cli.output import Failure, json_option, print_json

if TYPE_CHECKING:
    from openai_relay.cli.demo.children import Children
    from openai_relay.cli.demo.directory import Addresses, DemoDirectory

ADMIN_PORT: Final = 9464
_NAME: Final = "openai-relay"
#: A pace at which people can see that an answer streams.
EVENT_INTERVAL_MS: Final = "40"


@click.command("demo", short_help="Run a relay to try, with a stand-in for the API.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".demo"),
    show_default=True,
    help="Where certificates and configuration go.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8443, show_default=True, help="The relay's port; 0 takes any."
)
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    help=f"The port of health and metrics; 0 takes any.  [default: {ADMIN_PORT}, or any when that is taken]",
)
@json_option
def command(directory: Path, port: int, admin_port: int | None, as_json: bool) -> None:
    """Run a relay to try on 127.0.0.1, with certificates of its own.

    Requests go to a built-in stand-in for the API or, when OPENAI_API_KEY is set, to
    https://api.openai.com. Prints what to paste into another terminal; Ctrl-C ends it.
    """
    from openai_relay.cli.demo.children import ChildEnded, Children
    from openai_relay.cli.demo.directory import DemoDirectory

    addresses = _addresses(port, admin_port)
    files = DemoDirectory(directory)
    files.prepare(addresses)
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means what it says
            signal.signal(number, lambda received, _frame: asked.append(received))
    children = Children(stopping=lambda: bool(asked))
    try:
        _start(children, files, addresses, as_json)
        children.wait_until_ready()
        if not asked:
            running = _running(files, addresses)
            if as_json:
                print_json(running)
            else:
                python = _short(sys.executable) if find_spec("openai") else None
                click.echo("\n".join(instructions(running, python, _program())))
        children.watch()
    except ChildEnded as ended:
        raise Failure(str(ended)) from None
    finally:
        children.end()


def _addresses(port: int, admin_port: int | None) -> Addresses:
    from openai_relay.cli.demo.directory import Addresses
    from openai_relay.cli.demo.ports import Ports

    with Ports() as ports:
        relay = ports.take(port, "openai-relay demo --port 9443, or make demo PORT=9443")
        if admin_port is None:
            usual = ports.try_take(ADMIN_PORT)
            admin = usual if isinstance(usual, int) else ports.take(0, "")
        else:
            admin = ports.take(admin_port, "openai-relay demo --admin-port 9465")
        standin = None if os.environ.get("OPENAI_API_KEY") else ports.take(0, "")
    return Addresses(relay, admin, standin)


def _start(children: Children, files: DemoDirectory, addresses: Addresses, as_json: bool) -> None:
    if addresses.standin is not None:
        listen = f"127.0.0.1:{addresses.standin}"
        certificate, key = str(files.certificate("standin")), str(files.key("standin"))
        children.start(
            "The stand-in for the API",
            [
                *("standin", "--listen", listen, "--certificate", certificate, "--key", key),
                *("--api-key-from", f"file:{files.api_key}", "--interval-ms", EVENT_INTERVAL_MS),
            ],
            lambda: _accepts(addresses.standin or 0),
            log=files.path / "standin.log",
        )
    children.start(
        "The relay",
        ["serve", "--config", str(files.configuration)],
        lambda: _is_ready(addresses.admin),
        output=sys.stderr if as_json else None,
    )


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _is_ready(admin_port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", admin_port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _running(files: DemoDirectory, addresses: Addresses) -> Running:
    return Running(
        base_url=f"https://localhost:{addresses.relay}/v1",
        ca_file=files.ca,
        certificate_file=files.certificate("client"),
        key_file=files.key("client"),
        configuration_file=files.configuration,
        upstream=addresses.upstream,
        standin=addresses.standin is not None,
        admin_url=f"http://127.0.0.1:{addresses.admin}",
    )


def _program() -> str:
    """What runs now, as it can be typed here; started as a module, it is found by its usual name."""
    name = Path(sys.argv[0])
    if name.name != _NAME or shutil.which(_NAME) == str(name):
        return _NAME
    return _short(str(name))


def _short(program: str) -> str:
    """The path of a program, as short as it can be said here."""
    path, here = Path(program), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
