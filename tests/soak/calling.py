"""
One client of a soak: its certificate, its connections, and the count of what it did.

Every exchange that the relay must have seen is counted once, under the ending
that the relay must have given it.  What is not as expected raises `Lost`.
"""

from __future__ import annotations

import json
import os
import random
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import Final

#: A bound of every wait on a socket, in seconds, and no expectation.
WITHIN: Final = 60.0
_RESET: Final = struct.pack("ii", 1, 0)
_BLOCK: Final = 65_536
#: Failures that are told in words; the others are only counted.
MOST_TOLD: Final = 20
LEAVINGS: Final = ("fin", "reset", "close_notify")


class Lost(Exception):
    """An exchange did not go as it must; the text says what was wrong with it."""


class Met502(Exception):
    """A request met a kept upstream connection in the moment of its end, and may not be repeated: the relay said so."""


@dataclass(slots=True)
class Done:
    """What the clients of one process did; one lock, since its threads share it."""

    kinds: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)  #: exchanges, by how the relay must have ended them
    handshakes: Counter[str] = field(default_factory=Counter)  #: by the ``result`` that the relay must count
    stale_asked: int = 0  #: kept connections that the upstream was asked to close
    stale_met: int = 0  #: requests that met one, and were answered 502
    failures: int = 0
    told: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ended(self, end: str, count: int = 1) -> None:
        with self.lock:
            self.ends[end] += count

    def handshake(self, result: str) -> None:
        with self.lock:
            self.handshakes[result] += 1

    def stale(self, asked: int = 0, met: int = 0) -> None:
        with self.lock:
            self.stale_asked += asked
            self.stale_met += met

    def went(self, kind: str, failure: str | None = None) -> None:
        with self.lock:
            self.kinds[kind] += 1
            if failure is not None:
                self.failures += 1
                if len(self.told) < MOST_TOLD:
                    self.told.append(f"{kind}: {failure}")


class Line:
    """One connection to the relay."""

    def __init__(self, port: int, tls: ssl.SSLContext, receive_buffer: int | None = None) -> None:
        bare = socket.socket()
        try:
            bare.settimeout(WITHIN)
            if receive_buffer is not None:
                bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            bare.connect(("127.0.0.1", port))
            self.socket = tls.wrap_socket(bare, server_hostname="localhost")
        except BaseException:
            bare.close()
            raise

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(self, method: str, target: str, body: bytes = b"", fields: str = "") -> None:
        """Send a whole request; ``fields`` are lines that end in CRLF."""
        length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
        self.send(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{length}{fields}\r\n".encode() + body)

    def answer(self, method: str = "GET") -> HTTPResponse:
        """The answer, its head read."""
        response = HTTPResponse(self.socket, method=method)
        response.begin()
        return response

    def invited(self) -> int:
        """Read the answer to ``Expect: 100-continue``: 100, or the status of the answer that came instead."""
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.socket.recv(_BLOCK)
            if not data:
                raise Lost(f"the connection ended in a head: {head[:100]!r}")
            head += data
        return int(head[9:12])

    def close(self) -> None:
        """End it well; an exchange that runs is left by that."""
        self.leave("close_notify")

    def leave(self, way: str) -> None:
        """End it: with FIN alone (as the kernel does for a process that dies), with RST, or with TLS's own word."""
        if self.socket.fileno() < 0:
            return
        if way == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        elif way == "close_notify":
            self.socket.setblocking(False)
            try:
                self.socket.unwrap()  # says it, and does not wait for the answer
            except (OSError, ValueError):
                pass
        try:
            os.close(self.socket.detach())
        except OSError:
            pass


@dataclass(slots=True)
class Caller:
    """One thread's client."""

    port: int
    directory: Path
    name: str
    rng: random.Random
    done: Done
    shared: Shared
    _tls: dict[str, ssl.SSLContext] = field(default_factory=dict)
    _line: Line | None = None
    _credit: float = 0.0  #: requests that may be sent now without waiting
    _credited: float = 0.0

    def tls(self, name: str | None = "") -> ssl.SSLContext:
        """With the certificate of that name, by default our own; ``None``: with none."""
        key = "-" if name is None else name or self.name
        if key not in self._tls:
            tls = self._tls[key] = ssl.create_default_context(cafile=str(self.directory / "authority" / "ca.pem"))
            if name is not None:
                tls.load_cert_chain(self.directory / f"{key}.pem", self.directory / f"{key}.key")
        return self._tls[key]

    def line(self) -> Line:
        """The kept connection, or a new one; now and then a kept one is given up first."""
        if self._line is not None and self.rng.random() < 0.15:
            self.drop()
        if self._line is None:
            self._line = self.new_line()
        return self._line

    def new_line(self, receive_buffer: int | None = None, name: str = "") -> Line:
        """A connection of its own."""
        line = Line(self.port, self.tls(name), receive_buffer)
        self.done.handshake("ok")
        return line

    def drop(self) -> None:
        """Give up the kept connection."""
        line, self._line = self._line, None
        if line is not None:
            line.leave(self.rng.choice(LEAVINGS))

    def expect(self, answer: HTTPResponse, *statuses: int) -> None:
        """
        Look at a status.

        :raises Met502: it is the one that a stale upstream connection may cause.
        """
        if answer.status in statuses:
            return
        body = answer.read(4_096)
        if answer.status == 502 and b'"upstream_closed"' in body:
            raise Met502()
        raise Lost(f"answered {answer.status} instead of {statuses}: {body[:300]!r}")

    def pace(self, rate: float, burst: float, stop: threading.Event) -> None:
        """Wait until one more request is due."""
        now = time.monotonic()
        self._credit = min(burst, self._credit + (now - self._credited) * rate)
        self._credited = now
        self._credit -= 1
        if self._credit < 0:
            stop.wait(-self._credit / rate)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the threads of one process have in common: the certificates that are there to be over their limits."""

    greedy: str
    hasty: str
    concurrent: int  #: exchanges that each certificate may have open
    pause: threading.Event  #: set when the time is up: waiting on it is a pause that ends with the soak
    greed: threading.Lock = field(default_factory=threading.Lock)


def error_code(body: bytes) -> str:
    """The code in an error body of the relay or the stand-in."""
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        raise Lost(f"is no error body: {body[:300]!r}") from None
