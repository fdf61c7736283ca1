"""Runs groups of cases one after the other, and hands each outcome on."""

from __future__ import annotations

from collections.abc import Iterator

from tests.reliability.bench import Bench
from tests.reliability.case import Group
from tests.reliability.verdict import Outcome, Wire, judge


def outcomes(bench: Bench, group: Group) -> Iterator[Outcome]:
    """Make each case of the group happen; yields what came of it."""
    wire = Wire(bench.upstream.host, bench.site.api_key)
    for case in group.cases:
        direct = bench.directly(case) if case.compared else None
        yield judge(case, bench.through(case), direct, wire)
