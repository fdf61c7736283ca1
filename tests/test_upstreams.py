"""One upstream takes the place of another, and nothing that runs is lost."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.settings import Secret, UpstreamSettings
from openai_relay.http1.client import ClientConnection
from openai_relay.upstream import BadUpstream, client_context
from openai_relay.upstreams import Upstreams, ca_of
from tests import certificates
from tests.doubles import TurningReactor, Wire
from tests.test_upstream import SilentResolver

SETTINGS = UpstreamSettings(url="https://api.example", api_key=Secret(b"sk-one"))


class UpstreamsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = TurningReactor()
        resolver: Any = SilentResolver()
        self.reactor.installNameResolver(resolver)
        self.upstreams = Upstreams(self.reactor, SETTINGS)
        self.first = self.upstreams.current

    def renew(self, settings: UpstreamSettings, ca: bytes = b"") -> None:
        self.upstreams.renew(settings, client_context(None), ca)

    def busy(self) -> tuple[ClientConnection, Wire]:
        """A connection of the one in force that carries an exchange."""
        wire = Wire(self.reactor)
        pool = self.upstreams.current.pool
        connection = pool.buildProtocol(None)
        wire.connect(connection)
        pool._all.add(connection)
        return connection, wire

    def test_the_same(self) -> None:
        """What has not changed stays, with all its connections."""
        self.renew(replace(SETTINGS))
        self.assertIs(self.upstreams.current, self.first)

    def test_others(self) -> None:
        """Another key, or other authorities in the same file, make another."""
        self.renew(replace(SETTINGS, api_key=Secret(b"sk-two")))
        second = self.upstreams.current
        self.assertIsNot(second, self.first)
        self.renew(replace(SETTINGS, api_key=Secret(b"sk-two")), b"another authority")
        self.assertIsNot(self.upstreams.current, second)

    def test_what_runs(self) -> None:
        """A connection that carries an exchange counts, and is closed when that is over and not before."""
        connection, wire = self.busy()
        self.renew(replace(SETTINGS, api_key=Secret(b"sk-two")))
        self.assertEqual((self.upstreams.busy, self.upstreams.idle, wire.disconnected), (1, 0, False))
        self.first.pool._free(connection)
        self.reactor.settle()
        self.assertEqual((self.upstreams.busy, wire.disconnected), (0, True))

    def test_close(self) -> None:
        """Closing closes those before it, too."""
        _, wire = self.busy()
        self.renew(replace(SETTINGS, api_key=Secret(b"sk-two")))
        closed = self.upstreams.close()
        self.reactor.settle()
        self.successResultOf(closed)
        self.assertTrue(wire.disconnected)

    def test_unusable(self) -> None:
        """What cannot be used changes nothing."""
        self.assertRaises(BadUpstream, self.renew, replace(SETTINGS, project="a\nb"))
        self.assertIs(self.upstreams.current, self.first)

    def test_authorities(self) -> None:
        """What a file of authorities holds is told; that of the system, or of no file, is nothing."""
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        file = directory / "ca.pem"
        file.write_bytes(certificates.authority().pem)
        self.assertEqual(ca_of(replace(SETTINGS, ca=file)), certificates.authority().pem)
        self.assertEqual((ca_of(SETTINGS), ca_of(replace(SETTINGS, ca=directory / "no.pem"))), (b"", b""))
