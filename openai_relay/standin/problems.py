"""Errors as the OpenAI API tells them: status, body and the fields beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

Pair = tuple[bytes, bytes]


@dataclass(eq=False)
class Problem(Exception):
    """A request is answered with an error; ``str()`` is what the client reads."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    fields: list[Pair] = field(default_factory=list)  #: such as ``retry-after``

    def __str__(self) -> str:
        return self.message

    def body(self) -> bytes:
        """OpenAI's error object, as JSON."""
        told = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": told})


def invalid(message: str, param: str | None = None, code: str | None = None) -> Problem:
    """The request itself is wrong: 400."""
    return Problem(400, message, param=param, code=code)


def on_demand(
    status: int,
    code: str | None = None,
    retry_after_ms: int | None = None,
    should_retry: bool | None = None,
) -> Problem:
    """
    The error that a client asked for with ``standin.status``.

    A 429 or 503 says when to come back, as the API does for what passes by
    itself; a spent quota and the other statuses say so only when told to.
    """
    usual = _USUAL.get(status) or _Usual("server_error" if status >= 500 else "invalid_request_error")
    code = code or usual.code
    type_ = _TYPE_OF_CODE.get(code or "", usual.type)
    if retry_after_ms is None and status in (429, 503) and type_ != "insufficient_quota":
        retry_after_ms = 1_000
    fields: list[Pair] = []
    if retry_after_ms is not None:
        fields.append((b"retry-after-ms", b"%d" % retry_after_ms))
        fields.append((b"retry-after", b"%d" % -(-retry_after_ms // 1_000)))
    if should_retry is not None:
        fields.append((b"x-should-retry", b"true" if should_retry else b"false"))
    message = (
        _SPENT if type_ == "insufficient_quota" else usual.message or f"The stand-in was asked to answer {status}."
    )
    return Problem(status, message, type_, code, None, fields)


class _Usual(NamedTuple):
    """What an error of a status says when nothing else is asked for."""

    type: str
    code: str | None = None
    message: str = ""


_USUAL: Final = {
    401: _Usual("invalid_request_error", "invalid_api_key", "The API key is not one that the stand-in takes."),
    403: _Usual("request_forbidden", "unsupported_country_region_territory", "This region is not served."),
    404: _Usual("invalid_request_error", "model_not_found", "There is no such model."),
    429: _Usual("requests", "rate_limit_exceeded", "Too many requests a minute; wait and try again."),
    500: _Usual("server_error", None, "The server failed while it handled the request."),
    503: _Usual("service_unavailable_error", "server_is_overloaded", "The server is overloaded; try again later."),
}
_SPENT: Final = "The quota of this account is spent; waiting does not help."
_TYPE_OF_CODE: Final = {
    "slow_down": "rate_limit_error",
    "insufficient_quota": "insufficient_quota",
    "credit_balance_exhausted": "insufficient_quota",
    "organization_spend_limit_exceeded": "insufficient_quota",
    "project_spend_limit_exceeded": "insufficient_quota",
    "organization_usage_limit_exceeded": "insufficient_quota",
}
