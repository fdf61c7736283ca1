"""A gate remembers whether the peer reads, for producers that come and go."""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from openai_relay.http1.gate import Gate


class Producer:
    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")


class GateTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """A transport can take it for its push producer."""
        verifyObject(IPushProducer, Gate())

    def test_passes_on(self) -> None:
        """Whoever produces is paused and resumed with it."""
        producer = Producer()
        gate = Gate(producer)
        gate.pauseProducing()
        self.assertTrue(gate.blocked)
        gate.resumeProducing()
        self.assertFalse(gate.blocked)
        self.assertEqual(producer.told, ["pause", "resume"])

    def test_resume_without_pause(self) -> None:
        """A transport that resumes what it has not paused resumes nobody."""
        producer = Producer()
        Gate(producer).resumeProducing()
        self.assertEqual(producer.told, [])

    def test_nobody_produces(self) -> None:
        """Without a producer its owner learns that the peer reads again, and only then."""
        opened: list[bool] = []
        gate = Gate(on_open=lambda: opened.append(gate.blocked))
        gate.resumeProducing()
        gate.pauseProducing()
        self.assertEqual(opened, [])
        gate.resumeProducing()
        self.assertEqual(opened, [False])

    def test_producer_leaves_while_paused(self) -> None:
        """Who has gone is not resumed; the gate stays shut until the peer reads."""
        producer = Producer()
        gate = Gate(producer)
        gate.pauseProducing()
        gate.producer = None
        self.assertTrue(gate.blocked)
        gate.resumeProducing()
        self.assertEqual(producer.told, ["pause"])

    def test_lost_transport(self) -> None:
        """A transport that is lost stops nobody through the gate: the connection does that."""
        producer = Producer()
        Gate(producer).stopProducing()
        self.assertEqual(producer.told, [])
