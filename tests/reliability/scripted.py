"""
An upstream that does what a case's scripts say, and records every byte that it gets.

Each connection has a thread of its own.  A request belongs to the case that is
on when its first byte comes; connections may outlive a case, as a relay keeps them.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests import certificates
from tests.integration.running import Site
from tests.reliability.case import PLAIN, Do, Script, Tls
from tests.reliability.messages import WITHIN, End, Ended, Message, Stream

_DEFAULT: Final[Script] = (Do.READ_REQUEST, PLAIN)


@dataclass(slots=True)
class Seen:
    """One request, as far as it came."""

    message: Message = field(default_factory=Message)
    raw: bytes = b""
    over: bool = False  #: complete, or broken off
    end: End | None = None  #: of its connection, where that came first


class Play:
    """What is on: the scripts of one case, and what came meanwhile."""

    def __init__(self, scripts: tuple[Script, ...], tls: Tls) -> None:
        self.tls = tls
        self.changed = threading.Condition()
        self.seen: list[Seen] = []
        self.client_began = threading.Event()  #: it has what it is to get of an answer that is cut
        self.client_answered = threading.Event()
        self._scripts = iter(scripts)

    def begin(self) -> tuple[Seen, Script]:
        """One more request begins."""
        seen = Seen()
        with self.changed:
            self.seen.append(seen)
            self.changed.notify_all()
            return seen, next(self._scripts, _DEFAULT)

    def told(self) -> None:
        """Something about a request has changed."""
        with self.changed:
            self.changed.notify_all()

    def wait_until(self, true: Callable[[], bool], within: float = WITHIN) -> bool:
        """Until something is true; ``False``: it did not become so."""
        with self.changed:
            return self.changed.wait_for(true, within)


class ScriptedUpstream:
    """Listens on loopback at a free port, with the certificate that the play asks for."""

    def __init__(self, site: Site) -> None:
        self._contexts = _contexts(site)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.host = b"127.0.0.1:%d" % self.port
        self.url = f"https://127.0.0.1:{self.port}"
        self.play = Play((), Tls.GOOD)
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more connections, and end those that are open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(WITHIN)
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                bare, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(bare, self.play), daemon=True).start()

    def _converse(self, bare: socket.socket, play: Play) -> None:
        self._open.add(bare)
        try:
            stream = self._meet(bare, play.tls)
            if stream is not None:
                self._open.add(stream.socket)
                while self._serve(stream):
                    pass
                self._open.discard(stream.socket)
        except (OSError, ValueError):
            pass  # ended by the other side, or with the tests
        finally:
            self._open.discard(bare)
            with contextlib.suppress(OSError):
                bare.close()

    def _meet(self, bare: socket.socket, tls: Tls) -> Stream | None:
        if tls is Tls.PLAIN_TEXT:
            stream = Stream(bare)
            stream.send(PLAIN)
            stream.read_to_end()
        elif tls is Tls.SILENT:
            Stream(bare).read_to_end()
        elif tls is Tls.RESET:
            Stream(bare).reset()
        elif tls is Tls.CLOSED:
            Stream(bare).leave()
        else:
            return Stream(self._contexts[tls].wrap_socket(bare, server_side=True, suppress_ragged_eofs=False))
        return None

    def _serve(self, stream: Stream) -> bool:
        """One request; returns whether the connection can take another."""
        try:
            stream.wait_for_byte()
        except Ended:
            return False
        stream.forget()
        play = self.play
        seen, script = play.begin()
        try:
            for step in script:
                if isinstance(step, bytes):
                    stream.send(step)
                elif step is Do.AWAIT_CLIENT:
                    play.client_answered.wait(WITHIN)
                elif step is Do.AWAIT_BEGINNING:
                    play.client_began.wait(WITHIN)
                elif step in _ENDINGS:
                    _ENDINGS[step](stream)
                    return False
                else:
                    self._read(stream, play, seen, whole=step is Do.READ_REQUEST)
            self._read(stream, play, seen, whole=True)
        except Ended:
            return False
        finally:
            seen.raw = bytes(stream.received) if not seen.over else seen.raw
            seen.end = stream.end
            seen.over = True
            play.told()
        return True

    def _read(self, stream: Stream, play: Play, seen: Seen, *, whole: bool) -> None:
        message = seen.message
        while not message.head:
            message.head = stream.until(b"\r\n\r\n").lstrip(b"\r\n")  # empty lines before it are none of it
            play.told()
        if whole and not message.complete:
            stream.read_body(message, until_close=False)
            seen.raw = stream.consumed()
            seen.over = True
            play.told()


def _silence(stream: Stream) -> None:
    stream.read_to_end()


_ENDINGS: Final[dict[Do, Callable[[Stream], None]]] = {
    Do.CLOSE: Stream.close,
    Do.FIN: Stream.leave,
    Do.RESET: Stream.reset,
    Do.SILENCE: _silence,
}


def _contexts(site: Site) -> dict[Tls, ssl.SSLContext]:
    """A context for each certificate; the authority that the relay trusts is `certificates.authority()`."""
    day = certificates.DAY
    shown = {
        Tls.GOOD: certificates.server(),
        Tls.WRONG_NAME: certificates.server(("elsewhere.example", "127.0.0.2")),
        Tls.NAME_IN_SUBJECT_ONLY: certificates.client("127.0.0.1", purpose="server"),
        Tls.UNKNOWN_AUTHORITY: certificates.server(issuer=certificates.authority("Nobody's CA", 1)),
        Tls.EXPIRED: certificates.server(not_before=-3 * day, not_after=-day),
        Tls.NOT_YET_VALID: certificates.server(not_before=day),
        Tls.OLD_VERSION: certificates.server(),
    }
    found = {}
    for kind, credential in shown.items():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if kind is Tls.OLD_VERSION:
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():  # that it is out of date is the point
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        context.load_cert_chain(*_written(credential, site.directory, kind))
        found[kind] = context
    return found


def _written(credential: certificates.Credential, directory: Path, kind: Tls) -> tuple[Path, Path]:
    return credential.write(directory, f"shown-{kind.name.lower()}")
