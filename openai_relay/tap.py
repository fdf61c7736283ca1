"""``twistd openai-relay``: command line in, service out."""

from __future__ import annotations

import atexit
import difflib
import os
import re
import resource
import signal
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from twisted.application.app import ServerOptions
from twisted.application.service import IService
from twisted.internet.error import ReactorNotRunning
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    textFileLogObserver,
)
from twisted.python import usage

from openai_relay.access_log import LineWriter
from openai_relay.config.problems import BadConfiguration, Problem, shown
from openai_relay.config.read import CommandLine, Written, placed, written
from openai_relay.core.restart import NotReloaded
from openai_relay.core.settings import Settings
from openai_relay.tls.tickets import send_none

if TYPE_CHECKING:
    from openai_relay.service import RelayService

#: EX_CONFIG of sysexits.h: a unit with ``RestartPreventExitStatus=78`` does not start again in vain.
BAD_CONFIGURATION: Final = 78
#: What the relay has to say of itself waits, up to this, for somebody to read it; then it is dropped.
OWN_LOG_BYTES: Final = 1 << 18
_STDERR: Final = 2
#: Descriptors that are needed beside those of exchanges: logs, listeners, the event loop, scrapes.
DESCRIPTORS_BESIDE: Final = 64

_NOTHING_GIVEN: Final = """\
there is nothing to serve yet. Give either
  --config relay.toml
or at least
  --certificate server.pem --key server.key --client-ca ca.pem
with the API key in the environment variable OPENAI_API_KEY.
`openai-relay init DIRECTORY` makes an authority, a server certificate and a commented relay.toml."""

#: How a message begins that is about one key.
_KEY: Final = re.compile(r"[a-z]+\.[a-z_]+")


class Options(usage.Options):
    """What ``twistd openai-relay`` takes; ``settings`` says what came of it."""

    synopsis = "[--config FILE | --certificate FILE --key FILE --client-ca FILE] [options]"
    longdesc = (
        "A gate to the OpenAI API in which a client certificate is the account. "
        "Options given beside --config go before what the file says; every other key is set in the file only. "
        "`openai-relay init DIRECTORY` makes all that is needed to begin."
    )
    optParameters = [
        ["config", "c", None, "the configuration, a TOML file"],
        ["listen", None, None, "where clients connect: host:port, [v6]:port or systemd:NAME (default: 127.0.0.1:8443)"],
        ["certificate", None, None, "the server's certificate and its intermediates, PEM"],
        ["key", None, None, "the private key of that certificate, PEM"],
        ["client-ca", None, None, "the authorities whose client certificates are let in, PEM"],
        ["crl", None, None, "the authority's list of revoked certificates, PEM"],
        ["upstream", None, None, "the API: https://host[:port] (default: https://api.openai.com)"],
        ["upstream-ca", None, None, "trust these authorities for the upstream instead of the system's, PEM"],
        [
            "api-key-from",
            None,
            None,
            "where the API key is: file:PATH, env:NAME or credential:NAME (default: env:OPENAI_API_KEY)",
        ],
        ["requests-per-minute", None, None, "how many requests each certificate may send a minute (default: no limit)"],
        ["burst", None, None, "how many of them at once (default: a minute's worth)"],
    ]
    compData = usage.Completions(
        optActions={
            name: usage.CompleteFiles() for name in ("config", "certificate", "key", "client-ca", "crl", "upstream-ca")
        }
    )

    @classmethod
    def of_file(cls, name: str) -> Self:
        """The options as ``--config NAME`` gives them, for ``relay.tac``."""
        options = cls()
        options.parseOptions(["--config", name])
        return options

    def opt_version(self) -> NoReturn:
        """Print the relay's version and exit."""
        try:
            known = version("openai-relay")
        except PackageNotFoundError:  # found through the current directory, which twistd searches
            known = "(not installed, so its version is not known)"
        sys.stdout.write(f"openai-relay {known}\n")
        sys.exit(0)

    def parseOptions(self, options: list[str] | None = None) -> None:
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise usage.UsageError(f"{error}{self._meant(str(error))}") from None

    def parseArgs(self, *extra: str) -> None:
        if extra:
            raise usage.UsageError(f"{shown(extra[0])} is not an option; did you mean --config, and then the file?")

    def postOptions(self) -> None:
        """Read the configuration, so that a bad one stops ``twistd`` before it forks or opens a log."""
        _open_standard_descriptors()
        if all(self[name] is None for name in self._names()):
            raise usage.UsageError(_NOTHING_GIVEN)
        self._given = CommandLine(**{name.replace("-", "_"): self[name] for name in self._names()})
        self._directory = Path.cwd()
        try:
            self.written: Written = self.read()
            self.settings: Settings = self.written.settings()
        except BadConfiguration as bad:
            if bad.only_options:
                raise usage.UsageError("\n".join(bad.messages)) from None
            self.refuse(bad)
        self._keep_standard_output()

    def read(self) -> Written:
        """
        The configuration as it is written now.

        :raises BadConfiguration: it cannot be read.
        """
        return written(self._given, os.environ, self._directory)

    def _keep_standard_output(self) -> None:
        """
        Leave standard output to the access log: ``twistd -n`` would write its own log there too.

        Whoever chose a log by ``--logfile``, ``--logger`` or ``--syslog`` keeps it.
        """
        twistd = self.parent
        chosen = ("logfile", "logger", "syslog")
        if (
            isinstance(twistd, ServerOptions)
            and twistd["nodaemon"]
            and not any(twistd.get(option) for option in chosen)
        ):
            twistd["logger"] = "openai_relay.tap.standard_error"  # by name: it looks it up after us

    def refuse(self, bad: BadConfiguration) -> NoReturn:
        """Say what is wrong, and end the process in the way that tells an init system not to try again."""
        sys.stderr.write(f"{placed(bad, self._given, self._directory)}\n")
        raise SystemExit(BAD_CONFIGURATION) from None

    def _names(self) -> list[str]:
        return [str(name) for name, *_ in self.optParameters]

    def _meant(self, told: str) -> str:
        """A suggestion for getopt's "option --x not recognized"."""
        option, _, rest = told.removeprefix("option --").partition(" ")
        close = difflib.get_close_matches(option, self._names(), n=1) if rest == "not recognized" else []
        return f"; did you mean --{close[0]}?" if close else ""


