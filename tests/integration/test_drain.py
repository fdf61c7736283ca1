"""A relay that is told to end: what runs is finished, or ended so that it shows, and nobody is lost on the way."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPException, HTTPResponse
from typing import ClassVar

from tests.integration.running import (
    END_WITHIN,
    WITHIN,
    Relay,
    SiteTestCase,
    StandIn,
    Tables,
    child_environment,
    wait_for,
)

STREAMS = 100
BODY = json.dumps({"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}).encode()
#: Hands the listening socket over as systemd does, again to each that is started after the one before.
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "https"}
os.execv(sys.argv[2], sys.argv[2:])
"""


class DrainCase(SiteTestCase):
    tables: ClassVar[Tables] = {}

    def setUp(self) -> None:
        self.standin = StandIn(self.site)
        self.addCleanup(self.standin.stop)
        self.relay = Relay.configured(self.site, self.standin.url, self.tables)
        self.addCleanup(self.relay.close)

    def begin(self, target: str) -> HTTPResponse:
        """A stream, as soon as its head is there."""
        connection = self.relay.connect()
        self.addCleanup(connection.close)
        connection.request("POST", target, BODY, {"Content-Type": "application/json"})
        return connection.getresponse()

    def rest(self, answer: HTTPResponse) -> tuple[bytes, bool]:
        """All that still comes, and whether it came to a clean end."""
        blocks = []
        try:
            while block := answer.read1():
                blocks.append(block)
        except (HTTPException, OSError):
            return b"".join(blocks), False
        return b"".join(blocks), True


class FinishTests(DrainCase):
    """There is time enough."""

    def test_streams(self) -> None:
        """A hundred streams are finished, each whole; the process ends with 0 and has said how it went."""
        target = "/v1/chat/completions?standin.events=70&standin.interval_ms=100"
        with ThreadPoolExecutor(STREAMS) as threads:
            answers = list(threads.map(lambda _: self.begin(target), range(STREAMS)))
            self.relay.process.terminate()
            self.relay.announced(r"stopping: what runs \(100\) gets 30 s to finish")
            with self.assertRaises(OSError):
                socket.create_connection(("127.0.0.1", self.relay.port), WITHIN).close()
            ended = list(threads.map(self.rest, answers))
        for body, clean in ended:
            self.assertTrue(clean)
            self.assertTrue(body.endswith(b"data: [DONE]\n\n"), body[-100:])
        self.assertEqual(self.relay.ended(), 0)
        self.assertRegex(
            self.relay.errors,
            r"stopping: \d+ exchanges still run, the oldest for \d+ s \(alice, /v1/chat/completions\); \d+ s left",
        )
        self.assertEqual({line["end"] for line in self.relay.lines()}, {"done"})

    def test_last_answer_on_a_connection(self) -> None:
        """Who is answered meanwhile is told that the connection closes, and it does."""
        answer = self.begin("/v1/chat/completions?standin.delay_ms=1500")
        self.assertEqual(answer.headers["Connection"], None)  # begun before
        self.rest(answer)
        asked: Future[HTTPResponse]
        with ThreadPoolExecutor(1) as threads:
            asked = threads.submit(self.begin, "/v1/chat/completions?standin.delay_ms=1500")
            wait_for(lambda: self.relay.active() == 1, "the exchange to run")
            self.relay.process.terminate()
            late = asked.result(WITHIN)
        self.assertEqual((late.status, late.headers["Connection"]), (200, "close"))
        self.assertEqual(self.rest(late)[1], True)
        self.assertEqual(self.relay.ended(), 0)


class TimeTests(DrainCase):
    """There is not."""

    tables: ClassVar[Tables] = {"listen": {"drain_timeout": 1.0}}

    def test_time_is_up(self) -> None:
        """After drain_timeout each stream gets an error event and an unclean end; the process still ends with 0."""
        target = "/v1/chat/completions?standin.endless=1&standin.interval_ms=50"
        with ThreadPoolExecutor(20) as threads:
            answers = list(threads.map(lambda _: self.begin(target), range(20)))
            self.relay.process.terminate()
            ended = list(threads.map(self.rest, answers))
        for body, clean in ended:
            self.assertIn(b'"code": "relay_shutting_down"', body)
            self.assertFalse(clean)
        self.assertEqual(self.relay.ended(), 0)
        self.assertIn("20 exchanges did not finish within 1 s (listen.drain_timeout)", self.relay.errors)
        self.assertEqual({line["end"] for line in self.relay.lines()}, {"drained"})


