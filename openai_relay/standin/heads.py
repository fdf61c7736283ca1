"""The fields that every answer of the API carries."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from twisted.web.http import datetimeToString

Pair = tuple[bytes, bytes]

_LIMITS: Final[list[Pair]] = [
    (b"x-ratelimit-limit-requests", b"10000"),
    (b"x-ratelimit-limit-tokens", b"2000000"),
    (b"x-ratelimit-remaining-requests", b"9999"),
    (b"x-ratelimit-remaining-tokens", b"1999000"),
    (b"x-ratelimit-reset-requests", b"6ms"),
    (b"x-ratelimit-reset-tokens", b"1m0.5s"),
]


_REASONS: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


class Heads:
    """Writes the fields; the date is formatted once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._date = b""

    def fields(
        self, now: float, number: int, spent_ms: int, content_type: bytes, length: int | None, extra: list[Pair]
    ) -> list[Pair]:
        """In the order, and in the mixture of cases, in which the API sends them."""
        if int(now) != self._second:
            self._second = int(now)
            self._date = datetimeToString(self._second)
        fields = [(b"Date", self._date)]
        if content_type:
            fields.append((b"Content-Type", content_type))
        if length is not None:
            fields.append((b"Content-Length", b"%d" % length))
        fields += [
            (b"openai-organization", b"org-standin"),
            (b"openai-processing-ms", b"%d" % max(1, spent_ms)),
            (b"openai-version", b"2020-10-01"),
            *_LIMITS,
            (b"x-request-id", b"req_%032x" % number),
            (b"Server", b"openai-relay-standin"),
            *extra,
        ]
        return fields


def reason_of(status: int) -> bytes:
    """The usual reason phrase."""
    return _REASONS.get(status, b"")
