"""
The port for devices: the relay's own certificate, and a client certificate asked for but not required.

Its connections are few and short, and not those of clients: they are Twisted's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.interfaces import IListeningPort, IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from openai_relay.core.errors import RelayError
from openai_relay.core.identity import Identity
from openai_relay.core.settings import Settings
from openai_relay.enrolment.desk import Desk
from openai_relay.enrolment.site import EST, InThread, est_site
from openai_relay.listener import Listener
from openai_relay.tls.accepting import Loaded, load

#: Devices that are served at once; nobody but strangers needs more.
MOST_CONNECTIONS: Final = 64


class _Few(TLSMemoryBIOFactory):
    """Closes what comes beyond so many connections."""

    noisy = False

    def buildProtocol(self, addr: Any) -> Any:
        if len(self.protocols) >= MOST_CONNECTIONS:
            return None
        return super().buildProtocol(addr)


def load_door(settings: Settings) -> Loaded:
    """
    The context of this port: as that of clients, but who shows no certificate is let in.

    :raises BadCertificateFile: as ``load`` does.
    """
    return load(replace(settings.listen, client_auth="optional"))


@implementer(IOpenSSLServerConnectionCreator)
class EnrolmentDoor:
    """
    Listens for devices.

    :param in_thread: calls the desk.
    :param counted: told of each attempt.
    :raises AuthorityError: there is no authority in ``enrol.authority``.
    """

    def __init__(
        self, reactor: Any, settings: Settings, loaded: Loaded, in_thread: InThread, counted: Callable[[str], None]
    ) -> None:
        assert settings.enrol.authority is not None
        self._reactor = reactor
        self._listener = Listener(settings, loaded, time.time)
        desk = Desk(settings.enrol.authority, settings.enrol.passphrase)
        self._resource = EST(reactor, desk, self._who, in_thread, counted)
        self._port: IListeningPort | None = None

    def renew(self, settings: Settings, loaded: Loaded) -> None:
        """Put other files in force."""
        self._listener.renew(settings, loaded)

    def open(self, host: str, port: int) -> tuple[str, int]:
        """
        Listen; returns where.

        :raises CannotListenError: it cannot be had.
        """
        tls: Any = _Few(self, False, est_site(self._reactor, self._resource))
        self._port = self._reactor.listenTCP(port, tls, interface=host)
        where: Any = self._port.getHost()
        return where.host, where.port

    async def close(self) -> None:
        """Let nobody in any more."""
        stopping = None if self._port is None else self._port.stopListening()
        if stopping is not None:
            await stopping

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """One more connection, in the context in force."""
        return SSL.Connection(self._listener.context(), None)

    def _who(self, transport: Any) -> Identity:
        found = self._listener.arrived(transport.getHandle())
        if isinstance(found, RelayError):
            raise found.with_traceback(None)
        self._listener.left(found)
        return self._listener.check(found)
