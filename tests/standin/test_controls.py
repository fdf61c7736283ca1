"""What a request may ask of the stand-in."""

from __future__ import annotations

from dataclasses import fields
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.controls import Controls, controls_of
from openai_relay.standin.problems import Problem


class ControlsTests(SynchronousTestCase):
    def refused(self, query: bytes) -> Problem:
        problem: Problem = self.assertRaises(Problem, controls_of, query, [])
        self.assertEqual(problem.status, 400)
        return problem

    def test_nothing_asked(self) -> None:
        """A query of the API's own leaves everything at its default."""
        self.assertEqual(controls_of(b"limit=3&after=x", []), Controls())

    def test_in_the_query(self) -> None:
        """Parameters begin with ``standin.`` and may stand among others."""
        found = controls_of(
            b"a=1&standin.events=3&standin.interval_ms=2.5&standin.endless=1&standin.reason=All%20well", []
        )
        self.assertEqual(found, Controls(events=3, interval_ms=2.5, endless=True, reason="All well"))

    def test_in_fields(self) -> None:
        """A request field has dashes where the query has underscores, and wins over the query."""
        found = controls_of(b"standin.delay_ms=1", [(b"delay-ms", b"20"), (b"cut-after", b"0")])
        self.assertEqual(found, Controls(delay_ms=20.0, cut_after=0))

    def test_further_response_fields(self) -> None:
        """``field`` may be asked for several times, and keeps order, case and duplicates."""
        found = controls_of(b"standin.field=X-A:%201&standin.field=x-a:2", [(b"field", b"Set-Cookie: a=b")])
        self.assertEqual(found.field, ((b"X-A", b"1"), (b"x-a", b"2"), (b"Set-Cookie", b"a=b")))

    def test_field_cannot_frame_or_split(self) -> None:
        """A further field can neither change the framing nor begin another line."""
        for value in (b"Content-Length: 3", b"connection: close", b"a: b%0d%0ac: d", b"no-colon", b"bad name: x"):
            self.assertEqual(self.refused(b"standin.field=" + value).param, "standin.field")

    def test_unknown_name_gets_a_suggestion(self) -> None:
        """A misspelt parameter is refused, with the one that was probably meant."""
        problem = self.refused(b"standin.evnts=3")
        self.assertIn("Did you mean standin.events?", str(problem))

    def test_unlike_name_gets_the_list(self) -> None:
        """A name that resembles nothing is refused with all that there are."""
        self.assertIn("cut_after, ", str(self.refused(b"standin.zzzzzz=3")))

    def test_unfit_values(self) -> None:
        """Each kind of value is checked, and the message says which parameter and what it must be."""
        for query in (
            b"standin.events=-1",
            b"standin.events=1e3",
            b"standin.bytes=99999999999999999999",
            b"standin.delay_ms=nan",
            b"standin.delay_ms=999999999",
            b"standin.hang=maybe",
            b"standin.status=99",
            b"standin.status=600",
            b"standin.reason=a%0d%0ab",
        ):
            name = query.split(b"=")[0].decode()
            problem = self.refused(query)
            self.assertEqual(problem.param, name)
            self.assertTrue(str(problem).startswith(f"{name} must be "), str(problem))

    @given(st.text(max_size=20), st.text(max_size=40))
    def test_any_query_is_read_or_refused(self, name: str, value: str) -> None:
        """Whatever a query says, it is either understood or answered with 400."""
        try:
            controls_of(urlencode({f"standin.{name}": value}).encode(), [])
        except Problem as problem:
            self.assertEqual(problem.status, 400)

    @given(st.integers(0, 1 << 50), st.integers(200, 599), st.booleans())
    def test_values_survive(self, number: int, status: int, switch: bool) -> None:
        """What fits is taken as it is."""
        query = urlencode({"standin.bytes": number, "standin.status": status, "standin.gzip": int(switch)}).encode()
        self.assertEqual(controls_of(query, []), Controls(bytes=number, status=status, gzip=switch))

    def test_close_codes(self) -> None:
        """Only codes that may stand in a close frame can be asked for."""
        for code in (1000, 1001, 1009, 1014, 3000, 4999):
            self.assertEqual(controls_of(b"standin.close_code=%d" % code, []).close_code, code)
        for code in (0, 999, 1004, 1005, 1006, 1015, 2000, 5000, 10000):
            self.assertEqual(self.refused(b"standin.close_code=%d" % code).param, "standin.close_code")

    def test_every_control_can_be_asked_for(self) -> None:
        """No control exists that a request could not name."""
        values = {"field": "a: b", "status": "418", "close_code": "4000"}
        for item in fields(Controls):
            found = controls_of(urlencode({f"standin.{item.name}": values.get(item.name, "1")}).encode(), [])
            self.assertNotEqual(getattr(found, item.name), item.default)
