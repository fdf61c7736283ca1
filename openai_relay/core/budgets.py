"""
Decide whether a client's budget of a day, a week or a month allows one more exchange.

A budget counts tokens or money (whole micro-dollars).  What an exchange may
cost is reserved when it begins and settled once when it is over, so that
exchanges side by side overrun a budget at most by what their estimates fell
short of.  Reserve budgets before limits: a reservation can be cancelled
without a trace.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final

import msgspec

from openai_relay.core.errors import BudgetSpent, RateLimited
from openai_relay.core.periods import Period, PeriodName, period_at

_ADJECTIVES: Final[dict[PeriodName, str]] = {"day": "daily", "week": "weekly", "month": "monthly"}
#: Seconds by which a clock may be set back without that a period is begun anew: longer than any period.
_SET_BACK: Final = 32 * 86_400.0
#: What others have reserved comes free when they end, which nobody can tell.
_RESERVED_WAIT_NS: Final = 1_000_000_000


class Cost(msgspec.Struct, frozen=True, gc=False):
    """What an exchange has used, or may use."""

    tokens: int = 0
    micro_dollars: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """
    So much in each period.

    :raises ValueError: when it limits nothing, or warns where nothing more is let through.
    """

    period: PeriodName
    hard: int | None = None  #: refused beyond this
    soft: int | None = None  #: warned of, once in a period, when this is reached
    money: bool = True  #: micro-dollars; else tokens

    def __post_init__(self) -> None:
        for name, value in (("hard", self.hard), ("soft", self.soft)):
            if value is not None and value < 1:
                raise ValueError(f"the {name} limit of a budget must be above 0, not {value}")
        if self.hard is None and self.soft is None:
            raise ValueError("a budget needs a hard limit, a soft one, or both")
        if self.hard is not None and self.soft is not None and self.soft >= self.hard:
            raise ValueError(f"the soft limit ({self.soft}) must be below the hard one ({self.hard})")

    def part_of(self, cost: Cost) -> int:
        """What of a cost counts here."""
        return max(cost.micro_dollars if self.money else cost.tokens, 0)

    def shown(self, amount: int) -> str:
        """An amount as a person reads it."""
        return dollars(amount) if self.money else f"{amount} tokens"


@dataclass(frozen=True, slots=True)
class Warned:
    """A soft limit was reached, for the first time in this period."""

    key: str
    budget: Budget
    period: Period
    spent: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a key stands with one budget."""

    budget: Budget
    period: Period
    spent: int
    reserved: int


@dataclass(slots=True, eq=False)
class _Account:
    """What one key has spent of one kind; it outlives a change of the budget's limits."""

    period: Period
    spent: int = 0
    reserved: int = 0
    warned: bool = False


class Reservation:
    """What an exchange has put aside; to be settled, or cancelled, once."""

    __slots__ = ("_budgets", "_estimate", "_held", "_key")

    def __init__(self, budgets: Budgets, key: str, held: tuple[tuple[Budget, _Account], ...], estimate: Cost) -> None:
        self._budgets = budgets
        self._key = key
        self._held = held
        self._estimate = estimate

    def settle(self, cost: Cost) -> list[Warned]:
        """
        The exchange is over and has cost this; only the first call counts.

        It counts in the period in which it ends, as it does in the ledger.

        :returns: the soft limits that were reached by it.
        """
        held, self._held = self._held, ()
        return [warned for budget, account in held for warned in self._settle(budget, account, cost)]

    def cancel(self) -> None:
        """The exchange never began: nothing was used."""
        self.settle(Cost())

    def _settle(self, budget: Budget, account: _Account, cost: Cost) -> list[Warned]:
        self._budgets.turn(budget, account)
        account.reserved -= budget.part_of(self._estimate)
        account.spent += budget.part_of(cost)
        if account.warned or budget.soft is None or account.spent < budget.soft:
            return []
        account.warned = True
        return [Warned(self._key, budget, account.period, account.spent)]


