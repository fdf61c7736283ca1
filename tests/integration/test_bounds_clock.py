"""
A wall clock that jumps ends no stream and no wait, neither early nor late; certificates follow it.

The relay's process is shown another wall clock by libfaketime, and the true
monotonic one; the test turns the clock through a file.
"""

from __future__ import annotations

import re
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Final
from unittest import skipIf

from tests import certificates
from tests.integration.attackers import CHAT, PACED, SHORT, Crowd, pause, quick_tls, status_of
from tests.integration.by_hand import ClientByHand
from tests.integration.running import TWISTD, Relay, SiteTestCase, StandIn, wait_for

LIBRARY: Final = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
HOUR: Final = 3_600
#: How many events are read after a jump: one each 50 ms, so this is longer than every time-out.
EVENTS: Final = 50
HANDSHAKES_FAILED: Final = 'openai_relay_tls_handshakes_total{result="failed"}'


@skipIf(LIBRARY is None, "no libfaketime (Debian: apt install faketime)")
class ClockCase(SiteTestCase):
    """A relay whose wall clock the test turns."""

    clock: ClassVar[Path]
    standin: ClassVar[StandIn]
    relay: ClassVar[Relay]
    tls: ClassVar[ssl.SSLContext]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.backdate()
        cls.standin = StandIn(cls.site)
        cls.addClassCleanup(cls.standin.stop)
        cls.clock = Path(tempfile.mkstemp(dir=cls.site.directory)[1])
        cls.turn(0)
        times = dict.fromkeys(("handshake_timeout", "head_timeout", "idle_timeout", "stall_timeout"), SHORT)
        configuration = cls.site.write_configuration(cls.standin.url, {"listen": times})
        environment = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(cls.clock),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
            "FAKETIME_NO_CACHE": "1",
        }
        cls.relay = Relay(cls.site, [*TWISTD, "--config", configuration], environment)
        cls.addClassCleanup(cls.relay.close)
        cls.tls = quick_tls(cls.site)

    @classmethod
    def backdate(cls) -> None:
        """Certificates that were in force long before the clock is turned back: the site's own begin about now."""
        directory = cls.site.directory
        for authority, name in ((cls.site.ca, "server"), (cls.site.upstream_ca, "upstream")):
            authority.write_bytes(certificates.authority().pem)
            certificates.server().write(directory, name)
        (directory / "authority" / "crl.pem").write_bytes(certificates.revocation_list())
        certificates.client().write(directory, "client")
        certificates.client("brief", not_after=timedelta(minutes=30)).write(directory, "brief")

    @classmethod
    def turn(cls, seconds: int) -> None:
        """Set the relay's wall clock: so far from the true one."""
        written = cls.clock.with_suffix(".new")
        written.write_text(f"{seconds:+d}\n")
        written.replace(cls.clock)

    @contextmanager
    def turned(self, seconds: int) -> Iterator[None]:
        self.turn(seconds)
        try:
            yield
        finally:
            self.turn(0)

    def client(self) -> ClientByHand:
        client = ClientByHand(self.relay)
        self.addCleanup(client.leave)
        return client


class JumpTests(ClockCase):
    def test_clock_is_turned(self) -> None:
        """What these tests rest on: the relay's process sees the wall clock that is set, in the lines it writes."""
        connection = self.relay.connect(self.tls)
        self.addCleanup(connection.close)
        before = self.relay.lines_until_now()
        with self.turned(HOUR):
            self.assertEqual(status_of(connection), 200)
            (turned,) = self.relay.lines_after(before)
        self.assertEqual(status_of(connection), 200)
        _, true = self.relay.lines_after(before, 2)
        self.assertEqual(hour_of(turned), (hour_of(true) + 1) % 24)

    def check(self, seconds: int) -> None:
        """A stream, a slow upload's wait and an idle connection over a jump, and then each time-out as ever."""
        streaming = self.client()
        streaming.request("POST", PACED, CHAT)
        events = streaming.answer()
        self.assertTrue(events.readline().startswith(b"data: "))
        waiting = self.client()  # for the upstream, which answers after the jump
        waiting.request("POST", "/v1/chat/completions?standin.delay_ms=1500", CHAT.replace(b"true", b"false"))
        wait_for(lambda: self.standin.stats().open == 2, "both to be asked for")
        failed = self.relay.metric(HANDSHAKES_FAILED)
        with Crowd(self.relay).connect(3) as silent, Crowd(self.relay).greet(self.tls, 3) as idle:
            begun = Crowd(self.relay).greet(self.tls, 3)
            self.addCleanup(begun.leave)
            begun.say(b"GET / HTT")
            with self.turned(seconds):
                for _ in range(EVENTS):
                    self.assertNotEqual(events.readline(), b"", "the stream was cut")
                self.assertEqual(waiting.answer().status, 200)
                for crowd, what in ((silent, "handshakes"), (begun, "heads"), (idle, "idle connections")):
                    wait_for(crowd.all_closed, f"{what} that came before the jump to be ended")
                self.relay.wait_for_metric(HANDSHAKES_FAILED, failed + 3)
                with Crowd(self.relay).greet(self.tls, 3) as later:
                    wait_for(later.all_closed, "idle connections that came after the jump to be ended")
                self.assertEqual(status_of(self.relay.connect(self.tls)), 200)
            for _ in range(EVENTS):
                self.assertNotEqual(events.readline(), b"", "the stream was cut as the clock was set right")
        streaming.leave()

    def test_forwards(self) -> None:
        """An hour forwards: the stream and the waiting request go on, and each time-out is as long as before."""
        self.check(HOUR)

    def test_backwards(self) -> None:
        """An hour backwards: the same; no event is held back and no time-out waits for an hour."""
        self.check(-HOUR)

    def test_nothing_ends_early(self) -> None:
        """A jump does not shorten a wait: a connection made just before it is there for its request just after it."""
        for seconds in (HOUR, -HOUR):
            connection = self.relay.connect(self.tls)
            self.addCleanup(connection.close)
            self.assertEqual(status_of(connection), 200)
            with self.turned(seconds):
                pause(SHORT / 4)
                self.assertEqual(status_of(connection), 200)


class CertificateTests(ClockCase):
    def test_expired_by_the_jump(self) -> None:
        """
        Certificates follow the wall clock: past its end one is refused, in a handshake and on a kept connection.

        A certificate that is still in force is let in, and when the clock is set right again so is the other.
        """
        brief = quick_tls(self.site, "brief")
        kept = self.relay.connect(brief)
        self.addCleanup(kept.close)
        self.assertEqual(status_of(kept), 200)
        with self.turned(HOUR):
            self.assertEqual(status_of(kept), 401)
            self.assertRaises(OSError, self.ask, brief)
            self.assertEqual(self.ask(self.tls), 200)
        self.assertEqual(self.ask(brief), 200)

    def ask(self, tls: ssl.SSLContext) -> int:
        """The status of one answer, on a connection of its own."""
        connection = self.relay.connect(tls)
        try:
            return status_of(connection)
        finally:
            connection.close()


def hour_of(line: dict[str, object]) -> int:
    """The hour in a line's time."""
    found = re.search(r"T(\d\d):", str(line["ts"]))
    assert found is not None, line
    return int(found[1])
