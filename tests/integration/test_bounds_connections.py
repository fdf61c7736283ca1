"""More connections than there may be: of everybody, of one client, and of what the system lets a process have."""

from __future__ import annotations

import re
import ssl
from typing import ClassVar, Final

from openai_relay.authority.directory import Authority
from tests.integration.attackers import (
    CHAT,
    GET,
    MIB,
    PACED,
    SHORT,
    BoundsTestCase,
    Crowd,
    descriptors,
    pause,
    processor_time,
    quick_tls,
    status_of,
)
from tests.integration.by_hand import ClientByHand
from tests.integration.running import TWISTD, Relay, SiteTestCase, StandIn, Tables, wait_for

MOST: Final = 60
MOST_OF_ONE: Final = 20
#: As many as a shell might allow; what the relay needs for itself is some 20.
DESCRIPTORS: Final = 256


class ConnectionsTests(BoundsTestCase):
    """Sixty connections in all and twenty of one client."""

    more: ClassVar[Tables] = {
        "listen": {
            "max_connections": MOST,
            "max_connections_per_identity": MOST_OF_ONE,
            "handshake_timeout": 2 * SHORT,
            "idle_timeout": 3 * SHORT,
        }
    }
    bob: ClassVar[ssl.SSLContext]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        Authority.open(cls.site.directory / "authority").issue_client("bob", into=cls.site.directory, stem="bob")
        cls.bob = quick_tls(cls.site, "bob")

    def test_of_one_client(self) -> None:
        """Of one client's forty connections twenty are served, and twenty told 429; another client is served."""
        with self.bounded():  # whose stream is one of them
            with Crowd(self.relay).greet(self.tls, 2 * MOST_OF_ONE - 1) as crowd:
                crowd.say(GET % b"/v1/models")
                self.assert_served(self.bob)
                statuses = [answer[9:12] for answer in crowd.answers()]
            self.assertEqual(statuses.count(b"200"), MOST_OF_ONE - 1)
            self.assertEqual(statuses.count(b"429"), MOST_OF_ONE)
            self.relay.wait_for_metric("openai_relay_connections", 1)

    def test_one_client_does_not_take_all(self) -> None:
        """Connections of one client over its bound, on which it says nothing, leave room for the others."""
        with self.bounded(), Crowd(self.relay).greet(self.tls, 2 * MOST) as crowd:
            self.assertGreaterEqual(crowd.open(), MOST_OF_ONE - 1)
            self.assert_served(self.bob)

    def test_of_everybody(self) -> None:
        """
        Strangers who say nothing get no more connections than there may be, and keep nobody out.

        Whoever is connected is served all the while; whoever comes takes the place of the stranger who came first.
        """
        with self.bounded():
            kept = self.relay.connect(self.bob)
            self.addCleanup(kept.close)
            self.assertEqual(status_of(kept), 200)
            before = descriptors(self.relay)
            with Crowd(self.relay).connect(3 * MOST) as crowd:
                wait_for(lambda: crowd.open() <= MOST - 2, "those who are too many to be closed")
                self.assertLessEqual(descriptors(self.relay), before + MOST + 2)
                self.assertEqual(status_of(kept), 200)
                for _ in range(3):
                    self.assert_served()
                self.assertGreater(crowd.open(), MOST // 2, "the strangers have left, and this shows nothing")
                self.wait_until_closed(crowd, "silent connections")
            kept.close()

    def test_churn(self) -> None:
        """Hundreds of connections that come and go, in whatever way, leave nothing behind."""
        with self.bounded():
            for _ in range(6):
                with Crowd(self.relay).connect(MOST // 3) as bare:
                    bare.say(b"\x16\x03\x01")
                with Crowd(self.relay).greet(self.tls, MOST_OF_ONE - 1) as asking:
                    asking.say(GET % b"/v1/models?standin.delay_ms=20")
                self.relay.wait_for_metric("openai_relay_connections", 1)


class DescriptorTests(SiteTestCase):
    """A relay that may open 256 files and sockets, and would take far more connections."""

    standin: ClassVar[StandIn]
    relay: ClassVar[Relay]
    tls: ClassVar[ssl.SSLContext]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.standin = StandIn(cls.site)
        cls.addClassCleanup(cls.standin.stop)
        configuration = cls.site.write_configuration(cls.standin.url)
        few = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]
        cls.relay = Relay(cls.site, [*few, *TWISTD, "--config", configuration])
        cls.addClassCleanup(cls.relay.close)
        cls.tls = quick_tls(cls.site)

    def test_exhausted(self) -> None:
        """
        With no descriptor left the relay serves whoever is connected, says what to raise, and does not spin.

        As soon as some have left, others are let in.
        """
        streaming = ClientByHand(self.relay)
        self.addCleanup(streaming.leave)
        streaming.request("POST", PACED, CHAT)
        events = streaming.answer()
        kept = self.relay.connect(self.tls)
        self.addCleanup(kept.close)
        self.assertEqual(status_of(kept), 200)
        before = descriptors(self.relay)
        with Crowd(self.relay).greet(self.tls, DESCRIPTORS - before - 10) as crowd:
            pressing = Crowd(self.relay).connect(100)
            self.addCleanup(pressing.leave)
            # One is kept back to close others with, and others are needed in between: "none left" is within a few.
            wait_for(lambda: descriptors(self.relay) >= DESCRIPTORS - 4, "no descriptor to be left")
            used, resident = processor_time(self.relay), self.relay.resident
            pause(2)
            self.assertLess(processor_time(self.relay) - used, 1)
            self.assertLess(self.relay.resident - resident, 4 * MIB)
            self.assertEqual(status_of(kept), 200)
            for _ in range(20):
                self.assertNotEqual(events.readline(), b"", "the stream was cut")
            self.assertIsNone(self.relay.process.poll())
            pressing.leave()
            crowd.leave()
        wait_for(self.lets_in, "the relay to let somebody in again")
        self.assertEqual(status_of(kept), 200)
        streaming.leave()
        wait_for(lambda: descriptors(self.relay) <= before + 4, "the descriptors to be given back")
        self.assertRegex(self.relay.errors, re.compile("LimitNOFILE|ulimit -n|RLIMIT_NOFILE"))

    def lets_in(self) -> bool:
        connection = self.relay.connect(self.tls)
        try:
            return status_of(connection) == 200
        except OSError:
            return False
        finally:
            connection.close()

    def test_exhausted_by_exchanges(self) -> None:
        """Where there is no descriptor for the way to the upstream, the request is refused as such, and not a bug."""
        with Crowd(self.relay).greet(self.tls, DESCRIPTORS - descriptors(self.relay) - 3) as crowd:
            crowd.say(GET % b"/v1/models?standin.delay_ms=500")
            answers = [each.recv(65_536) for each in crowd.sockets]
            self.assertEqual({answer[9:12] for answer in answers} - {b"200", b"502", b"503", b""}, set())
            self.assertGreater(sum(answer[9:12] == b"200" for answer in answers), 0)
        wait_for(self.lets_in, "the relay to let somebody in again")
        self.assertNotIn("bug in", self.relay.errors)
