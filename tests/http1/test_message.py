"""Heads are accepted when every recipient reads them alike, and refused when not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import h11
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.errors import (
    BadRequest,
    ExpectationFailed,
    HeadTooLarge,
    MethodNotAllowed,
    RelayError,
    UnknownMethod,
    UpstreamMalformed,
)
from openai_relay.http1.message import (
    CHUNKED,
    UNTIL_CLOSE,
    RequestHead,
    ResponseHead,
    looks_broken,
    parse_request,
    parse_response,
    parse_trailers,
    write_fields,
)

Pair = tuple[bytes, bytes]

TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VALUE_BYTES = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
TARGET_BYTES = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("#"))
FRAMING = {b"content-length", b"transfer-encoding"}
WATCHED = {b"content-length", b"transfer-encoding", b"host", b"connection", b"expect", b"upgrade"}


def of(alphabet: bytes, min_size: int = 0, max_size: int | None = None) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(list(alphabet)), min_size=min_size, max_size=max_size).map(bytes)


names = of(TOKEN_BYTES, min_size=1, max_size=20).filter(lambda name: name.lower() not in WATCHED)
values = of(VALUE_BYTES, max_size=20).map(lambda value: value.strip(b" \t"))
spaces = of(b" \t", max_size=3)
plain_fields = st.lists(st.tuples(names, values), max_size=6)
methods = st.sampled_from([b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"HEAD", b"QUERY", b"PROPFIND"])
targets = of(TARGET_BYTES, max_size=30).map(lambda rest: b"/" + rest)
cases = st.sampled_from([bytes.lower, bytes.upper, bytes.title])


@st.composite
def framings(draw: st.DrawFn) -> tuple[list[Pair], int]:
    """The field that frames a body, in some spelling, and the framing."""
    case = draw(cases)
    kind = draw(st.sampled_from(["none", "length", "chunked"]))
    if kind == "none":
        return [], 0
    if kind == "length":
        length = draw(st.integers(0, 50))
        return [(case(b"content-length"), b"%d" % length)], length
    return [(case(b"transfer-encoding"), case(b"chunked"))], CHUNKED


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes, list[Pair], int]:
    """A well-formed request: method, target, fields, framing."""
    framing_fields, framing = draw(framings())
    fields = [*draw(plain_fields), (draw(cases)(b"host"), b"example.com"), *framing_fields]
    return draw(methods), draw(targets), draw(st.permutations(fields)), framing


def wire_fields(fields: list[Pair], before: bytes = b" ", after: bytes = b"") -> bytes:
    return b"".join(b"%b:%b%b%b\r\n" % (name, before, value, after) for name, value in fields)


def request(*lines: bytes, first: bytes = b"POST /v1 HTTP/1.1", host: bytes | None = b"Host: a.example") -> bytes:
    head = [first, *([host] if host is not None else []), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n"


def response(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([first, *lines]) + b"\r\n\r\n"


class Recipient:
    """What h11 makes of bytes, for comparison."""

    @staticmethod
    def of_request(head: bytes) -> tuple[h11.Request, h11.Connection]:
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(head)
        event = connection.next_event()
        assert isinstance(event, h11.Request), event
        return event, connection

    @staticmethod
    def of_response(head: bytes, method: bytes) -> tuple[Any, h11.Connection]:
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(head)
        event = connection.next_event()
        assert isinstance(event, h11.Response | h11.InformationalResponse), event
        return event, connection

    @staticmethod
    def length_of_body(connection: h11.Connection, framing: int) -> int:
        """Give it a body framed as we think; returns how many bytes of it were the message's."""
        body = b"3\r\nabc\r\n0\r\n\r\n" if framing == CHUNKED else b"x" * (7 if framing == UNTIL_CLOSE else framing)
        if body:
            connection.receive_data(body)
        if framing == UNTIL_CLOSE:
            connection.receive_data(b"")
        received = 0
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                received += len(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return received
            else:
                raise AssertionError(f"{framing} is not how h11 frames it: {event}")


def comparable(fields: Iterable[Pair]) -> list[Pair]:
    """Fields as h11 keeps them, which writes the coding in lower case."""
    return [(name, value.lower() if name.lower() == b"transfer-encoding" else value) for name, value in fields]


def body_bytes(framing: int) -> int:
    return {CHUNKED: 3, UNTIL_CLOSE: 7}.get(framing, framing)


class RequestTests(SynchronousTestCase):
    def assertRefused(self, head: bytes, about: str = "", error: type[RelayError] = BadRequest) -> None:
        refused = self.assertRaises(error, parse_request, head)
        self.assertIs(type(refused), error)
        self.assertIn(about, refused.told)

    def assertSameAsH11(self, head: bytes, parsed: RequestHead) -> None:
        event, connection = Recipient.of_request(head)
        self.assertEqual(event.method, parsed.method)
        if event.target[:1] in (b"/", b"*"):
            self.assertEqual(event.target, parsed.target)
        self.assertEqual(event.http_version, parsed.version)
        self.assertEqual(list(event.headers.raw_items()), comparable(parsed.fields))
        self.assertEqual(Recipient.length_of_body(connection, parsed.framing), body_bytes(parsed.framing))

    @given(requests(), spaces, of(b" ", max_size=3))
    def test_round_trip(self, parts: tuple[bytes, bytes, list[Pair], int], before: bytes, after: bytes) -> None:
        """A well-formed head gives its method, target, framing and fields: order, case, duplicates and values."""
        method, target, fields, framing = parts
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, wire_fields(fields, before, after))
        parsed = parse_request(head)
        self.assertEqual((parsed.method, parsed.target, parsed.version), (method, target, b"1.1"))
        self.assertEqual(parsed.fields, fields)
        self.assertEqual(parsed.framing, framing)
        self.assertSameAsH11(head, parsed)

    @given(st.binary(max_size=200))
    def test_any_bytes(self, head: bytes) -> None:
        """Whatever comes, nothing but the declared errors is raised."""
        try:
            parse_request(head)
        except (BadRequest, MethodNotAllowed):
            pass

    @given(requests(), st.data())
    def test_damaged(self, parts: tuple[bytes, bytes, list[Pair], int], data: st.DataObject) -> None:
        """A head with some bytes changed is refused, or is one that h11 reads as we do."""
        method, target, fields, _ = parts
        head = bytearray(b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, wire_fields(fields)))
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(head)))
            head[at : at + data.draw(st.integers(0, 3))] = data.draw(
                st.binary(max_size=3) | st.sampled_from([b"\r\n", b"\n", b"\r", b" ", b":", b"\0", b"\r\n "])
            )
        try:
            parsed = parse_request(bytes(head))
        except (BadRequest, MethodNotAllowed):
            return
        self.assertSameAsH11(bytes(head), parsed)

    # Framing.

    def test_length_and_chunked(self) -> None:
        """Content-Length beside Transfer-Encoding is refused, in either order."""
        both = [b"Content-Length: 5", b"Transfer-Encoding: chunked"]
        self.assertRefused(request(*both))
        self.assertRefused(request(*both[::-1]))

    def test_several_lengths(self) -> None:
        """Content-Length given twice is refused, even when both say the same."""
        self.assertRefused(request(b"Content-Length: 5", b"Content-Length: 6"))
        self.assertRefused(request(b"Content-Length: 5", b"content-length: 5"))

    def test_odd_lengths(self) -> None:
        """A Content-Length that is not plain decimal digits is refused."""
        for value in (
            b"+5",
            b"-5",
            b"5, 5",
            b"5,6",
            b"0x5",
            b"5 5",
            b"5;",
            b"5.0",
            b"1e3",
            b"",
            b"\xb2",
            b"five",
            b"1_0",
        ):
            with self.subTest(value=value):
                self.assertRefused(request(b"Content-Length: " + value))

    def test_huge_lengths(self) -> None:
        """A length that a 64-bit number cannot hold, or that nobody sends, is refused and never wraps around."""
        for value in (b"18446744073709551616", b"18446744073709551617", b"9223372036854775808", b"1" + b"0" * 15):
            with self.subTest(value=value):
                self.assertRefused(request(b"Content-Length: " + value))
        self.assertEqual(parse_request(request(b"Content-Length: 999999999999999")).framing, 999_999_999_999_999)

    def test_leading_zeros(self) -> None:
        """A length with leading zeros, which some recipients take for octal, is refused; a plain 0 is a length."""
        for value in (b"00", b"05", b"0003", b"010"):
            with self.subTest(value=value):
                self.assertRefused(request(b"Content-Length: " + value), "without leading zeros")
        self.assertEqual(parse_request(request(b"Content-Length: 0")).framing, 0)
        self.assertEqual(parse_request(request(b"Content-Length: 10")).framing, 10)

    def test_number_of_fields(self) -> None:
        """A head with more fields than allowed is too large, however short they are; as many as allowed pass."""
        for line in (b"a:", b"X-Name: a value of some length"):
            with self.subTest(line=line):
                self.assertEqual(len(parse_request(request(*[line] * 255)).fields), 256)
                self.assertRefused(request(*[line] * 256), "256 header fields", HeadTooLarge)
        three = request(b"a:", b"b:")
        self.assertEqual(len(parse_request(three, 3).fields), 3)
        self.assertRaises(HeadTooLarge, parse_request, three, 2)

    def test_odd_codings(self) -> None:
        """Any Transfer-Encoding but one final ``chunked`` is refused."""
        for value in (
            b"gzip, chunked",
            b"chunked, gzip",
            b"chunked, chunked",
            b"chunked,",
            b",chunked",
            b"identity",
            b"xchunked",
            b"chunked;q=1",
            b'"chunked"',
            b"",
            b"\x0bchunked",
        ):
            with self.subTest(value=value):
                self.assertRefused(request(b"Transfer-Encoding: " + value))

    def test_several_codings(self) -> None:
        """Transfer-Encoding given twice is refused."""
        self.assertRefused(request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"))
        self.assertRefused(request(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"))

    def test_chunked_in_1_0(self) -> None:
        """HTTP/1.0 has no Transfer-Encoding: it is refused there."""
        self.assertRefused(request(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"), "HTTP/1.0")

    def test_names_that_nearly_frame(self) -> None:
        """A framing field's name with anything around it is refused, so that nobody takes it for the real one."""
        for line in (
            b"Transfer-Encoding : chunked",
            b" Transfer-Encoding: chunked",
            b"Transfer-Encoding\t: chunked",
            b"Transfer\x00-Encoding: chunked",
            b"\x0bTransfer-Encoding: chunked",
            b"Content-Length : 5",
            b"Transfer-Encoding",
            b": chunked",
        ):
            with self.subTest(line=line):
                self.assertRefused(request(line))

    # The bytes of a head.

    def test_line_ends(self) -> None:
        """Lines end with CRLF; a bare LF or CR, anywhere, is refused."""
        good = request(b"X-A: b")
        for head in (
            good.replace(b"\r\n", b"\n"),
            good.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
            good.replace(b"b\r\n", b"b\n"),
            good.replace(b"b\r\n", b"b\r"),
            good.replace(b"X-A: b", b"X-A: b\nTransfer-Encoding: chunked"),
            good.replace(b"X-A: b", b"X-A: b\rTransfer-Encoding: chunked"),
            good.replace(b"X-A: b", b"X-A: \rb"),
            good.replace(b"\r\n\r\n", b"\r\n\n"),
            good.replace(b"\r\n\r\n", b"\n\r\n"),
        ):
            with self.subTest(head=head):
                self.assertRefused(head)

    def test_folded_lines(self) -> None:
        """A value that goes on in the next line is refused, in the first field too."""
        for line in (b"X-A: b\r\n c", b"X-A: b\r\n\tc", b"X-A:\r\n b", b" X-A: b"):
            with self.subTest(line=line):
                self.assertRefused(request(line))
                self.assertRefused(request(line, host=None))

    def test_control_characters(self) -> None:
        """NUL and every control character but tab are refused, in names and in values."""
        for byte in [*range(0x20), 0x7F]:
            with self.subTest(byte=byte):
                if byte != ord("\t"):
                    self.assertRefused(request(b"X-A: b%cc" % byte))
                self.assertRefused(request(b"X%c-A: b" % byte))

    def test_bytes_outside_ascii(self) -> None:
        """Values may hold bytes outside ASCII, and keep them; names, methods and targets may not."""
        self.assertEqual(parse_request(request(b"X-A: caf\xc3\xa9 \xff")).fields[-1], (b"X-A", b"caf\xc3\xa9 \xff"))
        self.assertRefused(request(b"X-\xe9: a"))
        self.assertRefused(request(first=b"GET /\xe9 HTTP/1.1"))
        self.assertRefused(request(first=b"G\xc9T / HTTP/1.1"))

    def test_white_space_around_values(self) -> None:
        """White space around a value is no part of it; inside it is."""
        self.assertEqual(parse_request(request(b"X-A: \t b \t c \t ")).fields[-1], (b"X-A", b"b \t c"))
        self.assertEqual(parse_request(request(b"X-A:")).fields[-1], (b"X-A", b""))

    def test_empty_names(self) -> None:
        """A line without a name, or without a colon, is refused."""
        self.assertRefused(request(b": b"))
        self.assertRefused(request(b"X-A"))

    # The first line.

    def test_spaces_in_the_first_line(self) -> None:
        """Method, target and version are parted by one space each."""
        for first in (
            b"GET  / HTTP/1.1",
            b"GET /  HTTP/1.1",
            b"GET\t/ HTTP/1.1",
            b" GET / HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b"GET /a b HTTP/1.1",
            b"GET HTTP/1.1",
            b"GET",
            b"",
        ):
            with self.subTest(first=first):
                self.assertRefused(request(first=first))

    def test_versions(self) -> None:
        """Versions other than 1.0 and 1.1 are refused."""
        for version in (
            b"HTTP/0.9",
            b"HTTP/1.2",
            b"HTTP/2.0",
            b"HTTP/2",
            b"HTTP/1.10",
            b"HTTP/11",
            b"http/1.1",
            b"HTTP 1.1",
            b"HTTPS/1.1",
            b"ICE/1.0",
            b"RTSP/1.0",
        ):
            with self.subTest(version=version):
                self.assertRefused(request(first=b"GET / " + version))
        self.assertRefused(b"GET /\r\n\r\n")
        self.assertRefused(b"PRI * HTTP/2.0\r\n\r\n")

    def test_methods(self) -> None:
        """A method that HTTP does not know, in this very case, is told to be so; one that is no token is malformed."""
        for method in (b"FOO", b"get", b"Get", b"GETX", b"!"):
            with self.subTest(method=method):
                self.assertRefused(request(first=method + b" / HTTP/1.1"), "method", UnknownMethod)
        for method in (b"GE(T", b"G@T", b'"GET"', b"G\x00T"):
            with self.subTest(method=method):
                self.assertRefused(request(first=method + b" / HTTP/1.1"))

    def test_connect(self) -> None:
        """CONNECT would make a tunnel: it is not allowed, whatever its target."""
        for target in (b"a.example:443", b"/", b"*"):
            with self.subTest(target=target):
                self.assertRefused(request(first=b"CONNECT %b HTTP/1.1" % target), "method", MethodNotAllowed)

    # Host and target.

    def test_missing_host(self) -> None:
        """HTTP/1.1 needs a Host; HTTP/1.0 does not."""
        self.assertRefused(request(host=None), "Host")
        self.assertEqual(parse_request(request(host=None, first=b"GET / HTTP/1.0")).fields, [])

    def test_two_hosts(self) -> None:
        """Two Hosts are refused, the same or not, in either version."""
        self.assertRefused(request(b"Host: a.example"), "Host")
        self.assertRefused(request(b"hOST: b.example"), "Host")
        self.assertRefused(request(b"Host: b.example", first=b"GET / HTTP/1.0"), "Host")

    def test_good_hosts(self) -> None:
        """Names, addresses and ports are hosts."""
        for host in (
            b"a",
            b"a.example:8443",
            b"192.0.2.1",
            b"[2001:db8::1]",
            b"[::1]:8443",
            b"a_b.example",
            b"A.EXAMPLE.",
        ):
            with self.subTest(host=host):
                self.assertEqual(parse_request(request(host=b"Host: " + host)).target, b"/v1")

    def test_bad_hosts(self) -> None:
        """What is no host name with an optional port is refused."""
        for host in (
            b"",
            b"a b",
            b"a, b",
            b"a/b",
            b"a@b",
            b"a:",
            b"a:port",
            b"a:123456",
            b"a:80:80",
            b"http://a",
            b"a?b",
            b"a#b",
            b"a\\b",
            b"[::1",
            b"[a.example]",
            b"::1",
            b"caf\xc3\xa9",
            b"<a>",
        ):
            with self.subTest(host=host):
                self.assertRefused(request(host=b"Host: " + host))

    def test_absolute_form(self) -> None:
        """The URL of this very host is taken for its path, whatever the case of scheme and host."""
        for target, path in (
            (b"http://a.example/v1/x?y=z", b"/v1/x?y=z"),
            (b"HTTPS://A.Example/v1", b"/v1"),
            (b"https://a.example", b"/"),
        ):
            with self.subTest(target=target):
                self.assertEqual(parse_request(request(first=b"GET %b HTTP/1.1" % target)).target, path)

    def test_absolute_form_without_host(self) -> None:
        """HTTP/1.0 may name its host in the URL alone."""
        head = request(host=None, first=b"GET http://a.example/v1 HTTP/1.0")
        self.assertEqual(parse_request(head).target, b"/v1")

    def test_absolute_form_of_another(self) -> None:
        """The URL of any other authority is refused: the relay is no open proxy, and one request has one host."""
        for target in (
            b"http://b.example/",
            b"http://a.example:81/",
            b"http://a.example@b.example/",
            b"http://b.example@a.example/",
            b"ftp://a.example/",
            b"http:///v1",
            b"http:/v1",
            b"https://a.example?x",
            b"https://a.example/#x",
        ):
            with self.subTest(target=target):
                self.assertRefused(request(first=b"GET %b HTTP/1.1" % target))

    def test_other_targets(self) -> None:
        """``*`` passes here, for the path policy to judge; a path without its slash or an authority is refused."""
        self.assertEqual(parse_request(request(first=b"OPTIONS * HTTP/1.1")).target, b"*")
        for target in (b"v1/models", b"a.example:443", b"?x", b"**", b"\\v1"):
            with self.subTest(target=target):
                self.assertRefused(request(first=b"GET %b HTTP/1.1" % target))

    # What follows from the fields.

    def test_keep_alive(self) -> None:
        """HTTP/1.1 goes on unless it says close; HTTP/1.0 ends unless it says keep-alive; close always wins."""
        for version, connection, goes_on in (
            (b"1.1", b"", True),
            (b"1.1", b"close", False),
            (b"1.1", b"Foo, CLOSE", False),
            (b"1.1", b"closed", True),
            (b"1.0", b"", False),
            (b"1.0", b"Keep-Alive", True),
            (b"1.0", b"keep-alive, close", False),
            (b"1.1", b"close, keep-alive", False),
        ):
            with self.subTest(version=version, connection=connection):
                head = request(b"Connection: " + connection, first=b"GET / HTTP/" + version)
                self.assertEqual(parse_request(head).keep_alive, goes_on)

    def test_several_connection_fields(self) -> None:
        """Connection may be given several times: all its options count."""
        self.assertFalse(parse_request(request(b"Connection: a", b"connection: close")).keep_alive)

    def test_expectation(self) -> None:
        """100-continue is understood, in any case; in HTTP/1.0 there is no expectation."""
        self.assertTrue(parse_request(request(b"Expect: 100-Continue", b"Content-Length: 5")).expects_continue)
        self.assertFalse(parse_request(request()).expects_continue)
        head = request(b"Expect: 100-continue", first=b"POST / HTTP/1.0")
        self.assertFalse(parse_request(head).expects_continue)

    def test_other_expectations(self) -> None:
        """Any other expectation is refused with 417."""
        for lines in ([b"Expect: 200-ok"], [b"Expect: 100-continue, x"], [b"Expect: 100-continue"] * 2, [b"Expect:"]):
            with self.subTest(lines=lines):
                self.assertRefused(request(*lines), "100-continue", ExpectationFailed)

    def test_upgrade(self) -> None:
        """A protocol is asked for when Upgrade names it and Connection names Upgrade; the body keeps its length."""
        parsed = parse_request(request(b"Connection: x, Upgrade", b"Upgrade: websocket", b"Content-Length: 5"))
        self.assertEqual((parsed.upgrade, parsed.framing), (b"websocket", 5))
        self.assertIsNone(parse_request(request(b"Upgrade: websocket")).upgrade)
        self.assertIsNone(parse_request(request(b"Connection: upgrade")).upgrade)

    def test_message_says_what_is_wrong(self) -> None:
        """What the client is told names the field, or the rule, that it broke."""
        for line, about in (
            (b"Content-Length: +5", "Content-Length"),
            (b"Content-Length: 1000000000000000", "Content-Length"),
            (b"Content-Length: 18446744073709551616", "Content-Length overflow"),
            (b"Content-Length: 5\r\nContent-Length: 5", "Duplicate Content-Length"),
            (
                b"Content-Length: 5\r\nTransfer-Encoding: chunked",
                "Transfer-Encoding can't be present with Content-Length",
            ),
            (b"Transfer-Encoding: gzip", "Transfer-Encoding"),
            (b"Transfer-Encoding: gzip, chunked", "chunked"),
            (b"Host: b.example", "exactly one Host"),
            (b"X-A : b", "names and white space"),
            (b"X-A: b\nX-C: d", "line ends"),
        ):
            with self.subTest(line=line):
                self.assertRefused(request(line), about)
        self.assertRefused(request(first=b"GET ftp://a.example/ HTTP/1.1"), "a URL of this very host")
        self.assertRefused(request(host=b"Host: a b"), "host name with an optional port")

    def test_message_holds_no_content(self) -> None:
        """What the client is told repeats nothing of what it sent."""
        for line in (
            b"Content-Length: s3cret",
            b"Host: s3cret",
            b"Expect: s3cret",
            b"Transfer-Encoding: s3cret",
            b"s3 cret: x",
        ):
            refused = self.assertRaises(BadRequest, parse_request, request(line))
            self.assertNotIn("cret", refused.told + str(refused))


class LooksBrokenTests(SynchronousTestCase):
    @given(requests(), st.integers(0, 1000), st.integers(0, 1000))
    def test_good_beginnings(self, parts: tuple[bytes, bytes, list[Pair], int], end: int, looked: int) -> None:
        """No beginning of a good head looks broken, from wherever one goes on looking."""
        method, target, fields, _ = parts
        start = (b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, wire_fields(fields)))[:end]
        self.assertFalse(looks_broken(start, min(looked, len(start))))

    @given(st.binary(max_size=60) | of(b"ab\r\n\0", max_size=12), st.data())
    def test_looking_on(self, start: bytes, data: st.DataObject) -> None:
        """Looking only at what is new finds the same as looking at everything."""
        cut = data.draw(st.integers(0, len(start)))
        whole = looks_broken(start)
        in_parts = looks_broken(start[:cut]) or looks_broken(start, cut)
        # What ends in a CR is not judged before the next byte has come: it is no more broken for being cut there.
        self.assertEqual(in_parts, whole)

    def test_bad_beginnings(self) -> None:
        """Bare line ends, NUL and a first byte with which no token begins will not become good."""
        for start in (b"GET / HTTP/1.1\n", b"GET /\rX", b"GET /\0", b"\nGET", b"\r\nGET", b"\n", b" ", b"\x16\x03\x01"):
            with self.subTest(start=start):
                self.assertTrue(looks_broken(start))


statuses = st.integers(100, 599).filter(lambda status: status != 101)


class ResponseTests(SynchronousTestCase):
    def assertRefused(self, head: bytes) -> None:
        self.assertRaises(UpstreamMalformed, parse_response, head, b"GET")

    def assertSameAsH11(self, head: bytes, method: bytes, parsed: ResponseHead) -> None:
        event, connection = Recipient.of_response(head, method)
        self.assertEqual((event.status_code, event.reason), (parsed.status, parsed.reason))
        self.assertEqual(event.http_version, parsed.version)
        fields = list(event.headers.raw_items())
        if parsed.status < 200 or parsed.status == 204:
            fields = [pair for pair in fields if pair[0].lower() not in FRAMING]
        self.assertEqual(fields, comparable(parsed.fields))
        if parsed.status >= 200:
            self.assertEqual(Recipient.length_of_body(connection, parsed.framing), body_bytes(parsed.framing))

    @given(statuses, values, plain_fields, framings(), st.sampled_from([b"GET", b"HEAD", b"POST"]), st.data())
    def test_round_trip(
        self,
        status: int,
        reason: bytes,
        fields: list[Pair],
        framed: tuple[list[Pair], int],
        method: bytes,
        data: st.DataObject,
    ) -> None:
        """A well-formed head gives status, reason, framing and fields: order, case, duplicates and values."""
        fields = data.draw(st.permutations(fields + framed[0]))
        head = b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, wire_fields(fields))
        parsed = parse_response(head, method)
        self.assertEqual((parsed.status, parsed.reason, parsed.version), (status, reason, b"1.1"))
        frameless = [pair for pair in fields if pair not in framed[0]]
        self.assertEqual(parsed.fields, frameless if status < 200 or status == 204 else fields)
        bodyless = method == b"HEAD" or status < 200 or status in (204, 304)
        self.assertEqual(parsed.framing, 0 if bodyless else framed[1] if framed[0] else UNTIL_CLOSE)
        self.assertSameAsH11(head, method, parsed)

    @given(st.binary(max_size=200), st.sampled_from([b"GET", b"HEAD"]))
    def test_any_bytes(self, head: bytes, method: bytes) -> None:
        """Whatever comes, nothing but the declared error is raised."""
        try:
            parse_response(head, method)
        except UpstreamMalformed:
            pass

    @given(statuses, plain_fields, framings(), st.data())
    def test_damaged(
        self, status: int, fields: list[Pair], framed: tuple[list[Pair], int], data: st.DataObject
    ) -> None:
        """A head with some bytes changed is refused, or is one that h11 reads as we do."""
        head = bytearray(b"HTTP/1.1 %d OK\r\n%b\r\n" % (status, wire_fields(fields + framed[0])))
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(head)))
            head[at : at + data.draw(st.integers(0, 3))] = data.draw(
                st.binary(max_size=3) | st.sampled_from([b"\r\n", b"\n", b"\r", b" ", b":", b"\0", b"\r\n "])
            )
        try:
            parsed = parse_response(bytes(head), b"GET")
        except UpstreamMalformed:
            return
        if parsed.status != 101:
            self.assertSameAsH11(bytes(head), b"GET", parsed)

    def test_ambiguous_framing(self) -> None:
        """Two lengths, a length beside chunked, two codings or an unknown one: refused."""
        for lines in (
            [b"Content-Length: 5", b"Content-Length: 6"],
            [b"Content-Length: 5", b"content-length: 5"],
            [b"Content-Length: 5, 5"],
            [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
            [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
            [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
            [b"Transfer-Encoding: gzip, chunked"],
            [b"Transfer-Encoding: identity"],
            [b"Transfer-Encoding: chunked,"],
        ):
            with self.subTest(lines=lines):
                self.assertRefused(response(*lines))

    def test_odd_lengths(self) -> None:
        """A Content-Length that is not plain decimal digits, or too many of them, is refused."""
        for value in (
            b"+5",
            b"-5",
            b"0x5",
            b"",
            b"5 5",
            b"5a",
            b"00",
            b"05",
            b"18446744073709551616",
            b"1" + b"0" * 15,
        ):
            with self.subTest(value=value):
                self.assertRefused(response(b"Content-Length: " + value))

    def test_number_of_fields(self) -> None:
        """A head with more fields than allowed is refused."""
        self.assertEqual(len(parse_response(response(*[b"a:"] * 256), b"GET").fields), 256)
        self.assertRefused(response(*[b"a:"] * 257))
        self.assertRaises(UpstreamMalformed, parse_response, response(*[b"X-Name: value"] * 3), b"GET", 2)

    def test_chunked_in_1_0(self) -> None:
        """HTTP/1.0 has no Transfer-Encoding: refused."""
        self.assertRefused(response(b"Transfer-Encoding: chunked", first=b"HTTP/1.0 200 OK"))

    def test_status_lines(self) -> None:
        """A status line that is not exactly version, three digits and a reason is refused."""
        for first in (
            b"HTTP/1.1 1000 OK",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 600 OK",
            b"HTTP/1.1 099 OK",
            b"HTTP/1.1 2OO OK",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1 200\tOK",
            b"HTTP/1.1 -200 OK",
            b"HTTP/1.1 200OK",
            b"HTTP/1.1",
            b"HTTP/1.2 200 OK",
            b"HTTP/2.0 200 OK",
            b"HTTP/0.9 200 OK",
            b"http/1.1 200 OK",
            b"ICY 200 OK",
            b"RTSP/1.0 200 OK",
            b"HTTP/1.1 200 O\0K",
            b"HTTP/1.1 200 O\x7fK",
            b" HTTP/1.1 200 OK",
            b"220 mail.example ESMTP",
            b"<html>",
            b"",
        ):
            with self.subTest(first=first):
                self.assertRefused(response(first=first))

    def test_reason(self) -> None:
        """The reason is kept as it is: absent, empty, with spaces or bytes outside ASCII."""
        for rest, reason in ((b"", b""), (b" ", b""), (b" Too  Many", b"Too  Many"), (b" N\xe9ant", b"N\xe9ant")):
            with self.subTest(rest=rest):
                self.assertEqual(parse_response(response(first=b"HTTP/1.1 429" + rest), b"GET").reason, reason)

    def test_bytes_of_a_head(self) -> None:
        """Bare line ends, folded lines, NUL, control characters and spaces before a colon are refused."""
        for line in (
            b"X-A: b\nX-B: c",
            b"X-A: b\rX-B: c",
            b"X-A: b\r\n c",
            b"X-A: \0",
            b"X-A: \x1b[31m",
            b"X-A : b",
            b"X A: b",
            b": b",
            b"X-A",
        ):
            with self.subTest(line=line):
                self.assertRefused(response(line))

    def test_no_body(self) -> None:
        """Answers to HEAD, and 1xx, 204 and 304, have no body whatever their fields say."""
        for status, method in ((200, b"HEAD"), (204, b"GET"), (304, b"GET"), (100, b"POST"), (103, b"GET")):
            for line in (b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X-A: b"):
                with self.subTest(status=status, line=line):
                    parsed = parse_response(response(line, first=b"HTTP/1.1 %d X" % status), method)
                    self.assertEqual(parsed.framing, 0)

    def test_length_of_nothing(self) -> None:
        """A length is kept where it may stand without a body: in the answer to a HEAD, and in a 304."""
        for status, method in ((200, b"HEAD"), (304, b"GET")):
            for line, pair in (
                (b"Content-Length: 5", (b"Content-Length", b"5")),
                (b"Transfer-Encoding: chunked", (b"Transfer-Encoding", b"chunked")),
            ):
                with self.subTest(status=status, line=line):
                    parsed = parse_response(response(line, first=b"HTTP/1.1 %d X" % status), method)
                    self.assertEqual(parsed.fields, [pair])
                    self.assertTrue(parsed.keep_alive)

    def test_length_that_may_not_be(self) -> None:
        """A 1xx or 204 loses what frames a body, and its connection is kept only if there surely is none."""
        for status in (100, 103, 199, 204):
            for line, kept in (
                (b"Content-Length: 5", False),
                (b"Content-Length: 0", True),
                (b"transfer-ENCODING: chunked", False),
                (b"X-B: c", True),
            ):
                for method in (b"GET", b"HEAD"):
                    with self.subTest(status=status, line=line, method=method):
                        head = response(b"X-A: b", line, b"X-C: d", first=b"HTTP/1.1 %d X" % status)
                        parsed = parse_response(head, method)
                        names = [name for name, _ in parsed.fields if name != b"X-B"]
                        self.assertEqual((names, parsed.framing), ([b"X-A", b"X-C"], 0))
                        self.assertEqual(parsed.keep_alive, kept)

    def test_length_of_a_tunnel(self) -> None:
        """A 101 loses what frames a body, too: what follows it is no body; one that names no protocol is refused."""
        switch = [b"Connection: Upgrade", b"Upgrade: websocket"]
        for line in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
            with self.subTest(line=line):
                parsed = parse_response(response(*switch, line, first=b"HTTP/1.1 101 X"), b"GET")
                self.assertEqual((parsed.upgrade, len(parsed.fields)), (b"websocket", 2))
                self.assertRefused(response(line, first=b"HTTP/1.1 101 X"))

    def test_keep_alive(self) -> None:
        """The connection is kept when the version or the answer says so, and its end is not the body's."""
        for version, line, kept in (
            (b"1.1", b"Content-Length: 5", True),
            (b"1.1", b"Content-Length: 5\r\nConnection: Close", False),
            (b"1.0", b"Content-Length: 5", False),
            (b"1.0", b"Content-Length: 5\r\nConnection: keep-alive", True),
            (b"1.1", b"X-A: b", False),
            (b"1.0", b"Connection: keep-alive", False),
        ):
            with self.subTest(version=version, line=line):
                head = response(line, first=b"HTTP/%b 200 OK" % version)
                self.assertEqual(parse_response(head, b"GET").keep_alive, kept)

    def test_message_holds_no_content(self) -> None:
        """The message, which goes to the log, repeats nothing of a head that may hold secrets."""
        for line in (b"Content-Length: s3cret", b"Set-Cookie: s3cret\0", b"s3 cret: x", b"Transfer-Encoding: s3cret"):
            refused = self.assertRaises(UpstreamMalformed, parse_response, response(line), b"GET")
            self.assertNotIn("cret", refused.told + str(refused))


FORBIDDEN_IN_TRAILERS = (
    b"Content-Length",
    b"transfer-encoding",
    b"HOST",
    b"Connection",
    b"Keep-Alive",
    b"Proxy-Connection",
    b"TE",
    b"Trailer",
    b"Upgrade",
    b"Expect",
    b"Authorization",
    b"Proxy-Authorization",
    b"Proxy-Authenticate",
    b"Cookie",
    b"Set-Cookie",
    b"Content-Type",
    b"Content-Encoding",
    b"Content-Range",
)


class TrailerTests(SynchronousTestCase):
    @given(
        st.lists(
            st.tuples(names.filter(lambda name: name.lower() not in map(bytes.lower, FORBIDDEN_IN_TRAILERS)), values)
        )
    )
    def test_round_trip(self, fields: list[Pair]) -> None:
        """Trailer fields keep order, case, duplicates and values."""
        self.assertEqual(parse_trailers(write_fields(fields) + b"\r\n"), fields)

    @given(st.binary(max_size=100))
    def test_any_bytes(self, section: bytes) -> None:
        """Whatever comes, nothing but the declared error is raised."""
        try:
            parse_trailers(section)
        except ValueError:
            pass

    def test_malformed(self) -> None:
        """Trailers are held to the same form as heads."""
        for line in (b"X-A : b", b" X-A: b", b"X-A: b\n", b"X-A: b\r\n c", b"X-A: \0", b"X-A", b": b"):
            with self.subTest(line=line):
                self.assertRaises(ValueError, parse_trailers, line + b"\r\n\r\n")

    def test_number_of_fields(self) -> None:
        """More trailer fields than allowed are refused."""
        self.assertEqual(len(parse_trailers(b"a:\r\n" * 256 + b"\r\n")), 256)
        self.assertRaises(ValueError, parse_trailers, b"a:\r\n" * 257 + b"\r\n")
        self.assertRaises(ValueError, parse_trailers, b"a: b\r\nc: d\r\n\r\n", 1)

    def test_forbidden(self) -> None:
        """Fields that frame, route, authenticate, or say how to read the body are refused: here it is too late."""
        for name in FORBIDDEN_IN_TRAILERS:
            with self.subTest(name=name):
                self.assertRaises(ValueError, parse_trailers, name + b": x\r\n\r\n")


class WriteFieldsTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """One line for each pair, as it is; no fields, no bytes."""
        self.assertEqual(write_fields([(b"b", b"1"), (b"A", b""), (b"b", b"2")]), b"b: 1\r\nA: \r\nb: 2\r\n")
        self.assertEqual(write_fields([]), b"")
