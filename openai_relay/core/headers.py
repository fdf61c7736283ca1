"""
Decide which header fields cross, each way: hop-by-hop off first, ours on after.

Fields are pairs in the order and case in which they came, and leave so.  A
name costs one ``lower()`` and one look into a table; only names in no table
are matched against families.  RFC 9110 §7.6.1 says what is hop-by-hop;
``docs/headers.md`` says why anything else is taken off.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from openai_relay.core.errors import Pair
from openai_relay.core.settings import UpstreamSettings

_PASS: Final = 0
_DROP: Final = 1
_OPTIONS: Final = 2  #: the Connection field: drop it, and what it names
_OURS: Final = 3  #: ours stands in its place
_REQUEST_ID: Final = 4
_MEDIA_TYPE: Final = 5
_NO_BUFFERING: Final = 6
_PROTOCOLS: Final = 8  #: WebSocket subprotocols, one of which may be a key
_LIMIT: Final = 7  #: ours where this relay limits the same, else passed

_HOP_BY_HOP: Final = {
    b"connection": _OPTIONS,
    **dict.fromkeys(
        (
            b"keep-alive",
            b"proxy-authenticate",
            b"proxy-authentication-info",
            b"proxy-authorization",
            b"proxy-connection",
            b"te",
            b"transfer-encoding",
            b"upgrade",
        ),
        _DROP,
    ),
}

#: What SDKs, curl and browsers send: listed so that it passes at the first look.
_USUAL: Final = dict.fromkeys(
    (
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"idempotency-key",
        b"openai-beta",
        b"origin",
        b"pragma",
        b"referer",
        b"traceparent",
        b"tracestate",
        b"trailer",
        b"user-agent",
        b"x-stainless-arch",
        b"x-stainless-async",
        b"x-stainless-helper-method",
        b"x-stainless-lang",
        b"x-stainless-os",
        b"x-stainless-package-version",
        b"x-stainless-raw-response",
        b"x-stainless-read-timeout",
        b"x-stainless-retry-count",
        b"x-stainless-runtime",
        b"x-stainless-runtime-version",
        b"x-stainless-timeout",
    ),
    _PASS,
)

#: Who is calling, from where and by which path: nobody is believed about it, so nobody further on may read it.
_CLAIMS: Final = dict.fromkeys(
    (
        b"cookie",
        b"cookie2",
        b"forwarded",
        b"true-client-ip",
        b"via",
        b"x-arr-clientcert",
        b"x-client-cn",
        b"x-client-dn",
        b"x-client-ip",
        b"x-client-s-dn",
        b"x-cluster-client-ip",
        b"x-original-forwarded-for",
        b"x-original-uri",
        b"x-original-url",
        b"x-real-ip",
        b"x-rewrite-url",
    ),
    _DROP,
)
_CLAIM_FAMILIES: Final = (
    b"cf-",
    b"client-cert",
    b"proxy-",
    b"ssl-client",
    b"tls-client-",
    b"x-amzn-mtls-",
    b"x-client-cert",
    b"x-client-fingerprint",
    b"x-client-issuer",
    b"x-client-san",
    b"x-client-serial",
    b"x-client-subject",
    b"x-client-verif",
    b"x-forwarded",
    b"x-relay-",
    b"x-ssl-",
    b"x-tls-client-",
)
_FAMILY_INITIALS: Final = frozenset(family[0] for family in _CLAIM_FAMILIES)

#: Options of a Connection field that name nothing which is left to remove.
_PLAIN_OPTIONS: Final = frozenset((b"keep-alive", b"close", b"upgrade", b"te"))

#: What a Connection field cannot remove: what frames the message, says who pays, or is set by the relay.
_PROTECTED: Final = frozenset(
    (
        b"api-key",
        b"authorization",
        b"content-length",
        b"host",
        b"openai-organization",
        b"openai-project",
        b"x-accel-buffering",
        b"x-client-request-id",
    )
)
#: What browsers, which cannot set Authorization, hide among WebSocket subprotocols.
_CREDENTIAL_PROTOCOLS: Final = (b"openai-insecure-api-key.", b"openai-organization.", b"openai-project.")
#: What asks for a WebSocket (RFC 6455 §4.1), and answers that.
_UPGRADE_PAIR: Final[Pair] = (b"Upgrade", b"websocket")
_NO_BUFFERING_PAIR: Final[Pair] = (b"X-Accel-Buffering", b"no")


@dataclass(frozen=True, slots=True)
class UpstreamFields:
    """What one upstream's requests are sent with; made once from the settings, used for every request."""

    #: Our fields, by the lower-case name of those they stand for; ``host`` is the first.
    ours: Mapping[bytes, Pair] = field(repr=False)  # one of them is the key
    actions: Mapping[bytes, int] = field(repr=False)

    @classmethod
    def of(cls, settings: UpstreamSettings) -> UpstreamFields:
        """
        What the settings ask for.

        :raises ValueError: when the URL names no host, a value fits no field, or the key to inject is missing.
        """
        ours: dict[bytes, Pair] = {b"host": (b"Host", _host_of(settings.url))}
        actions = _HOP_BY_HOP | _USUAL | _CLAIMS | {b"host": _OURS, b"x-client-request-id": _REQUEST_ID}
        if settings.authorization == "inject":
            if settings.api_key is None:
                raise ValueError("the upstream's authorization is to be injected, but there is no api_key")
            ours[b"authorization"] = (b"Authorization", b"Bearer " + _value_of("api_key", settings.api_key.reveal()))
            # The client's own are taken off even where we have nothing to put there: the account is ours.
            actions |= dict.fromkeys((b"authorization", b"openai-organization", b"openai-project"), _OURS)
            actions |= {b"api-key": _DROP, b"sec-websocket-protocol": _PROTOCOLS}
        else:
            # Named, so that their spelling with `_`, which is not what they are, is taken off.
            actions |= dict.fromkeys((b"authorization", b"api-key"), _PASS)
        for key, name, value in (
            ("organization", b"OpenAI-Organization", settings.organization),
            ("project", b"OpenAI-Project", settings.project),
        ):
            if value is not None:
                ours[name.lower()] = (name, _value_of(key, value.encode()))
                actions[name.lower()] = _OURS
        return cls(ours, actions)


