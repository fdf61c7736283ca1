"""The members of an object, and nothing of what is in them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.top_level import LONGEST_VALUE, MOST_MEMBERS, Member, TopLevel
from tests.core.transcripts import pieces

names = st.sampled_from(["a", "b", 'q"\\', "ü", "A", ""])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
cuts = st.lists(st.integers(0, 1 << 16), max_size=6)


def scanned(*blocks: bytes) -> TopLevel:
    scan = TopLevel(frozenset(("a", 'q"\\', "ü")))
    for block in blocks:
        scan.feed(block)
    return scan


class ScanTests(SynchronousTestCase):
    @given(st.lists(st.tuples(names, values), max_size=5), st.booleans(), st.booleans(), cuts)
    def test_any_object(self, members: list[tuple[str, object]], escaped: bool, spaced: bool, where: list[int]) -> None:
        """However an object is written and cut, its members are found with their values and places."""
        gap = " \n" if spaced else ""
        written = [(name, json.dumps(value, ensure_ascii=escaped)) for name, value in members]
        inner = f"{gap},{gap}".join(
            f"{json.dumps(name, ensure_ascii=escaped)}{gap}:{gap}{raw}" for name, raw in written
        )
        text = f"{gap}{{{gap}{inner}{gap}}}{gap}".encode()
        scan = scanned(*pieces(text, where))
        self.assertTrue(scan.closed and not scan.broken)
        wanted = [(name, raw.encode()) for name, raw in written if name.lower() in ("a", 'q"\\', "ü")]
        self.assertEqual([(each.key, each.raw) for each in scan.found], wanted)
        for each in scan.found:
            self.assertTrue(text[each.start :].startswith(each.raw or b"?"))

    @given(st.text('{}[]",:a1\\ u0', max_size=20), cuts)
    def test_any_text(self, text: str, where: list[int]) -> None:
        """Whatever comes, the cutting does not matter, and what is JSON is not taken for broken."""
        whole, cut = scanned(text.encode()), scanned(*pieces(text.encode(), where))
        self.assertEqual((cut.found, cut.closed, cut.broken), (whole.found, whole.closed, whole.broken))
        try:
            is_object = isinstance(json.loads(text), dict)
        except ValueError:
            return
        self.assertEqual(whole.closed and not whole.broken, is_object)

    def test_broken(self) -> None:
        """What is no object, or goes on behind its end, is broken."""
        for text in (
            b"[]",
            b"{,",
            b'{"a" 1}',
            b'{"a":}',
            b'{"a":1]',
            b"{} x",
            b'{"a":1,}',
            b"\xef\xbb\xbf{}",
            b'{"\xff":1}',
            b'{"\\x":1}',
        ):
            self.assertTrue(scanned(text).broken, text)

    def test_unfinished(self) -> None:
        """A value that has not ended is not found yet."""
        for text in (b'{"a":1', b'{"a":"x', b'{"a":[1', b'{"a"'):
            scan = scanned(text)
            self.assertEqual((scan.found, scan.closed, scan.broken), ([], False, False))

    def test_bounds(self) -> None:
        """Long values and names are passed by, and names without end are broken."""
        long = b'{"a":"%b","%b":1,"b":[%b],"a":2}' % (b"x" * LONGEST_VALUE, b"y" * 999, b"{}," * 9999)
        self.assertEqual(scanned(long).found, [Member("a", 5, None), Member("a", len(long) - 2, b"2")])
        self.assertTrue(scanned(b"{" + b'"a":1,' * (MOST_MEMBERS + 1)).broken)

    def test_depth(self) -> None:
        """Brackets are passed by, however many stand in each other, and wherever they are cut."""
        for levels in (1, 7, 8, 9, 10, 100, 5_000):
            for opening, closing in ((b"[", b"]"), (b'{"x":', b"}"), (b"[1,[],", b"]"), (b'["]",{"}":[', b"0]}]")):
                text = b'{"x":' + opening * levels + b"0" + closing * levels + b',"a":1}'
                for scan in (scanned(text), scanned(*pieces(text, list(range(7, len(text), 997))))):
                    self.assertEqual((scan.found, scan.closed), ([Member("a", len(text) - 2, b"1")], True))

    def test_nothing_but_brackets(self) -> None:
        """What is hardly anything but brackets or members is given up as broken: it would hold everybody up."""
        for text in (b'{"x":' + b"[1," * 300_000, b'{"x":' + b'[{"":' * 200_000, b"{" + b'"":1,' * 200_000):
            self.assertTrue(scanned(text).broken)
            self.assertTrue(scanned(*pieces(text, list(range(7, len(text), 997)))).broken)

    def test_byte_by_byte(self) -> None:
        """How small the blocks are does not count against an object."""
        text = b'{"x":[' + b"[[[[[[[[[1]]]]]]]]]," * 2_000 + b'1],"a":1}'
        self.assertEqual(scanned(*pieces(text, list(range(1, len(text))))).found, [Member("a", len(text) - 2, b"1")])

    @given(
        st.sampled_from([1, 2, 7, 8, 9, 10, 30]), st.integers(0, 12_000), st.sampled_from(["", '"', "\\", "é\n"]), cuts
    )
    def test_long_strings(self, levels: int, size: int, mark: str, where: list[int]) -> None:
        """Strings of any length, at any depth, with anything escaped in them, are passed by."""
        inner: object = {"content": (mark + "x" * 20) * (size // 20), "b": [{}, [], "]"]}
        for _ in range(levels):
            inner = [inner, {"y": "}"}]
        text = json.dumps({"b": inner, "a": 1}).encode()
        scan = scanned(*pieces(text, where))
        self.assertEqual((scan.found, scan.closed), ([Member("a", len(text) - 2, b"1")], True))
