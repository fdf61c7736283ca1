"""The relay is killed in the midst of traffic: what its ledger lacks, and whether the next one can go on with it."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tests.integration.running import WITHIN, Relay, SiteTestCase, StandIn, Tables
from tests.ledger.rows import stored

#: Exchanges a second, in all, and for how many seconds.
RATE = 500
SECONDS = 4.0
CONNECTIONS = 5
#: How many are sent at once on each connection, as one write.
TOGETHER = 5
#: What a kill may cost: the rows of the last second.
LOST_MS = 1_000
BODY = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi."}], "max_tokens": 4}).encode()
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
_ID = re.compile(rb"x-relay-request-id: (rly_[0-9a-f]+)\r\n")


@dataclass(slots=True)
class Answers:
    """When each exchange was over for its client, by the relay's identifier; milliseconds since the epoch."""

    at: dict[str, float] = field(default_factory=dict)


def _gone() -> bytes:
    raise ConnectionResetError


class KilledTests(SiteTestCase):
    configuration: ClassVar[Tables] = {}

    def load(self, relay: Relay, answers: Answers, killed: threading.Event) -> None:
        """One connection's part of the load, until the relay is gone."""
        pace = CONNECTIONS * TOGETHER / RATE
        with (
            socket.create_connection(("127.0.0.1", relay.port), WITHIN) as plain,
            self.site.client_tls().wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            pause, begun = threading.Event(), time.monotonic()
            try:
                while not killed.is_set():
                    tls.sendall(REQUEST * TOGETHER)
                    came, found = b"", list[bytes]()
                    # The last one is over when its body is: a JSON object behind its head.
                    while len(found) < TOGETHER or not came.rstrip().endswith(b"}"):
                        came += tls.recv(65_536) or _gone()
                        found = _ID.findall(came)
                    now = time.time() * 1_000
                    answers.at.update((identifier.decode(), now) for identifier in found)
                    begun += pace
                    pause.wait(max(begun - time.monotonic(), 0))
            except OSError:
                pass

    def test_killed_under_load(self) -> None:
        """Killed at 500 exchanges a second, the ledger is whole, lacks at most the last second, and is gone on with."""
        standin = StandIn(self.site)
        self.addCleanup(standin.stop)
        for run in range(2):
            relay = Relay.configured(self.site, standin.url, self.configuration)
            answers, killed = Answers(), threading.Event()
            threads = [
                threading.Thread(target=self.load, args=(relay, answers, killed), daemon=True)
                for _ in range(CONNECTIONS)
            ]
            for thread in threads:
                thread.start()
            killed.wait(SECONDS)
            kill_ms = time.time() * 1_000
            relay.process.send_signal(signal.SIGKILL)
            killed.set()
            self.assertEqual(relay.ended(), -signal.SIGKILL)
            for thread in threads:
                thread.join(WITHIN)
            ledger = self.site.file("state") / "ledger.sqlite3"
            self.assertEqual(stored(ledger, "PRAGMA integrity_check"), ["ok"])
            kept: set[Any] = set(stored(ledger))
            missing = [at for identifier, at in answers.at.items() if identifier not in kept]
            with self.subTest(run=run, answered=len(answers.at), missing=len(missing)):
                self.assertGreater(len(answers.at), RATE * SECONDS / 4)
                self.assertEqual([at for at in missing if at < kill_ms - LOST_MS], [])
        (summed,) = stored(ledger, "SELECT sum(requests) FROM totals")
        self.assertEqual(summed, len(kept))
        following = Relay.configured(self.site, standin.url, self.configuration)
        self.assertNotIn("ledger", following.errors.lower())
        following.close()
