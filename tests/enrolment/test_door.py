"""Whom the port for devices lets in, and how many."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from openai_relay.authority.directory import Authority
from openai_relay.authority.errors import AuthorityError
from openai_relay.core.errors import Unauthenticated
from openai_relay.core.settings import EnrolSettings, ListenSettings, Settings
from openai_relay.enrolment import door
from openai_relay.enrolment.door import EnrolmentDoor, load_door
from tests.certificates import client, revocation_list
from tests.doubles import client_context, handshake
from tests.tls.test_accepting import DirectoryCase


class DoorTests(DirectoryCase):
    def setUp(self) -> None:
        super().setUp()
        self.reactor = MemoryReactorClock()
        Authority.create(self.directory / "authority")

    def enrolling(self, listen: ListenSettings, authority: str) -> Settings:
        return replace(self.settings(listen), enrol=EnrolSettings(authority=self.directory / authority))

    def door(self) -> EnrolmentDoor:
        settings = self.enrolling(self.listen(), "authority")
        return EnrolmentDoor(self.reactor, settings, load_door(settings), lambda call: Deferred(), lambda what: None)

    def test_with_and_without(self) -> None:
        """Who shows no certificate gets through the handshake, and is nobody; who shows one is known by it."""
        made = self.door()
        ours, _ = handshake(made.serverConnectionForTLS(None).get_context(), client_context(None))
        self.assertRaises(Unauthenticated, made._who, Shown(ours.tls))
        ours, _ = handshake(made.serverConnectionForTLS(None).get_context(), client_context(client("phone")))
        self.assertEqual(made._who(Shown(ours.tls)).name, "phone")

    def test_renewed(self) -> None:
        """What is put in force later counts for who comes later: one that is revoked by then renews nothing."""
        made = self.door()
        later = self.enrolling(self.listen(crl=revocation_list([client("phone")])), "authority")
        made.renew(later, load_door(later))
        with self.assertRaises((SSL.Error, Unauthenticated)):
            ours, _ = handshake(made.serverConnectionForTLS(None).get_context(), client_context(client("phone")))
            made._who(Shown(ours.tls))

    def test_few(self) -> None:
        """Beyond a number of connections the next is closed at once."""
        self.patch(door, "MOST_CONNECTIONS", 1)
        made = self.door()
        made.open("127.0.0.1", 8444)
        factory: Any
        (_, factory, _, host) = self.reactor.tcpServers[0][:4]
        self.assertEqual(host, "127.0.0.1")
        self.assertIsNotNone(first := factory.buildProtocol(None))
        factory.registerProtocol(first)
        self.assertIsNone(factory.buildProtocol(None))

    def test_no_authority(self) -> None:
        """A directory that holds no authority is told of when the door is made, not by a device."""
        settings = self.enrolling(self.listen(), "nothing")
        with self.assertRaises(AuthorityError):
            EnrolmentDoor(self.reactor, settings, load_door(settings), lambda call: Deferred(), lambda what: None)


class Shown:
    """A transport that has this TLS connection."""

    def __init__(self, tls: SSL.Connection) -> None:
        self._tls = tls

    def getHandle(self) -> SSL.Connection:
        return self._tls
