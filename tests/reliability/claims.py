"""Fields by which a client could claim to be somebody else, or change what the relay says: nobody gets to read them."""

from __future__ import annotations

from typing import Final

from tests.reliability.case import (
    KEY,
    REQUEST_ID,
    UPSTREAM_HOST,
    Case,
    Given,
    Group,
    Requests,
    chunked_post,
    chunks,
    head,
)

_IDENTITY: Final = (
    b"X-SSL-Client-CN", b"X-SSL-Client-Cert", b"X-SSL-Client-S-DN", b"X-SSL-Client-Verify",
    b"x-ssl-client-fingerprint", b"X-SSL-Subject", b"X-SSL-", b"SSL-Client-Cert", b"SSL-Client-Verify",
    b"SSL_CLIENT_S_DN", b"SSL_CLIENT_CERT", b"TLS-Client-Cert", b"X-TLS-Client-Subject", b"X-Forwarded-Client-Cert",
    b"x-forwarded-client-cert", b"X_Forwarded_Client_Cert", b"X-Forwarded_Client-Cert", b"Client-Cert",
    b"client-cert", b"Client-Cert-Chain", b"CLIENT_CERT", b"Client_Cert", b"X-Client-Cert", b"X-Client-Certificate",
    b"X-Client-CN", b"X_Client_CN", b"X-Client-DN", b"X-Client-S-DN", b"X-Client-San", b"X-Client-Subject",
    b"X-Client-Issuer", b"X-Client-Serial", b"X-Client-Fingerprint", b"X-Client-Verify", b"X-Client-Verified",
    b"X-Amzn-Mtls-Clientcert", b"X-Amzn-Mtls-Clientcert-Leaf", b"X-ARR-ClientCert", b"x-arr-clientcert",
    b"X-Relay-Client", b"X-Relay-Identity", b"x-relay-request-id", b"X_Relay_Client", b"x-RELAY_identity",
    b"x_relay_request_id",
)  # fmt: skip
_NETWORK: Final = (
    b"Forwarded", b"FORWARDED", b"Via", b"X-Forwarded-For", b"x-forwarded-for", b"X_Forwarded_For",
    b"X-Forwarded-Host", b"X-Forwarded-Proto", b"X-Forwarded-Port", b"X-Forwarded-Server", b"X-Forwarded-Prefix",
    b"X-Forwarded", b"X-Real-IP", b"X_Real_IP", b"X-Client-IP", b"X-Cluster-Client-IP", b"X-Original-Forwarded-For",
    b"True-Client-IP", b"CF-Connecting-IP", b"CF-Ray", b"cf-ipcountry", b"CF_Connecting_IP", b"X-Original-URL",
    b"X-Original-URI", b"X-Rewrite-URL", b"x_original_url", b"Cookie", b"Cookie2",
)  # fmt: skip
_ACCOUNT: Final = (
    b"OpenAI-Organization", b"openai-organization", b"OpenAI_Organization", b"OpenAI-Project", b"OPENAI_PROJECT",
    b"api-key", b"API-Key", b"api_key", b"Proxy-Authorization", b"Proxy_Authorization", b"Proxy-Authenticate",
    b"Proxy-Connection", b"Proxy-Anything",
)  # fmt: skip
#: What reads `_` as `-` would be led astray by them.
_DISGUISED: Final = (
    b"Content_Length", b"CONTENT_LENGTH", b"content_length", b"Transfer_Encoding", b"TRANSFER_ENCODING",
    b"X_Client_Request_Id", b"Keep_Alive",
)  # fmt: skip


def _ours(fields: bytes, method: bytes = b"GET", body: bytes = b"") -> Requests:
    """The one request that the upstream must get, its further fields given."""
    form = b"%b /v1/case HTTP/1.1\r\nHost: %b\r\n%bAuthorization: Bearer %b\r\nX-Client-Request-Id: %b\r\n\r\n%b"
    return Requests((form % (method, UPSTREAM_HOST, fields, KEY, REQUEST_ID, body),))


def _served(name: str, fields: bytes, crossing: bytes) -> Case:
    return Case(name, (head(fields=fields),), (Given(b"hello"),), _ours(crossing))


def _removed(name: bytes) -> Case:
    between = b"X-Before: 1\r\n", b"X-After: 1\r\n"
    return _served(f"{name.decode()} ends here", (name + b": mallory\r\n").join(between), b"".join(between))


def _named(name: str, options: bytes, fields: bytes, crossing: bytes) -> Case:
    return _served(f"Connection names {name}", b"Connection: " + options + b"\r\n" + fields, crossing)


