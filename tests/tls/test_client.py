"""Connections that we make: what an endpoint meets. How they shake hands and read stands with the transport."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorPluggableNameResolver, IReactorTCP, IReactorTime
from zope.interface.verify import verifyObject

from openai_relay.tls.client import TLSReactor
from tests.doubles import client_context
from tests.tls.test_transport import TransportCase


class ReactorTests(TransportCase):
    def test_reactor(self) -> None:
        """The reactor with TLS in it is what an endpoint expects of a reactor."""
        reactor = TLSReactor(self.reactor, client_context(), lambda connection: None, lambda connection: None)
        for interface in (IReactorTCP, IReactorTime, IReactorPluggableNameResolver):
            verifyObject(interface, reactor)
