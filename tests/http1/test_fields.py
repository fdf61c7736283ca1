"""Field lines pass through as they are, and still answer as Twisted's `Headers`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from openai_relay.http1.fields import FieldLines, pairs_of

LINES = [(b"ACCEPT", b"a"), (b"x-One", b"1"), (b"Accept", b"b"), (b"X-Name", b"caf\xe9")]
PAIRS = st.lists(st.tuples(st.binary(min_size=1, max_size=8), st.binary(max_size=8)), max_size=8)


class FieldLinesTests(SynchronousTestCase):
    @given(PAIRS)
    def test_lines_stay_as_they_are(self, pairs: list[tuple[bytes, bytes]]) -> None:
        """Order, case and duplicates are those that went in."""
        lines = FieldLines(pairs)
        self.assertEqual([(name, value) for name, values in lines.getAllRawHeaders() for value in values], pairs)
        self.assertEqual(pairs_of(lines), pairs)

    def test_is_twisteds_headers(self) -> None:
        """What asks for `Headers` takes these lines."""
        self.assertIsInstance(FieldLines(LINES), Headers)

    def test_names_are_compared_without_case(self) -> None:
        """All values of a name are found, in their order, whatever its case."""
        lines = FieldLines(LINES)
        self.assertEqual(lines.getRawHeaders(b"aCCept"), [b"a", b"b"])
        self.assertTrue(lines.hasHeader(b"X-ONE"))

    def test_text_for_a_text_name(self) -> None:
        """Asked with ``str``, the values are ``str``, whatever bytes they hold."""
        self.assertEqual(FieldLines(LINES).getRawHeaders("x-name"), ["café"])

    def test_absent_name(self) -> None:
        """A name that is not there gives the default."""
        lines = FieldLines(LINES)
        self.assertIsNone(lines.getRawHeaders(b"host"))
        self.assertEqual(lines.getRawHeaders("host", ["x"]), ["x"])
        self.assertFalse(lines.hasHeader("host"))

    def test_equality(self) -> None:
        """Lines are equal to the same lines in the same order, and to no other `Headers`."""
        self.assertEqual(FieldLines(LINES), FieldLines(tuple(LINES)))
        self.assertEqual(FieldLines(LINES).copy(), FieldLines(LINES))
        self.assertNotEqual(FieldLines(LINES), FieldLines(LINES[::-1]))
        self.assertNotEqual(FieldLines([(b"A", b"b")]), Headers({b"A": [b"b"]}))

    def test_shown_without_values(self) -> None:
        """Names are shown, values are not: one of them may be a key."""
        shown = repr(FieldLines([(b"Authorization", b"Bearer sk-secret")]))
        self.assertIn("Authorization", shown)
        self.assertNotIn("sk-secret", shown)


class PairsOfTests(SynchronousTestCase):
    def test_other_headers(self) -> None:
        """Any `Headers` gives one pair for each value."""
        headers = Headers()
        headers.addRawHeader(b"X-A", b"1")
        headers.addRawHeader(b"X-A", b"2")
        self.assertEqual(pairs_of(headers), [(b"X-A", b"1"), (b"X-A", b"2")])

    def test_no_headers(self) -> None:
        """No headers are no lines."""
        self.assertEqual(pairs_of(None), [])

    def test_own_list(self) -> None:
        """The list belongs to who asked for it: changing it changes no line."""
        lines = FieldLines(list(LINES))
        pairs_of(lines).clear()
        self.assertEqual(pairs_of(lines), LINES)
