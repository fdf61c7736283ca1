"""
Answer a client that asks who it is, what it may do and what it has used.

What others hold in memory is asked at once.  The ledger is asked elsewhere, and
sparingly: a client whose question is still open shares its answer with the
next, and only so many are open at a time, so that nobody fills the threads
that others need.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import tzinfo
from typing import Final

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.python.failure import Failure

from openai_relay.core.budgets import Budgets
from openai_relay.core.identity import Identity
from openai_relay.core.limits import Limiter
from openai_relay.core.me import UNKNOWN, Findings, OwnUsage, Stretches, document
from openai_relay.core.policy import Policy
from openai_relay.core.settings import LimitBy

#: Tells what a client has used in the day and the month under way; may take its time.
ReadUsage = Callable[[str, Stretches], Awaitable[OwnUsage]]

_Question = tuple[str, Stretches]

#: How many clients' usage is read at a time; a reading takes some milliseconds, and a thread.
AT_ONCE: Final = 2


class Me:
    """
    Who tells a client about itself.

    :param limit_by: what limits are counted by; budgets and usage are the client's name's.
    :param read: asks the ledger; ``None``: there is none.
    :param wall: seconds since the epoch.
    :param zone: in which days and months begin.
    """

    def __init__(
        self,
        limiter: Limiter,
        budgets: Budgets,
        limit_by: LimitBy,
        read: ReadUsage | None,
        wall: Callable[[], float],
        zone: tzinfo,
    ) -> None:
        self._limiter = limiter
        self._budgets = budgets
        self._limit_by = limit_by
        self._read = read
        self._wall = wall
        self._zone = zone
        self._open: dict[_Question, list[Deferred[OwnUsage]]] = {}
        self._few = DeferredSemaphore(AT_ONCE)

    async def answer(self, identity: Identity, policy: Policy) -> bytes:
        """The document of ``core.me``."""
        stretches = Stretches.at(self._wall(), self._zone)
        usage = await self._usage(identity.name, stretches)
        found = Findings(
            self._limiter.standing(identity.limit_key(self._limit_by), policy.limits),
            self._budgets.standing(identity.name, policy.budgets),
            stretches,
            usage,
        )
        return document(identity, policy, found, self._zone)

    async def _usage(self, name: str, stretches: Stretches) -> OwnUsage:
        if self._read is None:
            return UNKNOWN
        question = (name, stretches)
        # One for each who asks: whoever leaves takes nothing from those who stay.
        answer: Deferred[OwnUsage] = Deferred()
        asking = self._open.get(question)
        if asking is not None:
            asking.append(answer)
        else:
            self._open[question] = [answer]
            reading = self._few.run(self._ask, self._read, question)
            reading.addBoth(self._tell, question)
        return await answer

    def _ask(self, read: ReadUsage, question: _Question) -> Deferred[OwnUsage]:
        async def ask() -> OwnUsage:
            return await read(*question)

        return Deferred.fromCoroutine(ask())

    def _tell(self, result: OwnUsage | Failure, question: _Question) -> None:
        for answer in self._open.pop(question):
            answer.callback(result)  # nothing to whoever has left: a cancelled Deferred lets it pass
