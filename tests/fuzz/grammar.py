"""
Messages that are almost good: made by the grammar, each with a little chance to break one of its rules.

All choices come from the `Random` that is handed in, so that a number brings
back an input, and hypothesis can shrink one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final

_METHODS: Final = (b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH")
_ODD_METHODS: Final = (b"get", b"CONNECT", b"TRACE", b"FOO", b"", b"G T", b"PRI", b"M-SEARCH")
_TARGETS: Final = (b"/v1", b"/", b"/v1/models?x=%20", b"/a/../b//c;d", b"http://a/v1", b"*")
_ODD_TARGETS: Final = (b"v1", b"http://b/", b"https://A", b"http://a?x", b"/a b", b"/\xff", b"a:443", b"/#x", b"")
_VERSIONS: Final = (b"HTTP/1.1",) * 8 + (b"HTTP/1.0",)
_ODD_VERSIONS: Final = (b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/11", b"")
_HOSTS: Final = (b"Host: a", b"host: a", b"HOST:a", b"Host: a ")
_ODD_HOSTS: Final = (
    b"",
    b"Host: b",
    b"Host: ",
    b"Host: a, b",
    b"Host : a",
    b"Host: a\r\nHost: a",
    b"Host: a/b",
    b"Host",
)
_FIELDS: Final = (
    b"X-A: b",
    b"x-a:",
    b"X-A:\t b \t",
    b"X-A: \xc3\xa9\xff",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: X-A, Keep-Alive",
    b"Accept: */*",
    b"Cookie: a=b",
    b"TE: trailers",
    b"Expect: 100-continue",
    b"Upgrade: websocket\r\nConnection: Upgrade",
    b"Upgrade: h2c",
    b"X-Forwarded-For: 192.0.2.1",
    b"Content-Type: text/event-stream",
    b"Trailer: X-Sum",
)
_ODD_FIELDS: Final = (
    b"X-A : b",
    b" X-A: b",
    b"X-A: b\r\n c",
    b"X-A: b\nX-B: c",
    b"X-A: b\rX-B: c",
    b"X-A: \x00",
    b"X-A: \x0b",
    b"X-A",
    b": b",
    b"X-\xe9: b",
    b"Expect: 200",
    b"Content_Length: 3",
    b"Connection: Content-Length",
    b"a:\r\n" * 300 + b"a:",
)
_LENGTHS: Final = (b"%d", b"%d ", b"\t%d")
_ODD_LENGTHS: Final = (
    b"+%d",
    b"-%d",
    b"0%d",
    b"000%d",
    b"%d, %d",
    b"%d,",
    b"0x%d",
    b"%d.0",
    b"%d\r\nContent-Length: %d",
    b"18446744073709551616",
    b"999999999999999",
    b"",
)
_CODINGS: Final = (b"chunked", b"Chunked", b"CHUNKED ")
_ODD_CODINGS: Final = (
    b"gzip, chunked",
    b"chunked, chunked",
    b"chunked,",
    b"identity",
    b"\x0bchunked",
    b"chunked;q=1",
    b"chunked\r\nTransfer-Encoding: chunked",
    b"chunked\r\nContent-Length: 3",
    b"",
)
_SIZES: Final = (b"%x", b"%X", b"%04x", b"%x;a=b", b'%x;a="b;c"', b"%x;")
_ODD_SIZES: Final = (b"+%x", b"0x%x", b"%x ", b"%x\t", b" %x", b"-%x", b"%x;\n", b"%xg", b"", b"%016x", b"1%x", b"%x\r")
_TRAILERS: Final = (b"X-Sum: 1\r\n", b"a:\r\nA: \xe9\r\n", b"")
_ODD_TRAILERS: Final = (b"Host: a\r\n", b"Content-Length: 3\r\n", b"a b: c\r\n", b"a\r\n", b"a: b\n", b" a: b\r\n")
_STATUSES: Final = (b"200 OK", b"200", b"200 ", b"404 Not  Found", b"204 No", b"304 Not", b"429 Too \xe9", b"500 X")
_ODD_STATUSES: Final = (b"20 OK", b"2000 OK", b"099 X", b"600 X", b"200OK", b"2x0 OK", b"101 Switch", b"200 \x00", b"")
_INTERIMS: Final = (b"100 Continue", b"103 Early Hints", b"102 P", b"199 ")
_LINE_ENDS: Final = (b"\n", b"\r", b"\r\r\n", b"\r\n\r\n", b"", b" \r\n")


class Grammar:
    """
    Makes inputs.

    :param oddity: the chance of each part to be one of its odd forms.
    """

    def __init__(self, random: Random, oddity: float) -> None:
        self._random = random
        self._oddity = oddity

    def _odd(self) -> bool:
        return self._random.random() < self._oddity

    def _one(self, good: Sequence[bytes], odd: Sequence[bytes]) -> bytes:
        return self._random.choice(odd if self._odd() else good)

    def _line_end(self) -> bytes:
        return self._random.choice(_LINE_ENDS) if self._odd() and self._odd() else b"\r\n"

    def _payload(self) -> bytes:
        size = self._random.choice((0, 1, 2, 3, 9, 17, 40))
        return b"".join(self._random.choice((b"a", b"\r\n", b"0\r\n\r\n", b"\xff\x00", b"GET ")) for _ in range(size))

    def _framing(self, body: bytes) -> tuple[list[bytes], bytes]:
        """The fields that frame a body, and it as they say, or nearly."""
        kind = self._random.choice(("none", "length", "chunked"))
        if kind == "none":
            return [], body if self._odd() else b""
        if kind == "length":
            form = self._one(_LENGTHS, _ODD_LENGTHS)
            size = len(body) + (self._random.choice((-1, 1, 3)) if self._odd() else 0)
            return [b"Content-Length: " + form.replace(b"%d", b"%d" % max(size, 0))], body
        return [b"Transfer-Encoding: " + self._one(_CODINGS, _ODD_CODINGS)], self.chunks(body)

    def _head(self, first: bytes, fields: list[bytes]) -> bytes:
        fields += [self._one(_FIELDS, _ODD_FIELDS) for _ in range(self._random.choice((0, 0, 1, 2, 4)))]
        self._random.shuffle(fields)
        return b"".join(line + self._line_end() for line in [first, *fields]) + self._line_end()

    def chunks(self, body: bytes | None = None) -> bytes:
        """A chunked body."""
        body = self._payload() if body is None else body
        coded = b""
        while body:
            size = self._random.randint(1, len(body))
            chunk, body = body[:size], body[size:]
            said = size + (self._random.choice((-1, 1)) if self._odd() else 0)
            form = self._one(_SIZES, _ODD_SIZES)
            coded += (form % said if b"%" in form else form) + self._line_end() + chunk + self._line_end()
        coded += self._one((b"0", b"000", b"0;a"), (b"", b"0x0", b"00 ", b"-0", b"0" * 16)) + self._line_end()
        return coded + self._one(_TRAILERS, _ODD_TRAILERS) + self._line_end()

    def requests(self) -> bytes:
        """What a client may send on one connection."""
        data = b""
        for _ in range(self._random.choice((1, 1, 2, 3))):
            if self._odd():
                data += self._random.choice((b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" "))
            first = b" ".join(
                (
                    self._one(_METHODS, _ODD_METHODS),
                    self._one(_TARGETS, _ODD_TARGETS),
                    self._one(_VERSIONS, _ODD_VERSIONS),
                )
            )
            framing, body = self._framing(self._payload())
            data += self._head(first, [self._one(_HOSTS, _ODD_HOSTS), *framing]) + body
        return self._shortened(data)

    def answers(self) -> bytes:
        """What an upstream may answer one request with."""
        data = b""
        for _ in range(self._random.choice((0, 0, 0, 1, 2, 18))):
            framing = self._framing(b"")[0] if self._odd() else []
            data += self._head(b"HTTP/1.1 " + self._one(_INTERIMS, _ODD_STATUSES), framing)
        framing, body = self._framing(self._payload())
        if not framing:
            body = self._payload()  # to the end of the connection
        first = self._one(_VERSIONS, _ODD_VERSIONS) + b" " + self._one(_STATUSES, _ODD_STATUSES)
        data += self._head(first, framing) + body
        if self._odd():
            data += self._random.choice((b"\r\n", b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
        return self._shortened(data)

    def head(self) -> bytes:
        """One head, of either kind."""
        framing, _ = self._framing(b"")
        if self._random.random() < 0.5:
            first = b" ".join(
                (self._one(_METHODS, _ODD_METHODS), self._one(_TARGETS, _ODD_TARGETS), self._random.choice(_VERSIONS))
            )
            return self._head(first, [self._one(_HOSTS, _ODD_HOSTS), *framing])
        first = self._random.choice(_VERSIONS) + b" " + self._one(_STATUSES, _ODD_STATUSES)
        return self._head(first, framing)

    def _shortened(self, data: bytes) -> bytes:
        return data[: self._random.randint(0, len(data))] if self._odd() else data


#: What makes the inputs of each role.
MAKERS: Final[Mapping[str, Callable[[Grammar], bytes]]] = {
    "server": Grammar.requests,
    "client": Grammar.answers,
    "chunked": Grammar.chunks,
    "head": Grammar.head,
}


def make(role: str, random: Random) -> bytes:
    """An input for this role: every third has nothing odd, the others more or less."""
    return MAKERS[role](Grammar(random, random.choice((0.0, 0.03, 0.1))))
