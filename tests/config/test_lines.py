"""Lines of keys, against texts whose lines are known because the test wrote them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.config.lines import Key, key_lines

#: Values that look like keys and headers inside.
PLAIN = ("1", "-2.5e3", "true", "inf", "1979-05-27 07:32:00", '"a # [b]\\" = c"', "'{ x = \"'", '""', "''")
LONG = (
    '"""\n[listen]\naddress = 1\n"""',
    '"""a "" b \\""" c"""""',
    "'''\n# [x]\n' '' k = 2'''",
    "''''quoted''''",
    '"""\\\n   folded"""',
)
NAMES = ("plain", "with-dash", "1234", '"quoted"', '"a.b"', '"# [x] ="', "'lit'", '"e\\u0041"')


class Author:
    """Writes a TOML text by drawn choices, and notes where everything stands."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[Key, int] = {}
        self.names = 0

    def write(self, text: str) -> None:
        self.text += text

    def note(self, way: Key) -> None:
        self.lines.setdefault(way, self.text.count("\n") + 1)

    def choose(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def name(self, way: Key) -> Key:
        """Write one to three name parts, the last of which is new."""
        for more in range(self.choose(0, 0, 1, 2), -1, -1):
            self.names += 1
            part = f"{self.choose(*NAMES)}"
            unique = f"n{self.names}"
            part = f"{part[:-1]}{unique}{part[-1]}" if part[0] in "\"'" else f"{part}{unique}"
            self.write(part)
            way = (*way, json.loads(part) if part[0] == '"' else part.strip("'"))
            self.note(way)
            if more:
                self.write(self.choose(".", " . ", ".\t"))
        return way

    def pair(self, table: Key, depth: int) -> None:
        way = self.name(table)
        self.write(self.choose("=", " = ", "\t="))
        self.value(way, depth)

    def value(self, way: Key, depth: int) -> None:
        kind = self.choose("plain", "plain", "long", "list", "table") if depth else self.choose("plain", "long")
        if kind == "list":
            self.write("[")
            for item in range(self.choose(0, 1, 3)):
                self.write(self.choose("", " ", "\n", "\n# ] comment\n\n  "))
                self.note((*way, item))
                self.value((*way, item), depth - 1)
                self.write(self.choose(",", " ,", "\n, # [\n"))
            self.write(self.choose("]", "\n]", "# ]\n]"))
        elif kind == "table":
            self.write("{")
            for more in range(self.choose(0, 1, 2), 0, -1):
                self.write(" ")
                self.pair(way, depth - 1)
                self.write(" ," if more > 1 else " ")
            self.write("}")
        else:
            self.write(self.choose(*(PLAIN if kind == "plain" else LONG)))

    def document(self) -> None:
        table: Key = ()
        for _ in range(self.choose(1, 3, 6)):
            self.write(self.choose("", "\n", "# [comment]\n", "  ", "\t# k = 1\n "))
            if self.choose(True, False, False):
                opening, closing = self.choose(("[", "]"), ("[[", "]]"), ("[ ", " ]"))
                self.write(opening)
                table = self.name(())
                if opening == "[[":
                    table = (*table, 0)
                    self.note(table)
                self.write(closing)
            else:
                self.pair(table, 2)
            self.write(self.choose("\n", "  # x = [\n", "\n\n"))


def ways(value: object, way: Key = ()) -> set[Key]:
    """The way to everything in a parsed document, lists left closed."""
    if not isinstance(value, dict):
        return {way}
    return {way}.union(*(ways(inner, (*way, name)) for name, inner in value.items()))


class KeyLinesTests(SynchronousTestCase):
    """Where keys stand."""

    def test_table_and_key(self) -> None:
        """A key under a header is found by its dotted way, after comments and blank lines."""
        lines = key_lines("# a comment\n\n[listen]  # more\nbacklog = 1\n\naddress = 'x'\n")
        self.assertEqual(lines, {("listen",): 3, ("listen", "backlog"): 4, ("listen", "address"): 6})

    def test_dotted_and_inline(self) -> None:
        """A key is found however its table is written."""
        self.assertEqual(key_lines("x = 1\nlisten.address = 2\n")["listen", "address"], 2)
        self.assertEqual(key_lines("x = 1\nlisten = { a = [\n1], address = 2 }\n")["listen", "address"], 3)

    def test_quoted_names(self) -> None:
        """A quoted name is the name that it stands for."""
        self.assertEqual(key_lines('"a.b".\'c\' = 1\n"\\u0041" = 2')["a.b", "c"], 1)
        self.assertEqual(key_lines('"\\u0041" = 2')["A",], 1)

    def test_list_items(self) -> None:
        """Each item of a list has a line."""
        self.assertEqual(key_lines('p = ["a",\n # ,\n "b"]')["p", 1], 3)

    def test_lists_of_tables(self) -> None:
        """Each ``[[name]]`` is an item, and what follows is in the newest one, lists of its own included."""
        lines = key_lines("[[a]]\nb = 1\n[[a.c]]\n[[a.c]]\nd = 1\n[[a]]\nb = 2\n[a.e]\n[[a.c]]\nd = 2\n")
        self.assertEqual(
            lines,
            {
                ("a",): 1,
                ("a", 0): 1,
                ("a", 0, "b"): 2,
                ("a", 0, "c"): 3,
                ("a", 0, "c", 0): 3,
                ("a", 0, "c", 1): 4,
                ("a", 0, "c", 1, "d"): 5,
                ("a", 1): 6,
                ("a", 1, "b"): 7,
                ("a", 1, "e"): 8,
                ("a", 1, "c"): 9,
                ("a", 1, "c", 0): 9,
                ("a", 1, "c", 0, "d"): 10,
            },
        )

    def test_text_that_looks_like_keys(self) -> None:
        """The inside of a long string holds no keys."""
        self.assertEqual(key_lines('[a]\nb = """\n[c]\nd = 1\n"""\ne = 1'), {("a",): 1, ("a", "b"): 2, ("a", "e"): 6})

    @settings(deadline=None)
    @given(st.data())
    def test_known_lines(self, data: st.DataObject) -> None:
        """Of any text that TOML allows, every table, key and item is found on its line, and nothing else."""
        author = Author(data.draw)
        author.document()
        tomllib.loads(author.text)
        self.assertEqual(key_lines(author.text), author.lines)

    @settings(deadline=None)
    @given(st.text(st.sampled_from("ab1 .,=#[]{}\"'\\\n\t-")))
    def test_any_text(self, text: str) -> None:
        """Any text at all comes to an end; of one that TOML allows, every key is found."""
        lines = key_lines(text)
        self.assertTrue(all(1 <= line <= text.count("\n") + 1 for line in lines.values()))
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            return
        self.assertLessEqual(ways(document) - {()}, lines.keys())
