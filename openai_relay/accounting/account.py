"""
Account for exchanges: who may have how much, and what became of it, kept from one process to the next.

Nothing on an exchange's way waits for a disk: rows and snapshots are written by
threads, and what cannot be written is said, not waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from openai_relay.accounting.begin import Spent, begin_budgets, read_spent
from openai_relay.accounting.limits_file import LIMITS, LimitsFile
from openai_relay.accounting.place import check_places, make_directory
from openai_relay.admission import Admission
from openai_relay.core.budgets import Budgets, Warned
from openai_relay.core.exchange import Exchange
from openai_relay.core.ledger_row import ledger_row
from openai_relay.core.limits import Limiter
from openai_relay.core.me import OwnUsage, Stretches
from openai_relay.core.policy import PolicyBook, defaults_of
from openai_relay.core.readiness import Check
from openai_relay.core.settings import Settings
from openai_relay.core.waiting import WaitingLines
from openai_relay.ledger.errors import LedgerError
from openai_relay.ledger.own_usage import own_usage
from openai_relay.ledger.writer import LedgerWriter
from openai_relay.me import Me


class Accounting:
    """
    All that counts, for one service.

    :ivar database: the ledger's file; ``None``: there is no ledger.
    :raises BadState: the state or the ledger cannot be where the settings want it; nothing was made.
    """

    log = Logger()

    def __init__(self, reactor: Any, settings: Settings, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._directory = settings.state.directory
        self.database = settings.ledger.database if settings.ledger.enabled else None
        check_places(self._directory, self.database)
        self.policies = policies_of(settings)
        self.limiter = Limiter(settings.limits, monotonic_ns)
        self.lines = WaitingLines(self.limiter, monotonic_ns)
        self._zone = settings.accounting.time_zone
        self.budgets = Budgets(self._zone, time.time)
        self.admission = Admission(
            self.policies,
            self.budgets,
            self.lines,
            settings.accounting.prices,
            limit_by=settings.identity.limit_by,
            expected_output=settings.limits.expected_output,
            include_usage=settings.upstream.include_usage,
            clock=reactor,
            monotonic_ns=monotonic_ns,
            wall=time.time,
            warn=self._warn,
        )
        self.ledger: LedgerWriter | None = None
        if self.database is not None:
            tell = partial(reactor.callFromThread, self._tell)
            self.ledger = LedgerWriter(self.database, tell, retention_days=settings.ledger.retention_days)
        read = None if self.database is None else partial(_in_thread, reactor, own_usage, self.database)
        self.me = Me(self.limiter, self.budgets, settings.identity.limit_by, read, time.time, self._zone)
        self._limits_file: LimitsFile | None = None
        if self._directory is not None:
            self._limits_file = LimitsFile(self._directory / LIMITS, self.limiter, reactor, time.time_ns)
        self._started = False

    def start(self) -> None:
        """
        Take over what the process before left, and begin to write; not before a daemon has forked.

        :raises BadState: the directory cannot be made.
        """
        if self._directory is not None:
            make_directory(self._directory)
        if self._limits_file is not None:
            self._limits_file.start()
        if self.database is not None:
            begin_budgets(self.budgets, self.policies, self.read_spent())
        if self.ledger is not None:
            self.ledger.start()
        self._started = True

    def read_spent(self) -> list[Spent]:
        """What each client has spent, as the ledger has it; nothing where it cannot be read. May take its time."""
        if self.database is None:
            return []
        try:
            return read_spent(self.budgets.period, self.database)
        except LedgerError as error:
            self.log.warn("new budgets begin at zero, since the ledger cannot be read: {error}", error=error)
            return []

    def renew(self, settings: Settings, policies: PolicyBook, spent: list[Spent]) -> None:
        """
        Put other rules and prices in force; buckets, budgets and lines go on from where they stand.

        :param spent: what budgets that are new begin with.
        """
        self.policies = policies
        self.admission.renew(
            policies,
            settings.accounting.prices,
            expected_output=settings.limits.expected_output,
            include_usage=settings.upstream.include_usage,
        )
        begin_budgets(self.budgets, policies, spent)

    def stop(self) -> None:
        """Write what is left; to be called once, when no exchange runs any more."""
        if not self._started:
            return
        if self._limits_file is not None:
            self._limits_file.stop()
        if self.ledger is not None:
            self.ledger.stop()

    def record(self, exchange: Exchange) -> None:
        """Write down a closed exchange; never blocks."""
        if self.ledger is not None:
            self.ledger.append(ledger_row(exchange, time.time_ns()))

    def checks(self) -> list[Check]:
        """How the ledger is: told to whoever asks, and never a reason to send requests elsewhere."""
        return [] if self.ledger is None else [Check("ledger", True, str(self.ledger.state))]

    def _warn(self, warned: Warned) -> None:
        budget = warned.budget
        assert budget.soft is not None
        self.log.warn(
            "{client} has used {spent} in {period}, above the {soft} to be warned at{hard}",
            client=warned.key,
            spent=budget.shown(warned.spent),
            period=warned.period.name,
            soft=budget.shown(budget.soft),
            hard="" if budget.hard is None else f"; it is refused at {budget.shown(budget.hard)}",
        )

    def _tell(self, line: str) -> None:
        self.log.warn("{line}", line=line)


def policies_of(settings: Settings) -> PolicyBook:
    """The rules of all clients."""
    return PolicyBook(defaults_of(settings.limits), settings.tiers, settings.clients, settings.identity.default_tier)


def _in_thread(reactor: Any, read: Callable[[Path, str, Stretches], OwnUsage], *arguments: Any) -> Deferred[OwnUsage]:
    return deferToThreadPool(reactor, reactor.getThreadPool(), read, *arguments)
