"""What people write for a point in time."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.cli.moments import moment, time_zone

BERLIN = ZoneInfo("Europe/Berlin")
#: After midnight in Berlin, before it in UTC.
NOW = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)


class MomentTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """Days begin at midnight of the zone, and stretches of hours, days and weeks end now."""
        for text, zone, meant in (
            ("today", UTC, "2026-11-23T00:00"),
            ("today", BERLIN, "2026-11-23T23:00"),
            ("yesterday", UTC, "2026-11-22T00:00"),
            ("12h", BERLIN, "2026-11-23T11:30"),
            ("7d", BERLIN, "2026-11-16T23:30"),
            (" 2w ", UTC, "2026-11-09T23:30"),
            ("2026-11-01", UTC, "2026-11-01T00:00"),
            ("2026-07-01", BERLIN, "2026-06-30T22:00"),
            ("2026-11-01T18:30", BERLIN, "2026-11-01T17:30"),
            ("2026-11-01 18:30", UTC, "2026-11-01T18:30"),
        ):
            said = f"{moment(text, NOW, zone).astimezone(UTC):%Y-%m-%dT%H:%M}"
            self.assertEqual(said, meant, f"{text} in {zone}")

    def test_to_the_end_of_a_day(self) -> None:
        """As the end of a stretch a day includes itself; a time of day is that time."""
        self.assertEqual(moment("2026-11-30", NOW, UTC, whole_days=True), datetime(2026, 12, 1, tzinfo=UTC))
        self.assertEqual(moment("12h", NOW, UTC, whole_days=True), moment("12h", NOW, UTC))

    def test_not_understood(self) -> None:
        """What is no point in time is repeated, with what would be; a date that is none is told apart."""
        for text in ("", "tomorrow-ish", "7", "d", "-7d", "7y", "2026-1-1", "1e3d", "２d"):
            with self.assertRaisesRegex(ValueError, "is no point in time; write today", msg=text):
                moment(text, NOW, UTC)
        for text in ("2026-13-01", "2026-02-30", "2026-11-01T25:00", "0000-01-01"):
            with self.assertRaisesRegex(ValueError, "is no date that there is", msg=text):
                moment(text, NOW, UTC)

    @given(st.text(max_size=20) | st.from_regex(r"[0-9]{1,6}[hdw]|\d{4}-\d\d-\d\d([T ]\d\d:\d\d)?", fullmatch=True))
    def test_any_text(self, text: str) -> None:
        """Any text at all is a moment or a ValueError."""
        for zone in (UTC, BERLIN):
            try:
                moment(text, NOW, zone, whole_days=True)
            except ValueError as error:
                self.assertIn("; write ", str(error))


class TimeZoneTests(SynchronousTestCase):
    def test_names(self) -> None:
        """UTC is always there, others by their name."""
        self.assertIs(time_zone("utc"), UTC)
        self.assertEqual(time_zone("Europe/Berlin"), BERLIN)

    def test_unknown(self) -> None:
        """What is none, a directory of them, and a path out of theirs are refused alike."""
        for name in ("", "Mars/Olympus", "Europe", "../../etc/passwd", "/etc/passwd", "a\0b"):
            with self.assertRaisesRegex(ValueError, "is no time zone that this machine knows", msg=name):
                time_zone(name)
