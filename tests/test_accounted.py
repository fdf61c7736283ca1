"""
Accounted: whatever clients and upstream do, no account has more than it may, and the rows say what was settled.

Everything is real but the wires and the clock; a step is what a client, the
upstream or time does.
"""

from __future__ import annotations

import gzip
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.budgets import Budget
from openai_relay.core.ledger_row import LedgerRow, ledger_row
from openai_relay.core.policy import ClientRules, QuotaRules, Rules
from openai_relay.core.settings import LimitSettings
from tests.admitting import PLAIN, USED, chat, post
from tests.doubles import Wire
from tests.relay_case import ALICE, BOB, STREAM_HEAD, RelayCase, answer, chunk, request

SECOND: Final = 1_000_000_000
#: Alice has buckets, a group of models of its own and a budget; Bob a bound on how many are open, and a line.
RATE, BURST = 600, 20
TOKENS, TOKEN_BURST = 60_000, 6_000
CONCURRENT = 3
BUDGETS: Final = (Budget("day", hard=40_000, money=False), Budget("month", hard=10**9))
CLIENTS: Final = {
    "alice": ClientRules(
        Rules(
            limits=QuotaRules(RATE, BURST, TOKENS, TOKEN_BURST),
            model_limits=(("gpt-5*", QuotaRules(concurrent=2)),),
            budgets=BUDGETS,
        )
    ),
    "bob": ClientRules(Rules(limits=QuotaRules(concurrent=CONCURRENT), max_wait=5.0, max_queue=3, budgets=BUDGETS)),
}
GZIP: Final = ("Content-Type: application/json", "Content-Encoding: gzip")
REQUESTS: Final = (
    post(chat("gpt-5")),
    post(chat("o3", max_tokens=300)),
    post(chat("o3", stream=True)),
    post(chat("o3", stream=True, stream_options={"include_usage": True})),
    post(gzip.compress(chat("gpt-5-mini")), *GZIP),
    post(b'{"model":"emb","input":"x"}', target="/v1/embeddings"),
    post(b"not json"),
    request(),
    request("DELETE", "/nowhere"),
)
EVENT: Final = b'data: {"choices":[{"delta":{"content":"word"}}]}\n\n'
TOLD: Final = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":70}}\n\n'
ANSWERS: Final = (
    answer(USED),
    answer(b"{}"),
    answer(b'{"error":{}}', "429 Too Many Requests"),
    STREAM_HEAD + chunk(EVENT * 3 + TOLD) + chunk(b""),
    STREAM_HEAD + chunk(EVENT * 5) + chunk(b""),
    STREAM_HEAD + chunk(EVENT),
    chunk(EVENT + TOLD),
    chunk(b""),
)


class AccountedCase(RelayCase):
    """A relay whose every row is kept, by client."""

    limit_settings = LimitSettings(expected_output=500)
    client_rules = CLIENTS
    prices = PLAIN

    def runTest(self) -> None:
        """For those that are no tests by themselves."""

    def rows(self, name: str) -> list[LedgerRow]:
        found = [each for each in self.closed if each.identity is not None and each.identity.name == name]
        return [ledger_row(each, 1_790_000_000 * SECOND) for each in found]

    def open(self, name: str) -> int:
        return sum(account.open for (key, _), account in self.limits._accounts.items() if key == name)

    def assertSettled(self) -> None:
        """Of each client: what its budgets have counted is the sum of its rows."""
        for identity in (ALICE, BOB):
            rows = self.rows(identity.name)
            tokens = sum((row.input_tokens or 0) + (row.output_tokens or 0) for row in rows)
            cost = sum(row.cost_micro_usd or 0 for row in rows)
            spent = [(each.spent, each.reserved) for each in self.budgets.standing(identity.name, BUDGETS)]
            self.assertEqual(spent, [(tokens, 0), (cost, 0)], identity.name)


