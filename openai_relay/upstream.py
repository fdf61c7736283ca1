"""
Forward: treq over our own pooled agent; this module alone knows treq and the API key.

The request goes out with our Host, SNI and Authorization, over TLS that is
always verified.  What treq would do beyond that, it does not do here: follow a
redirect, keep a cookie, ask for gzip and unpack it, hold a body back.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError, TCPTimedOutError, UserError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.web.iweb import IAgent, IResponse

from openai_relay.core.errors import (
    RelayError,
    UpstreamConnectTimeout,
    UpstreamError,
    UpstreamUnreachable,
    UpstreamUntrusted,
)
from openai_relay.core.headers import (
    UpstreamFields,
    for_given_body,
    for_upstream,
    interim_for_client,
    trailers_for_upstream,
    upgrade_for_upstream,
    without_expect,
)
from openai_relay.core.policy import Policy
from openai_relay.core.settings import UpstreamSettings
from openai_relay.http1.bodies import Given, Watched
from openai_relay.http1.client import ClientLimits, StaleConnection
from openai_relay.http1.fields import FieldLines
from openai_relay.http1.pool import Agent, Pool
from openai_relay.http1.request import Request
from openai_relay.http1.response import Response
from openai_relay.tls.client import TLSReactor

#: Methods whose repetition changes nothing at the upstream (RFC 9110 §9.2.2), asked without a body.
_SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})

#: SSL_MODE_RELEASE_BUFFERS, which pyOpenSSL does not name: an idle connection keeps no 16 KiB buffers.
_RELEASE_BUFFERS: Final = 0x10


class BadUpstream(Exception):
    """The upstream cannot be used as it is configured; the message says why and what to do."""


class StreamingClient(HTTPClient):
    """
    treq's client, with its interface and without its habits.

    No redirect is followed, no cookie kept, no coding asked for or undone, no
    body buffered; ``url`` is bytes and goes out as it is.  Anything else that
    treq would take (``params``, ``json``, ``auth`` …) is refused with
    `TypeError`: it would be work per request that a relay has no use for.
    """

    def __init__(self, agent: IAgent) -> None:
        super().__init__(agent)
        self._direct = agent

    def request(  # type: ignore[override]
        self,
        method: bytes,
        url: bytes,
        *,
        headers: FieldLines | None = None,
        data: Any = None,
        unbuffered: bool = True,
        allow_redirects: bool = False,
    ) -> Deferred[IResponse]:
        """Send a request; fires with its response's head, the body flowing through ``deliverBody``."""
        if not unbuffered or allow_redirects:
            raise TypeError("a streaming client neither buffers nor follows redirects")
        return self._direct.request(method, url, headers, data)