_RESPONSE_ACTIONS: Final = _HOP_BY_HOP | {
    b"alt-svc": _DROP,
    b"content-type": _MEDIA_TYPE,
    b"set-cookie": _DROP,
    b"set-cookie2": _DROP,
    b"strict-transport-security": _DROP,
    b"x-accel-buffering": _NO_BUFFERING,
    b"x-ratelimit-limit-requests": _LIMIT,
    b"x-ratelimit-remaining-requests": _LIMIT,
    b"x-ratelimit-reset-requests": _LIMIT,
    b"x-ratelimit-limit-tokens": _LIMIT,
    b"x-ratelimit-remaining-tokens": _LIMIT,
    b"x-ratelimit-reset-tokens": _LIMIT,
    b"x-relay-request-id": _DROP,
}


def for_upstream(fields: Iterable[Pair], policy: UpstreamFields, request_id: bytes) -> list[Pair]:
    """
    The fields of a request as the upstream gets them.

    :param request_id: becomes ``X-Client-Request-Id`` when the client sent none.
    """
    crossing: list[Pair] = []
    actions = policy.actions
    missing = dict(policy.ours)
    named: set[bytes] = set()
    identified = False
    for pair in fields:
        name = pair[0].lower()
        action = actions.get(name)
        if action is None:
            action = _unlisted(name, actions)
        if action == _PASS:
            crossing.append(pair)
        elif action == _OURS:
            ours = missing.pop(name, None)
            if ours is not None:
                crossing.append(ours)
        elif action == _OPTIONS:
            _add_options(pair[1], named)
        elif action == _REQUEST_ID:
            identified = True
            crossing.append(pair)
        elif action == _PROTOCOLS:
            crossing.extend(_without_credentials(pair))
    if named:
        crossing = _without(crossing, named)
    if b"host" in missing:
        crossing.insert(0, missing.pop(b"host"))
    crossing.extend(missing.values())
    if not identified:
        crossing.append((b"X-Client-Request-Id", request_id))
    return crossing


def for_client(fields: Iterable[Pair], relay_request_id: bytes, own: Sequence[Pair] = ()) -> list[Pair]:
    """
    The fields of the upstream's answer as the client gets them.

    :param own: the relay's own fields; where ``x-ratelimit-*`` are among them, the upstream's of these names go.
    """
    crossing: list[Pair] = []
    actions = _RESPONSE_ACTIONS
    named: set[bytes] = set()
    is_event_stream = says_no_buffering = False
    ours = {pair[0] for pair in own}
    for pair in fields:
        action = actions.get(pair[0].lower())
        if action is None:
            crossing.append(pair)
        elif action == _MEDIA_TYPE:
            is_event_stream = pair[1].split(b";", 1)[0].strip().lower() == b"text/event-stream"
            crossing.append(pair)
        elif action == _OPTIONS:
            _add_options(pair[1], named)
        elif action == _NO_BUFFERING:
            says_no_buffering = True
            crossing.append(pair)
        elif action == _LIMIT and pair[0].lower() not in ours:
            crossing.append(pair)
    if named:
        crossing = _without(crossing, named)
    if is_event_stream and not says_no_buffering:
        crossing.append(_NO_BUFFERING_PAIR)
    crossing.extend(own)
    crossing.append((b"x-relay-request-id", relay_request_id))
    return crossing


