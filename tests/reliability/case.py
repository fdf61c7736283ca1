"""
What a case is: what is sent, what a scripted upstream does with it, and what both ends must have seen.

Cases are values.  `bench` makes them happen, `verdict` compares; nothing here
opens a socket.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

#: What every case asks for, unless it is about the target.
TARGET: Final = b"/v1/case"
#: The client's name for the relay; the upstream must never see it.
HOST: Final = b"Host: relay.example\r\n"
#: An answer like any other.
PLAIN: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"

_REQUEST: Final = re.compile(rb"[A-Z]+ \S+ HTTP/")

#: What stands, in expected bytes, for what differs from run to run.
UPSTREAM_HOST: Final = b"%HOST%"
KEY: Final = b"%KEY%"
REQUEST_ID: Final = b"%ID%"
TIME: Final = b"%TIME%"


class Until(Enum):
    """What the client waits for before it sends on."""

    UPSTREAM_HAS_HEAD = "the upstream has the head"
    INTERIM = "an interim answer came"
    ANSWERED = "an answer came"
    NONE_KEPT = "the relay keeps no upstream connection"


class Do(Enum):
    """What the upstream does between what it says."""

    READ_HEAD = "reads the request's head"
    READ_REQUEST = "reads the whole request"
    AWAIT_CLIENT = "waits until the client has an answer"
    AWAIT_BEGINNING = "waits until the client has the beginning of an answer"
    CLOSE = "closes in an orderly way"
    FIN = "closes without a word in TLS"
    RESET = "resets"
    SILENCE = "says nothing more"


class Tls(Enum):
    """How the upstream meets a connection."""

    GOOD = "a good certificate"
    WRONG_NAME = "a certificate for another name"
    NAME_IN_SUBJECT_ONLY = "a certificate whose subject alone has the name"
    UNKNOWN_AUTHORITY = "a certificate of an unknown authority"
    EXPIRED = "an expired certificate"
    NOT_YET_VALID = "a certificate that is not yet valid"
    PLAIN_TEXT = "HTTP without TLS"
    OLD_VERSION = "TLS 1.1 only"
    SILENT = "no answer to the handshake"
    RESET = "a reset in the handshake"
    CLOSED = "a close in the handshake"


class Through(Enum):
    """Which relay a case is sent through."""

    PATIENT = "usual time-outs, connections kept"
    BRISK = "time-outs of about a second, no connection kept"
    REFUSED = "an upstream port on which nobody listens"
    BLACKHOLE = "an upstream that takes no connection"
    NO_NAME = "an upstream whose name does not resolve"


@dataclass(frozen=True, slots=True)
class Same:
    """The client gets, but for the documented differences, what a direct client gets."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The relay answers by itself; ``closes``: ``None`` leaves open whether the connection goes on."""

    status: int
    code: str
    closes: bool | None = True
    interims: int = 0


@dataclass(frozen=True, slots=True)
class Cut:
    """The client gets the head and this much of the body, and sees that it is no end; events end with an error."""

    body: bytes
    status: int = 200
    code: str | None = None  #: of the error event


@dataclass(frozen=True, slots=True)
class Given:
    """The client gets a whole answer with this status and body."""

    body: bytes
    status: int = 200
    interims: tuple[bytes, ...] = ()  #: the heads before it


@dataclass(frozen=True, slots=True)
class Requests:
    """The upstream got exactly these bytes, each message whole, in this order."""

    messages: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Methods:
    """The upstream got whole requests with these methods, in this order."""

    methods: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SameRequest:
    """The upstream got, but for the documented differences, what it gets from a direct client."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Not one byte of a request reached the upstream."""


@dataclass(frozen=True, slots=True)
class Torn:
    """The upstream got part of one request, and saw it broken off."""


@dataclass(frozen=True, slots=True)
class NeverWhole:
    """How much of the request reached the upstream is a matter of how it was cut into blocks, but never all of it."""


ExpectedAnswer = Same | Refused | Cut | Given
ExpectedRequest = SameRequest | Nothing | Torn | NeverWhole | Requests | Methods
#: What the upstream does with one request: what it says, and what it does between.
Script = tuple[bytes | Do, ...]


def answered(answer: bytes, *then: bytes | Do) -> tuple[Script, ...]:
    """One script: the whole request is read, then this is said and done."""
    return ((Do.READ_REQUEST, answer, *then),)


@dataclass(frozen=True, slots=True)
class Case:
    """One case; ``script`` has an entry for each request that the upstream gets, further ones get `PLAIN`."""

    name: str
    sent: tuple[bytes | Until, ...]
    client: tuple[ExpectedAnswer, ...]
    upstream: ExpectedRequest
    script: tuple[Script, ...] = answered(PLAIN)
    through: Through = Through.PATIENT
    tls: Tls = Tls.GOOD

    @property
    def compared(self) -> bool:
        """Whether the exchange is made directly, too."""
        return isinstance(self.upstream, SameRequest) or any(isinstance(each, Same) for each in self.client)

    def method(self, number: int = 0) -> bytes:
        """Of the request that this answer is for."""
        heads = [step for step in self.sent if isinstance(step, bytes) and _REQUEST.match(step)]
        return (heads[min(number, len(heads) - 1)] if heads else self.head_lines[0]).split(b" ", 1)[0]

    @property
    def head_lines(self) -> list[bytes]:
        """The first request's."""
        sent = b"".join(step for step in self.sent if isinstance(step, bytes))
        return sent.lstrip(b"\r\n").split(b"\r\n\r\n", 1)[0].split(b"\r\n")


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that show one promise."""

    title: str
    promise: str
    cases: tuple[Case, ...]

    def __post_init__(self) -> None:
        names = [case.name for case in self.cases]
        twice = {name for name in names if names.count(name) > 1}
        assert not twice, f"{self.title}: two cases are called {sorted(twice)}"


def head(method: bytes = b"GET", fields: bytes = b"", target: bytes = TARGET, version: bytes = b"1.1") -> bytes:
    """A request's head, with a Host and these further lines."""
    return b"%b %b HTTP/%b\r\n%b%b\r\n" % (method, target, version, HOST, fields)


def post(body: bytes, fields: bytes = b"") -> bytes:
    """A whole POST, its length counted."""
    return head(b"POST", fields + b"Content-Length: %d\r\n" % len(body)) + body


def chunks(*payloads: bytes, trailers: bytes = b"") -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in payloads) + b"0\r\n" + trailers + b"\r\n"


def chunked_post(body: bytes, fields: bytes = b"") -> bytes:
    """A POST whose body is ``body``, chunk framing included."""
    return head(b"POST", fields + b"Transfer-Encoding: chunked\r\n") + body


def answer(fields: bytes, body: bytes = b"", status: bytes = b"200 OK", version: bytes = b"1.1") -> bytes:
    """A whole answer; its framing stands in ``fields``."""
    return b"HTTP/%b %b\r\n%b\r\n%b" % (version, status, fields, body)


def refused(name: str, *sent: bytes | Until) -> Case:
    """A malformed request that must not reach the upstream, after which the connection is closed."""
    # One TLS record is one block: what is longer may have begun to go out before its fault is read.
    upstream = Nothing() if sum(len(step) for step in sent if isinstance(step, bytes)) < 16_384 else NeverWhole()
    return Case(name, sent, (Refused(400, "malformed_request"),), upstream)


def faithful(name: str, *sent: bytes | Until, script: tuple[Script, ...] = answered(PLAIN)) -> Case:
    """An exchange that must be the same directly and through the relay."""
    return Case(name, sent, (Same(),), SameRequest(), script)
