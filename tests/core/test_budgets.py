"""What budgets promise, whatever the order of reservations, endings and midnights."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.budgets import Budget, Budgets, Cost, Reservation, Standing, dollars
from openai_relay.core.errors import BudgetSpent, RateLimited

ZONE = ZoneInfo("Europe/Berlin")
DAY = 86_400
#: 2026-11-23, noon in UTC: a Monday.
NOON = 1_795_435_200


class Wall:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.now: float = NOON

    def __call__(self) -> float:
        return self.now


class BudgetMachine(RuleBasedStateMachine):
    """``Budgets`` beside a ledger of what was settled in each period."""

    reservations = Bundle("reservations")

    @initialize(
        day=st.one_of(st.none(), st.integers(1, 100)),
        week=st.integers(1, 300),
        soft=st.booleans(),
        begun=st.integers(0, 50),
    )
    def configure(self, day: int | None, week: int, soft: bool, begun: int) -> None:
        """Begin with any budgets and totals."""
        self.wall = Wall()
        self.budgets = Budgets(ZONE, self.wall)
        self.of_key = [Budget("week", week, week // 2 if soft and week > 1 else None)]
        if day is not None:
            self.of_key.append(Budget("day", day, money=False))
        self.ledger: dict[tuple[str, bool], int] = {}
        self.excess: dict[tuple[str, bool], int] = {}
        self.open: list[Cost] = []
        self.warned: list[str] = []
        for budget in self.of_key:
            self.budgets.begin("anna", budget, begun)
            self.ledger[self.where(budget)] = self.excess[self.where(budget)] = begun

    def where(self, budget: Budget) -> tuple[str, bool]:
        """The line of the ledger that a budget counts in now."""
        return self.budgets.period(budget).name, budget.money

    @rule(target=reservations, tokens=st.integers(0, 60), money=st.integers(0, 60))
    def reserve(self, tokens: int, money: int) -> tuple[Cost, Reservation] | None:
        """What fits is reserved; what does not takes nothing."""
        estimate = Cost(tokens, money)
        fits = now = True
        for budget in self.of_key:
            assert budget.hard is not None
            spent = self.ledger.get(self.where(budget), 0)
            part, held = budget.part_of(estimate), sum(budget.part_of(cost) for cost in self.open)
            now = now and spent < budget.hard and spent + part <= budget.hard
            fits = fits and spent + held + part <= budget.hard
        try:
            reservation = self.budgets.reserve("anna", self.of_key, estimate)
        except BudgetSpent:
            assert not now
            return None
        except RateLimited:
            assert now
            assert not fits
            return None
        assert now
        assert fits
        self.open.append(estimate)
        return estimate, reservation

    @rule(held=consumes(reservations), tokens=st.integers(0, 90), money=st.integers(0, 90), cancel=st.booleans())
    def end(self, held: tuple[Cost, Reservation] | None, tokens: int, money: int, cancel: bool) -> None:
        """An exchange ends; twice is the same as once."""
        if held is None:
            return
        estimate, reservation = held
        cost = Cost() if cancel else Cost(tokens, money)
        self.open.remove(estimate)
        if cancel:
            reservation.cancel()
        else:
            self.warned += [warned.period.name for warned in reservation.settle(cost)]
        assert not reservation.settle(Cost(1_000, 1_000))
        for budget in self.of_key:
            where = self.where(budget)
            self.ledger[where] = self.ledger.get(where, 0) + budget.part_of(cost)
            beyond = max(budget.part_of(cost) - budget.part_of(estimate), 0)
            self.excess[where] = self.excess.get(where, 0) + beyond
        self.check()

    @rule(seconds=st.one_of(st.integers(0, 2 * DAY), st.integers(0, 60)))
    def pass_time(self, seconds: int) -> None:
        """Time passes, perhaps into the next period."""
        self.wall.now += seconds
        self.check()

    def check(self) -> None:
        """The books agree with the ledger, and nobody overran but by what estimates fell short of."""
        for standing in self.budgets.standing("anna", self.of_key):
            where = standing.period.name, standing.budget.money
            assert standing.spent == self.ledger.get(where, 0)
            assert standing.reserved == sum(standing.budget.part_of(cost) for cost in self.open)
            assert standing.budget.hard is not None
            assert standing.spent <= standing.budget.hard + self.excess.get(where, 0)
        assert len(self.warned) == len(set(self.warned)), "warned twice in one period"


class BudgetsTests(SynchronousTestCase):
    """``Budgets``."""

    def setUp(self) -> None:
        self.wall = Wall()
        self.budgets = Budgets(ZONE, self.wall)

    def standing(self, *budgets: Budget) -> list[tuple[int, int]]:
        """What anna has spent and reserved."""
        return [(each.spent, each.reserved) for each in self.budgets.standing("anna", budgets)]

    def test_any_course(self) -> None:
        """In any order of reservations, endings and midnights the books are the ledger's, and warn once a period."""
        run_machine(BudgetMachine, settings=settings(max_examples=150, stateful_step_count=30, deadline=None))

    def test_two_hundred_against_fifty(self) -> None:
        """Of 200 at once those are admitted whose estimates fit, 50, and refusals take nothing."""
        budget = Budget("day", 500, money=False)
        admitted = []
        for _ in range(200):
            try:
                admitted.append(self.budgets.reserve("anna", [budget], Cost(tokens=10)))
            except RateLimited:
                continue
        self.assertEqual(len(admitted), 50)
        self.assertEqual(self.standing(budget), [(0, 500)])
        for reservation in admitted:
            reservation.settle(Cost(tokens=12))
        self.assertEqual(self.standing(budget), [(600, 0)])  # over by what the estimates fell short of

    def test_a_spent_budget(self) -> None:
        """Who has spent his budget is told which, how much, and when it begins anew; SDKs do not try again."""
        budget = Budget("month", 5_000_000)
        self.budgets.begin("anna", budget, 5_000_000)
        refusal = self.assertRaises(BudgetSpent, self.budgets.reserve, "anna", [budget], Cost())
        self.assertEqual(
            refusal.told,
            "The monthly budget of this client is spent ($5.00). It begins anew at 2026-12-01T00:00:00+01:00.",
        )
        self.assertEqual((refusal.status, refusal.code), (429, "budget_exceeded"))
        self.assertEqual(refusal.headers(), [(b"x-should-retry", b"false")])
        self.budgets.reserve("boris", [budget], Cost())

    def test_too_little_left(self) -> None:
        """Who has something left, and asks for more, is told both, and may ask for less."""
        budget = Budget("week", 1_000, money=False)
        self.budgets.begin("anna", budget, 900)
        refusal = self.assertRaises(BudgetSpent, self.budgets.reserve, "anna", [budget], Cost(tokens=101))
        self.assertEqual(
            refusal.told,
            "The weekly budget of this client has 100 tokens left of 1000 tokens, "
            "and this request may need 101 tokens. "
            "Ask for less, or wait until it begins anew at 2026-11-30T00:00:00+01:00.",
        )
        self.budgets.reserve("anna", [budget], Cost(tokens=100))

    def test_reserved_by_others(self) -> None:
        """What is only reserved may come free: who is refused for it may try again, and then passes."""
        budget = Budget("day", 1_000_000)
        first = self.budgets.reserve("anna", [budget], Cost(micro_dollars=900_000))
        refusal = self.assertRaises(RateLimited, self.budgets.reserve, "anna", [budget], Cost(micro_dollars=200_000))
        self.assertIn("The daily budget of this client has $0.90 reserved for requests that are open", refusal.told)
        self.assertEqual(refusal.wait_ns, 1_000_000_000)
        first.settle(Cost(micro_dollars=10))
        self.budgets.reserve("anna", [budget], Cost(micro_dollars=200_000))

    def test_all_or_nothing(self) -> None:
        """What one budget refuses is reserved in none."""
        roomy, tight = Budget("day", 100, money=False), Budget("month", 5)
        self.assertRaises(BudgetSpent, self.budgets.reserve, "anna", [roomy, tight], Cost(10, 10))
        self.assertEqual(self.standing(roomy, tight), [(0, 0), (0, 0)])

    def test_a_new_period_begins_anew(self) -> None:
        """At the zone's midnight nothing is spent; what is open then counts in the period in which it ends."""
        budget = Budget("day", 100, money=False)
        self.budgets.reserve("anna", [budget], Cost(tokens=60)).settle(Cost(tokens=60))
        over_midnight = self.budgets.reserve("anna", [budget], Cost(tokens=40))
        self.wall.now = NOON + 11 * 3_600 - 1  # 23:59:59 in Berlin
        self.assertEqual(self.standing(budget), [(60, 40)])
        self.wall.now += 1
        self.assertEqual(self.standing(budget), [(0, 40)])
        over_midnight.settle(Cost(tokens=30))
        self.assertEqual(self.standing(budget), [(30, 0)])

    def test_a_clock_set_back_gives_nothing(self) -> None:
        """When the wall clock is set back, the period that was under way goes on with what was spent."""
        budget = Budget("day", 100, money=False)
        self.budgets.reserve("anna", [budget], Cost(tokens=60)).settle(Cost(tokens=60))
        self.wall.now -= 3 * DAY
        self.assertEqual(self.standing(budget), [(60, 0)])

    def test_a_clock_that_was_far_ahead(self) -> None:
        """A clock that was ahead by more than any period, and is set right, does not leave the budget in the future."""
        budget = Budget("day", 100, money=False)
        self.wall.now += 400 * DAY
        self.budgets.reserve("anna", [budget], Cost(tokens=100)).settle(Cost(tokens=100))
        self.wall.now -= 400 * DAY
        self.budgets.reserve("anna", [budget], Cost(tokens=100)).settle(Cost(tokens=60))
        self.assertEqual(self.standing(budget), [(60, 0)])

    def test_soft_limits_warn_once(self) -> None:
        """A soft limit is told of when it is reached, once in each period, and refuses nothing."""
        budget = Budget("day", soft=100, money=False)
        seen = []
        for day in range(2):
            for tokens in (99, 1, 500):
                warned = self.budgets.reserve("anna", [budget], Cost()).settle(Cost(tokens=tokens))
                seen += [(day, each.key, each.budget, each.period.name, each.spent) for each in warned]
            self.wall.now += DAY
        self.assertEqual(seen, [(0, "anna", budget, "2026-11-23", 100), (1, "anna", budget, "2026-11-24", 100)])

    def test_begun_beyond_the_soft_limit(self) -> None:
        """A soft limit that the ledger had reached before is not told of again in that period."""
        budget = Budget("day", soft=100, money=False)
        self.budgets.begin("anna", budget, 100)
        self.assertEqual(self.budgets.reserve("anna", [budget], Cost()).settle(Cost(tokens=5)), [])

    def test_totals_come_to_what_was_settled_since(self) -> None:
        """Totals that are handed in late are added to what this process settled."""
        budget = Budget("day", 100, money=False)
        self.budgets.reserve("anna", [budget], Cost()).settle(Cost(tokens=5))
        self.budgets.begin("anna", budget, 20)
        self.assertEqual(self.standing(budget), [(25, 0)])

    def test_other_limits_keep_what_was_spent(self) -> None:
        """A reload that changes how much a budget is keeps what was spent of it."""
        self.budgets.reserve("anna", [Budget("day", 100)], Cost(micro_dollars=60)).settle(Cost(micro_dollars=60))
        self.assertRaises(BudgetSpent, self.budgets.reserve, "anna", [Budget("day", 70)], Cost(micro_dollars=11))

    def test_standing_remembers_nothing(self) -> None:
        """Asking where somebody stands makes no entry, and tells budget and period."""
        budget = Budget("month", 7)
        self.assertEqual(self.budgets.standing("anna", [budget]), [Standing(budget, self.budgets.period(budget), 0, 0)])
        self.assertEqual(len(self.budgets), 0)

    def test_ended_periods_are_forgotten(self) -> None:
        """Clients that do not come again are forgotten once their period is over and nothing is open."""
        budget = Budget("day", 100)
        held = self.budgets.reserve("resident", [budget], Cost(micro_dollars=1))
        for number in range(100):
            self.budgets.reserve(f"passer-by {number}", [budget], Cost()).cancel()
        self.wall.now += DAY
        for _ in range(101):
            self.budgets.reserve("anna", [budget], Cost()).cancel()
        self.assertEqual(len(self.budgets), 2)
        held.settle(Cost(micro_dollars=3))
        self.assertEqual(self.budgets.standing("resident", [budget])[0].spent, 3)


class BudgetTests(SynchronousTestCase):
    """``Budget``."""

    def test_mistakes(self) -> None:
        """A budget that limits nothing, nothing at all, or warns too late is a mistake, told in words."""
        for hard, soft, said in (
            (None, None, "a budget needs a hard limit, a soft one, or both"),
            (0, None, "the hard limit of a budget must be above 0, not 0"),
            (None, -1, "the soft limit of a budget must be above 0, not -1"),
            (5, 5, "the soft limit (5) must be below the hard one (5)"),
        ):
            with self.assertRaisesRegex(ValueError, re.escape(said)):
                Budget("day", hard, soft)

    def test_a_negative_cost_is_none(self) -> None:
        """What an upstream tells below zero gives nothing back."""
        self.assertEqual(Budget("day", 5).part_of(Cost(micro_dollars=-5)), 0)

    def test_dollars(self) -> None:
        """Money is shown with two decimals, or as many as it needs."""
        for amount, text in (
            (0, "$0.00"),
            (5_000_000, "$5.00"),
            (1_500_000, "$1.50"),
            (1, "$0.000001"),
            (-20_000, "-$0.02"),
        ):
            self.assertEqual(dollars(amount), text)
