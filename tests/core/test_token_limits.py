"""What the limits promise of tokens and of models: reserved, settled once, owed, and never forgotten by a restart."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.buckets import BucketState, Snapshot
from openai_relay.core.errors import RateLimited, TokensLimited, TooManyConcurrent
from openai_relay.core.globs import GlobTable
from openai_relay.core.limit_rules import KeyLimits, Quota
from openai_relay.core.limits import HeldLease, Limiter
from openai_relay.core.settings import LimitSettings
from tests.core.clocks import SECOND, FakeClock

GROUPS = {"gpt-5": "gpt-5*", "gpt-5-mini": "gpt-5*", "o3": None, None: None}
#: 2025-01-01, in ns.
WALL = 1_735_689_600 * SECOND


class _Model:
    """One account as the promises describe it: fractions for what is left, and a plain count."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.open = 0
        self.left = [None if rate is None else Fraction(rate.burst) for rate in (quota.requests, quota.tokens)]

    def admits(self, tokens: int) -> bool:
        """Whether one more may begin."""
        if self.quota.concurrent is not None and self.open >= self.quota.concurrent:
            return False
        for left, rate, count in zip(self.left, (self.quota.requests, self.quota.tokens), (1, tokens), strict=True):
            if left is not None and rate is not None and count and left < min(count, rate.burst):
                return False
        return True

    def take(self, requests: int, tokens: int) -> None:
        """So much less, or more; never more than the burst."""
        for place, (rate, count) in enumerate(
            zip((self.quota.requests, self.quota.tokens), (requests, tokens), strict=True)
        ):
            left = self.left[place]
            if left is not None and rate is not None:
                self.left[place] = min(left - count, Fraction(rate.burst))

    def wait(self, ns: int) -> None:
        """Time passes."""
        for place, rate in enumerate((self.quota.requests, self.quota.tokens)):
            left = self.left[place]
            if left is not None and rate is not None:
                self.left[place] = min(left + Fraction(ns, rate.interval), Fraction(rate.burst))


