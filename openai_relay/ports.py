"""The ports of the service: where clients connect, and where its health is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.web.server import Site

from openai_relay.core.settings import Settings
from openai_relay.enrolment.door import EnrolmentDoor
from openai_relay.http1.server import HTTPServerFactory
from openai_relay.systemd import passed_socket
from openai_relay.tls.server import TLSPort


class Ports:
    """
    Opened together, closed one by one.

    :param factory: serves clients.
    :param context: asked for each new connection.
    :param site: answers on the admin port.
    :ivar address: where clients connect, as ``host:port``, once it is open.
    :ivar admin_address: likewise; empty: there is none.
    :ivar enrol_address: likewise.
    """

    def __init__(
        self,
        reactor: Any,
        factory: HTTPServerFactory,
        context: Callable[[], SSL.Context],
        site: Site,
        door: EnrolmentDoor | None = None,
    ) -> None:
        self._reactor = reactor
        self._factory = factory
        self._context = context
        self._site = site
        self._door = door
        self._clients: IListeningPort | None = None
        self._admin: IListeningPort | None = None
        self.address = ""
        self.admin_address = ""
        self.enrol_address = ""

    @property
    def is_open(self) -> bool:
        """Whether clients can connect."""
        return self._clients is not None

    def open(self, settings: Settings) -> None:
        """
        Listen.

        :raises SystemExit: a port cannot be had; the message says why and what to do.
        """
        listen, admin = settings.listen, settings.admin
        try:
            self.address = self._open_clients(listen.address, listen.backlog)
            if admin.address is not None:
                self.admin_address = self._open_admin(admin.address)
            if self._door is not None and settings.enrol.address is not None:
                self.enrol_address = _join(*self._door.open(*_split(settings.enrol.address)))
        except CannotListenError as error:
            reason = getattr(error.socketError, "strerror", None) or error.socketError
            raise SystemExit(
                f"openai-relay: cannot listen on {_join(error.interface, error.port)}: {reason}; "
                "is another one running there? Choose another address in [listen], [admin] or [enrol]."
            ) from None
        except (LookupError, ValueError) as error:
            raise SystemExit(f"openai-relay: listen.address = {listen.address!r}: {error}") from None

    async def close_clients(self) -> None:
        """Let nobody in any more."""
        await _close(self._clients)
        if self._door is not None:
            await self._door.close()

    async def close_admin(self) -> None:
        """Tell nobody any more."""
        await _close(self._admin)

    def _open_clients(self, address: str, backlog: int) -> str:
        scheme, _, name = address.partition(":")
        if scheme == "systemd":
            descriptor = passed_socket(self._reactor, name)
            port = TLSPort.adopt(descriptor, self._factory, self._context, self._reactor)
        else:
            host, number = _split(address)
            port = TLSPort(number, self._factory, self._context, backlog, host, self._reactor)
        port.startListening()
        self._clients = port
        where = port.getHost()
        return _join(where.host, where.port)

    def _open_admin(self, address: str) -> str:
        host, number = _split(address)
        port = self._reactor.listenTCP(number, self._site, interface=host)
        self._admin = port
        where = port.getHost()
        return _join(where.host, where.port)


async def _close(port: IListeningPort | None) -> None:
    stopping = None if port is None else port.stopListening()
    if stopping is not None:
        await stopping


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
