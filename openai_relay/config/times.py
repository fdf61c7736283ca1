"""Decide which time zone and which moment a value means."""

from __future__ import annotations

import difflib
import zoneinfo
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final

from openai_relay.config.problems import Wrong, shown
from openai_relay.config.values import Rule, text, type_name

_FIRST_YEAR: Final = 2000
_LAST_YEAR: Final = 9998


def time_zone(value: object) -> tzinfo:
    """A rule: the name of a time zone."""
    name = text(value)
    if name.upper() == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        pass
    known = {each.lower(): each for each in sorted(zoneinfo.available_timezones())}
    meant = difflib.get_close_matches(name.lower().replace(" ", "_"), known, n=1)
    hint = f'did you mean "{known[meant[0]]}"?' if meant else 'write "UTC", or a name such as "Europe/Berlin"'
    raise Wrong(f"{shown(name)} is no time zone that this machine knows; {hint}")


def end_of_access(zone: tzinfo) -> Rule:
    """
    A rule: the moment at which something ends, in seconds since the epoch.

    A date includes that day; what names no offset is meant in the zone.
    """

    def rule(value: object) -> float:
        if not isinstance(value, date):  # a datetime is one, too
            raise Wrong(
                f"must be a day or a moment, and this is {_called(value)}; "
                "write it without quotes: 2026-12-31, or 2026-12-31T18:00:00+01:00"
            )
        if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
            raise Wrong(f"{value} is out of range; give a year from {_FIRST_YEAR} to {_LAST_YEAR}")
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=zone)).timestamp()
        following = value + timedelta(days=1)
        return datetime(following.year, following.month, following.day, tzinfo=zone).timestamp()

    return rule


def _called(value: object) -> str:
    called = type_name(value)
    return "a time without a day" if called == "a date or time" else called
