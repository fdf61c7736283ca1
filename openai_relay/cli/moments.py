"""What people write for a point in time, and which moment that is: ``today``, ``7d``, ``2026-11-01``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

FORMS: Final = "today, yesterday, 12h, 7d, 4w, 2026-11-01 or 2026-11-01T18:30"

_AGO: Final = re.compile(r"([0-9]{1,5})([hdw])")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_HOURS: Final = {"h": 1, "d": 24, "w": 168}


def moment(text: str, now: datetime, zone: tzinfo, *, whole_days: bool = False) -> datetime:
    """
    The moment that is meant, as of now.

    :param zone: where days begin.
    :param whole_days: a day means its end, for the end of a stretch that includes it.
    :raises ValueError: it is not understood; the text says what would be.
    """
    text = text.strip()
    if ago := _AGO.fullmatch(text):
        return now - timedelta(hours=int(ago[1]) * _HOURS[ago[2]])
    try:
        if _MOMENT.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)
        today = now.astimezone(zone).date()
        named = {"today": today, "yesterday": today - timedelta(days=1)}
        day = datetime.fromisoformat(text).date() if _DATE.fullmatch(text) else named[text]
        return datetime.combine(day + timedelta(days=whole_days), time(), zone).astimezone(UTC)
    except KeyError:
        raise ValueError(f"{text!r} is no point in time; write {FORMS}") from None
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no date that there is; write it as 2026-11-01") from None


def time_zone(name: str) -> tzinfo:
    """
    The time zone of a name.

    :raises ValueError: this machine knows none of that name.
    """
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is no time zone that this machine knows; write UTC, or a name such as Europe/Berlin"
        ) from None