class AnyOrder(RuleBasedStateMachine):
    """Clients ask, the upstream answers or not, and time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.case = AccountedCase()
        self.case.setUp()
        self.wires: list[Wire] = []
        self.admitted: list[tuple[float, str]] = []
        self.seen = 0

    def note(self) -> None:
        """Remember when each request reached the upstream."""
        for exchange in self.case.account.opened_exchanges[self.seen :]:
            if exchange.identity is not None and exchange.stage in ("admitted", "forwarded", "streamed"):
                self.admitted.append((self.case.clock.seconds(), exchange.identity.name))
        self.seen = len(self.case.account.opened_exchanges)

    @rule(what=st.sampled_from(REQUESTS), who=st.sampled_from((ALICE, BOB)), times=st.sampled_from((1, 1, 1, 9)))
    def ask(self, what: bytes, who: Any, times: int) -> None:
        for _ in range(times):
            self.wires.append(self.case.asked(what, who))
        self.note()

    @precondition(lambda self: self.case.far_end.connections)
    @rule(what=st.sampled_from(ANSWERS), which=st.integers(0, 50))
    def reply(self, what: bytes, which: int) -> None:
        connections = self.case.far_end.connections
        wire = connections[-1 - which % min(len(connections), 8)]
        if wire.connected and not wire.ending:
            wire.receive(what)
        self.case.clock.settle()

    @precondition(lambda self: self.case.far_end.connections)
    @rule(which=st.integers(0, 50))
    def upstream_cuts(self, which: int) -> None:
        connections = self.case.far_end.connections
        wire = connections[-1 - which % min(len(connections), 8)]
        if wire.connected and not wire.ending:
            wire.lose()
        self.case.clock.settle()

    @precondition(lambda self: self.wires)
    @rule(which=st.integers(0, 50))
    def hang_up(self, which: int) -> None:
        wire = self.wires.pop(which % len(self.wires))
        self.case.took(wire)
        wire.lose()
        self.case.clock.settle()

    @rule(seconds=st.sampled_from((0.1, 1.0, 4.0)))
    def pass_time(self, seconds: float) -> None:
        self.case.clock.advance(seconds)
        self.case.clock.settle()

    @invariant()
    def nobody_has_too_many_open(self) -> None:
        accounts = self.case.limits._accounts
        for (key, pattern), account in accounts.items():
            most = account.quota.concurrent
            assert most is None or account.open <= most, (key, pattern)

    @invariant()
    def nobody_asks_too_often(self) -> None:
        times = [at for at, name in self.admitted if name == "alice"]
        for first, begun in enumerate(times):
            for last in range(first, len(times)):
                assert last - first + 1 <= BURST + RATE / 60 * (times[last] - begun) + 1e-6

    @invariant()
    def budgets_hold(self) -> None:
        for identity in (ALICE, BOB):
            for standing in self.case.budgets.standing(identity.name, BUDGETS):
                assert standing.reserved >= 0
                assert standing.budget.hard is None or standing.spent + standing.reserved <= standing.budget.hard + 600

    def teardown(self) -> None:
        try:
            self.case.assertOver()
            self.case.assertSettled()
        finally:
            self.case.doCleanups()


class AnyOrderTests(SynchronousTestCase):
    def test_any_order(self) -> None:
        """No account ever has more than it may, nothing leaks, and the rows add up to what was settled."""
        run_state_machine_as_test(AnyOrder, settings=settings(max_examples=150, stateful_step_count=40, deadline=None))


class ParallelTests(RelayCase):
    """Two hundred at once."""

    limit_settings = LimitSettings(60, burst=50)

    def crowd(self) -> tuple[int, int]:
        """How many of 200 reached the upstream, and how many were refused."""
        wires = [self.asked(post(chat(max_tokens=1))) for _ in range(200)]
        forwarded = len(self.far_end.connections)
        refused = sum(b" 429 " in self.took(wire)[:20] for wire in wires)
        return forwarded, refused

    def test_exactly_the_burst(self) -> None:
        """Of two hundred at once exactly as many are let in as the burst allows; a refusal takes nothing."""
        self.assertEqual(self.crowd(), (50, 150))
        self.assertEqual({each.stage for each in self.closed}, {"authenticated"})
        self.assertEqual([each.usage for each in self.closed], [None] * 150)
        self.clock.advance(1)
        self.assertEqual(self.crowd(), (51, 199))


class ParallelAtOnceTests(ParallelTests):
    limit_settings = LimitSettings(concurrent=50)

    def test_exactly_the_burst(self) -> None:
        """Exactly as many are let in as may be open."""
        self.assertEqual(self.crowd(), (50, 150))
        self.assertEqual(self.crowd(), (50, 200))


class ParallelTokensTests(ParallelTests):
    #: Each is let in for its length in tokens, and one for the answer.
    limit_settings = LimitSettings(tokens_per_minute=60, token_burst=50 * 12 + 11)

    def test_exactly_the_burst(self) -> None:
        """Exactly as many are let in as there are tokens for."""
        admitted, refused = self.crowd()
        self.assertEqual(admitted + refused, 200)
        self.assertEqual(admitted, (50 * 12 + 11) // (-(-len(chat(max_tokens=1)) // 4) + 1))


class ManyTests(AccountedCase):
    """Ten thousand exchanges of all kinds."""

    limit_settings = LimitSettings(expected_output=10)
    client_rules = {
        "alice": ClientRules(Rules(limits=QuotaRules(6_000, 200), budgets=BUDGETS)),
        "bob": ClientRules(Rules(limits=QuotaRules(concurrent=8), max_wait=5.0, max_queue=4, budgets=BUDGETS)),
    }

    def test_nothing_is_left(self) -> None:
        """After ten thousand mixed exchanges, three of ten hung up, every gauge is at zero and the rows add up."""
        asked = hung_up = 0
        while asked < 10_000:
            wires = []
            for number in range(10):
                data = REQUESTS[(asked + number) % len(REQUESTS)]
                wires.append(self.asked(data, (ALICE, BOB)[number % 2]))
            asked += len(wires)
            for number, wire in enumerate(wires):
                if number % 10 in (1, 4, 8):
                    hung_up += 1
                    wire.lose()
            for number, upstream in enumerate(self.far_end.connections):
                if upstream.connected and not upstream.ending:
                    upstream.receive(ANSWERS[(asked + number) % 5])
            self.clock.settle()
            for wire in wires:
                self.took(wire)
                wire.lose()
            self.clock.advance(1)
            self.clients.clear()
            self.said.clear()
            self.far_end.connections = [each for each in self.far_end.connections if each.connected]
        self.assertEqual(hung_up, 3_000)
        self.assertEqual(len(self.closed), asked)
        self.assertEqual((self.limits.open, len(self.lines), self.budgets.reserved, self.relay.running), (0, 0, 0, 0))
        self.assertSettled()
