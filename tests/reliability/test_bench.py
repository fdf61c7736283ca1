"""Whether the bench sees what goes wrong: cases that promise what does not happen."""

from __future__ import annotations

from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.reliability.bench import Bench
from tests.reliability.case import (
    PLAIN,
    Case,
    Cut,
    Do,
    Given,
    Group,
    Methods,
    Nothing,
    Refused,
    Requests,
    Same,
    SameRequest,
    Torn,
    answer,
    answered,
    chunked_post,
    head,
    post,
)
from tests.reliability.malformed_framing import SMUGGLED
from tests.reliability.running import outcomes
from tests.reliability.verdict import Outcome

_BAD_REQUEST = Refused(400, "malformed_request")
_BAD = (head(fields=b"X A: 1\r\n"),)


class BenchTests(SynchronousTestCase):
    bench: ClassVar[Bench]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.bench = Bench()
        cls.addClassCleanup(cls.bench.close)

    def outcome(self, case: Case) -> Outcome:
        (found,) = outcomes(self.bench, Group("Wrong", "Nothing.", (case,)))
        return found

    def assert_seen(self, case: Case, *problems: str) -> None:
        """These problems are told of, by their beginnings, and no others."""
        found = self.outcome(case).problems
        self.assertEqual([told[: len(begin)] for told, begin in zip(found, problems, strict=True)], list(problems))

    def test_request_that_was_to_be_refused(self) -> None:
        """A request that reaches the upstream although it was to be refused is seen at both ends."""
        case = Case("", (head(),), (_BAD_REQUEST,), Nothing())
        self.assert_seen(case, "the upstream saw 1 request (GET)", "the client got 200")

    def test_smuggled_request(self) -> None:
        """A second request that reaches the upstream is seen, though the client was asked for one answer only."""
        case = Case("", (head() + SMUGGLED,), (Given(b"hello"),), Methods((b"GET",)))
        self.assertIn("the upstream saw 2 requests (GET; GET)", self.outcome(case).problems[0])

    def test_refusal_that_was_not_promised(self) -> None:
        """A request that is refused although it was to be forwarded is seen at both ends."""
        case = Case("", _BAD, (Given(b"hello"),), Methods((b"GET",)))
        self.assert_seen(case, "the upstream saw nothing", "the client got 400, malformed_request, closed")

    def test_other_refusal(self) -> None:
        """Status, code, and whether the connection is closed all count."""
        for wrong in (
            Refused(401, "malformed_request"),
            Refused(400, "other"),
            Refused(400, "malformed_request", False),
        ):
            self.assert_seen(Case("", _BAD, (wrong,), Nothing()), "the client got 400, malformed_request, closed")

    def test_other_bytes_upstream(self) -> None:
        """A request that differs in one byte from what was expected is seen."""
        case = Case("", (head(),), (Given(b"hello"),), Requests((head().replace(b"relay", b"Relay"),)))
        self.assert_seen(case, "the upstream saw 1 request (GET)")

    def test_difference_that_is_not_documented(self) -> None:
        """What the relay takes off, and no page says so for this comparison, is seen, at either end."""
        lost = answered(answer(b"x-relay-request-id: forged\r\nContent-Length: 2\r\n", b"{}"))
        case = Case("", (head(fields=b"Via: 1.1 a\r\n"),), (Same(),), SameRequest(), lost)
        self.assert_seen(case, "the upstream got the head", "the client got the head")

    def test_other_body(self) -> None:
        """A body other than expected is seen."""
        case = Case("", (post(b"a"),), (Given(b"hallo"),), Methods((b"POST",)))
        self.assert_seen(case, "the client got 200")

    def test_cut_and_whole(self) -> None:
        """A whole answer is not taken for a cut one, nor a cut one for a whole."""
        whole = Case("", (head(),), (Cut(b"hello"),), Methods((b"GET",)))
        self.assert_seen(whole, "the client got 200")
        cut = Case(
            "", (head(),), (Given(b"hello"),), Methods((b"GET",)), answered(PLAIN.replace(b": 5", b": 6"), Do.CLOSE)
        )
        self.assert_seen(cut, "the client got 200, 5 bytes of the body, cut")

    def test_request_that_was_to_break_off(self) -> None:
        """A request that is complete at the upstream is not taken for one that broke off."""
        case = Case("", (chunked_post(b"1\r\na\r\n0\r\n\r\n"),), (Given(b"hello"),), Torn())
        self.assert_seen(case, "the upstream saw 1 request (POST)")

    def test_repeated_request(self) -> None:
        """How often a request was sent counts."""
        case = Case("", (head(),), (Given(b"hello"),), Methods((b"GET", b"GET")))
        self.assert_seen(case, "the upstream saw 1 request (GET)")
