"""The pages that tell what came of the cases."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.running import ROOT
from tests.reliability.case import Case, Given, Group, Methods, head
from tests.reliability.corpus import GROUPS
from tests.reliability.report import BROKEN, Section, page_of, write_pages
from tests.reliability.verdict import Outcome

CASE = Case("a|b", (head(),), (Given(b"hello"),), Methods((b"GET",)))


def section(*problems: str, title: str = "Some cases") -> Section:
    outcome = Outcome(CASE, "GET `x` | \\r\\n", "answers", "1 request", "200", problems)
    return Section(Group(title, "They are kept.", (CASE,)), (outcome,))


class ReportTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.docs = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.docs)

    def test_kept_promise(self) -> None:
        """A case that is as promised has a row that says so, in which nothing breaks the table."""
        self.assertIn("\n| a\\|b | ``GET `x` \\| \\r\\n`` | 1 request | 200 | yes |\n", page_of(section()))

    def test_broken_promise(self) -> None:
        """A case that is not is marked, with what is wrong about it, and counted."""
        page = page_of(section("first", "second"))
        self.assertIn(f"| {BROKEN}: first; second |", page)
        self.assertIn("1 cases, 1 unexplained.", page)

    def test_summary(self) -> None:
        """The summary has a row for each group, and one for all."""
        write_pages([section(), section("wrong", title="More cases")], self.docs)
        rows = re.findall(r"^\|.*\|$", (self.docs / "reliability.md").read_text(), re.MULTILINE)
        self.assertEqual(
            rows[2:],
            [
                "| [Some cases](reliability/some-cases.md) | 1 | 1 | 0 |",
                "| [More cases](reliability/more-cases.md) | 1 | 0 | 1 |",
                "| **all** | **2** | **1** | **1** |",
            ],
        )
        self.assertEqual(
            sorted(path.name for path in (self.docs / "reliability").iterdir()), ["more-cases.md", "some-cases.md"]
        )

    def test_removed_group(self) -> None:
        """The page of a group that is no more goes, too."""
        write_pages([section(title="Gone")], self.docs)
        write_pages([section()], self.docs)
        self.assertEqual([path.name for path in (self.docs / "reliability").iterdir()], ["some-cases.md"])


class CommittedPagesTests(SynchronousTestCase):
    """The pages in ``docs/`` tell of the cases that there are."""

    def test_counts(self) -> None:
        """The summary has every group with all of its cases, and none that is unexplained."""
        summary = (ROOT / "docs" / "reliability.md").read_text()
        for group in GROUPS:
            page = Section(group, ()).page
            count = len(group.cases)
            self.assertIn(
                f"| [{group.title}](reliability/{page}) | {count} | {count} | 0 |", summary, "run: make reliability"
            )
            text = (ROOT / "docs" / "reliability" / page).read_text()
            self.assertEqual(text.count(" | yes |\n"), count, "run: make reliability")

    def test_corpus(self) -> None:
        """There are more than 900 cases, and no two groups share a name."""
        self.assertGreater(sum(len(group.cases) for group in GROUPS), 900)
        self.assertEqual(len({group.title for group in GROUPS}), len(GROUPS))
