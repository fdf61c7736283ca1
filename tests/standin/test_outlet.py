"""The way out of a WebSocket."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from openai_relay.http1.server import Request
from openai_relay.standin.outlet import Outlet
from tests.http1.serving import Source


class Written:
    """A request of which only what is written to it matters."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


class OutletTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.request = Written()
        self.outlet = Outlet(cast(Request, self.request))
        self.source: Any = Source()

    def test_interfaces(self) -> None:
        """A request can pause it, and a pump can write to it."""
        verifyObject(IPushProducer, self.outlet)
        verifyObject(IConsumer, self.outlet)

    def test_passes_pauses_on(self) -> None:
        """Whoever produces at present is paused, resumed and stopped with the client."""
        self.outlet.registerProducer(self.source, True)
        self.outlet.pauseProducing()
        self.outlet.resumeProducing()
        self.outlet.stopProducing()
        self.assertEqual(self.source.told, ["pause", "resume", "stop"])
        self.outlet.unregisterProducer()
        self.outlet.pauseProducing()
        self.assertEqual(len(self.source.told), 3)

    def test_comes_when_paused(self) -> None:
        """Whoever comes while the client does not read begins paused."""
        self.outlet.pauseProducing()
        self.outlet.registerProducer(self.source, True)
        self.assertEqual(self.source.told, ["pause"])

    def test_urgent(self) -> None:
        """What is urgent goes out at once while the client reads."""
        self.outlet.write(b"a")
        self.outlet.urgent(b"!")
        self.assertEqual(self.request.data, b"a!")

    def test_urgent_while_paused(self) -> None:
        """While the client does not read, only the last urgent frame is kept, and goes out first when it does."""
        self.outlet.registerProducer(self.source, True)
        self.outlet.pauseProducing()
        for number in b"123":
            self.outlet.urgent(bytes([number]))
        self.assertEqual(self.request.data, b"")
        self.outlet.resumeProducing()
        self.assertEqual((self.request.data, self.source.told), (b"3", ["pause", "resume"]))
        self.outlet.pauseProducing()
        self.outlet.resumeProducing()
        self.assertEqual(self.request.data, b"3")