class HurryTests(DrainCase):
    """Somebody asks twice."""

    tables: ClassVar[Tables] = {"listen": {"drain_timeout": 600}}

    def test_second_signal(self) -> None:
        """A second SIGTERM, or SIGINT, ends at once what would have had ten minutes."""
        answer = self.begin("/v1/chat/completions?standin.endless=1&standin.interval_ms=50")
        self.relay.process.terminate()
        self.relay.announced(r"gets 600 s to finish")
        self.relay.process.send_signal(signal.SIGINT)
        body, clean = self.rest(answer)
        self.assertIn(b'"code": "relay_shutting_down"', body)
        self.assertFalse(clean)
        self.assertEqual(self.relay.ended(), 0)
        self.assertIn("ended at once, as asked again: 1 exchanges", self.relay.errors)


class SuccessionTests(SiteTestCase):
    """One relay after the other on a socket that stays open, as a systemd socket unit does it."""

    def start(self, port: socket.socket, configuration: str) -> subprocess.Popen[bytes]:
        relay = subprocess.Popen(
            [
                *(sys.executable, "-c", AS_SYSTEMD, str(port.fileno())),
                *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
                *("-n", "--pidfile=", "openai-relay", "--config", configuration),
            ],
            cwd=self.site.directory,
            env=child_environment(),
            pass_fds=[port.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.site.directory / "relays.log").open("ab"),
        )
        self.addCleanup(relay.wait)
        self.addCleanup(relay.kill)
        return relay

    def begun(self) -> int:
        """How many relays have said until now that they serve."""
        log = (self.site.directory / "relays.log").read_text()
        return len(re.findall(r"serving on", log))

    def test_restarts_under_load(self) -> None:
        """Restarted twice and killed once under load: every connection attempt is taken, by one relay or the next."""
        standin = StandIn(self.site)
        self.addCleanup(standin.stop)
        port = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.addCleanup(port.close)
        tables: Tables = {"listen": {"address": "systemd:https"}, "admin": {"address": ""}}
        configuration = str(self.site.write_configuration(standin.url, tables))
        (self.site.directory / "relays.log").touch()
        relay = self.start(port, configuration)
        wait_for(lambda: self.begun() == 1, "the first relay")
        over, found = threading.Event(), list[str]()
        clients = [threading.Thread(target=self.ask_on, args=(port, over, found), daemon=True) for _ in range(4)]
        for each in clients:
            each.start()
        for number, end in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM), 2):
            asked = len(found)
            wait_for(lambda asked=asked: len(found) > asked + 50, "some load")  # type: ignore[misc]  # mypy infers no default
            relay.send_signal(end)
            code = relay.wait(END_WITHIN)
            self.assertEqual(code, 0 if end == signal.SIGTERM else -signal.SIGKILL)
            relay = self.start(port, configuration)
            wait_for(lambda number=number: self.begun() == number, "the next relay")  # type: ignore[misc]  # mypy infers no default
        asked = len(found)
        wait_for(lambda: len(found) > asked + 50, "some load")
        over.set()
        for each in clients:
            each.join(WITHIN)
        outcomes = {outcome: found.count(outcome) for outcome in set(found)}
        refused = [outcome for outcome in outcomes if "Refused" in outcome]
        self.assertEqual(refused, [], "a connection attempt was refused")
        # Of what a killed process had taken, nobody can be answered; nothing else fails.
        self.assertLessEqual(
            sum(count for outcome, count in outcomes.items() if outcome != "200"), len(clients), outcomes
        )

    def ask_on(self, port: socket.socket, over: threading.Event, found: list[str]) -> None:
        """Ask on one new connection after the other, and note how each went."""
        tls = self.site.client_tls()
        while not over.is_set():
            try:
                with (
                    socket.create_connection(port.getsockname(), END_WITHIN) as plain,
                    tls.wrap_socket(plain, server_hostname="localhost") as connection,
                ):
                    connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    answer = b""
                    while block := connection.recv(65_536):
                        answer += block
                    found.append(answer[9:12].decode() or "nothing")
            except (OSError, ssl.SSLError) as error:
                found.append(type(error).__name__)
