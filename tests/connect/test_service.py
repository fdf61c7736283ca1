"""The wiring, without a socket: what it refuses to build, and how long it takes to stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from zope.interface.verify import verifyObject

from openai_relay.connect.certificate import Unusable
from openai_relay.connect.service import DRAIN_TIMEOUT, ConnectService, why_not
from openai_relay.http1.server import HTTPServerFactory
from tests.connect.files import FilesCase
from tests.doubles import TurningReactor, Wire
from tests.relay_case import read_answers

MODELS = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"


class ServiceTests(FilesCase):
    def setUp(self) -> None:
        super().setUp()
        self.reactor = TurningReactor()
        self.said: list[str] = []
        self.lines: list[bytes] = []

    def service(self, write: Any = None) -> ConnectService:
        return ConnectService(self.reactor, self.settings, self.sources, self.said.append, write, 10)

    def ask(self, service: ConnectService) -> Wire:
        """A tool that has asked for something."""
        connection = HTTPServerFactory(service.course, self.reactor).buildProtocol(None)
        assert connection is not None
        wire = Wire(self.reactor)
        wire.connect(connection)
        wire.receive(MODELS)
        return wire

    def test_interface(self) -> None:
        """It is a service as Twisted knows them, and knows whose certificate it shows."""
        service = self.service()
        verifyObject(IService, service)
        self.assertEqual((service.identity.name, service.address), ("alice", ""))

    def test_files(self) -> None:
        """Files are looked at while it is built: a bad one is told before anything listens."""
        self.settings = replace(self.settings, ca=Path("missing.pem"))
        self.assertEqual(self.assertRaises(Unusable, self.service).option, "--ca")

    def test_stop_at_once(self) -> None:
        """With nothing under way it stops at once, and leaves nothing behind."""
        self.successResultOf(self.service().stopService())
        self.assertEqual((self.said, self.reactor.getDelayedCalls()), ([], []))

    def test_stop_waits(self) -> None:
        """What runs gets its time; then it is ended, and told why."""
        service = self.service(self.lines.append)
        service._upstream.forward = lambda *_: Deferred()  # type: ignore[assignment,method-assign]  # never answers
        wire = self.ask(service)
        stopping = service.stopService()
        self.assertEqual(self.said, ["stopping: what runs (1) gets 30 s to finish"])
        late = self.ask(service)
        (refused,) = read_answers(late.taken())
        self.assertEqual((refused.status, refused.error["code"]), (503, "relay_shutting_down"))
        self.reactor.advance(DRAIN_TIMEOUT - 0.1)
        self.assertNoResult(stopping)
        self.assertEqual((wire.taken(), len(self.lines)), (b"", 1))
        self.reactor.advance(0.1)
        self.reactor.settle()
        self.successResultOf(stopping)
        (ended,) = read_answers(wire.taken())
        self.assertIn("has stopped", ended.error["message"])
        self.assertEqual(len(self.lines), 2)
        self.assertIn(b" alice GET /v1/models 503 ", self.lines[1])

    def test_why_not(self) -> None:
        """Why a port cannot be had is told in words."""
        error = CannotListenError("::1", 80, OSError(13, "Permission denied"))
        self.assertEqual(why_not(error), "cannot listen on [::1]:80: Permission denied")
        self.assertEqual(why_not(CannotListenError("", 80, "broken")), "cannot listen on :80: broken")
