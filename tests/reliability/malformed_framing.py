"""Requests whose body could end in two places: each could carry a second one to the upstream, under the relay's key."""

from __future__ import annotations

from typing import Final

from tests.reliability.case import (
    HOST,
    TARGET,
    Case,
    Given,
    Group,
    Methods,
    Nothing,
    Refused,
    Torn,
    Until,
    chunked_post,
    chunks,
    head,
    refused,
)

SMUGGLED: Final = b"GET /v1/smuggled HTTP/1.1\r\nHost: relay.example\r\n\r\n"
_CL: Final = b"Content-Length: 5\r\n"
_TE: Final = b"Transfer-Encoding: chunked\r\n"
#: What one reader takes for the end of a chunked body, and another for the beginning of a counted one.
_HIDING: Final = b"0\r\n\r\n" + SMUGGLED

_BOTH: Final = (
    ("length first", _CL + _TE),
    ("coding first", _TE + _CL),
    ("length zero", b"Content-Length: 0\r\n" + _TE),
    ("length of all that comes", b"Content-Length: %d\r\n" % len(_HIDING) + _TE),
    ("names in small letters", b"content-length: 5\r\ntransfer-encoding: chunked\r\n"),
    ("names in capitals", b"CONTENT-LENGTH: 5\r\nTRANSFER-ENCODING: CHUNKED\r\n"),
    ("names in mixed letters", b"cOnTeNt-LeNgTh: 5\r\ntRaNsFeR-eNcOdInG: chunked\r\n"),
    ("length between two codings", _TE + _CL + _TE),
    ("coding between two lengths", _CL + _TE + _CL),
    ("far apart", _CL + b"X-A: 1\r\n" * 20 + _TE),
    ("coding that is not chunked", _CL + b"Transfer-Encoding: identity\r\n"),
    ("an empty coding", _CL + b"Transfer-Encoding:\r\n"),
    ("an odd length", b"Content-Length: x\r\n" + _TE),
)
_LENGTHS: Final = (
    b"", b"+5", b"-5", b"-0", b"0x5", b"0X5", b"5,", b",5", b"5, 5", b"5,5", b"5, 6", b"5 5", b"5;", b"5.0", b"5e0",
    b"5\t5", b"05", b"0000000005", b"00", b"0o5", b"five", b"5a", b"a5", b'"5"', b"\xb2", b"\xef\xbc\x95", b"5\xa0",
    b"_5", b"5_0", b"1_0", b"18446744073709551616", b"18446744073709551621", b"9223372036854775808",
    b"4294967301" + b"0" * 10, b"9" * 40, b"9" * 5_000,
)  # fmt: skip
_TWO_LENGTHS: Final = (
    ("the same", _CL + _CL),
    ("different", _CL + b"Content-Length: 6\r\n"),
    ("one of them zero", b"Content-Length: 0\r\n" + _CL),
    ("in different letters", _CL + b"content-length: 5\r\n"),
    ("far apart", _CL + b"X-A: 1\r\n" * 20 + _CL),
    ("three", _CL * 3),
    ("one of them empty", _CL + b"Content-Length:\r\n"),
)
_CODINGS: Final = (
    b"", b"chunked,", b",chunked", b", chunked", b"chunked, chunked", b"chunked,identity", b"identity, chunked",
    b"identity", b"gzip", b"gzip, chunked", b"chunked, gzip", b"deflate", b"compress", b"xchunked", b"chunkedx",
    b"chunke", b"chunked;q=1", b"chunked; a=b", b'"chunked"', b"'chunked'", b"chunked chunked", b"x-chunked", b"cow",
    b"trailers", b"\x84chunked", b"chunked\xa0", b"chunk\xc3\xa9d", b"chun ked", b"0",
)  # fmt: skip
_SPELLED: Final = (
    ("a space before the colon", b"Transfer-Encoding : chunked\r\n"),
    ("a tab before the colon", b"Transfer-Encoding\t: chunked\r\n"),
    ("a space before the name", b" Transfer-Encoding: chunked\r\n"),
    ("a vertical tab before the value", b"Transfer-Encoding: \x0bchunked\r\n"),
    ("a form feed behind the value", b"Transfer-Encoding: chunked\x0c\r\n"),
    ("NUL behind the value", b"Transfer-Encoding: chunked\0\r\n"),
    ("NUL in the name", b"Transfer\0-Encoding: chunked\r\n"),
    ("a folded value", b"Transfer-Encoding:\r\n chunked\r\n"),
    ("a folded continuation", b"Transfer-Encoding: chunked\r\n , identity\r\n"),
    ("bare CR behind the value", b"Transfer-Encoding: chunked\r X-A: 1\r\n"),
    ("bare LF before it", b"X-A: 1\nTransfer-Encoding: chunked\r\n"),
    ("bare CR before it", b"X-A: 1\rTransfer-Encoding: chunked\r\n"),
    ("twice", _TE + _TE),
    ("twice, in different letters", _TE + b"transfer-encoding: Chunked\r\n"),
    ("two codings in two lines", b"Transfer-Encoding: gzip\r\n" + _TE),
    ("identity in a second line", _TE + b"Transfer-Encoding: identity\r\n"),
    ("an empty second line", _TE + b"Transfer-Encoding:\r\n"),
)
_LENGTHS_SPELLED: Final = (
    ("a space before the colon", b"Content-Length : 5\r\n"),
    ("a tab before the colon", b"Content-Length\t: 5\r\n"),
    ("a folded value", b"Content-Length:\r\n 5\r\n"),
    ("a vertical tab before the value", b"Content-Length: \x0b5\r\n"),
    ("NUL behind the value", b"Content-Length: 5\0\r\n"),
    ("bare CR behind the value", b"Content-Length: 5\rX-A: 1\r\n"),
    ("bare LF before it", b"X-A: 1\nContent-Length: 5\r\n"),
)
_CHUNK_BODIES: Final = (
    ("no size", b"\r\nhello\r\n0\r\n\r\n"),
    ("a size that is no number", b"x\r\nhello\r\n0\r\n\r\n"),
    ("a negative size", b"-5\r\nhello\r\n0\r\n\r\n"),
    ("a plus sign", b"+5\r\nhello\r\n0\r\n\r\n"),
    ("0x before the size", b"0x5\r\nhello\r\n0\r\n\r\n"),
    ("a size with an underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
    ("a space before the size", b" 5\r\nhello\r\n0\r\n\r\n"),
    ("a space behind the size", b"5 \r\nhello\r\n0\r\n\r\n"),
    ("a tab behind the size", b"5\t\r\nhello\r\n0\r\n\r\n"),
    ("a comma behind the size", b"5,5\r\nhello\r\n0\r\n\r\n"),
    ("2^64 more than the size", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("2^32 more than the size, in 16 digits", b"0000000100000005\r\nhello\r\n0\r\n\r\n"),
    ("a size of 4,000 digits", b"0" * 4_000 + b"5\r\nhello\r\n0\r\n\r\n"),
    ("bare LF behind the size", b"5\nhello\r\n0\r\n\r\n"),
    ("bare CR behind the size", b"5\rhello\r\n0\r\n\r\n"),
    ("CR CR LF behind the size", b"5\r\r\nhello\r\n0\r\n\r\n"),
    ("no line end behind the payload", b"5\r\nhello0\r\n\r\n"),
    ("bare LF behind the payload", b"5\r\nhello\n0\r\n\r\n"),
    ("bare CR behind the payload", b"5\r\nhello\r0\r\n\r\n"),
    ("two other bytes behind the payload", b"5\r\nhelloXX0\r\n\r\n"),
    ("a payload that is longer than its size", b"5\r\nhello!\r\n0\r\n\r\n"),
    ("LF in an extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ("bare CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    ("NUL in an extension", b"5;a\0b\r\nhello\r\n0\r\n\r\n"),
    ("an extension of 2 kB", b"5;" + b"a" * 2_048 + b"\r\nhello\r\n0\r\n\r\n"),
    ("a last chunk with bare LF", b"5\r\nhello\r\n0\n\n"),
    ("a last chunk that is not closed by CRLF", b"5\r\nhello\r\n0\r\nX\r\n\r\n"),
    ("a last chunk of two signs", b"5\r\nhello\r\n-0\r\n\r\n"),
)
_TRAILERS: Final = (
    ("no colon", b"X-A\r\n"),
    ("no name", b": 1\r\n"),
    ("a space before the colon", b"X-A : 1\r\n"),
    ("a folded value", b"X-A: 1\r\n 2\r\n"),
    ("bare LF", b"X-A: 1\nX-B: 2\r\n"),
    ("bare CR", b"X-A: 1\rX-B: 2\r\n"),
    ("NUL", b"X-A: \0\r\n"),
    ("a control character", b"X-A: \x01\r\n"),
    ("17 kB", b"X-A: " + b"a" * 17_000 + b"\r\n"),
    *(
        (f"the field {name.decode()}", name + b": 5\r\n")
        for name in (
            b"Content-Length",
            b"Transfer-Encoding",
            b"Host",
            b"Authorization",
            b"Cookie",
            b"Set-Cookie",
            b"Connection",
            b"Trailer",
            b"TE",
            b"Upgrade",
            b"Expect",
            b"Content-Type",
            b"Content-Encoding",
            b"Content-Range",
            b"Proxy-Authorization",
            b"content-LENGTH",
        )
    ),
)


def _counted(fields: bytes, version: bytes = b"1.1") -> bytes:
    return head(b"POST", fields, version=version) + b"hello" + SMUGGLED


def _later(name: str, *bad: bytes) -> Case:
    """The upstream has the beginning by then: it must never see the end."""
    begun = chunked_post(b"5\r\nhello\r\n")
    return Case(name, (begun, Until.UPSTREAM_HAS_HEAD, *bad), (Refused(400, "malformed_request"),), Torn())


CASES: Final = (
    *(refused(f"both: {name}", head(b"POST", fields) + _HIDING) for name, fields in _BOTH),
    *(
        refused(
            f"length {len(value)} digits long" if len(value) > 30 else f"length {value!r:.40}",
            _counted(b"Content-Length: " + value + b"\r\n"),
        )
        for value in _LENGTHS
    ),
    refused("an odd length in HTTP/1.0", _counted(b"Content-Length: +5\r\n", b"1.0")),
    refused("an odd length with GET", head(fields=b"Content-Length: 0x2\r\n") + b"{}"),
    *(refused(f"two lengths: {name}", _counted(fields)) for name, fields in _TWO_LENGTHS),
    *(refused(f"length: {name}", _counted(fields)) for name, fields in _LENGTHS_SPELLED),
    *(
        refused(f"coding {value!r}", head(b"POST", b"Transfer-Encoding: " + value + b"\r\n") + _HIDING)
        for value in _CODINGS
    ),
    *(refused(f"coding: {name}", head(b"POST", fields) + _HIDING) for name, fields in _SPELLED),
    refused("a coding in HTTP/1.0", head(b"POST", _TE, version=b"1.0") + _HIDING),
    refused("a coding and a length in HTTP/1.0", head(b"POST", _TE + _CL, version=b"1.0") + _HIDING),
    refused("a coding in HTTP/1.0, kept", head(b"POST", _TE + b"Connection: keep-alive\r\n", version=b"1.0") + _HIDING),
    refused(
        "a length that Connection names, beside a coding",
        head(b"POST", b"Connection: content-length\r\n" + _CL + _TE) + _HIDING,
    ),
    *(refused(f"chunks: {name}", chunked_post(body + SMUGGLED)) for name, body in _CHUNK_BODIES),
    *(
        refused(f"trailers: {name}", chunked_post(chunks(b"hello", trailers=lines) + SMUGGLED))
        for name, lines in _TRAILERS
    ),
    _later("chunks: malformed after the first was forwarded", b"zz\r\n"),
    _later("chunks: too long after the first was forwarded", b"5\r\nhello!\r\n0\r\n\r\n"),
    _later("trailers: malformed after the body was forwarded", b"0\r\nContent-Length: 5\r\n\r\n"),
    Case(
        "a malformed request behind a good one",
        (head() + head(b"POST", _CL + _TE) + _HIDING,),
        (Given(b"hello"), Refused(400, "malformed_request")),
        Methods((b"GET",)),
    ),
    Case(
        "a malformed request behind a chunked one",
        (chunked_post(chunks(b"hello")) + b"GET /v1/smuggled HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",),
        (Given(b"hello"), Refused(400, "malformed_request")),
        Methods((b"POST",)),
    ),
    Case(
        "a second request behind a malformed one",
        (b"POST %b HTTP/1.1\r\n%b%b%b\r\n" % (TARGET, HOST, _CL, _TE) + b"0\r\n\r\n" + SMUGGLED * 5,),
        (Refused(400, "malformed_request"),),
        Nothing(),
    ),
)

GROUP: Final = Group(
    "Requests that could be read in two ways",
    "A request whose end is in doubt is answered 400 and its connection closed; not a byte of it, or of what stands "
    "behind it, reaches the upstream. Where the doubt comes after a good beginning, the upstream sees that broken off.",
    CASES,
)
