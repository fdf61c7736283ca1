"""Well-formed requests that the relay does not forward."""

from __future__ import annotations

from typing import Final

from tests.reliability.case import HOST, TARGET, Case, Group, Nothing, Refused, head
from tests.reliability.malformed_framing import SMUGGLED

_OUTSIDE: Final = (
    b"/", b"/v2/models", b"/v1beta/models", b"/V1/models", b"/v1../x", b"/../v1/models/../../x", b"/v1/../x",
    b"/v1/..", b"/v1/a/../../x", b"/v1/%2e%2e/x", b"/v1/%2E%2E/x", b"/v1/.%2e/x", b"/v1/%252e%252e/x",
    b"/v1%2f..%2fx", b"/v1/..%2fx", b"/v1/..%5cx", b"/v1/..;/x", b"/v1/..;a=b/x", b"/x/../v1/models", b"/%2e/x",
    b"/dashboard?next=/v1/", b"/x/v1/models", b"/.well-known/x", b"/v1%00/../x",
)  # fmt: skip
_DENIED: Final = (
    b"/v1/organization/usage", b"/v1/organization", b"/v1/./organization/usage", b"/v1/a/../organization/usage",
    b"/v1//organization/usage", b"/v1/%6frganization/usage", b"/v1/%256frganization/usage",
    b"/v1/%2e/organization/usage", b"/v1%2forganization/usage", b"/v1/Organization/usage", b"/v1/ORGANIZATION/usage",
    b"/v1/organization%2fusage", b"/v1/organization;a/usage", b"/v1/organization%5cusage", b"/v1/organization%3fa",
    b"/v1/organization%23a", b"/v1/a/%2e%2e/organization/usage", b"/v1/%ef%bd%8frganization/usage",
)  # fmt: skip
_ILLEGAL: Final = (
    b"/v1/a\\b", b"/v1\\..\\x", b"/v1/a#b", b"/v1/a%", b"/v1/a%2", b"/v1/a%zz", b"/v1/a%00b", b"/v1/a%0d%0ab",
    b"/v1/a%ff", b"/v1/a%c0%ae", b"/v1/a%7f", b"/v1/a?b#c", b"/v1/a?b\\c",
)  # fmt: skip
_ELSEWHERE: Final = (
    b"http://elsewhere.example/v1/case", b"https://elsewhere.example/v1/case", b"http://relay.example:81/v1/case",
    b"http://relay.example@elsewhere.example/v1/case", b"http://user@relay.example/v1/case",
    b"ftp://relay.example/v1/case", b"http:/v1/case", b"http:///v1/case", b"//elsewhere.example/v1/case", b"v1/case",
    b"relay.example:443", b"?x", b"file:///etc/passwd", b"*/v1/case",
)  # fmt: skip
_UPGRADES: Final = (b"h2c", b"TLS/1.0", b"HTTP/2.0", b"connect-udp", b"masque", b"IRC/6.9", b"h2c, foo")


def _refusal(name: str, sent: bytes, status: int, code: str, closes: bool | None) -> Case:
    return Case(name, (sent,), (Refused(status, code, closes),), Nothing())


def _method(method: bytes, status: int, code: str, closes: bool | None = True, target: bytes = TARGET) -> Case:
    return _refusal(f"method {method.decode()} {shortened(target)}", head(method, target=target), status, code, closes)


def shortened(target: bytes) -> str:
    """A target as part of a name."""
    return "" if target == TARGET else target.decode("latin-1")


CASES: Final = (
    *(
        _refusal(f"outside: {target.decode()}", head(target=target), 403, "path_not_allowed", False)
        for target in _OUTSIDE
        if b"%00" not in target
    ),
    *(
        _refusal(f"denied: {target.decode()}", head(target=target), 403, "path_not_allowed", False)
        for target in _DENIED
    ),
    *(
        _refusal(f"no legal path: {target.decode()}", head(target=target), 400, "malformed_request", None)
        for target in _ILLEGAL
    ),
    _refusal("no legal path: NUL before dots", head(target=b"/v1%00/../x"), 400, "malformed_request", None),
    *(
        _refusal(
            f"target {target.decode()}",
            head(target=target),
            400 if not target.startswith(b"//") else 403,
            "malformed_request" if not target.startswith(b"//") else "path_not_allowed",
            None,
        )
        for target in _ELSEWHERE
    ),
    _refusal(
        "the URL of another host than Host",
        b"GET http://relay.example/v1/case HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n",
        400,
        "malformed_request",
        True,
    ),
    _refusal(
        "a denied path with a body",
        head(b"POST", b"Content-Length: 5\r\n", b"/v1/organization/x") + b"hello",
        403,
        "path_not_allowed",
        None,
    ),
    _refusal("OPTIONS *", head(b"OPTIONS", target=b"*"), 403, "path_not_allowed", False),
    _refusal("GET *", head(target=b"*"), 400, "malformed_request", None),
    _method(b"TRACE", 405, "method_not_allowed", closes=False),
    _method(b"CONNECT", 405, "method_not_allowed", target=b"elsewhere.example:443"),
    _method(b"CONNECT", 405, "method_not_allowed", target=b"api.openai.com:443"),
    _refusal(
        "CONNECT with a request behind it",
        b"CONNECT relay.example:443 HTTP/1.1\r\n" + HOST + b"\r\n" + SMUGGLED,
        405,
        "method_not_allowed",
        True,
    ),
    *(_method(method, 501, "method_not_implemented") for method in (b"FOO", b"get", b"Get", b"GETS", b"X" * 200)),
    *(
        _refusal(
            f"upgrade to {name.decode()}",
            head(fields=b"Connection: Upgrade\r\nUpgrade: " + name + b"\r\n"),
            501,
            "upgrade_not_supported",
            None,
        )
        for name in _UPGRADES
    ),
    _refusal(
        "upgrade to h2c with its settings",
        head(fields=b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"),
        501,
        "upgrade_not_supported",
        None,
    ),
    _refusal(
        "upgrade to h2c with a body",
        head(b"POST", b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n") + b"hello",
        501,
        "upgrade_not_supported",
        None,
    ),
    _refusal("an unknown expectation", head(fields=b"Expect: 200-ok\r\n"), 417, "expectation_failed", True),
    _refusal(
        "two expectations",
        head(fields=b"Expect: 100-continue\r\nExpect: 100-continue\r\n"),
        417,
        "expectation_failed",
        True,
    ),
    _refusal("an expectation with more", head(fields=b"Expect: 100-continue, x\r\n"), 417, "expectation_failed", True),
)

GROUP: Final = Group(
    "Requests that are not forwarded",
    "Paths outside what is allowed in any reading, other hosts, CONNECT, TRACE, unknown methods, expectations and "
    "upgrades are refused with a clear status; nothing of them reaches the upstream.",
    CASES,
)
