"""A stand-in in memory, and clients that have a WebSocket of it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.server import StandInOptions
from tests.standin.asking import InMemory
from tests.standin.caller import Caller

ECHO = "/v1/standin/websocket"
REALTIME = "/v1/realtime?model=gpt-realtime"
RESPONSES = "/v1/responses"
SPEAK = {"type": "response.create"}
ENDLESS = REALTIME + "&standin.endless=1"


class WebSocketCase(SynchronousTestCase):
    options = StandInOptions()

    def setUp(self) -> None:
        self.standin = InMemory(self.options)
        self.clock = self.standin.clock
        self.counters = self.standin.counters

    def connect(self, deflate: bool = False) -> Caller:
        client = Caller(self.standin.connect(), deflate)
        self.addCleanup(client.asker.leave)
        return client

    def open(self, target: str = ECHO, *fields: str, deflate: bool = False) -> Caller:
        """A client whose WebSocket stands, and which is asked of everything from now on."""
        self.client = self.connect(deflate)
        answered = self.client.open(target, *fields)
        self.assertEqual(answered.status, 101)
        return self.client

    def assertEnded(self, client: Caller | None = None) -> None:
        """The connection is being closed, and the exchange is over."""
        self.assertTrue((client or self.client).transport.disconnecting)
        self.assertEqual(self.counters.open, 0)

    def assertNoTimers(self) -> None:
        """Nothing is left that would happen later, but for the server's look around."""
        self.client.asker.leave()
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
