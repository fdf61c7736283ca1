"""The end of a service: what runs gets its time, and everybody can see how it goes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from openai_relay.draining import NEWCOMERS, PROGRESS, Drain
from tests.relay_case import RelayCase, answer, read_answers


class Telling:
    """In the place of systemd."""

    def __init__(self) -> None:
        self.extended: list[float] = []
        self.status = ""

    def extend(self, seconds: float, status: str) -> None:
        self.extended.append(seconds)
        self.status = status


class DrainTests(RelayCase):
    def setUp(self) -> None:
        super().setUp()
        self.systemd = Telling()
        self.newcomers = 0
        systemd: Any = self.systemd
        self.drain = Drain(self.clock, self.monotonic_ns, self.relay, systemd, 60.0, lambda: self.newcomers)

    def finish(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.drain.finish())

    def told(self) -> list[str]:
        return [event["log_format"].format(**event) for event in self.events]

    def test_nothing_runs(self) -> None:
        """Where nothing runs it is over at once, without a word, and leaves no timer."""
        self.successResultOf(self.finish())
        self.assertEqual((self.told(), self.clock.getDelayedCalls()), ([], []))

    def test_progress(self) -> None:
        """How many still run, the oldest of them, whose it is and what time is left is said every few seconds."""
        wire = self.asked()
        self.clock.advance(3)
        self.asked()
        finished = self.finish()
        self.clock.advance(PROGRESS)
        wire.lose()
        self.clock.settle()
        self.clock.advance(PROGRESS)
        self.assertEqual(
            self.told(),
            [
                "stopping: what runs (2) gets 60 s to finish; a second signal ends it at once",
                "stopping: 2 exchanges still run, the oldest for 8 s (alice, /v1/models); 55 s left",
                "stopping: 1 exchanges still run, the oldest for 10 s (alice, /v1/models); 50 s left",
            ],
        )
        self.assertNoResult(finished)

    def test_newcomers(self) -> None:
        """Whoever was let in and has asked nothing yet may still ask, for a second; then nothing more is admitted."""
        self.newcomers = 1
        finished = self.finish()
        wire = self.asked()
        self.upstream_wire().receive(answer())
        self.assertEqual(self.answered(wire).status, 200)
        for _ in range(30):
            self.clock.advance(NEWCOMERS / 20)
        self.successResultOf(finished)
        self.assertEqual(self.answered(self.asked()).status, 503)

    def test_systemd(self) -> None:
        """Whatever the unit says, systemd is asked for more time than passes until it is asked again."""
        self.asked()
        self.finish()
        for _ in range(4):
            self.clock.advance(PROGRESS)
        self.assertEqual(len(self.systemd.extended), 5)
        self.assertGreater(min(self.systemd.extended), 2 * PROGRESS)
        self.assertEqual(self.systemd.status, "1 exchanges still run, for 40 s at most")

    def test_time_is_up(self) -> None:
        """What does not finish in time is ended, told why, and counted in a line."""
        wire = self.asked()
        finished = self.finish()
        self.clock.advance(60)
        self.clock.settle()
        self.successResultOf(finished)
        (answered,) = read_answers(self.took(wire))
        self.assertEqual((answered.status, answered.error["code"]), (503, "relay_shutting_down"))
        self.assertIn("1 exchanges did not finish within 60 s", self.told()[-1])

    def test_hurry(self) -> None:
        """A second signal ends at once what still runs."""
        wire = self.asked()
        finished = self.finish()
        self.drain.hurry()
        self.clock.settle()
        self.successResultOf(finished)
        (answered,) = read_answers(self.took(wire))
        self.assertEqual(answered.error["code"], "relay_shutting_down")
        self.clock.advance(120)
        self.assertNotIn("did not finish within", "".join(self.told()))

    def test_hurry_before(self) -> None:
        """So does one that comes before the listening port is closed."""
        wire = self.asked()
        self.drain.hurry()
        self.successResultOf(self.finish())
        self.assertEqual(read_answers(self.took(wire))[0].status, 503)
