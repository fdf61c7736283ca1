"""
Every way an exchange can fail, and what the client is told.

A class per cause.  ``told`` is the sentence the client reads; the exception's
own message is for our log only and may name hosts and libraries.  The body is
OpenAI's error object, so that its SDKs raise what their users expect.
"""

from __future__ import annotations

import json
from typing import ClassVar, Final

Pair = tuple[bytes, bytes]

#: The longest wait that both openai-python and openai-node obey.
LONGEST_RETRY_AFTER_MS: Final = 60_000


class RelayError(Exception):
    """An exchange failed; the base of all causes, and never raised itself."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "relay_error"
    code: ClassVar[str] = "relay_error"
    #: What the client is told, in words that hold no name, address or secret.
    told: str = "The relay failed to handle this request."
    #: The code of the WebSocket close that says it inside a tunnel (RFC 6455 §7.4.1); None: the tunnel is cut.
    close_code: ClassVar[int | None] = None
    #: How the exchange ended, for the log: ``refused``, ``client_gone``, ``upstream_error`` …
    end: ClassVar[str] = "refused"

    def __init__(self, detail: str = "", told: str | None = None) -> None:
        super().__init__(detail or told or self.told)
        if told is not None:
            self.told = told

    def headers(self) -> list[Pair]:
        """Fields to add to the refusal, beside type and length."""
        return []


class RelayBug(RelayError):
    """Something that was not foreseen: logged with its traceback, told as a plain 500."""

    code = "relay_bug"
    end = "bug"


class BadRequest(RelayError):
    """The request is malformed (RFC 9112) and nothing of it may be forwarded."""

    status = 400
    type = "invalid_request_error"
    code = "malformed_request"
    told = "The request is not well-formed HTTP/1.1."


class HeadTooLarge(BadRequest):
    """The request's head is longer than the limit."""

    status = 431
    code = "head_too_large"
    told = "The request's header fields are too large."


class RequestTimeout(BadRequest):
    """The client did not send its request, or the rest of it, in time."""

    status = 408
    code = "request_timeout"
    told = "The request did not arrive in time."
    end = "timeout"


class ExpectationFailed(BadRequest):
    """An ``Expect`` other than 100-continue (RFC 9110 §10.1.1)."""

    status = 417
    code = "expectation_failed"
    told = "The relay supports no expectation but 100-continue."


class Unauthenticated(RelayError):
    """No certificate, or one that does not hold."""

    status = 401
    type = "invalid_request_error"
    code = "client_certificate_required"
    told = "A valid client certificate is required."


class CertificateExpired(Unauthenticated):
    """The certificate was valid at the handshake and no longer is."""

    code = "client_certificate_expired"
    close_code = 1008
    told = "The client certificate has expired."


class PathNotAllowed(RelayError):
    """The path is outside the allow-list, or refused by name."""

    status = 403
    type = "invalid_request_error"
    code = "path_not_allowed"
    told = "The relay does not allow this path."