class TokenMachine(RuleBasedStateMachine):
    """A ``Limiter`` with tokens and models beside a model of it; a ledger sums what was settled."""

    leases = Bundle("leases")
    quotas = st.builds(
        lambda requests, burst, tokens, token_burst, concurrent: Quota.of(
            requests_per_minute=requests,
            burst=burst,
            tokens_per_minute=tokens,
            token_burst=token_burst,
            concurrent=concurrent,
        ),
        st.one_of(st.none(), st.integers(30, 600)),
        st.integers(1, 5),
        st.one_of(st.none(), st.integers(60, 6_000)),
        st.integers(1, 500),
        st.one_of(st.none(), st.integers(1, 4)),
    )

    @initialize(own=quotas, group=quotas)
    def configure(self, own: Quota, group: Quota) -> None:
        """Begin with any limits."""
        self.clock = FakeClock()
        self.wall = WALL
        self.limits = KeyLimits(own, GlobTable([("gpt-5*", group)]))
        self.limiter = Limiter(self.limits, self.clock)
        self.accounts: dict[tuple[str, str | None], _Model] = {}
        self.begun = self.clock.now
        self.settled: dict[str, int] = {}
        self.overshot: dict[str, int] = {}
        self.excess: dict[str, int] = {}

    def asked(self, key: str, model: str | None) -> list[_Model]:
        """The accounts that an exchange needs."""
        pattern = GROUPS[model]
        asked = [self.accounts.setdefault((key, None), _Model(self.limits.own))]
        if pattern is not None:
            asked.append(self.accounts.setdefault((key, pattern), _Model(self.limits.models.find("gpt-5")[1])))  # type: ignore[index]
        return asked

    @rule(
        target=leases,
        key=st.sampled_from(["anna", "boris"]),
        model=st.sampled_from([*GROUPS]),
        tokens=st.one_of(st.just(0), st.integers(1, 900)),
    )
    def admit(self, key: str, model: str | None, tokens: int) -> tuple[str, str | None, int, HeldLease] | None:
        """Exactly what the model admits is admitted, and a refusal takes nothing."""
        asked = self.asked(key, model)
        try:
            lease = self.limiter.admit(key, model=model, tokens=tokens)
        except RateLimited as refusal:
            assert not all(account.admits(tokens) for account in asked)
            assert 0 < int(dict(refusal.headers())[b"retry-after-ms"]) <= 60_000
            return None
        assert all(account.admits(tokens) for account in asked)
        for account in asked:
            account.open += 1
            account.take(1, tokens)
            if account.quota.tokens is not None and tokens > account.quota.tokens.burst:
                self.overshot[key] = self.overshot.get(key, 0) + tokens - account.quota.tokens.burst
        return key, model, tokens, lease

    @rule(held=consumes(leases), used=st.one_of(st.none(), st.integers(0, 1_500)), again=st.booleans())
    def end(self, held: tuple[str, str | None, int, HeldLease] | None, used: int | None, again: bool) -> None:
        """An exchange ends settled, or abandoned with all that it reserved; twice is the same as once."""
        if held is None:
            return
        key, model, tokens, lease = held
        for _ in range(1 + again):
            if used is not None:
                lease.settle(used)
        for _ in range(1 + again):
            lease.release()
        if again:
            lease.settle(1_000_000)
        spent = tokens if used is None else used
        for account in self.asked(key, model):
            account.open -= 1
            account.take(0, spent - tokens)
        self.settled[key] = self.settled.get(key, 0) + spent
        self.excess[key] = self.excess.get(key, 0) + max(spent - tokens, 0)
        # What reserves nothing is not held to the tokens; all that it uses is a debt, and counted as excess.

    @rule(ns=st.one_of(st.integers(0, 90 * SECOND), st.integers(0, 1_000_000)))
    def wait(self, ns: int) -> None:
        """Time passes."""
        self.clock.now += ns
        self.wall += ns
        for account in self.accounts.values():
            account.wait(ns)

    @rule(down=st.integers(0, 5 * SECOND))
    def restart(self, down: int) -> None:
        """Another process begins where this one ended, whenever nothing is open."""
        if any(account.open for account in self.accounts.values()):
            return
        snapshot = self.limiter.snapshot(self.wall)
        self.wait(down)
        self.limiter = Limiter(self.limits, self.clock)
        self.limiter.restore(snapshot, self.wall)

    @invariant()
    def nobody_exceeds(self) -> None:
        """What a key has used is within burst and rate, but for what it owed."""
        if not hasattr(self, "limits") or self.limits.own.tokens is None:
            return
        rate = self.limits.own.tokens
        for key, settled in self.settled.items():
            come = Fraction(self.clock.now - self.begun, rate.interval)
            assert settled <= rate.burst + come + self.excess.get(key, 0) + self.overshot.get(key, 0)

    def teardown(self) -> None:
        """The books agree: what is missing from each bucket is what the model says."""
        if not hasattr(self, "limits"):
            return
        missing = {
            (s.key, s.pattern, s.counts): Fraction(s.full_in, s.interval) for s in self.limiter.snapshot(0).buckets
        }
        for (key, pattern), account in self.accounts.items():
            rates = (("requests", account.quota.requests), ("tokens", account.quota.tokens))
            for (counts, rate), left in zip(rates, account.left, strict=True):
                if rate is not None and left is not None:
                    assert missing.get((key, pattern, counts), Fraction(0)) == rate.burst - left


