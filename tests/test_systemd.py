"""What is said to systemd, over a real datagram socket, and which of its sockets are taken."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.systemd import Notifier, current_pid, passed_socket
from tests.doubles import observe

PID = 4_242


class NotifierCase(SynchronousTestCase):
    """Listens where systemd would."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = str(self.directory / "notify")
        self.listen(self.path)

    def listen(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def notifier(self, **environment: str) -> Notifier:
        notifier = Notifier(self.clock, {"NOTIFY_SOCKET": self.path, **environment}, PID)
        self.addCleanup(notifier.stop)
        return notifier

    def told(self) -> list[str]:
        """The datagrams that have come since the last time."""
        datagrams = []
        try:
            while True:
                datagrams.append(self.socket.recv(4096).decode())
        except BlockingIOError:
            return datagrams


class NotifierTests(NotifierCase):
    def test_life(self) -> None:
        """systemd is told when the service serves and when it stops, each with a word for people."""
        notifier = self.notifier()
        notifier.ready("serving on 127.0.0.1:8443")
        notifier.stopping("finishing exchanges")
        self.assertEqual(
            self.told(), ["READY=1\nSTATUS=serving on 127.0.0.1:8443", "STOPPING=1\nSTATUS=finishing exchanges"]
        )

    def test_no_watchdog(self) -> None:
        """Where nobody watches, no sign of life is given."""
        self.notifier().ready("serving")
        self.clock.advance(3_600)
        self.assertEqual(self.told(), ["READY=1\nSTATUS=serving"])

    def test_watchdog(self) -> None:
        """Signs of life come from readiness on, twice in each interval, and end when it is stopped."""
        notifier = self.notifier(WATCHDOG_USEC="30000000", WATCHDOG_PID=str(PID))
        self.clock.advance(60)
        self.assertEqual(self.told(), [])
        notifier.ready("serving")
        self.assertEqual(self.told(), ["READY=1\nSTATUS=serving", "WATCHDOG=1"])
        self.clock.advance(14.9)
        self.assertEqual(self.told(), [])
        self.clock.pump([0.1, 15, 15])
        self.assertEqual(self.told(), ["WATCHDOG=1"] * 3)
        notifier.stop()
        self.clock.advance(3_600)
        self.assertEqual(self.told(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ready_twice(self) -> None:
        """Saying it again, as after a reload, does not feed the watchdog twice as often."""
        notifier = self.notifier(WATCHDOG_USEC="30000000")
        notifier.ready("serving")
        notifier.ready("serving still")
        self.told()
        self.clock.advance(15)
        self.assertEqual(self.told(), ["WATCHDOG=1"])

    def test_watchdog_of_another_process(self) -> None:
        """A watchdog that waits for another process is not fed."""
        self.notifier(WATCHDOG_USEC="30000000", WATCHDOG_PID="1").ready("serving")
        self.clock.advance(60)
        self.assertEqual(self.told(), ["READY=1\nSTATUS=serving"])

    def test_watchdog_without_an_interval(self) -> None:
        """An interval that is no number, or none, is no watchdog."""
        for microseconds in ("", "0", "soon", "-5"):
            self.notifier(WATCHDOG_USEC=microseconds).ready("serving")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_abstract_address(self) -> None:
        """An address that begins with @ is one of Linux's abstract ones."""
        self.listen(f"\0openai-relay-test-{os.getpid()}")
        Notifier(self.clock, {"NOTIFY_SOCKET": f"@openai-relay-test-{os.getpid()}"}, PID).ready("serving")
        self.assertEqual(self.told(), ["READY=1\nSTATUS=serving"])

    def test_nobody_asked(self) -> None:
        """Outside systemd nothing is said, to anybody."""
        events = observe(self)
        Notifier(self.clock, {}, PID).ready("serving")
        self.assertEqual((self.told(), events), ([], []))

    def test_systemd_is_gone(self) -> None:
        """That nobody listens is logged as a warning, without what was to be said, and nothing breaks."""
        events = observe(self)
        Notifier(self.clock, {"NOTIFY_SOCKET": str(self.directory / "nowhere")}, PID).ready("serving")
        self.assertEqual([event["log_level"] for event in events], [LogLevel.warn])
        self.assertEqual(events[0]["state"], "READY=1")

    def test_full_queue(self) -> None:
        """A systemd that does not read never makes the relay wait."""
        notifier = self.notifier()
        for _ in range(10_000):
            notifier.tell("WATCHDOG=1")
        self.assertEqual(set(self.told()), {"WATCHDOG=1"})


class PassedSocketTests(SynchronousTestCase):
    """The tests are not run by systemd; ``tests/integration/test_systemd.py`` passes a socket as it does."""

    def test_none_passed(self) -> None:
        """Without a socket of that name, whatever the name, the message says what must stand where."""
        for name in ("https", "0", "", "a:b=c", "ü"):
            error = self.assertRaises(LookupError, passed_socket, MemoryReactorClock(), name)
            self.assertEqual(
                str(error),
                "systemd passed no socket of this name: "
                f"start the socket unit, in which FileDescriptorName={name} must stand",
            )

    def test_this_process(self) -> None:
        """The process is known by its number."""
        self.assertEqual(current_pid(), os.getpid())
