"""
The upstream of a soak: the stand-in, and the faults that it does not know because they break HTTP itself.

``?soak.fault=NAME`` asks for one; any other request is the stand-in's.  The
faults go out on the same connections, so that the relay's pool has to bear
them.  Run as a program it prints its URL and ends with its standard input.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from openai_relay.core.settings import Secret
from openai_relay.http1.connection import Connection
from openai_relay.http1.server import HTTPServerFactory, Request, ServerLimits
from openai_relay.standin.counters import Counters
from openai_relay.standin.main import StandardInput
from openai_relay.standin.server import Exchanges, StandInOptions
from openai_relay.standin.service import server_context
from openai_relay.tls.server import TLSPort

FAULT: Final = b"soak.fault="
GOOD: Final = b"still good"
#: SO_LINGER with no time: closing sends RST.
_RESET: Final = struct.pack("ii", 1, 0)
_LIMITS: Final = ServerLimits(idle_timeout=300.0, stall_timeout=3_600.0)
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_WHOLE: Final = _OK + b"Content-Length: %d\r\n\r\n%b" % (len(GOOD), GOOD)
_EVENTS: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_EVENT: Final = b"d\r\ndata: {}   \n\n\r\n"


def _reset(connection: Connection) -> None:
    connection.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.transport.abortConnection()


def _leave(connection: Connection) -> None:
    connection.cut()


#: What is sent, and how the connection ends then.
FAULTS: Final[Mapping[bytes, tuple[bytes, Callable[[Connection], None]]]] = {
    b"reset_before_head": (b"", _reset),
    b"close_before_head": (b"", _leave),
    b"cut_head": (b"HTTP/1.1 200 OK\r\nContent-Ty", _leave),
    b"two_lengths": (_OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", _leave),
    b"no_http": (b"220 ready\r\n\r\n", _leave),
    b"reset_in_body": (_EVENTS + _EVENT, _reset),
    b"bad_chunk": (_EVENTS + _EVENT + b"nonsense\r\n", _leave),
    b"short": (_OK + b"Content-Length: 1000\r\n\r\n{}", _leave),
    b"stale": (_WHOLE, _leave),
    b"unasked": (_WHOLE + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", _leave),
}


class Faults:
    """Serves requests: breaks those that ask for it, and leaves the others to the stand-in."""

    def __init__(self, otherwise: Callable[[Request], None]) -> None:
        self._otherwise = otherwise

    def serve(self, request: Request) -> None:
        _, asked, name = request.target.partition(FAULT)
        if not asked:
            self._otherwise(request)
            return
        data, end = FAULTS[name]
        if data:
            request.connection.transport.write(data)
            request.connection.transport.turn_over()  # to the socket now: a reset throws away what waits
        end(request.connection)


def main(certificate: str, key: str, api_key: str) -> None:
    """Serve until standard input ends."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    context = server_context(Path(certificate), Path(key))
    expected = Secret(Path(api_key).read_bytes().strip())
    served = Exchanges(reactor, Counters(), StandInOptions(expected_key=expected))
    factory = HTTPServerFactory(Faults(served.serve).serve, reactor, _LIMITS)
    port = TLSPort(0, factory, lambda: context, 1_024, "127.0.0.1", reactor)
    port.startListening()
    StandardInput(reactor).startReading()
    sys.stdout.write(f"upstream: https://127.0.0.1:{port.getHost().port}\n")
    sys.stdout.flush()
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