class Budgets:
    """
    The budgets of all keys in this process.

    :param zone: whose midnight begins a day.
    :param wall: seconds since the epoch; a clock that is set back goes on in the period it was in.
    """

    __slots__ = ("_accounts", "_wall", "_zone")

    def __init__(self, zone: tzinfo, wall: Callable[[], float]) -> None:
        self._zone = zone
        self._wall = wall
        self._accounts: OrderedDict[tuple[str, PeriodName, bool], _Account] = OrderedDict()

    def begin(self, key: str, budget: Budget, spent: int) -> None:
        """
        Begin with what the ledger holds for the period under way, which comes to what was settled since.

        A soft limit that is reached by it was warned of by the process before.
        """
        account = self._account(key, budget)
        account.spent += max(spent, 0)
        account.warned = account.warned or (budget.soft is not None and account.spent >= budget.soft)

    def counts(self, key: str, budget: Budget) -> bool:
        """Whether something has been counted for this key and budget already."""
        return (key, budget.period, budget.money) in self._accounts

    def reserve(self, key: str, budgets: Sequence[Budget], estimate: Cost) -> Reservation:
        """
        Put aside what an exchange may cost, in all budgets or in none.

        :param budgets: no two of the same period and kind.
        :raises BudgetSpent: when a budget has too little left, whatever is still open.
        :raises RateLimited: when it has too little only as long as others have it reserved.
        """
        held = tuple((budget, self._account(key, budget)) for budget in budgets)
        crowded: RateLimited | None = None
        for budget, account in held:
            hard, part = budget.hard, budget.part_of(estimate)
            if hard is None:
                continue
            if account.spent >= hard or account.spent + part > hard:
                raise self._spent(budget, hard, account, part)
            if account.spent + account.reserved + part > hard:
                crowded = crowded or _crowded(budget, account)
        if crowded is not None:
            raise crowded
        for budget, account in held:
            account.reserved += budget.part_of(estimate)
        self._forget_ended(2 * len(held))
        return Reservation(self, key, held, estimate)

    def standing(self, key: str, budgets: Sequence[Budget]) -> list[Standing]:
        """Where a key stands, for those who ask; nothing is remembered of it."""
        standings = []
        for budget in budgets:
            account = self._accounts.get((key, budget.period, budget.money)) or _Account(self.period(budget))
            self.turn(budget, account)
            standings.append(Standing(budget, account.period, account.spent, account.reserved))
        return standings

    def period(self, budget: Budget) -> Period:
        """The period under way, whose total of the ledger is to be handed to ``begin``."""
        return period_at(self._wall(), budget.period, self._zone)

    def turn(self, budget: Budget, account: _Account) -> None:
        """Begin an account's next period, if that has come; what is reserved goes along."""
        now = self._wall()
        # A little behind is a clock that was set right; far behind, one that was wrong when the period began.
        if now >= account.period.ends or now < account.period.starts - _SET_BACK:
            account.period = self.period(budget)
            account.spent, account.warned = 0, False

    @property
    def reserved(self) -> int:
        """In how many accounts something is reserved."""
        return sum(account.reserved != 0 for account in self._accounts.values())

    def __len__(self) -> int:
        """How many accounts are remembered."""
        return len(self._accounts)

    def _account(self, key: str, budget: Budget) -> _Account:
        where = (key, budget.period, budget.money)
        account = self._accounts.get(where)
        if account is None:
            account = self._accounts[where] = _Account(self.period(budget))
        self.turn(budget, account)
        return account

    def _forget_ended(self, count: int) -> None:
        # As the limits do: two for each that was asked, so that the table stays small without a timer.
        accounts, now = self._accounts, self._wall()
        for _ in range(min(count, len(accounts))):
            where = next(iter(accounts))
            account = accounts[where]
            if account.reserved or account.period.ends > now:
                accounts.move_to_end(where)
            else:
                del accounts[where]

    def _spent(self, budget: Budget, hard: int, account: _Account, part: int) -> BudgetSpent:
        name = f"The {_ADJECTIVES[budget.period]} budget of this client"
        again = datetime.fromtimestamp(account.period.ends, UTC).astimezone(self._zone).isoformat()
        if account.spent >= hard:
            return BudgetSpent(told=f"{name} is spent ({budget.shown(hard)}). It begins anew at {again}.")
        left = budget.shown(hard - account.spent)
        return BudgetSpent(
            told=f"{name} has {left} left of {budget.shown(hard)}, and this request may need {budget.shown(part)}. "
            f"Ask for less, or wait until it begins anew at {again}."
        )


def _crowded(budget: Budget, account: _Account) -> RateLimited:
    name = f"The {_ADJECTIVES[budget.period]} budget of this client"
    return RateLimited(
        _RESERVED_WAIT_NS,
        f"{name} has {budget.shown(account.reserved)} reserved for requests that are open, "
        "and too little left for this one. Please try again in 1s, or when one of them has ended.",
    )


def dollars(micro_dollars: int) -> str:
    """An amount with two decimals, or with as many as it needs."""
    whole, fraction = divmod(abs(micro_dollars), 1_000_000)
    decimals = f"{fraction:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micro_dollars < 0 else ''}${whole}.{decimals}"
