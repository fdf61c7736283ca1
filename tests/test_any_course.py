"""
Anything, in any order: whatever clients, upstream and clock do, the promises of a course hold.

Each exchange that began is recorded once, each lease given back, nothing left
open, no secret said, and nothing that happened is taken for a bug.
"""

from __future__ import annotations

from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionRefusedError

from openai_relay.core.settings import LimitSettings
from openai_relay.tls.transport import TLSTruncated
from tests.doubles import Wire
from tests.relay_case import ALICE, BOB, STREAM_HEAD, RelayCase, answer, chunk, request

CHUNKED: Final = "Transfer-Encoding: chunked"
REQUESTS: Final = [
    request(),
    request("HEAD"),
    request("TRACE"),
    request("GET", "/nowhere"),
    request("GET", "/v1/x", "Connection: close"),
    request().replace(b"HTTP/1.1", b"HTTP/1.0"),
    request("POST", "/v1/files", body=b"x" * 10),
    request("POST", "/v1/files", body=b"x" * 200_000),
    request("POST", "/v1/files", "Expect: 100-continue", body=b"x"),
    request("POST", "/v1/files", CHUNKED) + chunk(b"a" * 300) + chunk(b"b") + chunk(b""),
    request("POST", "/v1/files", CHUNKED) + chunk(b"a") + b"bad\r\n",
    request("POST", "/nowhere", body=b"x" * 100),
    b"BAD\r\n\r\n",
]
ANSWERS: Final = [
    answer(),
    answer(b"x" * 1_000),
    answer(b"{}", "413 Content Too Large", "Connection: close"),
    answer() + b"extra",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + answer(),
    b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\nuntil the end",
    STREAM_HEAD + chunk(b"data: 1\n\n") + chunk(b"data: 2\n\n" * 100) + chunk(b""),
    STREAM_HEAD + chunk(b"data: 1\n\n") + b"0\r\nX-Checksum: 1\r\n\r\n",
    STREAM_HEAD + chunk(b"data: 1\n\n") + b"bad\r\n",
    b"nonsense\r\n\r\n",
]
#: How much of what is to be sent goes in one block.
CUTS: Final = [1, 5, 50, 70_000, 1 << 20, 1 << 20]

steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("connect", "request", "request", "request", "answer", "answer", "answer"),
                *("client leaves", "upstream leaves", "client blocks", "client reads", "upstream blocks"),
                *("upstream reads", "time", "time", "hold", "accept", "refuse", "drain", "end"),
            ]
        ),
        st.integers(0, 1 << 16),
        st.integers(0, 1 << 16),
    ),
    max_size=60,
)


class AnyCourseTests(RelayCase):
    limit_settings = LimitSettings(concurrent=3, requests_per_minute=600, burst=5)

    @given(steps)
    def test_any_order(self, taken: list[tuple[str, int, int]]) -> None:
        """Any interleaving of what can happen ends with everything recorded, released and closed."""
        self.setUp()
        self.unsent: dict[Wire, bytes] = {}
        for step, choice, size in taken:
            getattr(self, f"do_{step.replace(' ', '_')}")(choice, size)
        self.assertOver()
        self.assertEqual([each for each in self.closed if each.end == "bug"], [])
        self.assertEqual([event for event in self.events if event.get("log_failure")], [])

    def one_of(self, wires: list[Wire], choice: int) -> Wire | None:
        return wires[choice % len(wires)] if wires else None

    def reading(self, wires: list[Wire]) -> list[Wire]:
        """Those on which the relay would see something."""
        return [each for each in wires if each.connected and each.producerState == "producing"]

    def send(self, wires: list[Wire], data: list[bytes], choice: int, size: int) -> None:
        """The next part of what is under way on one of them, or the first of something new."""
        wire = self.one_of(self.reading(wires), choice)
        if wire is not None:
            unsent = self.unsent.get(wire) or data[size % len(data)]
            cut = CUTS[choice % len(CUTS)]
            self.unsent[wire] = unsent[cut:]
            wire.receive(unsent[:cut])

    def block(self, wires: list[Wire], choice: int, blocks: bool) -> None:
        wire = self.one_of([each for each in wires if each.connected and each.producer is not None], choice)
        if wire is not None:
            (wire.stop_reading if blocks else wire.read_again)()

    def leave(self, wires: list[Wire], choice: int, size: int) -> None:
        wire = self.one_of([each for each in wires if each.connected], choice)
        if wire is not None:
            wire.lose(ConnectionDone() if size % 2 else TLSTruncated())

    def do_connect(self, choice: int, size: int) -> None:
        if len(self.clients) < 6:
            self.client(BOB if choice % 2 else ALICE)

    def do_request(self, choice: int, size: int) -> None:
        self.send(self.clients, REQUESTS, choice, size)

    def do_answer(self, choice: int, size: int) -> None:
        self.send(self.far_end.connections, ANSWERS, choice, size)

    def do_client_leaves(self, choice: int, size: int) -> None:
        self.leave(self.clients, choice, size)

    def do_upstream_leaves(self, choice: int, size: int) -> None:
        self.leave(self.far_end.connections, choice, size)

    def do_client_blocks(self, choice: int, size: int) -> None:
        self.block(self.clients, choice, True)

    def do_client_reads(self, choice: int, size: int) -> None:
        self.block(self.clients, choice, False)

    def do_upstream_blocks(self, choice: int, size: int) -> None:
        self.block(self.far_end.connections, choice, True)

    def do_upstream_reads(self, choice: int, size: int) -> None:
        self.block(self.far_end.connections, choice, False)

    def do_time(self, choice: int, size: int) -> None:
        self.clock.pump([0.5] * [0, 1, 1, 3, 25, 70][choice % 6])

    def do_hold(self, choice: int, size: int) -> None:
        if self.far_end.held is None:
            self.far_end.held = []

    def waiting(self) -> list[Any]:
        """Who waits for a connection, and still wants it."""
        if self.far_end.held is None:
            return []
        self.far_end.held = [each for each in self.far_end.held if not each[1].called]
        return self.far_end.held

    def do_accept(self, choice: int, size: int) -> None:
        if self.waiting():
            self.far_end.accept()

    def do_refuse(self, choice: int, size: int) -> None:
        if waiting := self.waiting():
            waiting.pop(0)[1].errback(ConnectionRefusedError())

    def do_drain(self, choice: int, size: int) -> None:
        if choice % 10 == 0:
            self.relay.drain()

    def do_end(self, choice: int, size: int) -> None:
        if choice % 10 == 0:
            self.relay.end_all()