def _chunked(trailers: bytes) -> Requests:
    """The one chunked request that the upstream must get."""
    (request,) = _ours(b"", b"POST").messages
    coded = request.removesuffix(b"\r\n") + b"Transfer-Encoding: chunked\r\n\r\n"
    return Requests((coded + chunks(b"hello", trailers=trailers),))


_IN_TRAILERS: Final = (
    *(b"X-SSL-Client-CN", b"X_SSL_Client_CN", b"Client-Cert", b"X-Forwarded-For", b"Forwarded", b"X-Relay-Identity"),
    *(b"api-key", b"OpenAI-Organization", b"X-Client-Request-Id"),
)
_KEPT: Final = b"X-Kept: 1\r\n"
_COUNTED: Final = b"Content-Length: 5\r\n"

CASES: Final = (
    *(_removed(name) for name in (*_IDENTITY, *_NETWORK, *_ACCOUNT, *_DISGUISED)),
    _served(
        "a claim three times", b"X-SSL-Client-CN: a\r\nX-Kept: 1\r\nx-ssl-client-cn: b\r\nX-SSL-CLIENT-CN: c\r\n", _KEPT
    ),
    Case(
        "the client's Authorization, twice",
        (head(fields=b"Authorization: Bearer a\r\nX-Kept: 1\r\nauthorization: Basic b\r\n"),),
        (Given(b"hello"),),
        Requests(
            (
                b"GET /v1/case HTTP/1.1\r\nHost: %b\r\nAuthorization: Bearer %b\r\nX-Kept: 1\r\n"
                b"X-Client-Request-Id: %b\r\n\r\n" % (UPSTREAM_HOST, KEY, REQUEST_ID),
            )
        ),
    ),
    _named("a field", b"X-Gone", b"X-Gone: 1\r\nX-Kept: 1\r\n", _KEPT),
    _named("a field in other letters", b"x-gONE", b"X-Gone: 1\r\nX-Kept: 1\r\nX-GONE: 2\r\n", _KEPT),
    _named("two fields", b"X-Gone, X-Too", b"X-Too: 1\r\nX-Kept: 1\r\nX-Gone: 1\r\n", _KEPT),
    _named("fields among empty options", b", X-Gone,, ,\tX-Too ,", b"X-Too: 1\r\nX-Kept: 1\r\nX-Gone: 1\r\n", _KEPT),
    _named("a field and keep-alive", b"keep-alive, X-Gone", b"X-Gone: 1\r\nX-Kept: 1\r\n", _KEPT),
    _named("fields in two lines", b"X-Gone\r\nConnection: X-Too", b"X-Too: 1\r\nX-Kept: 1\r\nX-Gone: 1\r\n", _KEPT),
    _served("Connection behind what it names", b"X-Gone: 1\r\nX-Kept: 1\r\nConnection: X-Gone\r\n", _KEPT),
    _named("a field that is not there", b"X-Gone", _KEPT, _KEPT),
    _named("Authorization: ours goes out", b"Authorization", _KEPT, _KEPT),
    _named("Host: ours goes out", b"Host", _KEPT, _KEPT),
    _named("X-Client-Request-Id: ours goes out", b"X-Client-Request-Id", _KEPT, _KEPT),
    _named("itself", b"Connection", _KEPT, _KEPT),
    Case(
        "Connection names Content-Length: the body is framed all the same",
        (head(b"POST", b"Connection: Content-Length\r\n" + _COUNTED) + b"hello",),
        (Given(b"hello"),),
        _ours(_COUNTED, b"POST", b"hello"),
    ),
    Case(
        "Connection names Transfer-Encoding: the body is framed all the same",
        (chunked_post(chunks(b"hello"), b"Connection: Transfer-Encoding\r\n"),),
        (Given(b"hello"),),
        _chunked(b""),
    ),
    *(
        Case(
            f"{name.decode()} as a trailer ends here",
            (chunked_post(chunks(b"hello", trailers=b"X-Kept: 1\r\n%b: mallory\r\n" % name)),),
            (Given(b"hello"),),
            _chunked(_KEPT),
        )
        for name in _IN_TRAILERS
    ),
    _served("TE and Keep-Alive", b"TE: trailers, deflate\r\nX-Kept: 1\r\nKeep-Alive: timeout=5\r\n", _KEPT),
    _served("Upgrade that Connection does not name", b"Upgrade: h2c\r\nX-Kept: 1\r\n", _KEPT),
)

GROUP: Final = Group(
    "Claims",
    "Fields that claim an identity, an origin or an account end at the relay in every spelling, as does what "
    "Connection names; what the relay says by itself (Host, Authorization, framing) can neither be forged nor taken "
    "away.",
    CASES,
)
