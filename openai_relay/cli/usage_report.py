"""How usage is told: as a table that a person reads, as CSV, or as a document for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from openai_relay.cli.output import plural, printable, styled, table
from openai_relay.ledger.reading import By, Group, Totals

#: How wide a table gets at most, as long as numbers are not absurd.
WIDTH: Final = 100
#: What a client, a model is called that there was not.
_NONE: Final = {"client": "(no certificate)", "model": "(no model)"}
_TITLES: Final[dict[By, str]] = {"client": "CLIENT", "model": "MODEL", "day": "DAY", "endpoint": "ENDPOINT"}
_NARROWEST: Final = 12
#: From here on tokens are shown in thousands, to keep the width.
_TOO_WIDE: Final = 10_000_000_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for; times are in the zone whose days count."""

    by: By
    since: datetime
    until: datetime
    client: str | None
    timezone: str


@dataclass(frozen=True, slots=True)
class UsageDocument:
    """The totals of one group, flat; the field names are documented and stay, and are the columns of the CSV."""

    requests: int
    errors: int
    estimated: int
    unpriced: int
    fallback_priced: int
    input_tokens: int
    cached_tokens: int
    input_audio_tokens: int
    output_tokens: int
    reasoning_tokens: int
    output_audio_tokens: int
    cost_usd: float
    bytes_in: int
    bytes_out: int

    @classmethod
    def of(cls, totals: Totals) -> UsageDocument:
        usage = totals.usage
        return cls(
            totals.requests,
            totals.errors,
            totals.estimated,
            totals.unpriced,
            totals.fallback_priced,
            usage.input_tokens,
            usage.cached_tokens,
            usage.input_audio_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
            usage.output_audio_tokens,
            totals.cost_micro_usd / 1_000_000,
            totals.bytes_in,
            totals.bytes_out,
        )


@dataclass(frozen=True, slots=True)
class GroupDocument:
    """One client, model, day or endpoint; ``null`` is an exchange without one."""

    key: str | None
    usage: UsageDocument


@dataclass(frozen=True, slots=True)
class ReportDocument:
    """What ``usage --json`` prints."""

    by: By
    since: datetime
    until: datetime
    timezone: str
    client: str | None
    groups: tuple[GroupDocument, ...]
    total: UsageDocument


def document(asked: Asked, groups: Sequence[Group]) -> ReportDocument:
    return ReportDocument(
        asked.by,
        asked.since,
        asked.until,
        asked.timezone,
        asked.client,
        tuple(GroupDocument(group.key or None, UsageDocument.of(group.totals)) for group in groups),
        UsageDocument.of(_total(groups)),
    )


def comma_separated(by: By, groups: Sequence[Group]) -> str:
    """CSV with a line of titles and without a total; costs have six decimals."""
    written = io.StringIO()
    out = csv.writer(written, lineterminator="\n")
    out.writerow([by, *UsageDocument.__dataclass_fields__])
    for group in groups:
        cells = asdict(UsageDocument.of(group.totals)) | {"cost_usd": f"{group.totals.cost_micro_usd / 1_000_000:.6f}"}
        out.writerow([_harmless(group.key), *cells.values()])
    return written.getvalue()


def lines(asked: Asked, groups: Sequence[Group]) -> Iterator[str]:
    """A table with a heading, the total below, and what to know about its numbers."""
    client = "" if asked.client is None else f" of {printable(asked.client)}"
    yield f"Usage{client} from {asked.since:%Y-%m-%d %H:%M} to {asked.until:%Y-%m-%d %H:%M} ({asked.timezone})"
    yield ""
    if not groups:
        yield "Nothing was used in that time."
        return
    total = _total(groups)
    if asked.by != "day":  # the dearest first, then the largest
        groups = sorted(groups, key=lambda group: (-group.totals.cost_micro_usd, -_tokens(group.totals), group.key))
    columns = _columns(total)
    rows = [[say(each) for _, say in columns] for each in (*(group.totals for group in groups), total)]
    titles = [title for title, _ in columns]
    taken = sum(2 + max(map(len, column)) for column in zip(titles, *rows, strict=True))
    room = max(_NARROWEST, WIDTH - taken)
    names = [_clipped(group.key or _NONE.get(asked.by, "-"), room) for group in groups]
    made = table(
        (_TITLES[asked.by], *titles),
        [(name, *row) for name, row in zip((*names, "total"), rows, strict=True)],
        right=titles,
    )
    yield styled(made[0], bold=True)
    yield from made[1:-1]
    yield "-" * max(map(len, made))
    yield styled(made[-1], bold=True)
    yield from _notes(total)


def _columns(total: Totals) -> list[tuple[str, Callable[[Totals], str]]]:
    """The columns that say something: kinds of tokens of which there were none are left out."""
    thousands = _tokens(total) >= _TOO_WIDE
    unit = " k" if thousands else ""

    def tokens(name: str) -> Callable[[Totals], str]:
        return lambda totals: f"{round(getattr(totals.usage, name) / (1_000 if thousands else 1)):,}"

    columns: list[tuple[str, Callable[[Totals], str]]] = [
        ("REQUESTS", lambda totals: f"{totals.requests:,}"),
        ("ERRORS", lambda totals: f"{totals.errors:,}"),
        (f"INPUT{unit}", tokens("input_tokens")),
    ]
    if total.usage.cached_tokens:
        columns.append((f"CACHED{unit}", tokens("cached_tokens")))
    columns.append((f"OUTPUT{unit}", tokens("output_tokens")))
    if total.usage.reasoning_tokens:
        columns.append((f"REASONING{unit}", tokens("reasoning_tokens")))
    decimals = 4 if total.cost_micro_usd < 100_000_000 else 2
    columns.append(("COST $", lambda totals: f"{totals.cost_micro_usd / 1_000_000:,.{decimals}f}"))
    return columns


def _notes(total: Totals) -> Iterator[str]:
    said = [
        (total.estimated, "has estimated tokens", "have estimated tokens", "the upstream told none"),
        (total.unpriced, "has no price", "have no price", "counted as costing 0"),
        (total.fallback_priced, "has the fallback price", "have the fallback price", "the model is not in the table"),
    ]
    notes = [
        f"{plural(count, 'request').replace(str(count), f'{count:,}', 1)} {one if count == 1 else many}: {why}."
        for count, one, many, why in said
        if count
    ]
    if notes:
        yield ""
        yield from notes


def _total(groups: Sequence[Group]) -> Totals:
    return sum((group.totals for group in groups), Totals())


def _tokens(totals: Totals) -> int:
    return totals.usage.input_tokens + totals.usage.output_tokens


def _clipped(name: str, room: int) -> str:
    name = printable(name)
    return name if len(name) <= room else f"{name[: room - 1]}…"


def _harmless(key: str) -> str:
    """A name that no spreadsheet takes for a formula: models are named by clients."""
    return f"'{key}" if key[:1] in ("=", "+", "-", "@", "\t") else key
