"""
``LedgerRow``: what the ledger keeps of one exchange, and how it is made from it.

No path, query, header field or body is part of a row.  Text that came from
outside is clipped and made printable, counts are bounded, so that no client
and no upstream can make a row that cannot be stored or a sum that overflows.
"""

from __future__ import annotations

from typing import Final

import msgspec

from openai_relay.core.endpoint import endpoint
from openai_relay.core.exchange import Exchange

#: Longer text is clipped, in characters: names, models, identifiers.
LONGEST: Final = 256
#: A larger count is stored as this one: a trillion tokens, bytes (a terabyte) or micro-dollars (a million dollars).
LARGEST: Final = 10**12


class LedgerRow(msgspec.Struct, frozen=True, gc=False):
    """
    One exchange; the fields are the columns of the table ``exchanges``, and ``None`` is NULL: unknown, or not so.

    No dataclass: a frozen one of thirty fields takes three microseconds to make, and one is made for each exchange.
    """

    ended_ms: int  #: milliseconds since the epoch, UTC
    relay_request_id: str
    client: str | None
    fingerprint: str | None
    endpoint: str
    model: str | None
    method: str
    status: int
    upstream_status: int | None
    ending: str  #: ``Exchange.end``: ``done``, ``client_gone`` ...
    stage: str
    error_code: str | None
    input_tokens: int | None
    cached_tokens: int | None
    input_audio_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    output_audio_tokens: int | None
    estimated: bool
    cost_micro_usd: int | None
    fallback_price: bool
    bytes_in: int
    bytes_out: int
    queue_ms: float
    first_byte_ms: float | None
    duration_ms: float
    upstream_request_id: str | None
    messages_in: int | None
    messages_out: int | None
    close_code: int | None


def ledger_row(exchange: Exchange, wall_ns: int) -> LedgerRow:
    """
    The row of a closed exchange.

    :param wall_ns: when it ended, in nanoseconds since the epoch.
    """
    identity = exchange.identity
    error = exchange.error
    first_byte_ns = exchange.first_byte_ns
    usage = exchange.usage
    return LedgerRow(
        wall_ns // 1_000_000,
        _plain(exchange.relay_request_id),
        None if identity is None else _plain(identity.name),
        None if identity is None else identity.fingerprint,
        endpoint(exchange.path),
        _optional(exchange.model),
        _plain(exchange.method),
        exchange.status,
        exchange.upstream_status,
        exchange.end,
        exchange.stage,
        None if error is None else error.code,
        None if usage is None else _bounded(usage.input_tokens),
        None if usage is None else _bounded(usage.cached_tokens),
        None if usage is None else _bounded(usage.input_audio_tokens),
        None if usage is None else _bounded(usage.output_tokens),
        None if usage is None else _bounded(usage.reasoning_tokens),
        None if usage is None else _bounded(usage.output_audio_tokens),
        usage is not None and usage.estimated,
        None if exchange.cost_micro_usd is None else _bounded(exchange.cost_micro_usd),
        exchange.fallback_price,
        _bounded(exchange.bytes_in),
        _bounded(exchange.bytes_out),
        _ms(exchange.queue_ns),
        None if first_byte_ns is None else _ms(first_byte_ns - exchange.opened_ns),
        _ms(exchange.duration_ns),
        _optional(exchange.upstream_request_id),
        exchange.messages_in,
        exchange.messages_out,
        exchange.close_code,
    )


def _ms(ns: int) -> float:
    return ns // 1_000 / 1_000


def _bounded(count: int) -> int:
    return count if 0 <= count <= LARGEST else max(0, min(count, LARGEST))


def _optional(text: str | None) -> str | None:
    return None if text is None else _plain(text)


def _plain(text: str) -> str:
    if len(text) > LONGEST:
        text = text[:LONGEST] + "…"
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() else each.encode("unicode_escape").decode() for each in text])
