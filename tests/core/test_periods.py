"""Where days, weeks and months begin, in every time zone and when its clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.periods import PeriodName, period_at

HOUR = 3_600
PERIODS: tuple[PeriodName, ...] = ("day", "week", "month")
#: Clocks changed at night, at midnight, a minute after it, by half an hour; a day that never was; and none of it.
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/Havana",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kolkata",
)


def at(text: str, zone: str = "UTC") -> float:
    """A moment as the clocks of a zone show it."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


class PeriodTests(SynchronousTestCase):
    """``period_at``."""

    def test_names_and_bounds(self) -> None:
        """A day begins at midnight, a week on Monday, a month on its first; each ends where the next begins."""
        now = at("2026-01-01T12:00")
        for period, name, starts, ends in (
            ("day", "2026-01-01", "2026-01-01T00:00", "2026-01-02T00:00"),
            ("week", "2026-W01", "2025-12-29T00:00", "2026-01-05T00:00"),
            ("month", "2026-01", "2026-01-01T00:00", "2026-02-01T00:00"),
        ):
            found = period_at(now, period, UTC)  # type: ignore[arg-type]
            self.assertEqual((found.name, found.starts, found.ends), (name, at(starts), at(ends)))

    def test_the_zone_decides(self) -> None:
        """An hour before midnight in UTC it is tomorrow in Berlin."""
        self.assertEqual(period_at(at("2026-11-30T23:30"), "month", ZoneInfo("Europe/Berlin")).name, "2026-12")
        self.assertEqual(period_at(at("2026-11-30T23:30"), "month", UTC).name, "2026-11")

    def test_days_on_which_clocks_change(self) -> None:
        """The day on which clocks go forward has 23 hours and the one on which they go back 25, midnight or not."""
        for zone, day, hours in (
            ("Europe/Berlin", "2026-03-29", 23),
            ("Europe/Berlin", "2026-10-25", 25),
            ("America/Havana", "2024-03-10", 23),  # there is no midnight
            ("America/Havana", "2024-11-03", 25),  # midnight comes twice
            ("Australia/Lord_Howe", "2026-04-05", 24.5),
            ("Pacific/Apia", "2011-12-29", 24),  # the 30th never was
        ):
            found = period_at(at(f"{day}T12:00", zone), "day", ZoneInfo(zone))
            self.assertEqual((found.name, (found.ends - found.starts) / HOUR), (day, hours), zone)

    def test_the_skipped_day(self) -> None:
        """Where a day is left out, the day after it begins where the one before it ends."""
        apia = ZoneInfo("Pacific/Apia")
        before = period_at(at("2011-12-29T12:00", "Pacific/Apia"), "day", apia)
        after = period_at(before.ends, "day", apia)
        self.assertEqual((after.name, after.starts), ("2011-12-31", before.ends))

    @given(
        st.sampled_from(ZONES),
        st.sampled_from(PERIODS),
        st.integers(int(at("1985-01-01T00:00")), int(at("2037-01-01T00:00"))),
    )
    def test_every_moment_is_in_one_period(self, zone: str, period: PeriodName, now: int) -> None:
        """A moment is in its period, and so is every other moment of it; the next begins where it ends."""
        tz = ZoneInfo(zone)
        found = period_at(now, period, tz)
        self.assertTrue(found.starts <= now < found.ends)
        self.assertEqual(period_at(found.starts, period, tz), found)
        self.assertEqual(period_at(found.ends - 1, period, tz), found)
        self.assertEqual(period_at(found.ends, period, tz).starts, found.ends)

    def test_a_day_never_begins_twice(self) -> None:
        """Clocks set back across midnight, a minute after it, leave a day that has begun under way."""
        zone = ZoneInfo("America/St_Johns")
        midnight = int(at("2006-10-29T00:00", "America/St_Johns"))
        names = [period_at(midnight + minute * 60, "day", zone).name for minute in (-1, 0, 2, 30, 70)]
        self.assertEqual(names, ["2006-10-28"] + 4 * ["2006-10-29"])
