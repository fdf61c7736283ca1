"""The fields of every answer."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.heads import Heads, reason_of
from tests.standin.asking import NOW


class HeadsTests(SynchronousTestCase):
    def test_what_the_api_sends(self) -> None:
        """Every answer has an id, a version, an organisation, a duration and rate limits."""
        fields = dict(Heads().fields(NOW, 255, 0, b"application/json", 12, [(b"X-More", b"1")]))
        self.assertEqual(fields[b"x-request-id"], b"req_000000000000000000000000000000ff")
        self.assertEqual((fields[b"openai-version"], fields[b"openai-processing-ms"]), (b"2020-10-01", b"1"))
        self.assertEqual((fields[b"Content-Length"], fields[b"X-More"]), (b"12", b"1"))
        for kind in (b"limit", b"remaining", b"reset"):
            for what in (b"requests", b"tokens"):
                self.assertIn(b"x-ratelimit-%b-%b" % (kind, what), fields)

    def test_date_follows_the_clock(self) -> None:
        """The date is that of the clock, though it is only written once a second."""
        heads = Heads()
        dates = [heads.fields(now, 1, 0, b"", None, [])[0] for now in (NOW, NOW + 0.9, NOW + 1)]
        first, second = b"Tue, 14 Nov 2023 22:13:20 GMT", b"Tue, 14 Nov 2023 22:13:21 GMT"
        self.assertEqual(dates, [(b"Date", first), (b"Date", first), (b"Date", second)])

    def test_no_length_no_type(self) -> None:
        """What is not known is not sent."""
        names = [name for name, _ in Heads().fields(NOW, 1, 0, b"", None, [])]
        self.assertNotIn(b"Content-Length", names)
        self.assertNotIn(b"Content-Type", names)

    def test_reason(self) -> None:
        """A status has its usual reason phrase, or none."""
        self.assertEqual((reason_of(404), reason_of(299)), (b"Not Found", b""))
