"""Ten thousand idle TLS connections: what each costs, and that good clients are served beside them."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from typing import ClassVar, Final
from unittest import skipIf

from tests.integration.attackers import GET, BoundsTestCase, Crowd, descriptors

CONNECTIONS: Final = 10_000
#: Of resident memory.
EACH: Final = 60_000
#: What the relay, and what these tests, have open beside them; with room.
BESIDE: Final = 200
WANTED: Final = CONNECTIONS + BESIDE
HARD: Final = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@skipIf(0 <= HARD < WANTED, f"needs {WANTED} descriptors, and ulimit -Hn is {HARD}")
class IdleTests(BoundsTestCase):
    more: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "listen": {
            "max_connections": WANTED,
            "max_connections_per_identity": WANTED,
            # Nothing may end while the crowd grows, however slow the machine is.
            "handshake_timeout": 60,
            "idle_timeout": 600,
            "stall_timeout": 600,
        }
    }

    @classmethod
    def setUpClass(cls) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, WANTED), hard))  # the relay inherits it
        cls.addClassCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        super().setUpClass()

    def test_ten_thousand(self) -> None:
        """Each takes less than 60 kB of memory; good clients are served, and everything is given back."""
        with self.bounded(grows=CONNECTIONS * EACH):
            before, files = self.relay.resident, descriptors(self.relay)
            with Crowd(self.relay) as crowd:
                for _ in range(10):
                    crowd.greet(self.tls, CONNECTIONS // 10)
                    crowd.forget_tls()
                    self.assert_served()
                self.assertEqual(crowd.open(), CONNECTIONS)
                self.relay.wait_for_metric("openai_relay_connections", CONNECTIONS + 1)
                self.assertGreaterEqual(descriptors(self.relay) - files, CONNECTIONS)
                each = (self.relay.resident - before) / CONNECTIONS
                self.assertLess(each, EACH)
                for _ in range(20):
                    self.assert_served()
                kept = self.relay.connect()
                self.addCleanup(kept.close)
                kept.request("GET", "/v1/models")
                self.assertEqual(kept.getresponse().status, 200)
                kept.close()
                self.assertEqual(crowd.open(), CONNECTIONS)

    def test_that_have_asked(self) -> None:
        """A connection that has been used, and is kept, costs no more than one that has not."""
        count = CONNECTIONS // 10
        with self.bounded(grows=count * EACH), Crowd(self.relay) as crowd:
            crowd.greet(self.tls, count)
            before = self.relay.resident
            crowd.say(GET % b"/v1/models")
            for each in crowd.sockets:
                self.assertTrue(each.recv(65_536).startswith(b"HTTP/1.1 200 "))
            self.assertLess((self.relay.resident - before) / count, EACH // 2)
            self.assertEqual(crowd.open(), count)