class TokenLimitTests(SynchronousTestCase):
    """``Limiter``, where tokens and models are limited."""

    def setUp(self) -> None:
        self.clock = FakeClock()

    def limiter(self, own: Quota | None = None, shadow: bool = False, **models: Quota) -> Limiter:
        """A limiter with a quota of its own and one for each model."""
        return Limiter(KeyLimits(own or Quota(), GlobTable(models.items()), shadow), self.clock)

    def test_any_course(self) -> None:
        """In any order of admissions, endings, pauses and restarts no key exceeds its limits beyond what it owed."""
        run_machine(TokenMachine, settings=settings(max_examples=150, stateful_step_count=30, deadline=None))

    def test_two_hundred_against_fifty(self) -> None:
        """Of 200 at once exactly 50 are admitted, whichever limit it is, and the 150 refused burn nothing."""
        for quota, tokens in (
            (Quota.of(requests_per_minute=50), 10),
            (Quota.of(tokens_per_minute=500), 10),
            (Quota.of(concurrent=50), 10),
        ):
            limiter = self.limiter(quota)
            answers = [limiter.decide("anna", tokens=tokens) for _ in range(200)]
            self.assertEqual(sum(isinstance(answer, HeldLease) for answer in answers), 50)
            for answer in answers:
                if isinstance(answer, HeldLease):
                    answer.release()
            self.clock.now += 60 * SECOND
            again = [limiter.decide("anna", tokens=tokens) for _ in range(200)]
            self.assertEqual(sum(isinstance(answer, HeldLease) for answer in again), 50)

    def test_refusal_by_tokens(self) -> None:
        """Who asks for more tokens than are left is told the limit, the need and the exact wait, under its own code."""
        limiter = self.limiter(Quota.of(tokens_per_minute=600, token_burst=100))
        limiter.admit("anna", tokens=80)
        refusal = self.assertRaises(TokensLimited, limiter.admit, "anna", tokens=50)
        self.assertEqual(refusal.wait_ns, 3 * SECOND)
        self.assertEqual(
            refusal.told,
            "Rate limit reached for tokens: 600 per minute for this client. This request may need 50. "
            "Please try again in 3s.",
        )
        self.assertEqual((refusal.status, refusal.type, refusal.code), (429, "tokens", "token_limit_exceeded"))
        self.assertEqual(
            refusal.headers()[2:],
            [
                (b"x-ratelimit-limit-tokens", b"100"),
                (b"x-ratelimit-remaining-tokens", b"20"),
                (b"x-ratelimit-reset-tokens", b"8s"),
            ],
        )
        self.clock.now += 3 * SECOND
        limiter.admit("anna", tokens=50)

    def test_settling_gives_back(self) -> None:
        """What was reserved and not used is there for the next at once."""
        limiter = self.limiter(Quota.of(tokens_per_minute=60, token_burst=100))
        lease = limiter.admit("anna", tokens=100)
        self.assertRaises(TokensLimited, limiter.admit, "anna", tokens=90)
        lease.settle(10)
        limiter.admit("anna", tokens=90)

    def test_a_debt_delays_and_never_refuses_what_runs(self) -> None:
        """What was used beyond the reservation is owed: who comes later waits for it, who has a lease keeps it."""
        limiter = self.limiter(Quota.of(tokens_per_minute=60, token_burst=100))
        first, second = limiter.admit("anna", tokens=50), limiter.admit("anna", tokens=50)
        first.settle(250)
        refusal = self.assertRaises(TokensLimited, limiter.admit, "anna", tokens=1)
        self.assertEqual(refusal.wait_ns, 201 * SECOND)
        second.settle(50)
        self.clock.now += 201 * SECOND
        limiter.admit("anna", tokens=1)

    def test_what_uses_no_tokens_waits_for_no_debt(self) -> None:
        """A request that reserves nothing passes while tokens are owed, and its true usage is owed, too."""
        limiter = self.limiter(Quota.of(tokens_per_minute=60, token_burst=10))
        limiter.admit("anna", tokens=10).settle(500)
        lease = limiter.admit("anna")
        lease.settle(10)
        self.assertEqual(self.assertRaises(TokensLimited, limiter.admit, "anna", tokens=1).wait_ns, 501 * SECOND)

    def test_a_negative_usage_is_none(self) -> None:
        """An upstream that tells a negative usage fills no bucket beyond the reservation."""
        limiter = self.limiter(Quota.of(tokens_per_minute=60, token_burst=100))
        limiter.admit("anna", tokens=60)
        limiter.admit("anna", tokens=40).settle(-1_000)
        self.assertRaises(TokensLimited, limiter.admit, "anna", tokens=41)
        limiter.admit("anna", tokens=40)

    def test_models_have_limits_of_their_own(self) -> None:
        """A group of models has one quota for all its names, beside the key's own, and other models are free of it."""
        limiter = Limiter(KeyLimits(models=GlobTable([("gpt-5*", Quota.of(concurrent=1))])), self.clock)
        limiter.admit("anna", model="gpt-5")
        refusal = self.assertRaises(TooManyConcurrent, limiter.admit, "anna", model="gpt-5-mini")
        self.assertIn("for this client and models gpt-5*.", refusal.told)
        limiter.admit("anna", model="o3")
        limiter.admit("boris", model="gpt-5")

    def test_all_or_nothing(self) -> None:
        """What the model's limit refuses takes nothing of the key's own, and the other way round."""
        one, two = Quota.of(requests_per_minute=1, burst=1), Quota.of(requests_per_minute=1, burst=2)
        limiter = self.limiter(two, m=one, n=two)
        limiter.admit("anna", model="m")
        self.assertRaises(RateLimited, limiter.admit, "anna", model="m")
        limiter.admit("anna", model="n")  # the last of the key's own
        self.assertRaises(RateLimited, limiter.admit, "anna", model="n")
        self.clock.now += 60 * SECOND
        for left, model in ((b"0", "n"),):
            fields = dict(limiter.admit("anna", model=model).fields())
            self.assertEqual(fields[b"x-ratelimit-remaining-requests"], left)

    def test_the_longest_wait_is_told(self) -> None:
        """Where several limits are in the way, waiting as told is enough for all of them."""
        limiter = self.limiter(
            Quota.of(requests_per_minute=60, burst=1, tokens_per_minute=60, token_burst=10),
            m=Quota.of(tokens_per_minute=6, token_burst=10),
        )
        limiter.admit("anna", model="m", tokens=10)
        refusal = self.assertRaises(TokensLimited, limiter.admit, "anna", model="m", tokens=5)
        self.assertEqual(refusal.wait_ns, 50 * SECOND)
        self.clock.now += refusal.wait_ns
        limiter.admit("anna", model="m", tokens=5)

    def test_shadow_counts_and_refuses_nothing(self) -> None:
        """In shadow mode everything passes, what would have been refused is counted, and it takes nothing."""
        limiter = self.limiter(Quota.of(requests_per_minute=60, burst=2, concurrent=2), shadow=True)
        leases = [limiter.admit("anna") for _ in range(5)]
        self.assertEqual([lease.overlooked is None for lease in leases], [True, True, False, False, False])
        self.assertEqual(limiter.overlooked, 3)
        for lease in leases:
            lease.settle(1_000)
            lease.release()
        self.clock.now += SECOND
        self.assertIsNone(limiter.admit("anna").overlooked)

    def test_a_reload_keeps_what_was_taken(self) -> None:
        """New limits hold from the next admission on, and what was taken or is open counts under them."""
        limiter = self.limiter()
        before = KeyLimits(Quota.of(requests_per_minute=60, burst=4, concurrent=9))
        after = KeyLimits(Quota.of(requests_per_minute=6, burst=4, concurrent=9))
        unlimited = limiter.admit("anna", tokens=5)
        limiter.admit("anna", limits=before)
        limiter.admit("anna", limits=before)
        refused = [limiter.decide("anna", limits=after) for _ in range(4)]
        self.assertEqual([isinstance(answer, HeldLease) for answer in refused], [True, True, False, False])
        # A bucket that came later was not charged for what was open, and gets nothing back for it.
        tokens = KeyLimits(Quota.of(tokens_per_minute=60, token_burst=10))
        limiter.admit("anna", tokens=10, limits=tokens)
        unlimited.settle(0)
        self.assertRaises(TokensLimited, limiter.admit, "anna", tokens=1, limits=tokens)

    @given(st.integers(-(10**12), 10**12), st.integers(0, 400))
    def test_a_restart_refills_what_time_is_worth(self, away: int, used: int) -> None:
        """After a restart a bucket has gained the time between, or nothing when the wall clock was set back."""
        self.setUp()
        quota = Quota.of(tokens_per_minute=60, token_burst=100)
        before = self.limiter(quota)
        before.admit("anna", model="x", tokens=1).settle(used)
        snapshot = before.snapshot(WALL)
        self.clock.now += 987_654_321  # the next process has a monotonic clock of its own
        after = self.limiter(quota)
        after.restore(snapshot, WALL + away)
        owed = max(used * SECOND - max(away, 0), 0)
        self.assertEqual([state.full_in for state in after.snapshot(WALL).buckets], [owed] if owed else [])

    def test_states_of_another_kind_are_passed_over(self) -> None:
        """A state that is none, of another version or a damaged file, is passed over and the others hold."""
        states = (("anna", "calls", 1), ("anna", "tokens", 0), ("anna", "tokens", SECOND), ("anna", "requests", SECOND))
        limiter = self.limiter(Quota.of(tokens_per_minute=60, token_burst=10))
        limiter.restore(
            Snapshot(WALL, tuple(BucketState(key, None, counts, ns, 5 * SECOND) for key, counts, ns in states)), WALL
        )
        self.assertRaises(TokensLimited, limiter.admit, "anna", tokens=6)
        limiter.admit("anna", tokens=5)

    def test_restored_keys_are_forgotten_like_others(self) -> None:
        """A key that never comes back after a restart is forgotten once it owes nothing."""
        limiter = Limiter(LimitSettings(60), self.clock)
        states = tuple(BucketState(f"gone {number}", None, "requests", SECOND, SECOND) for number in range(50))
        limiter.restore(Snapshot(WALL, states), WALL)
        self.assertEqual(len(limiter), 50)
        self.clock.now += SECOND
        for _ in range(60):
            limiter.admit("anna").release()
            self.clock.now += SECOND
        self.assertEqual(len(limiter), 1)
