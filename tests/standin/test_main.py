"""What is refused before the stand-in runs, and the end of standard input."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.error import ReactorNotRunning
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.main import StandardInput, run
from openai_relay.standin.service import CannotListen


class RunTests(SynchronousTestCase):
    def test_certificate_needs_its_key(self) -> None:
        """Half of the files of TLS is refused, and it says what is missing."""
        for certificate, key in ((Path("a.pem"), None), (None, Path("a.key"))):
            error: CannotListen = self.assertRaises(CannotListen, run, "127.0.0.1:0", certificate, key)
            self.assertIn("both, or neither", str(error))

    def test_wrong_address(self) -> None:
        """A wrong address is refused before anything runs."""
        self.assertIn("'here' is not an address", str(self.assertRaises(CannotListen, run, "here")))


class Stoppable(MemoryReactorClock):
    """A reactor that remembers that it was stopped, and cannot be twice."""

    stops = 0

    def stop(self) -> None:
        """As the real one."""
        if self.stops:
            raise ReactorNotRunning()
        self.stops += 1


class StandardInputTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Stoppable()
        self.reading, self.writing = os.pipe()
        self.addCleanup(os.close, self.reading)
        self.input = StandardInput(self.reactor, self.reading)
        self.input.startReading()

    def test_is_read_away(self) -> None:
        """What comes is thrown away, and nothing else happens."""
        self.addCleanup(os.close, self.writing)
        os.write(self.writing, b"hello")
        self.assertIsNone(self.input.doRead())
        self.assertIn(self.input, self.reactor.getReaders())
        self.assertEqual(self.reactor.stops, 0)

    def test_end_stops(self) -> None:
        """At its end the reactor is told so, loses it, and stops, once."""
        os.close(self.writing)
        reason = self.input.doRead()
        self.assertIsInstance(reason, Exception)
        self.input.connectionLost(reason)
        self.input.connectionLost(reason)
        self.assertEqual(self.reactor.stops, 1)
