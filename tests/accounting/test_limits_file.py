"""The limits' memory in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.logger import eventAsText
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.accounting.limits_file import EVERY, LimitsFile
from openai_relay.core.errors import RateLimited
from openai_relay.core.limits import Limiter
from openai_relay.core.settings import LimitSettings
from tests.accounting.threads import HandedReactor
from tests.authority.directories import new_directory
from tests.doubles import observe

SECOND = 1_000_000_000


class LimitsFileCase(SynchronousTestCase):
    """A client may ask six times a minute, twice at once."""

    def setUp(self) -> None:
        self.path = new_directory(self) / "limits.json"
        self.events = observe(self)
        self.wall = 1_790_000_000.0
        self.reactor = HandedReactor()
        self.limiter, self.file = self.process()

    def process(self, path: Path | None = None) -> tuple[Limiter, LimitsFile]:
        """The limiter of one process, and its file."""
        limiter = Limiter(LimitSettings(6, burst=2), lambda: round(self.reactor.seconds() * SECOND))
        return limiter, LimitsFile(path or self.path, limiter, self.reactor, lambda: round(self.wall * SECOND))

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.reactor.advance(seconds)
        self.reactor.work()

    def ask(self, limiter: Limiter, key: str = "alice") -> None:
        lease = limiter.admit(key)
        lease.settle(0)
        lease.release()

    def told(self) -> list[str]:
        return [eventAsText(event, includeSystem=False, includeTimestamp=False) for event in self.events]


class RestartTests(LimitsFileCase):
    def test_stop_and_start(self) -> None:
        """What was taken is still taken after a restart, and what time gives back is given back."""
        self.file.start()
        self.ask(self.limiter)
        self.ask(self.limiter)
        self.file.stop()
        self.wall += 10  # one request is worth that
        limiter, file = self.process()
        file.start()
        self.ask(limiter)
        self.assertRaises(RateLimited, limiter.admit, "alice")
        file.stop()

    def test_crash(self) -> None:
        """A crash costs no more than what was taken since the last snapshot, which is seconds old."""
        self.file.start()
        self.ask(self.limiter)
        self.ask(self.limiter)
        self.pass_time(EVERY)
        limiter, file = self.process()
        file.start()
        self.ask(limiter)
        self.assertRaises(RateLimited, limiter.admit, "alice")

    def test_nothing_taken(self) -> None:
        """As long as all buckets are full, nothing is written twice."""
        self.file.start()
        self.pass_time(EVERY)
        before = self.path.stat().st_ino
        self.pass_time(EVERY)
        self.assertEqual(self.path.stat().st_ino, before)

    def test_slow_disk(self) -> None:
        """A disk that takes longer than the time between two snapshots is given one at a time."""
        self.file.start()
        self.ask(self.limiter)
        for _ in range(5):
            self.reactor.advance(EVERY)
        self.assertEqual(len(self.reactor.given), 1)
        self.reactor.work()
        self.assertTrue(self.path.exists())

    def test_stopped(self) -> None:
        """Once stopped it leaves no timer, and is for its owner alone."""
        self.file.start()
        self.file.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)


class TroubleTests(LimitsFileCase):
    def begin(self) -> Limiter:
        limiter, file = self.process()
        file.start()
        return limiter

    def test_first_start(self) -> None:
        """Without a file all begins full, which is no news."""
        self.begin()
        self.assertEqual(self.told(), [])

    def test_damaged(self) -> None:
        """A file that is none of ours lets all begin full, and is said; it never keeps the relay from starting."""
        for text in (b"", b"{", b"[]", b'{"taken_at":"x","buckets":[]}', b"[" * 10_000, b"\xff\x00", b'{"taken_at":1}'):
            with self.subTest(text=text[:20]):
                self.path.write_bytes(text)
                self.events.clear()
                self.ask(self.begin())
                (told,) = self.told()
                self.assertIn("limits.json is damaged (", told)
                self.assertTrue(told.endswith("all limits begin full"), told)

    def test_unreadable(self) -> None:
        """So does one that cannot be read."""
        self.path.mkdir()
        self.begin()
        (told,) = self.told()
        self.assertTrue(told.endswith("limits.json cannot be read: Is a directory; all limits begin full"), told)

    def test_cannot_be_written(self) -> None:
        """A snapshot that cannot be written is said once, and once more when it can be again."""
        gone = self.path.parent / "gone"
        limiter, file = self.process(gone / "limits.json")
        file.start()
        self.ask(limiter)
        self.pass_time(EVERY)
        self.pass_time(EVERY)
        (told,) = self.told()
        self.assertIn("the limits' snapshot cannot be written: ", told)
        gone.mkdir()
        self.pass_time(EVERY)
        self.assertEqual(self.told()[1:], ["the limits' snapshot is written again"])

    def test_bug(self) -> None:
        """What nobody foresaw while writing is logged, and tried again."""
        broken: Any = lambda snapshot: 1 / 0  # noqa: E731
        self.file._write = broken  # type: ignore[method-assign]
        self.file.start()
        self.ask(self.limiter)
        self.pass_time(EVERY)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        del self.file._write
        self.pass_time(EVERY)
        self.assertTrue(self.path.exists())
