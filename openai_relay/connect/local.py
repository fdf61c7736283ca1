"""Connections of local tools: plain TCP that sends at once, and that tells what `http1` asks a transport."""

from __future__ import annotations

import socket as sockets
import sys
from typing import Any, Final

from twisted.internet import tcp

#: Linux's ``struct tcp_info`` begins with the state; these mean that the peer has sent its FIN or RST.
_CLOSED_STATES: Final = frozenset({7, 8})


class LocalServer(tcp.Server):
    """One accepted connection; made by `LocalPort`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.setTcpNoDelay(True)  # events are small, and each is waited for
        self.setTcpKeepAlive(True)

    def peer_has_closed(self) -> bool:
        """Whether the peer has sent FIN or RST, seen past bytes that nobody reads (Linux's TCP_INFO)."""
        if not self.connected:
            return True
        return self.socket.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_INFO, 1)[0] in _CLOSED_STATES

    def acknowledged(self) -> int:
        """Bytes that have arrived at the peer's kernel in all (RFC 4898 tcpEStatsAppHCThruOctetsAcked)."""
        if not self.connected:
            return 0
        return int.from_bytes(self.socket.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_INFO, 128)[120:], sys.byteorder)


class LocalPort(tcp.Port):
    """A listening TCP port for them."""

    transport = LocalServer  # type: ignore[assignment]  # typed as one class, which is ours's base
