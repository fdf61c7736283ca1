"""The ``openai-relay`` command: which commands there are, and with which exit code each ends."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final

import click

from openai_relay.authority.errors import AuthorityError
from openai_relay.cli.output import printable

#: Each command and the module that holds it; a module is imported when its command is asked for.
COMMANDS: Final = {
    "init": "openai_relay.cli.init",
    "serve": "openai_relay.cli.serve",
    "demo": "openai_relay.cli.demo.command",
    "check-config": "openai_relay.cli.check_config",
    "reload": "openai_relay.cli.reload",
    "cert": "openai_relay.cli.cert",
    "crl": "openai_relay.cli.crl",
    "invite": "openai_relay.cli.invite",
    "enrol": "openai_relay.cli.enrol",
    "renew": "openai_relay.cli.renew_own",
    "usage": "openai_relay.cli.usage",
    "connect": "openai_relay.cli.connect",
    "standin": "openai_relay.cli.standin",
}

FAILURE: Final = 1
INTERRUPTED: Final = 130


class Commands(click.Group):
    """The commands by name; who calls it gets an exit code and never a traceback of what was foreseen."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)
        return command

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command line and exit: 0, 1 failure, 2 usage, 78 bad configuration, 130 interrupt."""
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except click.Abort:
            code = INTERRUPTED
        except AuthorityError as error:
            click.echo(f"Error: {printable(str(error))}", err=True)
            code = FAILURE
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        sys.exit(code if isinstance(code, int) else 0)


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"openai-relay {version('openai-relay')}")
        ctx.exit()


def _watch_stdin(_ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from openai_relay.cli.lifeline import end_with_stdin

        end_with_stdin()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@click.option("--exit-with-stdin", is_flag=True, hidden=True, expose_value=False, callback=_watch_stdin)
def commands() -> None:
    """A gate to the OpenAI API for holders of a client certificate.

    Start with `openai-relay demo` to try it, or `openai-relay init` to set one up.
    """


def main() -> None:
    """What the console script calls."""
    commands.main(prog_name="openai-relay")


if __name__ == "__main__":
    main()
