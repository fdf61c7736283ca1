"""Every case of the corpus, through a relay that runs as a process; a test for each group."""

from __future__ import annotations

from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.reliability import (
    claims,
    faithful_answers,
    faithful_requests,
    malformed_answers,
    malformed_framing,
    malformed_heads,
    refused_requests,
    upstream_faults,
)
from tests.reliability.bench import Bench
from tests.reliability.case import Group
from tests.reliability.running import outcomes


class GroupTests(SynchronousTestCase):
    bench: ClassVar[Bench]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.bench = Bench()
        cls.addClassCleanup(cls.bench.close)

    def assert_as_promised(self, group: Group, at_least: int) -> None:
        """Each case is as promised, those that are not are named, and none was left out."""
        found = list(outcomes(self.bench, group))
        broken = [f"{each.case.name}: {'; '.join(each.problems)}" for each in found if each.problems]
        if broken:
            self.fail("\n".join([f"{len(broken)} of {len(found)} cases:", *broken]))
        self.assertEqual([each.case.name for each in found], [case.name for case in group.cases])
        self.assertGreaterEqual(len(found), at_least)

    def test_faithful_requests(self) -> None:
        """What a client sends reaches the upstream as if it had been sent there."""
        self.assert_as_promised(faithful_requests.GROUP, 90)

    def test_faithful_answers(self) -> None:
        """What the upstream answers reaches the client as if it had asked there."""
        self.assert_as_promised(faithful_answers.GROUP, 115)

    def test_claims(self) -> None:
        """No claim of a client about who, whence or for whose account it is gets to the upstream."""
        self.assert_as_promised(claims.GROUP, 105)

    def test_malformed_framing(self) -> None:
        """A request whose end is in doubt is refused, and nothing of it, or behind it, reaches the upstream."""
        self.assert_as_promised(malformed_framing.GROUP, 170)

    def test_malformed_heads(self) -> None:
        """A head that is not well-formed is refused, and nothing of it reaches the upstream."""
        self.assert_as_promised(malformed_heads.GROUP, 180)

    def test_refused_requests(self) -> None:
        """What is not forwarded is refused with a clear status, and nothing of it reaches the upstream."""
        self.assert_as_promised(refused_requests.GROUP, 90)

    def test_malformed_answers(self) -> None:
        """A malformed answer is a 502, or a cut where something of it has gone out, and nothing is made up."""
        self.assert_as_promised(malformed_answers.GROUP, 100)

    def test_upstream_faults(self) -> None:
        """Every fault of the upstream has one clear ending, and nothing is sent twice that may have been acted upon."""
        self.assert_as_promised(upstream_faults.GROUP, 80)