class NoSuchPath(RelayError):
    """Under ``/relay/``, where the relay answers itself, and there is nothing."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"
    told = "The relay has nothing at this path of its own. There is GET /relay/v1/me."


class ClientDisabled(RelayError):
    """The certificate holds, and its client has been switched off by name."""

    status = 403
    type = "invalid_request_error"
    code = "client_disabled"
    close_code = 1008
    told = "The relay's operator has disabled this client."


class ModelNotAllowed(RelayError):
    """The model is none of those that this client may use."""

    status = 403
    type = "invalid_request_error"
    code = "model_not_allowed"
    close_code = 1008
    told = "The relay does not allow this model for this client."


class ModelHidden(BadRequest):
    """A rule about models applies, and the request does not show which model it wants."""

    code = "model_hidden"
    told = (
        "This client may use certain models only, and the relay could not read which one this request asks for. "
        'Put "model" at the beginning of the body, as plain uncompressed text.'
    )


class MethodRefused(PathNotAllowed):
    """This client may not use this method."""

    code = "method_not_allowed_for_client"
    told = "The relay does not allow this method for this client."


class MethodNotAllowed(RelayError):
    """CONNECT and TRACE are never forwarded."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"
    told = "The relay does not forward this method."

    def __init__(self, detail: str = "", allow: bytes = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS") -> None:
        super().__init__(detail)
        self._allow = allow

    def headers(self) -> list[Pair]:
        """``Allow``, which a 405 must carry (RFC 9110 §15.5.6)."""
        return [(b"Allow", self._allow)]


class UnknownMethod(BadRequest):
    """A method that HTTP's registry does not have (RFC 9110 §15.6.2)."""

    status = 501
    code = "method_not_implemented"
    told = "The relay does not know this method."

    def headers(self) -> list[Pair]:
        """SDKs try a 5xx again, which would be in vain."""
        return [(b"x-should-retry", b"false")]


class TunnelIdle(RelayError):
    """Nothing has moved through a WebSocket for too long."""

    status = 408
    type = "invalid_request_error"
    code = "websocket_idle"
    close_code = 1001
    told = "Nothing was sent through this WebSocket for too long."
    end = "timeout"


class UpgradeRefused(RelayError):
    """The client asked for another protocol, which this relay does not carry."""

    status = 501
    type = "invalid_request_error"
    code = "upgrade_not_supported"
    told = "The relay carries no protocol upgrade but WebSocket."

    def headers(self) -> list[Pair]:
        """SDKs must fall back at once instead of trying again."""
        return [(b"x-should-retry", b"false")]


class RateLimited(RelayError):
    """A limit of this certificate is reached; the next try may pass after ``wait_ns``."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"
    end = "limited"

    def __init__(self, wait_ns: int, told: str, extra: list[Pair] | None = None) -> None:
        super().__init__(told, told)
        self.wait_ns = wait_ns
        self._extra = extra or []

    def headers(self) -> list[Pair]:
        """``retry-after-ms`` rounded up, and ``retry-after`` in whole seconds; at most 60 s."""
        wait_ms = min(max(-(-self.wait_ns // 1_000_000), 1), LONGEST_RETRY_AFTER_MS)
        return [
            (b"retry-after-ms", b"%d" % wait_ms),
            (b"retry-after", b"%d" % -(-wait_ms // 1_000)),
            *self._extra,
        ]


class TokensLimited(RateLimited):
    """The tokens of this certificate's minute are used or reserved."""

    type = "tokens"
    code = "token_limit_exceeded"


class TooManyConcurrent(RateLimited):
    """As many exchanges of this certificate are open as it may have."""

    code = "concurrency_limit_exceeded"


class TooManyConnections(RateLimited):
    """
    This certificate holds as many connections as it may.

    :ivar key: of the one that holds them.
    :ivar heard: its connections over the limit are few enough to be told; any more are closed unheard.
    """

    code = "connection_limit_exceeded"
    key: str = ""
    heard: bool = True


class BudgetSpent(RelayError):
    """A budget of this client has nothing left for this request until its period ends."""

    status = 429
    type = "insufficient_quota"
    code = "budget_exceeded"
    close_code = 1008
    told = "The budget of this client is spent."
    end = "limited"

    def headers(self) -> list[Pair]:
        """SDKs try every 429 again, which would be in vain."""
        return [(b"x-should-retry", b"false")]


class ShuttingDown(RelayError):
    """The relay is stopping and takes no new request."""

    status = 503
    type = "service_unavailable_error"
    code = "relay_shutting_down"
    close_code = 1012
    told = "The relay is restarting; please try again."
    end = "drained"


class ClientGone(RelayError):
    """The client went away; nobody is there to be told."""

    status = 499
    code = "client_gone"
    end = "client_gone"
    told = "The client closed the connection."


class ClientStalled(ClientGone):
    """The client neither read nor sent for too long."""

    code = "client_stalled"
    end = "timeout"


class UpstreamError(RelayError):
    """The upstream failed; the base of its causes."""

    status = 502
    type = "upstream_error"
    code = "upstream_error"
    told = "The upstream API failed."
    end = "upstream_error"


class UpstreamUnreachable(UpstreamError):
    """No connection: refused, unreachable, or the name does not resolve."""

    code = "upstream_unreachable"
    told = "The relay could not connect to the upstream API."


class UpstreamConnectTimeout(UpstreamUnreachable):
    """No connection within the time-out."""

    status = 504
    code = "upstream_connect_timeout"
    told = "The upstream API did not accept a connection in time."
    end = "timeout"


class UpstreamUntrusted(UpstreamError):
    """The upstream's certificate does not hold; nothing was sent to it."""

    code = "upstream_certificate_invalid"
    told = "The upstream API's certificate could not be verified."


class UpstreamTimeout(UpstreamError):
    """The upstream was silent for too long."""

    status = 504
    code = "upstream_timeout"
    told = "The upstream API did not answer in time."
    end = "timeout"


class UpstreamMalformed(UpstreamError):
    """The upstream's answer is not HTTP, or could be read in two ways."""

    code = "upstream_malformed"
    told = "The upstream API sent a malformed answer."


class UpstreamClosed(UpstreamError):
    """The upstream closed the connection before its answer was complete."""

    code = "upstream_closed"
    told = "The upstream API closed the connection before its answer was complete."


def error_body(error: RelayError) -> bytes:
    """
    OpenAI's error object for a cause.

    :returns: UTF-8 JSON with ``message``, ``type``, ``param`` (always null) and ``code``.
    """
    return json.dumps({"error": _error_object(error)}, ensure_ascii=False).encode()


def error_event(error: RelayError) -> bytes:
    """
    A server-sent event that makes both SDKs raise, for a stream that breaks.

    openai-python raises for a truthy ``error`` member; openai-node also for
    ``event: error``.  The flat members are those of the Responses API's own
    error event.

    :returns: one whole event, led by a blank line so that a half-sent one before it is closed.
    """
    payload = {
        "type": "error",
        "code": error.code,
        "message": error.told,
        "param": None,
        "sequence_number": 0,
        "error": _error_object(error),
    }
    return b"\n\nevent: error\ndata: " + json.dumps(payload).encode() + b"\n\n"


def _error_object(error: RelayError) -> dict[str, str | None]:
    return {"message": error.told, "type": error.type, "param": None, "code": error.code}
