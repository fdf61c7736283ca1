"""
Decide in which day, week or month of a time zone a moment lies.

Days begin with the first moment that the zone's clocks show their date, so a
day has 23 or 25 hours when they are changed.  Weeks begin on Monday.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal

PeriodName = Literal["day", "week", "month"]


@dataclass(frozen=True, slots=True)
class Period:
    """From one moment up to, and without, another; seconds since the epoch."""

    name: str  #: ``2026-03-29``, ``2026-W13`` or ``2026-03``
    starts: int
    ends: int


def period_at(now: float, period: PeriodName, zone: tzinfo) -> Period:
    """The period in which a moment (seconds since the epoch) lies."""
    first = _first(datetime.fromtimestamp(int(now // 1), UTC).astimezone(zone).date(), period)
    following = _following(first, period)
    if _start(following, zone) <= now:
        # Clocks that are set back across midnight show yesterday's date again: a day that has begun goes on.
        first, following = following, _following(following, period)
    return Period(_name(first, period), _start(first, zone), _start(following, zone))


def _first(day: date, period: PeriodName) -> date:
    if period == "day":
        return day
    return day.replace(day=1) if period == "month" else day - timedelta(days=day.weekday())


def _following(first: date, period: PeriodName) -> date:
    if period == "month":
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=1 if period == "day" else 7)


def _start(day: date, zone: tzinfo) -> int:
    # Of a midnight that comes twice, fold=0 is the first; of one that is skipped, the moment it is skipped at.
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def _name(first: date, period: PeriodName) -> str:
    if period == "day":
        return first.isoformat()
    if period == "month":
        return first.isoformat()[:7]
    year, week, _ = first.isocalendar()
    return f"{year}-W{week:02d}"
