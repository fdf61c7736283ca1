"""Outputs that take nothing - a full disk, a pipe that nobody reads - never hold up a request."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

from tests.integration.attackers import (
    CHAT,
    MIB,
    PACED,
    Crowd,
    UnreadPipe,
    quick_tls,
    redirected,
    status_of,
)
from tests.integration.by_hand import ClientByHand
from tests.integration.running import TWISTD, Relay, Site, SiteTestCase, StandIn, wait_for

REFUSED: Final = 'openai_relay_tls_handshakes_total{result="refused"}'
DROPPED: Final = "openai_relay_log_lines_dropped_total"
#: So that many lines are more than a pipe takes (64 KiB) and the log keeps (4 MiB).
LINE: Final = 1_300


class SpeakingRelay(Relay):
    """A relay whose standard error is a pipe, read only when somebody asks what stands there."""

    def __init__(self, site: Site, configuration: Path) -> None:
        self.pipe = UnreadPipe(site.directory)
        super().__init__(
            site, redirected([*TWISTD, "--config", configuration], f"2>'{self.pipe.path}'"), {"PYTHONUNBUFFERED": "1"}
        )

    @property
    def errors(self) -> str:
        """What it has said until now; asking empties the pipe."""
        return self.pipe.text()


class OutputCase(SiteTestCase):
    """A stand-in, and relays that the tests start."""

    standin: ClassVar[StandIn]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.standin = StandIn(cls.site)
        cls.addClassCleanup(cls.standin.stop)

    def configuration(self) -> Path:
        return self.site.write_configuration(self.standin.url, {"log": {"format": "json"}})

    def assert_serving(self, relay: Relay, requests: int, target: str = "/v1/models") -> None:
        """A stream goes on while so many requests are answered."""
        streaming = ClientByHand(relay)
        self.addCleanup(streaming.leave)
        streaming.request("POST", PACED, CHAT)
        events = streaming.answer()
        connection = relay.connect(quick_tls(self.site))
        self.addCleanup(connection.close)
        for _ in range(requests):
            self.assertLess(status_of(connection, target), 500)
        for _ in range(20):
            self.assertNotEqual(events.readline(), b"", "the stream was cut")
        streaming.leave()


class StandardOutputTests(OutputCase):
    def start(self, redirection: str) -> Relay:
        relay = Relay(self.site, redirected([*TWISTD, "--config", self.configuration()], redirection))
        self.addCleanup(relay.close)
        return relay

    def test_full_disk(self) -> None:
        """On a full disk the lines are lost, and counted; requests are answered as ever."""
        relay = self.start(">/dev/full")
        self.assert_serving(relay, 200)
        wait_for(lambda: relay.metric(DROPPED) >= 200, "the lost lines to be counted")

    def test_closed(self) -> None:
        """So it is when standard output is closed."""
        relay = self.start(">&-")
        self.assert_serving(relay, 50)

    def test_unread_pipe(self) -> None:
        """A pipe that nobody reads costs lines and at most their queue; requests are answered, and it still stops."""
        pipe = UnreadPipe(self.site.directory)
        self.addCleanup(pipe.close)
        relay = self.start(f">'{pipe.path}'")
        self.assert_serving(relay, 20)
        pipe.fill()
        before = relay.resident
        target = "/elsewhere/".ljust(LINE, "x")
        self.assert_serving(relay, 6_000, target)
        wait_for(lambda: relay.metric(DROPPED) > 0, "lines to be dropped")
        self.assertLess(relay.resident - before, 16 * MIB)
        pipe.text()
        wait_for(lambda: pipe.text().count("\n") > 2_000, "the queued lines, once somebody reads")


class StandardErrorTests(OutputCase):
    def test_broken_pipe(self) -> None:
        """Where nobody is left to read what the relay has to say, that is lost, and nothing else is."""
        relay = SpeakingRelay(self.site, self.configuration())
        self.addCleanup(self.end, relay)
        relay.pipe.close()
        self.refuse_some(relay)
        self.assert_serving(relay, 50)

    def test_unread_pipe(self) -> None:
        """A pipe that nobody reads, and that is full, holds up no handshake, no request and no stream."""
        relay = SpeakingRelay(self.site, self.configuration())
        self.addCleanup(self.end, relay)
        relay.pipe.fill()
        try:
            self.refuse_some(relay)  # each of which the relay would tell
            self.assert_serving(relay, 50)
        finally:
            relay.pipe.text()  # so that it can end

    def refuse_some(self, relay: Relay) -> None:
        """Strangers, whose refusal is written to standard error."""
        refused = relay.metric(REFUSED)
        with Crowd(relay).greet(quick_tls(self.site, None), 3) as strangers:
            strangers.answers()
            wait_for(lambda: relay.metric(REFUSED) > refused, "the strangers to be refused")

    def end(self, relay: SpeakingRelay) -> None:
        relay.process.terminate()
        self.assertEqual(relay.ended(), 0)
