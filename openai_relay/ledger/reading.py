"""
Ask the ledger what was used, beside a relay that writes it: sums over stretches of time, from the table ``totals``.

Stretches begin and end on a quarter of an hour, as the totals do; what lies in
between is rounded down.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Final, Literal, get_args

from openai_relay.core.usage import Usage
from openai_relay.ledger.errors import Unusable, translated
from openai_relay.ledger.schema import PERIOD_MS, identify

By = Literal["client", "model", "day", "endpoint"]

#: How long to wait for a lock, in seconds; a writer in WAL keeps readers out only while the file is recovered.
_BUSY: Final = 5.0
#: In the order of the fields of ``Totals``, the six of ``Usage`` in its midst.
_SUMS: Final = ", ".join(
    f"coalesce(sum({column}), 0)"
    for column in (
        "requests",
        "errors",
        "estimated",
        "unpriced",
        "fallback_priced",
        "cost_micro_usd",
        "bytes_in",
        "bytes_out",
        "input_tokens",
        "cached_tokens",
        "input_audio_tokens",
        "output_tokens",
        "reasoning_tokens",
        "output_audio_tokens",
    )
)


@dataclass(frozen=True, slots=True)
class Totals:
    """What some exchanges came to, together."""

    requests: int = 0
    errors: int = 0  #: that did not end well, or with a status of 400 and above
    estimated: int = 0  #: requests whose usage the upstream did not tell
    unpriced: int = 0  #: requests with tokens that no price was known for
    fallback_priced: int = 0  #: requests at the price of unknown models
    cost_micro_usd: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    usage: Usage = field(default_factory=Usage)

    def __add__(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(
            self.requests + other.requests,
            self.errors + other.errors,
            self.estimated + other.estimated,
            self.unpriced + other.unpriced,
            self.fallback_priced + other.fallback_priced,
            self.cost_micro_usd + other.cost_micro_usd,
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
            self.usage + other.usage,
        )


@dataclass(frozen=True, slots=True)
class Group:
    """The totals of one client, model, day or endpoint; a day is ``2026-11-23``, and empty is none."""

    key: str
    totals: Totals


@dataclass(frozen=True, slots=True)
class Stretch:
    """Which exchanges are asked for; times are milliseconds since the epoch, rounded down to a quarter of an hour."""

    since_ms: int
    until_ms: int | None = None  #: the first moment that does not count any more; None: there is none
    client: str | None = None


class LedgerReader:
    """An open ledger that is only read; may be used from any one thread at a time."""

    def __init__(self, path: Path) -> None:
        """
        Open it.

        :raises LedgerError: there is no ledger, or it cannot be read; the message says what is wrong.
        """
        self._path = path
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise Unusable(f"{path} {what}: give the path of the ledger; a relay makes it when it starts")
        try:
            self._connection = _open(path)
            try:
                if not identify(self._connection, path):
                    raise Unusable(f"{path} is empty: the relay has not yet begun to write it")
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise translated(error, path) from None

    def totals(self, client: str | None, since_ms: int, until_ms: int | None = None) -> Totals:
        """All of a client's exchanges since then together, or of everybody's."""
        (row,) = self._sums("''", Stretch(since_ms, until_ms, client))
        return _totals(row)

    def by(self, kind: Literal["client", "model", "endpoint"], stretch: Stretch) -> tuple[Group, ...]:
        """The totals of each client, model or endpoint, in the order of their names."""
        assert kind in get_args(By)  # it becomes a part of the question
        return tuple(Group(row[0], _totals(row)) for row in self._sums(kind, stretch, f"GROUP BY {kind}"))

    def by_day(self, stretch: Stretch, zone: tzinfo) -> tuple[Group, ...]:
        """The totals of each day of a time zone on which there was an exchange, in their order."""
        days: dict[str, Totals] = {}
        for row in self._sums("period_ms", stretch, "GROUP BY period_ms ORDER BY period_ms"):
            day = datetime.fromtimestamp(row[0] // 1_000, UTC).astimezone(zone).strftime("%Y-%m-%d")
            days[day] = days.get(day, Totals()) + _totals(row)
        return tuple(Group(day, totals) for day, totals in days.items())

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    def _sums(self, key: str, stretch: Stretch, grouped: str = "") -> Iterable[tuple[Any, ...]]:
        conditions = ["period_ms >= ?"]
        arguments: list[int | str] = [_period(stretch.since_ms)]
        if stretch.until_ms is not None:
            conditions.append("period_ms < ?")
            arguments.append(_period(stretch.until_ms))
        if stretch.client is not None:
            conditions.append("client = ?")
            arguments.append(stretch.client)
        question = f"SELECT {key}, {_SUMS} FROM totals WHERE {' AND '.join(conditions)} {grouped}"
        try:
            return self._connection.execute(question, arguments).fetchall()
        except sqlite3.Error as error:
            raise translated(error, self._path) from None


def _open(path: Path) -> sqlite3.Connection:
    """
    A connection that cannot write.

    Without a log beside it nobody writes the file. SQLite would make an empty log for us, which takes permission to
    write the directory and leaves it behind; ``immutable`` does without.
    """
    alone = "" if path.with_name(path.name + "-wal").exists() else "&immutable=1"
    uri = f"{path.absolute().as_uri()}?mode=ro{alone}"
    return sqlite3.connect(uri, _BUSY, isolation_level=None, uri=True, check_same_thread=False)


def _period(ms: int) -> int:
    return ms - ms % PERIOD_MS


def _totals(row: tuple[Any, ...]) -> Totals:
    requests, errors, estimated, unpriced, fallback_priced, cost, bytes_in, bytes_out = row[1:9]
    return Totals(requests, errors, estimated, unpriced, fallback_priced, cost, bytes_in, bytes_out, Usage(*row[9:]))
