"""Runs the stand-in as a program of its own, for ``openai-relay standin``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.main import CONNECTION_DONE

from openai_relay.core.settings import Secret
from openai_relay.standin.server import StandInOptions
from openai_relay.standin.service import CannotListen, StandIn, server_context


def run(
    listen: str,
    certificate: Path | None = None,
    key: Path | None = None,
    *,
    exit_with_stdin: bool = False,
    interval_ms: float = 0.0,
    expected_key: Secret | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> None:
    """
    Serve until a signal comes, or until standard input ends.

    :param listen: ``IP:PORT``.
    :param certificate: PEM, with its chain; without it plain HTTP on loopback.
    :param exit_with_stdin: end when standard input does, so that no stand-in outlives who started it.
    :param announce: is told the URL, in a line, once requests are taken.
    :raises CannotListen: with a message for whoever started it.
    """
    # Not at the top: whoever imports this module has not asked for a reactor.
    from twisted.internet import reactor

    if (certificate is None) != (key is None):
        raise CannotListen("A certificate needs its key, and a key its certificate: give both, or neither.")
    context = None
    if certificate is not None and key is not None:
        loaded = server_context(certificate, key)

        def context() -> Any:
            return loaded

    standin = StandIn(reactor, listen, context, StandInOptions(interval_ms, expected_key))
    try:
        standin.startService()
    except CannotListenError as error:
        raise CannotListen(f"{listen} cannot be listened on: {error.socketError}.") from error
    any_reactor: Any = reactor
    any_reactor.addSystemEventTrigger("before", "shutdown", standin.stopService)
    if exit_with_stdin:
        StandardInput(any_reactor).startReading()
    announce(f"stand-in for the OpenAI API: {standin.url}/v1")
    any_reactor.run()


class StandardInput(FileDescriptor):
    """Reads standard input away, and stops the reactor when it ends."""

    def __init__(self, reactor: Any, descriptor: int = 0) -> None:
        super().__init__(reactor)
        self._stop = reactor.stop
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Of standard input; it stays in blocking mode, since it may be shared."""
        return self._descriptor

    def doRead(self) -> Any:
        """Something came, or the end."""
        try:
            return None if os.read(self._descriptor, 4096) else CONNECTION_DONE
        except OSError:  # a terminal that has gone away
            return CONNECTION_DONE

    def connectionLost(self, reason: Any) -> None:
        """The end came, or the reactor is stopping already."""
        try:
            self._stop()
        except ReactorNotRunning:
            pass
