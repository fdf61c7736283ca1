"""
Admit: one door for every path, behind which a client's rules, budgets and limits are held.

Budgets are asked before limits, since a reservation can be taken back without
a trace; a refusal of either leaves nothing behind.  Whoever may wait for a
limit waits here, in a line, and leaves it at once when its client does.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final

from msgspec.structs import replace
from twisted.internet.defer import Deferred

from openai_relay.core.budgets import Budgets, Cost, Reservation, Warned
from openai_relay.core.decoding import join_codings
from openai_relay.core.demand import LOOK, SHORT_LOOK, Asked, Demand, cost_of, demand, endpoint_asked
from openai_relay.core.errors import ModelHidden, Pair
from openai_relay.core.exchange import Exchange
from openai_relay.core.identity import Identity
from openai_relay.core.limits import HeldLease
from openai_relay.core.policy import Policy, PolicyBook
from openai_relay.core.prices import PriceTable
from openai_relay.core.request_look import Model, RequestLook, Scan, ask_for_usage, look_at_coded, scan_for
from openai_relay.core.settings import LimitBy
from openai_relay.core.waiting import Ticket, WaitingLines
from openai_relay.http1.bodies import Given, Watched
from openai_relay.http1.request import Request

_NOTHING: Final = Cost()
#: How many may hold back as much as ``LOOK`` at a time, unless a rule depends on it.
_MOST_LOOKING: Final = 64
_AGAIN: Final = "This request names a second model behind the first, and this client may use certain ones only."


class Admitted:
    """
    What an exchange holds while it runs; to be given back to `Admission.leave`.

    :ivar body: what goes up in the place of the request's own body; ``None``: that itself.
    :ivar asked_usage: the upstream was asked for a usage that the client did not ask for.
    """

    __slots__ = ("asked", "asked_usage", "body", "demand", "key", "lease", "policy", "reservation", "scan")

    def __init__(self, key: str, policy: Policy, asked: Asked) -> None:
        self.key = key
        self.policy = policy
        self.asked = asked
        self.demand = Demand()
        self.body: Given | Watched | None = None
        self.asked_usage = False
        self.scan: Scan | None = None  # of what had not come when it was let in
        self.reservation: Reservation | None = None
        self.lease: HeldLease | None = None

    def learn(self, exchange: Exchange) -> None:
        """Its body has gone up: note what was found in it on its way."""
        if self.scan is None:
            return
        found, model = self.scan.found(whole=True)
        # A second one behind the first counts as one that nobody knows, and has the price of such.
        exchange.model = model if found is Model.KNOWN else None
        self.demand = replace(self.demand, model=exchange.model)

    def fields(self) -> list[Pair]:
        """The ``x-ratelimit-*`` fields of the answer."""
        return [] if self.lease is None else self.lease.fields()


class Admission:
    """
    The door, for all clients.

    :param prices: for what budgets count, and what an exchange cost.
    :param expected_output: tokens set aside for an answer whose request sets no bound.
    :param include_usage: whether the usage of chat streams may be asked for.
    :param clock: the reactor's, on which whoever waits is looked after.
    :param wall: seconds since the epoch.
    :param warn: told when a soft budget is reached.
    """

    def __init__(
        self,
        policies: PolicyBook,
        budgets: Budgets,
        lines: WaitingLines,
        prices: PriceTable,
        *,
        limit_by: LimitBy,
        expected_output: int,
        include_usage: bool,
        clock: Any,
        monotonic_ns: Callable[[], int],
        wall: Callable[[], float],
        warn: Callable[[Warned], object],
    ) -> None:
        self._budgets = budgets
        self._lines = lines
        self._limit_by = limit_by
        self.renew(policies, prices, expected_output=expected_output, include_usage=include_usage)
        self._clock = clock
        self._monotonic_ns = monotonic_ns
        self._wall = wall
        self._warn = warn
        self._looking = 0  # at bodies that have still to come
        self._turns: dict[Ticket, Deferred[None]] = {}
        self._alarms: dict[str, Any] = {}  # by key, while anybody of it waits

    def renew(self, policies: PolicyBook, prices: PriceTable, *, expected_output: int, include_usage: bool) -> None:
        """Put other rules in force for whoever asks from now on; what was taken stays taken."""
        self._policies = policies
        self._prices = prices
        self._expected_output = expected_output
        self._include_usage = include_usage

    def policy(self, identity: Identity) -> Policy:
        """
        What holds for a client.

        :raises ClientDisabled: or ``CertificateExpired``: it may do nothing any more.
        """
        policy = self._policies.policy(identity.name)
        policy.check_client(self._wall())
        return policy

    def until(self, identity: Identity) -> float:
        """When a client's own rules end its access, in seconds since the epoch."""
        ends = self._policies.policy(identity.name).not_after
        return inf if ends is None else ends

    async def enter(self, request: Request, exchange: Exchange, identity: Identity, policy: Policy) -> Admitted:
        """
        Let one exchange in; what it then holds is ``leave``'s to take back.

        :raises RelayError: it may not be; nothing was taken.
        """
        policy.check_path(request.target, request.method)
        asked = Asked(endpoint_asked(exchange.path), request.method, request.target, request.upgrade is not None)
        admitted = Admitted(identity.limit_key(self._limit_by), policy, asked)
        look = None
        if request.length != 0 and asked.is_looked_at(policy):
            if asked.waits_for_its_body(policy, self._include_usage):
                await self._arrived(request, policy)
            look = self._look(request, admitted)
            exchange.model = look.model
        admitted.demand = wanted = demand(asked, look, policy, self._expected_output)
        exchange.model = wanted.model
        if policy.budgets and asked.leads_to_costs:
            admitted.reservation = self._budgets.reserve(identity.name, policy.budgets, wanted.most(self._prices))
        try:
            admitted.lease = await self._turn(admitted, exchange)
        except BaseException:
            if admitted.reservation is not None:
                admitted.reservation.cancel()
            raise
        return admitted

    async def _arrived(self, request: Request, policy: Policy) -> None:
        """Wait for what is to be looked at."""
        short = self._looking >= _MOST_LOOKING and not policy.has_model_rule
        arriving = request.look(SHORT_LOOK if short else LOOK)
        if arriving is None:
            return
        self._looking += 1
        try:
            await arriving
        finally:
            self._looking -= 1

    def _look(self, request: Request, admitted: Admitted) -> RequestLook:
        content_type = coding = b""
        for name, value in request.fields:
            if len(name) == 12 and name.lower() == b"content-type":
                # Nobody knows which of two another reader would take: a form without a boundary hides what is in it.
                content_type = b"multipart/" if content_type and content_type != value else value
            elif len(name) == 16 and name.lower() == b"content-encoding":
                coding = join_codings(coding, value)
        head, whole = request.peek()
        strict = admitted.policy.has_model_rule
        look = look_at_coded(content_type, coding, head, whole, request.length, strict)
        plain = coding in (b"", b"identity")
        if not whole:
            if plain:
                scan = admitted.scan = scan_for(content_type)
                admitted.body = _followed(request, scan, strict)
            elif strict:
                raise ModelHidden()  # what comes behind cannot be read on its way
        elif plain and self._include_usage and admitted.asked.may_ask_for_usage(look):
            asking = ask_for_usage(head)
            if asking is not None and not request.received_trailers:
                admitted.body, admitted.asked_usage = Given(request, asking), True
        return look

    async def _turn(self, admitted: Admitted, exchange: Exchange) -> HeldLease:
        """The lease, at once or when it is this one's turn."""
        key, wanted = admitted.key, admitted.demand
        ticket = self._lines.enter(key, model=wanted.model, tokens=wanted.tokens, limits=admitted.policy.limits)
        if ticket.waits:
            entered = self._monotonic_ns()
            turn = self._turns[ticket] = Deferred()
            try:
                self._look_after(key)
                await turn
            except BaseException:  # its client has left
                self._turns.pop(ticket, None)
                if ticket.lease is not None:
                    ticket.lease.settle(0)
                    ticket.lease.release()
                self._lines.leave(ticket)
                self._look_after(key)
                raise
            finally:
                exchange.queue_ns = self._monotonic_ns() - entered
        if ticket.lease is None:
            assert ticket.refusal is not None
            raise ticket.refusal
        return ticket.lease

    def leave(self, admitted: Admitted, exchange: Exchange) -> None:
        """The exchange is over, and knows its usage: settle what it has used, and give the rest back."""
        usage, cost = exchange.usage, _NOTHING
        if usage is not None:
            micro, fallback = cost_of(usage, admitted.demand, self._prices)
            exchange.cost_micro_usd, exchange.fallback_price = micro, fallback
            cost = Cost(usage.input_tokens + usage.output_tokens, micro)
        if admitted.reservation is not None:
            for warned in admitted.reservation.settle(cost):
                self._warn(warned)
        lease = admitted.lease
        if lease is not None:
            lease.settle(cost.tokens)
            lease.release()
            self._look_after(admitted.key)

    def _look_after(self, key: str) -> None:
        """Let those begin whose turn has come; and look again when the next one's may."""
        for ticket in self._lines.look(key):
            turn = self._turns.pop(ticket, None)
            if turn is not None:
                turn.callback(None)
        alarm = self._alarms.pop(key, None)
        if alarm is not None and alarm.active():
            alarm.cancel()
        at = self._lines.next_look(key)
        if at is not None:
            delay = max(at - self._monotonic_ns(), 0) / 1_000_000_000
            self._alarms[key] = self._clock.callLater(delay, self._look_after, key)


def _followed(request: Request, scan: Scan, strict: bool) -> Watched:
    if not strict:
        return Watched(request, scan.feed)
    follower = _Strict(scan)
    return Watched(request, follower.read, follower.end)


class _Strict:
    """Follows a long body whose model matters, so that a second one does not come in behind the first."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan

    def read(self, block: bytes) -> None:
        """
        Read the next block before it goes up.

        :raises ModelHidden: another model is named, or the body cannot be read.
        """
        self._scan.feed(block)
        self._judge(whole=False)

    def end(self) -> None:
        """
        It has all come, and its end is to go up.

        :raises ModelHidden: as ``read`` does.
        """
        self._judge(whole=True)

    def _judge(self, *, whole: bool) -> None:
        found, _ = self._scan.found(whole)
        if found is Model.AMBIGUOUS:
            raise ModelHidden(told=_AGAIN)
        if found is not Model.KNOWN:  # it was, or nothing of it would have gone up
            raise ModelHidden()
