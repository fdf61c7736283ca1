"""What was enrolled is renewed when it is due, and tried again where that fails."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from cryptography import x509
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from openai_relay.connect.renewal import INTERVAL, Renewal
from openai_relay.enrolling.device import NotEnrolled, Relay
from openai_relay.enrolling.files import due
from tests.certificates import client
from tests.connect.files import FilesCase


class Issuer(Relay):
    """A relay that certifies what it is asked to, or says why not."""

    problem = ""
    asked = 0

    def ask(self, operation: str, *_: object, **__: object) -> list[x509.Certificate]:
        assert operation == "simplereenroll"
        Issuer.asked += 1
        if self.problem:
            raise NotEnrolled(self.problem)
        return [client("renewed").certificate]


class RenewalTests(FilesCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.said: list[str] = []
        self.renewed: list[bytes] = []
        self.now = due(client("alice").certificate) - timedelta(seconds=1)
        self.patch(Issuer, "asked", 0)
        self.renewal = Renewal(
            self.clock,
            self.file("phone.pem"),
            self.file("phone.key"),
            Issuer("https://relay.example:8444"),
            self.in_thread,
            lambda: self.renewed.append(self.file("phone.pem").read_bytes()),
            self.said.append,
            lambda: self.now,
        )

    def in_thread(self, call: Callable[[], bool]) -> Deferred[bool]:
        try:
            return succeed(call())
        except Exception as error:  # noqa: BLE001 - a thread hands over whatever it was
            return fail(error)

    def start(self) -> None:
        self.renewal.startService()
        self.addCleanup(self.renewal.stopService)

    def test_in_time(self) -> None:
        """Nothing is asked for before two thirds of its life are over; then the file holds the next."""
        self.start()
        self.assertEqual((Issuer.asked, self.renewed), (0, []))
        self.now += timedelta(seconds=1)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.renewed, [client("renewed").pem])
        self.assertEqual(self.said, [])

    def test_already_due(self) -> None:
        """One that is due at the start is renewed at once."""
        self.now += timedelta(days=1)
        self.start()
        self.assertEqual(len(self.renewed), 1)

    def test_failing(self) -> None:
        """What fails is told once for each reason, changes nothing, and is tried again until it succeeds."""
        before = self.file("phone.pem").read_bytes()
        self.now += timedelta(days=1)
        self.patch(Issuer, "problem", "it has been revoked")
        self.start()
        self.clock.pump([INTERVAL] * 3)
        self.assertEqual(Issuer.asked, 4)
        (told,) = self.said
        self.assertIn("could not be renewed, and is tried again: it has been revoked", told)
        self.assertEqual((self.file("phone.pem").read_bytes(), self.renewed), (before, []))
        self.patch(Issuer, "problem", "")
        self.clock.advance(INTERVAL)
        self.assertEqual(len(self.renewed), 1)

    def test_files_gone(self) -> None:
        """A certificate or key that is not there any more is a reason as any other."""
        self.now += timedelta(days=1)
        self.file("phone.key").unlink()
        self.start()
        self.file("phone.pem").unlink()
        self.clock.advance(INTERVAL)
        self.assertIn("phone.key", self.said[0])
        self.assertIn("phone.pem", self.said[1])

    def test_stopped(self) -> None:
        """What is renewed while the service stops is in the file, and is told to nobody."""
        waiting: Deferred[bool] = Deferred()
        self.patch(self.renewal, "_in_thread", lambda call: waiting)
        self.renewal.startService()
        self.renewal.stopService()
        waiting.callback(True)
        self.assertEqual(self.renewed, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
