"""Which entry of a table a name falls under."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.globs import LONGEST_NAME, GlobTable


def found(name: str, *patterns: str) -> str | None:
    """The entry that is found."""
    entry = GlobTable((pattern, pattern) for pattern in patterns).find(name)
    return None if entry is None else entry[1]


class GlobTableTests(SynchronousTestCase):
    """``GlobTable``."""

    @given(st.permutations(["*", "gpt*", "gpt-5*", "gpt-5-mini", "gpt-5-m*", "*mini"]))
    def test_the_most_specific_wins(self, patterns: list[str]) -> None:
        """In whatever order they stand, a name wins over globs and a longer literal beginning over a shorter."""
        for name, wins in (
            ("gpt-5-mini", "gpt-5-mini"),
            ("gpt-5-mini-2025", "gpt-5-m*"),
            ("gpt-5", "gpt-5*"),
            ("gpt-4o", "gpt*"),
            ("o4-mini", "*mini"),
            ("o3", "*"),
        ):
            self.assertEqual(found(name, *patterns), wins)

    def test_wildcards(self) -> None:
        """A star, a question mark and brackets stand for what they do in a shell; all else stands for itself."""
        for name, glob, matches in (
            ("gpt-5", "gpt-?", True),
            ("gpt-55", "gpt-?", False),
            ("o3", "o[134]", True),
            ("o2", "o[134]", False),
            ("gptx5", "gpt.5*", False),
            ("gpt-5\n", "gpt-5?", True),
            ("GPT-5", "gpt-*", False),
            ("my-gpt-5", "gpt-*", False),
        ):
            self.assertEqual(found(name, glob) is not None, matches, (name, glob))

    @given(st.text())
    def test_any_name_can_be_asked(self, name: str) -> None:
        """Whatever a stranger sends is found as itself or under the star, if it is not too long."""
        self.assertEqual(found(name, "*"), "*" if len(name) <= LONGEST_NAME else None)

    def test_a_very_long_name_is_under_no_glob(self) -> None:
        """A name too long to be a model's is under no glob, and costs no matching."""
        self.assertIsNone(found("a" * (LONGEST_NAME + 1), "*", "a*"))

    def test_stars_do_not_multiply(self) -> None:
        """A glob of many stars is decided at once, also about a name made to make it try every way."""
        self.assertIsNone(found("a" * LONGEST_NAME, "*a" * 30 + "b"))

    def test_mistakes(self) -> None:
        """An empty entry and one that stands there twice are mistakes."""
        for patterns in (("",), ("a", "a"), ("a*", "a*")):
            self.assertRaises(ValueError, found, "a", *patterns)

    def test_truth(self) -> None:
        """A table without entries is false, and its patterns are told in the order that they came in."""
        self.assertFalse(GlobTable(()))
        table = GlobTable([("b*", 1), ("a", 2)])
        self.assertTrue(table)
        self.assertEqual(table.patterns, ("b*", "a"))

    def test_equal(self) -> None:
        """Tables of the same entries in the same order are equal."""
        table = GlobTable([("b*", 1), ("a", 2)])
        self.assertEqual(table, GlobTable([("b*", 1), ("a", 2)]))
        self.assertEqual(hash(table), hash(GlobTable([("b*", 1), ("a", 2)])))
        self.assertNotEqual(table, GlobTable([("a", 2), ("b*", 1)]))
