"""A renewed certificate is taken up from its files, whatever state they are found in."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from openai_relay.connect.certificate import ClientCertificate, Contents
from openai_relay.connect.watch import INTERVAL, CertificateWatch
from tests.certificates import client
from tests.connect.files import FilesCase


class WatchTests(FilesCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.renewed: list[ClientCertificate] = []
        self.said: list[str] = []
        self.held: list[Deferred[Contents]] | None = None
        files = self.files()
        self.watch = CertificateWatch(
            self.clock, files, files.read(), self.in_thread, self.renewed.append, self.said.append
        )
        self.watch.startService()

    def in_thread(self, read: Callable[[], Contents]) -> Deferred[Contents]:
        if self.held is not None:
            self.held.append(Deferred())
            return self.held[-1]
        try:
            return succeed(read())
        except Exception as error:  # noqa: BLE001 - a thread hands over whatever it was
            return fail(error)

    def look(self, times: int = 1) -> list[str]:
        """Let it look so often; whose certificates were taken up until now."""
        for _ in range(times):
            self.clock.advance(INTERVAL)
        return [each.identity.name for each in self.renewed]

    def test_unchanged(self) -> None:
        """What has not changed is not taken up again, even when it was written again."""
        self.assertEqual(self.look(3), [])
        self.write(client("alice"))
        self.assertEqual(self.look(3), [])
        self.assertEqual(self.said, [])

    def test_renewed(self) -> None:
        """What has changed is taken up, once, within one interval; and so is the next."""
        self.write(client("bob"))
        self.assertEqual(self.look(3), ["bob"])
        self.write(client("carol"))
        self.assertEqual(self.look(), ["bob", "carol"])

    def test_at_once(self) -> None:
        """Whoever has renewed it need not wait, and the interval begins anew."""
        self.clock.advance(INTERVAL / 2)
        self.write(client("bob"))
        self.watch.look()
        self.assertEqual(self.look(0), ["bob"])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_one_after_the_other(self) -> None:
        """Between certificate and key nothing is taken up and nothing said: the second comes in a moment."""
        bob = client("bob")
        self.file("phone.pem").write_bytes(bob.pem)
        self.assertEqual(self.look(), [])
        self.file("phone.key").write_bytes(bob.key_pem)
        self.assertEqual((self.look(), self.said), (["bob"], []))

    def test_unusable(self) -> None:
        """What stays unusable is told once; when it is good at last it is taken up, and a new fault is told anew."""
        self.file("phone.key").unlink()
        self.assertEqual(self.look(5), [])
        (said,) = self.said
        self.file("phone.key").write_bytes(b"broken")
        self.look(5)
        self.assertEqual(len(self.said), 2)
        self.assertIn("the certificate from before stays in use: --key", said)
        self.assertIn("phone.key", said)
        self.write(client("alice"))
        self.assertEqual(self.look(2), [])
        self.file("phone.key").write_bytes(b"broken")
        self.look(5)
        self.assertEqual(len(self.said), 3)

    def test_slow_disk(self) -> None:
        """While files are being read nobody reads them again, and no time is lost after."""
        self.held = []
        self.look(3)
        self.watch.look()
        self.assertEqual(len(self.held), 1)
        self.write(client("bob"))
        reading, self.held = self.held[0], None
        reading.callback(self.files().read())
        self.assertEqual(self.look(0), ["bob"])

    def test_stopped(self) -> None:
        """After its end it looks no more, in whatever phase it was; nothing is left."""
        self.watch.stopService()
        self.write(client("bob"))
        self.watch.look()
        self.assertEqual((self.look(3), self.clock.getDelayedCalls()), ([], []))
        self.watch.startService()
        self.held = []
        self.look()
        self.watch.stopService()
        self.assertEqual((self.look(3), self.clock.getDelayedCalls()), ([], []))
