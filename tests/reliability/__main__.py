"""``python -m tests.reliability``: run every case, write the pages, and exit 1 when one is not as promised."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.running import ROOT
from tests.reliability.bench import Bench
from tests.reliability.case import Group
from tests.reliability.corpus import GROUPS
from tests.reliability.report import Section, write_pages
from tests.reliability.running import outcomes


def _section(bench: Bench, group: Group) -> Section:
    return Section(group, tuple(outcomes(bench, group)))


def main() -> int:
    """Write the pages into ``docs/``, or into the directory that is named; returns the exit code."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    # Most cases of the last group wait for a time-out: nobody has to wait with them.  The thread ends last, as the
    # processes that it starts end with it.
    with ThreadPoolExecutor(1) as thread, Bench() as bench, Bench() as waiting:
        last = thread.submit(_section, waiting, GROUPS[-1])
        sections = [*(_section(bench, group) for group in GROUPS[:-1]), last.result()]
    write_pages(sections, directory)
    broken = [(section, outcome) for section in sections for outcome in section.unexplained]
    for section, outcome in broken:
        sys.stderr.write(f"{section.group.title}: {outcome.case.name}: {'; '.join(outcome.problems)}\n")
    cases = sum(len(section.outcomes) for section in sections)
    sys.stdout.write(f"{cases} cases, {len(broken)} unexplained: {directory / 'reliability.md'}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
