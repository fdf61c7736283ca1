"""Whose turn it is when requests wait."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.errors import TooManyConcurrent
from openai_relay.core.globs import GlobTable
from openai_relay.core.limit_rules import KeyLimits, Quota
from openai_relay.core.limits import Limiter
from openai_relay.core.waiting import Ticket, WaitingLines
from tests.core.clocks import SECOND, FakeClock


class LineMachine(RuleBasedStateMachine):
    """Lines under any order of arrivals, endings, departures and looks; every promise is checked at each look."""

    @initialize(concurrent=st.integers(1, 3), burst=st.integers(1, 3), wait=st.integers(1, 20), queue=st.integers(1, 6))
    def configure(self, concurrent: int, burst: int, wait: int, queue: int) -> None:
        """Begin with any limits."""
        self.clock = FakeClock()
        own = Quota.of(
            requests_per_minute=240, burst=burst, tokens_per_minute=120, token_burst=12, concurrent=concurrent
        )
        models = GlobTable([("m*", Quota.of(tokens_per_minute=60, token_burst=10))])
        self.limits = KeyLimits(own, models, max_wait_ns=wait * SECOND, max_queue=queue)
        self.limiter = Limiter(self.limits, self.clock)
        self.lines = WaitingLines(self.limiter, self.clock)
        self.waiting: list[Ticket] = []
        self.running: list[Ticket] = []

    @rule(model=st.sampled_from([None, "m1", "m2", "other"]), tokens=st.integers(0, 15))
    def enter(self, model: str | None, tokens: int) -> None:
        """One more arrives; it waits only as long as there is room."""
        ticket = self.lines.enter("anna", model=model, tokens=tokens)
        if ticket.lease is not None:
            assert not self.waiting, "it went past those who wait"
            self.running.append(ticket)
        elif ticket.waits:
            self.waiting.append(ticket)
            assert len(self.waiting) <= self.limits.max_queue
            self.look()
        else:
            assert ticket.refusal is not None
            assert self.lines.position(ticket) is None
        self.check()

    @rule()
    def look(self) -> None:
        """Whoever is decided is in order, and nobody overtakes one who waits for the same limit."""
        decided = self.lines.look("anna")
        assert decided == [ticket for ticket in self.waiting if not ticket.waits]
        for ticket in decided:
            ahead = self.waiting[: self.waiting.index(ticket)]
            stay = [other for other in ahead if other.waits]
            if ticket.lease is not None:
                # Those ahead that stay wait for their models alone, and this one wants none of these.
                assert all(other.pattern not in (None, ticket.pattern) for other in stay)
                self.running.append(ticket)
            else:
                assert ticket.refusal is not None
                assert self.clock.now >= ticket.deadline
        self.waiting = [ticket for ticket in self.waiting if ticket.waits]
        assert all(ticket.deadline > self.clock.now for ticket in self.waiting)
        assert not self.lines.look("anna"), "a second look finds nothing new"
        self.check()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Anyone may leave at any time, once."""
        ticket = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        assert self.lines.leave(ticket)
        assert not self.lines.leave(ticket)
        self.look()

    @precondition(lambda self: self.running)
    @rule(used=st.integers(0, 30))
    def end(self, used: int) -> None:
        """An exchange ends."""
        lease = self.running.pop(0).lease
        assert lease is not None
        lease.settle(used)
        lease.release()
        self.look()

    @precondition(lambda self: self.waiting)
    @rule()
    def wait_until_told(self) -> None:
        """Looking only when told finds somebody to decide in the end, and nobody could have been decided earlier."""
        before = len(self.waiting)
        for _ in range(3 * before):  # the key's limit and the model's may end one after the other
            at = self.lines.next_look("anna")
            assert at is not None
            assert at <= min(ticket.deadline for ticket in self.waiting)
            if at > self.clock.now + 1:
                self.clock.now = at - 1
                self.look()
                assert len(self.waiting) == before, "it could have been looked earlier"
            self.clock.now = max(at, self.clock.now)
            self.look()
            if len(self.waiting) < before:
                return
        raise AssertionError("nobody was decided")

    @rule(ns=st.integers(0, 5 * SECOND))
    def pass_time(self, ns: int) -> None:
        """Time passes."""
        self.clock.now += ns

    def check(self) -> None:
        """The lines tell what is so."""
        assert self.lines.waiting("anna") == len(self.lines) == len(self.waiting)
        assert (self.lines.next_look("anna") is None) == (not self.waiting)
        for place, ticket in enumerate(self.waiting, 1):
            assert self.lines.position(ticket) == place

    def teardown(self) -> None:
        """All who wait leave or go in the end, and nothing is kept."""
        if hasattr(self, "lines"):
            for ticket in self.waiting:
                self.lines.leave(ticket)
            self.waiting = []
            self.check()


