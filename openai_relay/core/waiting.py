"""
Decide whose turn it is when requests wait for their limits, instead of being refused at once.

A line for each key, in order of arrival: nobody who came later is admitted
before one who waits for the same limit, however little he asks for.  Whoever
waits for a limit of his model alone holds up only those who want a model of
that group.  Nothing here waits: the caller looks when a lease of the key has
ended, and at the time that ``next_look`` tells.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from openai_relay.core.errors import RateLimited
from openai_relay.core.limit_rules import KeyLimits
from openai_relay.core.limits import CONCURRENT_WAIT_NS, Blocked, HeldLease, Limiter


@dataclass(slots=True, eq=False)
class Ticket:
    """One request's place; once it is decided it has a lease or a refusal."""

    key: str
    model: str | None
    tokens: int
    limits: KeyLimits
    entered: int  #: ns of the monotonic clock
    deadline: int  #: it is refused when it is looked at then and may still not begin
    pattern: str | None  #: the group of models that it falls under
    lease: HeldLease | None = None
    refusal: RateLimited | None = None

    @property
    def waits(self) -> bool:
        """Whether it is still to be decided."""
        return self.lease is None and self.refusal is None


@dataclass(slots=True)
class _Line:
    tickets: OrderedDict[Ticket, None] = field(default_factory=OrderedDict)
    look_at: int = 0
    last_deadline: int = 0


class WaitingLines:
    """The lines of all keys; the one way in where anybody may wait."""

    __slots__ = ("_limiter", "_lines", "_monotonic_ns")

    def __init__(self, limiter: Limiter, monotonic_ns: Callable[[], int]) -> None:
        self._limiter = limiter
        self._monotonic_ns = monotonic_ns
        self._lines: dict[str, _Line] = {}

    def enter(self, key: str, *, model: str | None = None, tokens: int = 0, limits: KeyLimits | None = None) -> Ticket:
        """
        Ask to begin: the ticket has its lease, or its refusal, or waits.

        Where others wait already it is always put behind them; ``look`` then
        says whether its turn has come, since it may want what they do not.
        """
        limits = limits or self._limiter.default_limits()
        now = self._monotonic_ns()
        group = limits.for_model(model)
        pattern = None if group is None else group[0]
        ticket = Ticket(key, model, tokens, limits, now, now + limits.max_wait_ns, pattern)
        line = self._lines.get(key)
        if line is None:
            answer = self._decide(ticket)
            if isinstance(answer, HeldLease):
                ticket.lease = answer
                return ticket
            if limits.max_queue < 1 or (answer.wait_ns or 0) >= limits.max_wait_ns:
                ticket.refusal = answer.refusal
                return ticket
            line = self._lines[key] = _Line()
            line.look_at = _soonest(ticket, answer, now)
        elif len(line.tickets) >= limits.max_queue:
            told = (
                f"Too many requests of this client wait for their turn already: {len(line.tickets)}. "
                "Please try again in 1s."
            )
            ticket.refusal = RateLimited(CONCURRENT_WAIT_NS, told)
            return ticket
        else:
            line.look_at = now  # it may be able to begin at once
        # A reload may have shortened the wait; in one line nobody is out of time before those ahead.
        line.last_deadline = ticket.deadline = max(ticket.deadline, line.last_deadline)
        line.tickets[ticket] = None
        return ticket

    def leave(self, ticket: Ticket) -> bool:
        """
        Take a ticket out of its line, at any time; look again afterwards, since others may be free to go.

        :returns: whether it was waiting.  One that has its lease is no longer in line: release the lease.
        """
        line = self._lines.get(ticket.key)
        if line is None or ticket not in line.tickets:
            return False
        del line.tickets[ticket]
        if not line.tickets:
            del self._lines[ticket.key]
        return True

    def look(self, key: str) -> list[Ticket]:
        """Those of a key that are decided now, in order of arrival: each has its lease or its refusal."""
        line = self._lines.get(key)
        if line is None:
            return []
        now = self._monotonic_ns()
        decided: list[Ticket] = []
        stuck: set[str | None] = set()
        look_at: int | None = None
        # Nobody passes who waits for the key's own limit, and no deadline is before those ahead of it:
        # whoever is stuck and in time has only such behind him as are in time, too.
        for ticket in line.tickets:
            if None in stuck:
                break
            if ticket.pattern in stuck:
                continue
            answer = self._decide(ticket)
            if isinstance(answer, HeldLease):
                ticket.lease = answer
                decided.append(ticket)
            elif ticket.deadline <= now:
                ticket.refusal = answer.refusal
                decided.append(ticket)
            else:
                stuck.add(answer.pattern)
                soonest = _soonest(ticket, answer, now)
                look_at = soonest if look_at is None else min(look_at, soonest)
        for ticket in decided:
            del line.tickets[ticket]
        if look_at is None:
            del self._lines[key]
        else:
            line.look_at = look_at
        return decided

    def next_look(self, key: str) -> int | None:
        """When to look again (monotonic ns), if no lease of the key ends sooner; ``None``: nobody waits."""
        line = self._lines.get(key)
        return None if line is None else line.look_at

    def position(self, ticket: Ticket) -> int | None:
        """Its place in its line, from 1; ``None``: it does not wait."""
        line = self._lines.get(ticket.key)
        if line is None or ticket not in line.tickets:
            return None
        return next(place for place, other in enumerate(line.tickets, 1) if other is ticket)

    def waiting(self, key: str) -> int:
        """How many of a key wait."""
        line = self._lines.get(key)
        return 0 if line is None else len(line.tickets)

    def __len__(self) -> int:
        """How many wait."""
        return sum(len(line.tickets) for line in self._lines.values())

    def _decide(self, ticket: Ticket) -> HeldLease | Blocked:
        return self._limiter.decide(ticket.key, model=ticket.model, tokens=ticket.tokens, limits=ticket.limits)


def _soonest(ticket: Ticket, blocked: Blocked, now: int) -> int:
    """When something changes for a ticket, or for those behind it, if no lease ends before."""
    return ticket.deadline if blocked.look_ns is None else min(ticket.deadline, now + blocked.look_ns)
