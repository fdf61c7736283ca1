"""The wiring, without a socket: what it refuses to build, and how long it takes to stop."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from openai_relay.core.settings import AdminSettings, LogSettings, Secret, Settings, UpstreamSettings
from openai_relay.http1.server import HTTPServerFactory
from openai_relay.service import CannotServe, RelayService, relay_service
from tests import certificates
from tests.doubles import TurningReactor, Wire, observe
from tests.relay_case import ALICE, KEY, read_answers, request
from tests.test_upstream import SilentResolver

#: That running exchanges get by default, in seconds.
GRACE = 30.0


class ServiceCase(SynchronousTestCase):
    """Has settings, and a reactor that turns by hand; no name resolves, so that what is forwarded waits."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.events = observe(self)
        self.reactor = TurningReactor()
        resolver: Any = SilentResolver()
        self.reactor.installNameResolver(resolver)
        self.settings = Settings(
            certificates.listen_settings(self.directory),
            upstream=UpstreamSettings(url="https://api.example", api_key=Secret(KEY), connect_timeout=3_600.0),
            log=LogSettings("off"),
            admin=AdminSettings(None),
        )

    def service(self) -> RelayService:
        return relay_service(self.reactor, self.settings)

    def ask(self, service: RelayService) -> Wire:
        """A client that has asked this service's relay for something."""
        connection = HTTPServerFactory(service.relay, self.reactor).buildProtocol(None)
        assert connection is not None
        wire = Wire(self.reactor)
        wire.connect(connection)
        connection.client = ALICE
        wire.receive(request())
        return wire


class BuildTests(ServiceCase):
    def complaint(self, **listen: Any) -> str:
        self.settings = replace(self.settings, listen=replace(self.settings.listen, **listen))
        return str(self.assertRaises(CannotServe, self.service)).replace(str(self.directory), "DIRECTORY")

    def test_interface(self) -> None:
        """It is a service, and building it listens nowhere and says nothing."""
        service = self.service()
        verifyObject(IService, service)
        self.assertEqual((service.address, service.admin_address), ("", ""))
        self.assertEqual((self.reactor.getReaders(), self.events), ([], []))

    def test_bad_listener_files(self) -> None:
        """A file that clients are met with and that cannot be used is named, before anything listens."""
        missing = self.directory / "missing.pem"
        told = "DIRECTORY/missing.pem: cannot be read (No such file or directory); check the path and its owner"
        self.assertEqual(self.complaint(crl=missing), f"listen.crl: {told}")
        self.assertEqual(self.complaint(client_ca=missing), f"listen.client_ca: {told}")
        self.assertEqual(self.complaint(certificate=missing), f"listen.certificate: {told}")

    def test_bad_key(self) -> None:
        """So is a key, nothing of which is shown."""
        complaint = self.complaint(key=Secret(certificates.client().key_pem))
        self.assertTrue(complaint.startswith("listen.key: does not belong to the certificate"), complaint)
        self.assertNotIn("PRIVATE", complaint)

    def test_bad_upstream(self) -> None:
        """So is a file of authorities for the upstream."""
        upstream = replace(self.settings.upstream, ca=self.directory / "missing.pem")
        self.settings = replace(self.settings, upstream=upstream)
        self.assertTrue(self.complaint().startswith("upstream.ca: DIRECTORY/missing.pem: cannot be read"))


class StopTests(ServiceCase):
    """Stopping lets what runs finish, but not for ever."""

    def test_never_started(self) -> None:
        """A service that never listened stops at once, and leaves nothing behind."""
        service = self.service()
        self.successResultOf(service.stopService())
        self.assertTrue(service.relay.draining)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_running_exchange_ends_in_time(self) -> None:
        """It waits for what runs, and stops as soon as that is over."""
        service = self.service()
        wire = self.ask(service)
        stopped = service.stopService()
        self.reactor.advance(GRACE - 1)
        self.assertNoResult(stopped)
        wire.lose()
        self.reactor.settle()
        self.successResultOf(stopped)

    def test_running_exchange_does_not_end(self) -> None:
        """What still runs after the time it gets is ended, and its client told to come again."""
        service = self.service()
        wire = self.ask(service)
        stopped = service.stopService()
        self.reactor.advance(GRACE - 0.1)
        self.assertNoResult(stopped)
        self.assertEqual(wire.value(), b"")
        self.reactor.advance(0.1)
        self.reactor.settle()
        (answered,) = read_answers(wire.taken())
        self.assertEqual((answered.status, answered.error["code"]), (503, "relay_shutting_down"))
        self.successResultOf(stopped)

    def test_request_while_stopping(self) -> None:
        """What is asked while it stops is refused, and does not prolong it."""
        service = self.service()
        running = self.ask(service)
        stopped = service.stopService()
        (answered,) = read_answers(self.ask(service).taken())
        self.assertEqual(answered.status, 503)
        running.lose()
        self.reactor.settle()
        self.successResultOf(stopped)

    def test_what_is_logged(self) -> None:
        """One event says that it stops and how much runs, one that it has."""
        service = self.service()
        self.ask(service)
        service.stopService()
        self.reactor.advance(GRACE)
        self.assertEqual(
            [event["log_format"].format(**event) for event in self.events],
            [
                "stopping: what runs (1) gets 30 s to finish; a second signal ends it at once",
                "1 exchanges did not finish within 30 s (listen.drain_timeout), and are ended",
                "stopped",
            ],
        )


class IdentifierTests(ServiceCase):
    def test_identifiers(self) -> None:
        """Each exchange has an identifier that no other has, of this service or of any other."""
        self.settings = replace(self.settings, upstream=replace(self.settings.upstream, allow_paths=("/elsewhere",)))
        found = []
        for service in (self.service(), self.service()):
            for _ in range(3):
                (answered,) = read_answers(self.ask(service).taken())
                found.append(answered.fields["x-relay-request-id"])
        self.assertEqual(len(set(found)), 6)
        for each in found:
            self.assertRegex(each, r"^rly_[0-9a-f]{26}$")
