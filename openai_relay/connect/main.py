"""Runs ``openai-relay connect`` as a program: reactor, signals, and where its lines go."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

from openai_relay.access_log import LineWriter
from openai_relay.config.sources import Sources
from openai_relay.connect.service import ConnectService, Unusable, why_not
from openai_relay.core.connect_settings import ConnectSettings
from openai_relay.core.identity import Identity

#: Files that are open beside connections: the event loop's, the log's, libraries'.
_BESIDE: Final = 64
_MOST: Final = 10_000
#: By number: a terminal or a pipe that nobody reads must not hold up the reactor.
_STDERR: Final = 2


class CannotConnect(Exception):
    """
    It cannot start; the message says why, and what to do.

    :ivar option: what names the cause.
    """

    def __init__(self, option: str, told: str) -> None:
        super().__init__(told)
        self.option = option


def run(settings: ConnectSettings, announce: Callable[[str, Identity], None], *, quiet: bool) -> None:
    """
    Serve until a signal comes.

    :param announce: is told where tools connect, and whose certificate is shown, once requests are taken.
    :param quiet: write no line for each exchange.
    :raises CannotConnect: a file or the port cannot be used.
    """
    # Not at the top: whoever imports this module has not asked for a reactor.
    from twisted.internet import reactor as installed

    reactor: Any = installed
    writer = LineWriter(_STDERR)
    try:
        service = ConnectService(
            reactor,
            settings,
            Sources(Path(), os.environ),
            lambda line: writer.write(f"openai-relay connect: {line}\n".encode("utf-8", "backslashreplace")),
            None if quiet else writer.write,
            _connections(),
        )
        reactor.seconds = time.monotonic  # before any timer is set: a clock that is put right must not hold them up
        service.startService()
    except Unusable as error:
        raise CannotConnect(error.option, str(error)) from None
    except CannotListenError as error:
        raise CannotConnect("--listen", f"{why_not(error)}; choose another port, or 0 for any") from None
    writer.start()
    _log_what_goes_wrong()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.callWhenRunning(_take_signals, reactor, service)
    announce(service.address, service.identity)
    reactor.run()
    writer.stop()


def _connections() -> int:
    """As many as there can be descriptors for: each needs a second one, for its connection to the relay."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _MOST if hard == resource.RLIM_INFINITY else min((hard - _BESIDE) // 2, _MOST)


def _log_what_goes_wrong() -> None:
    levels = LogLevelFilterPredicate(LogLevel.warn)
    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [levels])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


def _take_signals(reactor: Any, service: ConnectService) -> None:
    """The first SIGTERM, Ctrl-C or end of the terminal lets what runs finish, the second does not."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means what it says
            signal.signal(number, lambda *_: reactor.callFromThread(_stop, reactor, service))


def _stop(reactor: Any, service: ConnectService) -> None:
    try:
        reactor.stop()
    except ReactorNotRunning:  # it is stopping already
        service.course.end_all()