def standard_error() -> ILogObserver:
    """
    What the relay has to say, and what goes wrong in Twisted; not each port and factory that Twisted opens.

    Written by a thread, as the access log is: a terminal or pipe that nobody reads must not hold up the relay.
    """
    levels = LogLevelFilterPredicate(LogLevel.info)
    for namespace in ("twisted", "log_legacy", "openai_relay.tls"):
        levels.setLogLevelForNamespace(namespace, LogLevel.warn)
    writer = LineWriter(_STDERR, queue_bytes=OWN_LOG_BYTES)
    writer.start()
    atexit.register(writer.stop)
    lines: Any = _Lines(writer)  # as much of a text file as is asked for
    return FilteringLogObserver(textFileLogObserver(lines), [levels])


class _Lines:
    """A text file, as far as Twisted's observer wants one: each event is one write."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def write(self, text: str) -> None:
        self._writer.write(text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """The thread writes as soon as it can."""


def _keep_time(reactor: Any) -> None:
    """
    Run every timer on the monotonic clock.

    Twisted's follow the wall clock: set back by an hour, it would hold up all that waits for that long.
    """
    ahead = time.monotonic() - reactor.seconds()
    reactor.seconds = time.monotonic
    for call in reactor.getDelayedCalls():
        call.delay(ahead)


def _open_standard_descriptors() -> None:
    """Leave none of them closed: whatever is opened next would be given its number, and be written into."""
    for standard in range(3):
        try:
            os.fstat(standard)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _keep_descriptors(connections: int) -> None:
    """Take as many descriptors as may be had, and say when they are few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = 2 * connections + DESCRIPTORS_BESIDE
    if hard != resource.RLIM_INFINITY and hard < wanted:
        Logger().warn(
            "only {limit} files may be open, and {connections} clients with a connection upstream each need {wanted}: "
            "raise LimitNOFILE= of the unit (or ulimit -Hn), or lower listen.max_connections",
            limit=hard,
            connections=connections,
            wanted=wanted,
        )


def _take_signals(reactor: Any, service: RelayService) -> None:
    """
    SIGTERM is how a service is stopped: having drained, it exits with 0, where twistd would die of the signal.

    A second one, or Ctrl-C for the second time, ends what still runs. SIGHUP reloads.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: reactor.callFromThread(_stop, reactor, service))
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(_reload, service))


def _stop(reactor: Any, service: RelayService) -> None:
    try:
        reactor.stop()
    except ReactorNotRunning:  # it is stopping already
        service.hurry()


def _reload(service: RelayService) -> None:
    service.reload().addErrback(lambda failure: failure.trap(NotReloaded))  # told in the log


def makeService(options: Options) -> IService:
    """The relay that the options describe, ready to be started."""
    send_none(os.environ)  # before OpenSSL is loaded, which the next lines do
    from twisted.internet import reactor

    from openai_relay.service import CannotServe, relay_service

    _keep_time(reactor)
    _keep_descriptors(options.settings.listen.max_connections)
    try:
        service = relay_service(reactor, options.settings, options.written, options.read)
    except CannotServe as error:  # what a file holds that the settings name
        key, _, told = str(error).partition(": ")
        known = _KEY.fullmatch(key)
        options.refuse(BadConfiguration([Problem("", key, told) if known else Problem("", None, str(error))]))
    reactor.callWhenRunning(_take_signals, reactor, service)
    return service