def for_given_body(fields: list[Pair], length: int) -> list[Pair]:
    """
    The fields of a request whose body was changed, and whose answer may have to be.

    :param length: of the body, in bytes.
    """
    kept = [pair for pair in fields if pair[0].lower() not in (b"content-length", b"accept-encoding")]
    return [*kept, (b"Content-Length", b"%d" % length), (b"Accept-Encoding", b"identity")]


def without_expect(fields: list[Pair]) -> list[Pair]:
    """The fields of a request that was told to continue already."""
    return [pair for pair in fields if pair[0].lower() != b"expect"]


def without_length(fields: list[Pair]) -> list[Pair]:
    """The fields of an answer of which something will be taken out on its way."""
    return [pair for pair in fields if pair[0].lower() != b"content-length"]


def upgrade_for_upstream(fields: list[Pair]) -> list[Pair]:
    """The fields of a request that asks for a WebSocket: ``for_upstream`` has taken the asking off."""
    return [*fields, (b"Connection", b"Upgrade"), _UPGRADE_PAIR]


def upgrade_for_client(fields: list[Pair]) -> list[Pair]:
    """The fields of a 101; its ``Connection`` is the wire's."""
    return [*fields, _UPGRADE_PAIR]


def _without_credentials(pair: Pair) -> list[Pair]:
    """A line of subprotocols without those that say who pays; none, when no other is offered."""
    offered = [protocol.strip() for protocol in pair[1].split(b",")]
    left = [protocol for protocol in offered if not protocol.lower().startswith(_CREDENTIAL_PROTOCOLS)]
    return [pair] if left == offered else [(pair[0], b", ".join(left))] if left else []


def trailers_for_upstream(trailers: Iterable[Pair], policy: UpstreamFields) -> list[Pair]:
    """
    The trailer fields of a request as the upstream gets them.

    What would be removed or replaced in the head is taken off: a recipient may
    merge trailers into it (RFC 9110 §6.5.1).
    """
    return [pair for pair in trailers if _passes(pair[0].lower(), policy.actions)]


def interim_for_client(fields: Iterable[Pair]) -> list[Pair]:
    """The fields of an interim answer (1xx) as the client gets them: nothing of ours belongs there."""
    fields = list(fields)
    named: set[bytes] = set()
    for name, value in fields:
        if name.lower() == b"connection":
            _add_options(value, named)
    return _without(trailers_for_client(fields), named)


def trailers_for_client(trailers: Iterable[Pair]) -> list[Pair]:
    """The trailer fields of the upstream's answer as the client gets them; see ``trailers_for_upstream``."""
    return [pair for pair in trailers if pair[0].lower() not in _RESPONSE_ACTIONS]


def _passes(name: bytes, actions: Mapping[bytes, int]) -> bool:
    action = actions.get(name)
    if action is None:
        action = _unlisted(name, actions)
    return action == _PASS and name not in _PROTECTED


def _unlisted(name: bytes, actions: Mapping[bytes, int]) -> int:
    """
    What becomes of a request's name that is in no table.

    CGI and WSGI read ``_`` as ``-``: a name spelled so is taken off when the
    relay removes or sets what it would be read as.
    """
    if b"_" in name:
        name = name.replace(b"_", b"-")
        if actions.get(name, _PASS) != _PASS or name in _PROTECTED:
            return _DROP
    return _DROP if name[:1] and name[0] in _FAMILY_INITIALS and name.startswith(_CLAIM_FAMILIES) else _PASS


def _add_options(value: bytes, named: set[bytes]) -> None:
    option = value.lower()
    if option not in _PLAIN_OPTIONS:
        named.update({word.strip(b" \t") for word in option.split(b",")} - _PLAIN_OPTIONS - _PROTECTED)


def _without(fields: Iterable[Pair], named: Collection[bytes]) -> list[Pair]:
    return [pair for pair in fields if pair[0].lower() not in named]


def _host_of(url: str) -> bytes:
    """The Host of an ``http`` or ``https`` URL: its port only when it is not the scheme's own."""
    parts = urlsplit(url)
    if not parts.hostname or not parts.hostname.isascii():
        raise ValueError(f"the upstream's URL names no host in ASCII: {url!r}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if parts.port not in (None, {"https": 443, "http": 80}.get(parts.scheme)):
        host = f"{host}:{parts.port}"
    return host.encode()


def _value_of(key: str, value: bytes) -> bytes:
    """A setting as a field's value; what it holds is not told, since it may be the key."""
    if not value or value != value.strip() or not value.isascii() or not value.decode().isprintable():
        raise ValueError(f"{key} must be printable ASCII without spaces around it, to be sent in a header field")
    return value