def client_context(ca: Path | None) -> SSL.Context:
    """
    The TLS context for upstream connections.

    :param ca: a file of trusted authorities; ``None``: the system's.
    :raises BadUpstream: the file cannot be used.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(_RELEASE_BUFFERS)
    context.set_alpn_protos([b"http/1.1"])
    context.set_verify(SSL.VERIFY_PEER, _as_openssl_says)
    if ca is None:
        context.set_default_verify_paths()
        return context
    try:
        context.load_verify_locations(bytes(ca))
    except SSL.Error:
        raise BadUpstream(f"upstream.ca: {ca}: cannot be read, or holds no certificate in PEM form") from None
    return context


def _as_openssl_says(*results: Any) -> bool:
    return bool(results[-1])


class Upstream:
    """
    One upstream API: its connections, and what its requests carry.

    :param context: for its connections, where it is not what `client_context` makes of the settings.
    :raises BadUpstream: the settings cannot be used.
    """

    def __init__(self, reactor: Any, settings: UpstreamSettings, context: SSL.Context | None = None) -> None:
        parts = urlsplit(settings.url)
        host = parts.hostname or ""
        self.name = host
        self._settings = settings
        try:
            own = UpstreamFields.of(settings)
        except ValueError as error:
            raise BadUpstream(f"upstream: {error}") from None
        #: By the key, organization and project of a client's own rules.
        self._fields: dict[tuple[str | None, str | None, str | None], UpstreamFields] = {(None, None, None): own}
        self._host = host
        self._address = _literal(host)
        self._tls = TLSReactor(reactor, context or client_context(settings.ca), self._prepare, self._verify)
        endpoint = HostnameEndpoint(self._tls, host, parts.port or 443, timeout=settings.connect_timeout)
        self.pool = Pool(
            reactor,
            lambda factory: _cancellable(endpoint.connect(factory)),
            ClientLimits(
                settings.connect_timeout,
                settings.first_byte_timeout,
                settings.idle_timeout,
                settings.keepalive_timeout,
                settings.max_idle_connections,
            ),
        )
        self._origin = settings.url.rstrip("/").encode("ascii")
        self._client = StreamingClient(Agent(self._origin, self.pool))

    def _fields_for(self, policy: Policy) -> UpstreamFields:
        which = (policy.upstream_key, policy.organization, policy.project)
        fields = self._fields.get(which)
        if fields is None:
            settings = self._settings
            fields = self._fields[which] = UpstreamFields.of(
                replace(
                    settings,
                    api_key=settings.api_key if policy.upstream_key is None else settings.keys[policy.upstream_key],
                    organization=policy.organization or settings.organization,
                    project=policy.project or settings.project,
                )
            )
        return fields

    def _prepare(self, connection: SSL.Connection) -> None:
        if self._address is None:
            connection.set_tlsext_host_name(self._host.encode("ascii"))  # RFC 6066 §3: names only

    def _verify(self, connection: SSL.Connection) -> None:
        if self._address is None:
            verify_hostname(connection, self._host)
        else:
            verify_ip_address(connection, self._address)

    async def forward(
        self, request: Request, request_id: bytes, policy: Policy, body: Given | Watched | None = None
    ) -> Response:
        """
        Send a request on; returns with the head of its answer.

        :param policy: whose key it goes with.
        :param body: what goes up in the place of the request's own body; ``None``: that itself.

        A safe request that met a kept connection just as it was closed goes out once more.

        :raises UpstreamError: there is no answer; the class says why.
        """
        own = self._fields_for(policy)
        fields = for_upstream(request.fields, own, request_id)
        if isinstance(body, Given):
            fields = for_given_body(fields, body.length)
        if request.continued:
            fields = without_expect(fields)
        headers = FieldLines(fields if request.upgrade is None else upgrade_for_upstream(fields))
        if request.length is None:
            request.select_trailers = partial(trailers_for_upstream, policy=own)
        request.select_interim = interim_for_client
        try:
            try:
                return await self._send(request, headers, body)
            except StaleConnection:
                if request.method not in _SAFE or request.length != 0:
                    raise
                self.pool.close_idle()  # the others are as old
                return await self._send(request, headers, body)
        except (RelayError, CancelledError):
            raise
        except Exception as error:
            explained = _explain(error)
            if explained is None:
                raise
            raise explained from None

    def _send(self, request: Request, headers: FieldLines, body: Given | Watched | None) -> Deferred[Response]:
        url = self._origin + request.target
        answered = self._client.request(request.method, url, headers=headers, data=request if body is None else body)
        return cast("Deferred[Response]", answered)  # our agent's

    def renew(self, context: SSL.Context) -> None:
        """Connect with this from now on; no further request goes out on a connection that was made before."""
        self._tls.context = context
        self.pool.renew()

    def retire(self) -> None:
        """Nothing new will be asked: close each connection as soon as nothing runs on it."""
        self.pool.retire()

    def close(self) -> Deferred[None]:
        """Close the connections; fires when there is none."""
        return self.pool.close()


def _cancellable(connecting: Deferred[Any]) -> Deferred[Any]:
    """
    As the endpoint's, but cancelling it is always told as `CancelledError`.

    `HostnameEndpoint` has another error for it in each phase, one of which means that the name does not resolve.
    """

    def cancel(connected: Deferred[Any]) -> None:
        connected.errback(CancelledError())
        connecting.cancel()

    connected: Deferred[Any] = Deferred(cancel)
    connecting.addBoth(lambda result: None if connected.called else connected.callback(result))
    return connected


def _literal(host: str) -> str | None:
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def _explain(error: Exception) -> UpstreamError | None:
    """What an exception of the libraries below means; ``None``: it is not theirs."""
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, (DeferredTimeout, ConnectTimeout, TCPTimedOutError)):
        return UpstreamConnectTimeout(detail)
    if isinstance(error, (VerificationError, CertificateError)) or _is_about_certificate(error):
        return UpstreamUntrusted(detail)
    if isinstance(error, (ConnectError, ConnectionClosed, DNSLookupError, UserError, SSL.Error, OSError)):
        return UpstreamUnreachable(detail)
    return None


def _is_about_certificate(error: Exception) -> bool:
    """Whether it was the certificate that OpenSSL did not like, and not for instance that nobody spoke TLS."""
    return isinstance(error, SSL.Error) and "certificate" in str(error)
