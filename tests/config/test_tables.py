"""Rules for whole tables."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.config.problems import Finding, Wrong, Wrongs
from openai_relay.config.tables import MISSING, list_of_tables, table, tables_by_name
from openai_relay.config.values import Rule, items, text, whole_number


@dataclass(frozen=True, slots=True)
class Shelf:
    name: str
    books: int = 3
    tags: tuple[str, ...] = ()


ONE = table(
    Shelf,
    {"name": text, "books": whole_number(1, 9), "tags": items(text, "[]", may_be_empty=True)},
    lambda name: f"no {name} here; take it out",
)


class TableTests(SynchronousTestCase):
    def findings(self, rule: Rule, value: object) -> list[Finding]:
        return list(self.assertRaises(Wrongs, rule, value).findings)

    def test_taken(self) -> None:
        """A table becomes its class, with the defaults for what is not said."""
        self.assertEqual(ONE({"name": "a", "tags": ["b"]}), Shelf("a", 3, ("b",)))

    def test_all_at_once(self) -> None:
        """Missing, unknown and wrong keys are found together, those inside of lists too."""
        self.assertEqual(
            sorted(self.findings(ONE, {"books": 0, "tags": ["b", 1], "x": 1, "y": 2}), key=str),
            sorted(
                [
                    (("name",), MISSING),
                    (("books",), "0 is out of range; give a whole number from 1 to 9"),
                    (("tags", 1), "must be text, and this is a whole number; write it in double quotes"),
                    (("x",), "no x here; take it out"),
                    (("y",), "no y here; take it out"),
                ],
                key=str,
            ),
        )

    def test_no_table(self) -> None:
        """Anything else in a table's place is refused."""
        values: tuple[object, ...] = (3, [], "x")
        for value in values:
            self.assertRaises(Wrong, ONE, value)

    def test_by_name(self) -> None:
        """Tables by name are checked each, and a key without its table's name is told where it belongs."""
        rule = tables_by_name(ONE, "[shelves.NAME]", Shelf)
        self.assertEqual(rule({"a": {"name": "b"}}), {"a": Shelf("b")})
        self.assertEqual(rule({"books": {"name": "b"}}), {"books": Shelf("b")})
        self.assertEqual(
            self.findings(rule, {"books": 3, "": {}, "a": {"name": 1}}),
            [
                (("books",), "does not belong here; put it under [shelves.NAME]"),
                (("",), "an empty name is nobody's; write [shelves.NAME] with a name"),
                (("a", "name"), "must be text, and this is a whole number; write it in double quotes"),
            ],
        )
        self.assertRaises(Wrong, rule, [])

    def test_list(self) -> None:
        """Tables in a row are checked each, and found by their number."""
        rule = list_of_tables(ONE, "[[shelves]]")
        self.assertEqual(rule([{"name": "a"}]), (Shelf("a"),))
        self.assertEqual(self.findings(rule, [{"name": "a"}, {}]), [((1, "name"), MISSING)])
        self.assertIn("write [[shelves]], in double brackets", str(self.assertRaises(Wrong, rule, {"name": "a"})))