class WaitingLinesTests(SynchronousTestCase):
    """``WaitingLines``."""

    def setUp(self) -> None:
        self.clock = FakeClock()

    def lines(self, own: Quota, wait: float = 10, queue: int = 5, **models: Quota) -> WaitingLines:
        """Lines before a limiter."""
        limits = KeyLimits(own, GlobTable(models.items()), max_wait_ns=int(wait * SECOND), max_queue=queue)
        return WaitingLines(Limiter(limits, self.clock), self.clock)

    def test_any_course(self) -> None:
        """In any order of events the line keeps its order, its bounds and its word about when to look."""
        run_machine(LineMachine, settings=settings(max_examples=150, stateful_step_count=30, deadline=None))

    def test_in_order_of_arrival(self) -> None:
        """Those who wait begin one after another as places come free, the first first."""
        lines = self.lines(Quota.of(concurrent=1))
        running = lines.enter("anna")
        waiting = [lines.enter("anna") for _ in range(3)]
        for ticket in waiting:
            assert running.lease is not None
            running.lease.release()
            self.assertEqual(lines.look("anna"), [ticket])
            running = ticket

    def test_nobody_overtakes_with_less(self) -> None:
        """A small request does not pass a large one that waits, so the large one gets its turn."""
        lines = self.lines(Quota.of(tokens_per_minute=600, token_burst=100))
        lines.enter("anna", tokens=60)
        large, small = lines.enter("anna", tokens=100), lines.enter("anna", tokens=1)
        self.assertEqual(lines.look("anna"), [])
        self.clock.now += 6 * SECOND
        self.assertEqual(lines.look("anna"), [large])
        self.assertTrue(small.waits)

    def test_nobody_overtakes_whatever_the_model(self) -> None:
        """Who waits for the key's own limit is passed by no other model, nor by another of his own group."""
        own, of_model = (
            Quota.of(tokens_per_minute=600, token_burst=100),
            Quota.of(tokens_per_minute=60, token_burst=100),
        )
        for first, second, limits in (
            (None, "m1", {"own": own, "m": Quota.of(concurrent=9)}),  # held by the key's own limit
            ("m1", None, {"own": own, "m": of_model}),  # by both, and longer by the model's
            ("m1", "m2", {"own": Quota(), "m": of_model}),  # by the model's alone
        ):
            models = GlobTable([("m*", limits["m"])])
            told = KeyLimits(limits["own"], models, max_wait_ns=1_000 * SECOND, max_queue=5)
            lines = WaitingLines(Limiter(told, self.clock), self.clock)
            lines.enter("anna", model="m0", tokens=60)
            if first is None:
                lines.enter("anna", tokens=10)
            large, small = lines.enter("anna", model=first, tokens=90), lines.enter("anna", model=second, tokens=1)
            self.assertEqual(lines.next_look("anna"), self.clock.now)  # the newcomer may be free to go
            self.assertEqual(lines.look("anna"), [])
            self.assertTrue(large.waits and small.waits)

    def test_the_keys_limit_holds_up_others_no_longer_than_it_lasts(self) -> None:
        """When who waits first is free of the key's limit and still held by his model's, the others go."""
        own, of_model = Quota.of(requests_per_minute=60, burst=1), Quota.of(requests_per_minute=12, burst=1)
        lines = self.lines(own, m=of_model)
        begun = self.clock.now
        lines.enter("anna", model="m")
        both, other = lines.enter("anna", model="m"), lines.enter("anna")
        self.assertEqual(lines.look("anna"), [])
        self.assertEqual(lines.next_look("anna"), begun + SECOND)
        self.clock.now += SECOND
        self.assertEqual(lines.look("anna"), [other])
        self.assertEqual(lines.next_look("anna"), begun + 5 * SECOND)
        self.clock.now = begun + 5 * SECOND
        self.assertEqual(lines.look("anna"), [both])

    def test_other_models_pass(self) -> None:
        """Who waits for his model's limit does not hold up the others, and they take their places in between."""
        lines = self.lines(Quota(), m=Quota.of(concurrent=1))
        lines.enter("anna", model="m")
        stuck, free = lines.enter("anna", model="m"), lines.enter("anna", model="n")
        self.assertEqual(lines.look("anna"), [free])
        self.assertTrue(stuck.waits)
        self.assertEqual(lines.position(stuck), 1)

    def test_keys_have_lines_of_their_own(self) -> None:
        """One client's line is nothing to another."""
        lines = self.lines(Quota.of(concurrent=1))
        lines.enter("anna")
        lines.enter("anna")
        self.assertIsNotNone(lines.enter("boris").lease)
        self.assertEqual((lines.waiting("anna"), lines.waiting("boris")), (1, 0))
        self.assertEqual(lines.look("boris"), [])

    def test_refused_at_once(self) -> None:
        """Who would wait longer than he may is refused at once with the true wait, and so is anyone where none may."""
        for wait, queue in ((5.0, 5), (0.0, 0), (120.0, 0)):
            lines = self.lines(Quota.of(requests_per_minute=1, burst=1), wait, queue)
            lines.enter("anna")
            refusal = lines.enter("anna").refusal
            assert refusal is not None
            self.assertEqual(refusal.wait_ns, 60 * SECOND)
            self.assertEqual(len(lines), 0)

    def test_a_full_line(self) -> None:
        """One more than may wait is told so, and to come again."""
        lines = self.lines(Quota.of(concurrent=1), queue=1)
        lines.enter("anna")
        lines.enter("anna")
        refusal = lines.enter("anna").refusal
        assert refusal is not None
        self.assertEqual(
            refusal.told, "Too many requests of this client wait for their turn already: 1. Please try again in 1s."
        )
        self.assertEqual(refusal.wait_ns, SECOND)

    def test_out_of_time(self) -> None:
        """Who has waited as long as he may is refused for what he waited for."""
        lines = self.lines(Quota.of(concurrent=1), wait=10)
        lines.enter("anna")
        ticket = lines.enter("anna")
        self.assertEqual(lines.next_look("anna"), self.clock.now + 10 * SECOND)
        self.clock.now += 10 * SECOND
        self.assertEqual(lines.look("anna"), [ticket])
        self.assertIsInstance(ticket.refusal, TooManyConcurrent)
        self.assertIsNone(lines.next_look("anna"))

    def test_the_last_moment_counts(self) -> None:
        """Whose turn comes at the very end of the wait is admitted, not refused."""
        lines = self.lines(Quota.of(concurrent=1), wait=10)
        running, ticket = lines.enter("anna"), lines.enter("anna")
        self.clock.now += 10 * SECOND
        assert running.lease is not None
        running.lease.release()
        lines.look("anna")
        self.assertIsNotNone(ticket.lease)

    def test_leaving_frees_those_behind(self) -> None:
        """When the first of a line leaves, a look lets in whoever fits now."""
        lines = self.lines(Quota.of(tokens_per_minute=600, token_burst=100))
        lines.enter("anna", tokens=60)
        large, small = lines.enter("anna", tokens=100), lines.enter("anna", tokens=1)
        self.assertTrue(lines.leave(large))
        self.assertEqual(lines.look("anna"), [small])
        self.assertFalse(lines.leave(small))

    def test_a_shorter_wait_keeps_the_order(self) -> None:
        """After a reload that shortens the wait, nobody is out of time before those ahead of him."""
        lines = self.lines(Quota.of(concurrent=1), wait=10)
        short = KeyLimits(Quota.of(concurrent=1), max_wait_ns=SECOND, max_queue=5)
        lines.enter("anna")
        first, second = lines.enter("anna"), lines.enter("anna", limits=short)
        self.assertEqual(second.deadline, first.deadline)
