"""Time zones, and the moment at which access ends."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.config.problems import Wrong
from openai_relay.config.times import end_of_access, time_zone

BERLIN = ZoneInfo("Europe/Berlin")


class TimeZoneTests(SynchronousTestCase):
    def test_known(self) -> None:
        """Zones go by their names, UTC in any case of letters."""
        self.assertEqual([time_zone("UTC"), time_zone("utc"), time_zone("Europe/Berlin")], [UTC, UTC, BERLIN])

    def test_unknown(self) -> None:
        """A name that is none is answered with the nearest, or with an example; a path is none either."""
        for name, told in (
            ("Europe/Berln", '"Europe/Berln" is no time zone that this machine knows; did you mean "Europe/Berlin"?'),
            ("america/new york", 'did you mean "America/New_York"?'),
            ("xyzzy-12", '; write "UTC", or a name such as "Europe/Berlin"'),
            ("../../etc/passwd", " is no time zone"),
            ("Europe", " is no time zone"),
            ("", " is no time zone"),
            ("a\0b", " is no time zone"),
        ):
            self.assertIn(told, str(self.assertRaises(Wrong, time_zone, name)))
        self.assertIn("must be text", str(self.assertRaises(Wrong, time_zone, 2)))


class EndOfAccessTests(SynchronousTestCase):
    def end(self, value: object, zone: tzinfo = BERLIN) -> datetime:
        moment = end_of_access(zone)(value)
        assert isinstance(moment, float)
        return datetime.fromtimestamp(moment, UTC)

    def test_days(self) -> None:
        """A date includes its day in the zone, days in which clocks are changed too."""
        self.assertEqual(self.end(date(2030, 12, 31)), datetime(2030, 12, 31, 23, tzinfo=UTC))
        self.assertEqual(self.end(date(2026, 3, 29)), datetime(2026, 3, 29, 22, tzinfo=UTC))
        self.assertEqual(self.end(date(2030, 12, 31), UTC), datetime(2031, 1, 1, tzinfo=UTC))

    def test_moments(self) -> None:
        """A moment is that moment: in the zone, unless it names its offset."""
        self.assertEqual(self.end(datetime(2030, 7, 1, 12)), datetime(2030, 7, 1, 10, tzinfo=UTC))
        offset = timezone(timedelta(hours=-5))
        self.assertEqual(self.end(datetime(2030, 7, 1, 12, tzinfo=offset)), datetime(2030, 7, 1, 17, tzinfo=UTC))

    def test_refused(self) -> None:
        """Text, a time without a day and a year that nobody means are refused."""
        for value, told in (
            ("2030-12-31", "must be a day or a moment, and this is text; write it without quotes: 2026-12-31"),
            (time(12), "this is a time without a day"),
            (20301231, "this is a whole number"),
            (date(1999, 12, 31), "1999-12-31 is out of range; give a year from 2000 to 9998"),
            (date.max, "is out of range"),
            (datetime.max, "is out of range"),
        ):
            self.assertIn(told, str(self.assertRaises(Wrong, end_of_access(BERLIN), value)))

    @settings(deadline=None)
    @given(st.dates() | st.datetimes(timezones=st.none() | st.timezones()), st.timezones())
    def test_any_day(self, value: date, zone: tzinfo) -> None:
        """Any date or time in any zone is taken or refused; a day ends after it has begun."""
        try:
            end = end_of_access(zone)(value)
        except Wrong:
            return
        if not isinstance(value, datetime):
            assert isinstance(end, float)
            length = end - datetime(value.year, value.month, value.day, tzinfo=zone).timestamp()
            self.assertTrue(0 <= length <= 50 * 3_600, length)
