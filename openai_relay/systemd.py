"""
Talk with systemd: readiness, watchdog, and the sockets that it opened for us.

The protocols are sd_notify(3), datagrams of assignments, and sd_listen_fds(3),
of which Twisted does the reading.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, quoteStringArgument, serverFromString
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger


class Notifier:
    """
    Tells systemd how the service is; says nothing where nobody asked.

    The watchdog is fed from the reactor: a reactor that hangs feeds nothing.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, environment: Mapping[str, str], pid: int) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._watchdog = LoopingCall(self.tell, "WATCHDOG=1")
        self._watchdog.clock = clock
        self._interval = _watchdog_seconds(environment, pid) / 2

    def ready(self, status: str) -> None:
        """The service serves; from now on the watchdog is fed."""
        self.tell(f"READY=1\nSTATUS={status}")
        if self._interval and not self._watchdog.running:
            running: Deferred[LoopingCall] = self._watchdog.start(self._interval)
            running.addErrback(lambda failure: self.log.failure("the watchdog is fed no more", failure))

    def reloading(self, monotonic_ns: int) -> None:
        """Something else is being put in force; ``ready`` says when that is done."""
        self.tell(f"RELOADING=1\nMONOTONIC_USEC={monotonic_ns // 1_000}\nSTATUS=reloading")

    def extend(self, seconds: float, status: str) -> None:
        """It takes so much longer, from now, whatever the unit says."""
        self.tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}\nSTATUS={status}")

    def stopping(self, status: str) -> None:
        """The service is going down, orderly."""
        self.tell(f"STOPPING=1\nSTATUS={status}")

    def stop(self) -> None:
        """Feed the watchdog no more."""
        if self._watchdog.running:
            self._watchdog.stop()

    def tell(self, state: str) -> None:
        """Send one datagram of newline-separated assignments; a lost one is not our concern."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(state.encode(), address)
        except OSError as error:
            self.log.warn("systemd was not told {state!r}: {error}", state=state.split("\n")[0], error=error)


def _watchdog_seconds(environment: Mapping[str, str], pid: int) -> float:
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1_000_000 if microseconds.isdecimal() else 0.0


def passed_socket(reactor: Any, name: str) -> int:
    """
    The descriptor of the listening socket that systemd passed under this name.

    Asked of Twisted, which takes systemd's variables out of the environment when its endpoints are imported.

    :raises LookupError: there is none; the message says what to do.
    """
    try:
        endpoint = serverFromString(reactor, f"systemd:domain=INET6:name={quoteStringArgument(name)}")
    except (KeyError, ValueError):
        raise LookupError(
            "systemd passed no socket of this name: "
            f"start the socket unit, in which FileDescriptorName={name} must stand"
        ) from None
    descriptor = cast("AdoptedStreamServerEndpoint", endpoint).fileno
    return int(descriptor)


def current_pid() -> int:
    """This process, as systemd knows it."""
    return os.getpid()
