"""
The line that an exchange leaves in the access log: NDJSON, Apache's combined format, or text for a terminal.

Nothing that a client or an upstream sends can end a line early, forge a field
or steer a terminal: every format escapes what is not printable.  Queries,
bodies and header fields are never part of a line.  A line is bounded, as what
may be long is clipped.  Times are nanoseconds; the wall clock's is the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal

import msgspec

from openai_relay.core.budgets import dollars
from openai_relay.core.exchange import Exchange
from openai_relay.core.settings import LogFormat

Level = Literal["info", "warning", "error"]

#: Takes a closed exchange and the time (ns since the epoch); returns the whole line, newline included.
LineFormat = Callable[[Exchange, int], bytes]

#: The longest path or detail that is written whole, in characters.
LONGEST: Final = 1_024
#: The same for what is short unless somebody makes it long: names, identifiers, methods.
LONGEST_NAME: Final = 256

_LEVELS: Final[dict[str, Level]] = {"upstream_error": "warning", "timeout": "warning", "bug": "error"}
#: What models are called, where nobody means harm.
_PLAIN_MODEL: Final = re.compile(r"[\w./:@+-]+")
#: Not by ``strftime``, whose names follow the locale.
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class _Line(msgspec.Struct, gc=False):
    """The members of a JSON line, in their order; ``None`` is ``null``: unknown, or not so."""

    ts: str
    level: Level
    msg: str
    client: str | None
    cert_serial: str | None
    method: str
    path: str
    status: int
    dur_ms: float
    ttfb_ms: float | None
    bytes_in: int
    bytes_out: int
    upstream_status: int | None
    request_id: str | None
    relay_request_id: str
    client_ip: str
    http_version: str
    end: str
    error: str | None
    detail: str | None
    messages_in: int | None
    messages_out: int | None
    close_code: int | None
    stage: str
    model: str | None
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    estimated: bool | None
    cost_usd: float | None
    queue_ms: float
    ttfe_ms: float | None
    events: int | None


_encode: Final = msgspec.json.Encoder().encode


def resolve(chosen: LogFormat, *, terminal: bool) -> LogFormat:
    """What ``auto`` means: ``text`` where a person looks on, else ``json``."""
    if chosen == "auto":
        return "text" if terminal else "json"
    return chosen


def line_format(chosen: LogFormat) -> LineFormat | None:
    """The function that makes lines of a format; ``None`` for ``off``, and ``auto`` must be resolved first."""
    formats: dict[LogFormat, LineFormat | None] = {
        "json": json_line,
        "combined": combined_line,
        "text": text_line,
        "off": None,
    }
    return formats[chosen]


def json_line(exchange: Exchange, wall_ns: int) -> bytes:
    """One JSON object and a newline; UTF-8, and nothing unprintable in it."""
    identity = exchange.identity
    error = exchange.error
    end = exchange.end
    first_byte_ns = exchange.first_byte_ns
    request_id = exchange.upstream_request_id
    usage = exchange.usage
    first_event_ns = exchange.first_event_ns
    line = _Line(
        _timestamp(wall_ns),
        _LEVELS.get(end, "info"),
        "exchange",
        None if identity is None else _clip(identity.name, LONGEST_NAME),
        None if identity is None else _clip(identity.serial, LONGEST_NAME),
        _clip(exchange.method, LONGEST_NAME),
        _path(exchange),
        exchange.status,
        _ms(exchange.duration_ns),
        None if first_byte_ns is None else _ms(first_byte_ns - exchange.opened_ns),
        exchange.bytes_in,
        exchange.bytes_out,
        exchange.upstream_status,
        None if request_id is None else _clip(request_id, LONGEST_NAME),
        _clip(exchange.relay_request_id, LONGEST_NAME),
        _clip(exchange.client_address, LONGEST_NAME),
        _clip(exchange.http_version, LONGEST_NAME),
        end,
        None if error is None else error.code,
        _detail(exchange),
        exchange.messages_in,
        exchange.messages_out,
        exchange.close_code,
        exchange.stage,
        None if exchange.model is None else _clip(exchange.model, LONGEST_NAME),
        None if usage is None else usage.input_tokens,
        None if usage is None else usage.cached_tokens,
        None if usage is None else usage.output_tokens,
        None if usage is None else usage.reasoning_tokens,
        None if usage is None else usage.estimated,
        None if exchange.cost_micro_usd is None else exchange.cost_micro_usd / 1_000_000,
        _ms(exchange.queue_ns),
        None if first_event_ns is None else _ms(first_event_ns - exchange.opened_ns),
        None if first_event_ns is None else exchange.events,
    )
    try:
        encoded = _encode(line)
    except UnicodeEncodeError:  # a lone surrogate: bytes that were not UTF-8
        for name in line.__struct_fields__:
            if isinstance(value := getattr(line, name), str):
                setattr(line, name, value.encode("utf-8", "backslashreplace").decode())
        encoded = _encode(line)
    if not encoded.isascii() or b"\x7f" in encoded:
        # JSON need not escape these, but terminals obey C1 controls, and readers split lines at U+2028.
        encoded = "".join([c if c.isprintable() else _json_escape(c) for c in encoded.decode()]).encode()
    return encoded + b"\n"


def combined_line(exchange: Exchange, wall_ns: int) -> bytes:
    """
    Apache's combined format, with the client's name where the user's is.

    The time is that of the request, as Apache's is.  Referer and User-Agent are ``-``: header fields are not logged.
    What Apache has no place for comes behind it, each as ``name=value``; readers of the format stop before that.
    """
    identity = exchange.identity
    name = "-" if identity is None else _field(_clip(identity.name, LONGEST_NAME)).replace(" ", "\\x20") or "-"
    request = "-"
    if exchange.method:
        method, version = _clip(exchange.method, LONGEST_NAME), _clip(exchange.http_version, LONGEST_NAME)
        request = _field(f"{method} {_path(exchange)} HTTP/{version}")
    address = _field(_clip(exchange.client_address, LONGEST_NAME)).replace(" ", "\\x20") or "-"
    started = _apache_second((wall_ns - exchange.duration_ns) // 1_000_000_000)
    sent = exchange.bytes_out or "-"
    rest = " ".join([f"{key}={value}" for key, value in _accounted(exchange)])
    return f'{address} - {name} [{started}] "{request}" {exchange.status:03d} {sent} "-" "-" {rest}\n'.encode()


def _accounted(exchange: Exchange) -> list[tuple[str, str]]:
    """What a combined line says behind Apache's fields; ``-`` is unknown, or not so."""
    usage = exchange.usage
    tokens: tuple[str, ...] = ("-",) * 5
    if usage is not None:
        counts = (usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens)
        tokens = (*map(str, counts), "true" if usage.estimated else "false")
    cost, first_event_ns = exchange.cost_micro_usd, exchange.first_event_ns
    return [
        ("model", "-" if exchange.model is None else f'"{_field(_clip(exchange.model, LONGEST_NAME))}"'),
        ("stage", exchange.stage),
        *zip(("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "estimated"), tokens, strict=True),
        ("cost_usd", "-" if cost is None else f"{cost / 1_000_000:.6f}"),
        ("queue_ms", f"{_ms(exchange.queue_ns):.3f}"),
        ("ttfe_ms", "-" if first_event_ns is None else f"{_ms(first_event_ns - exchange.opened_ns):.3f}"),
        ("events", "-" if first_event_ns is None else str(exchange.events)),
    ]


def text_line(exchange: Exchange, wall_ns: int) -> bytes:
    """
    One short line for a person at a terminal, in UTC and without colours; what was not is left out.

    ``18:28:00.123 alice POST /v1/responses 200 in 1.24 s (first byte 310 ms), 312 B up, 4.1 kB down, gpt-5: 100 tokens
    in (20 cached), 50 out (10 reasoning), $0.00125``
    """
    name = "(nobody)" if exchange.identity is None else _clip(exchange.identity.name, LONGEST_NAME)
    parts = [
        _timestamp(wall_ns)[11:23],
        name if " " not in name else repr(name),  # a name with spaces could read as the fields after it
        _clip(exchange.method, LONGEST_NAME) or "-",
        _path(exchange) or "-",
        str(exchange.status) if exchange.status else "unanswered",
        f"in {_duration(exchange.duration_ns)}",
    ]
    if times := _times(exchange):
        parts.append(f"({', '.join(times)})")
    text = " ".join(parts) + f", {_size(exchange.bytes_in)} up, {_size(exchange.bytes_out)} down"
    if exchange.first_event_ns is not None:
        text += f" in {exchange.events} events"
    if exchange.messages_in is not None:
        text += f", {exchange.messages_in} messages up, {exchange.messages_out} down"
    if exchange.model is not None or exchange.usage is not None:
        text += f", {_used(exchange)}"
    if exchange.error is not None:
        text += f"; {exchange.end} when {exchange.stage}: {exchange.error.code}"
        if detail := _detail(exchange):
            text += f": {detail}"
    if not text.isprintable():
        text = "".join([c if c.isprintable() else _python_escape(c) for c in text])
    return text.encode() + b"\n"


def _times(exchange: Exchange) -> list[str]:
    times = [f"queued {_duration(exchange.queue_ns)}"] if exchange.queue_ns else []
    for name, ns in (("byte", exchange.first_byte_ns), ("event", exchange.first_event_ns)):
        if ns is not None:
            times.append(f"first {name} {_duration(ns - exchange.opened_ns)}")
    return times


def _used(exchange: Exchange) -> str:
    """The model, its tokens and their cost."""
    model, usage = exchange.model, exchange.usage
    named = "" if model is None else _clip(model, LONGEST_NAME)
    if named and _PLAIN_MODEL.fullmatch(named) is None:
        named = repr(named)  # as with the client's name, it must not read as what follows
    if usage is None:
        return named
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    reasoning = f" ({usage.reasoning_tokens:,} reasoning)" if usage.reasoning_tokens else ""
    about = "about " if usage.estimated else ""
    tokens = f"{about}{usage.input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out{reasoning}"
    if exchange.cost_micro_usd:
        tokens += f", {dollars(exchange.cost_micro_usd)}"
    return f"{named}: {tokens}" if named else tokens


def _path(exchange: Exchange) -> str:
    path = exchange.path
    if "?" in path:  # the course cuts it already; here it is a promise of this module
        path = path.partition("?")[0]
    return _clip(path, LONGEST)


def _detail(exchange: Exchange) -> str | None:
    """What the cause adds to its code, where it adds something."""
    error = exchange.error
    if error is None:
        return None
    detail = str(error)
    # An error without a detail repeats what it tells, its own words or its kind's.
    return None if detail in ("", error.told, type(error).told) else _clip(detail, LONGEST)


def _clip(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + "…"


def _ms(ns: int) -> float:
    return ns // 1_000 / 1_000


def _timestamp(wall_ns: int) -> str:
    second, rest = divmod(wall_ns, 1_000_000_000)
    return f"{_iso_second(second)}.{rest // 1_000_000:03d}Z"


# Lines come many to the second; formatting a date costs more than all the rest.
@lru_cache(maxsize=4)
def _iso_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=64)
def _apache_second(second: int) -> str:
    at = datetime.fromtimestamp(second, UTC)
    return f"{at.day:02d}/{_MONTHS[at.month - 1]}/{at.year}:{at:%H:%M:%S} +0000"


def _json_escape(character: str) -> str:
    r"""``\uXXXX``, in two halves beyond the basic plane (RFC 8259 §7)."""
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _python_escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _field(text: str) -> str:
    r"""Escaped as Apache does it: quotes and backslashes with a backslash, all but printable ASCII as ``\xhh``."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    escaped = [
        f"\\{chr(byte)}" if byte in b'"\\' else chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"
        for byte in text.encode("utf-8", "backslashreplace")
    ]
    return "".join(escaped)


def _duration(ns: int) -> str:
    if ns < 10_000_000:
        return f"{ns / 1_000_000:.1f} ms"
    if ns < 999_500_000:
        return f"{ns / 1_000_000:.0f} ms"
    return f"{ns / 1_000_000_000:.2f} s"


def _size(count: int) -> str:
    if count < 1_000:
        return f"{count} B"
    for unit, scale in (("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)):
        if count < 999.95 * scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1_000_000_000_000:.1f} TB"
