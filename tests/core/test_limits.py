"""What the limits promise, under any order of admissions, releases and pauses."""

from __future__ import annotations

import re
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.errors import RateLimited, TooManyConcurrent
from openai_relay.core.globs import GlobTable
from openai_relay.core.limit_rules import KeyLimits, LimitSettings, Quota
from openai_relay.core.limits import HeldLease, Lease, Limiter, Limits
from tests.core.clocks import SECOND, FakeClock


class LimiterMachine(RuleBasedStateMachine):
    """
    A ``Limiter`` beside a model that counts tokens as fractions and open exchanges as a set.

    The model admits exactly what the limits promise; whatever differs is a bug.
    """

    leases = Bundle("leases")
    keys = st.sampled_from(["anna", "boris", "carla"])

    @initialize(
        per_minute=st.one_of(st.none(), st.integers(1, 600), st.floats(0.1, 600)),
        burst=st.one_of(st.none(), st.integers(1, 4)),
        concurrent=st.one_of(st.none(), st.integers(1, 4)),
    )
    def configure(self, per_minute: float | None, burst: int | None, concurrent: int | None) -> None:
        """Begin with any settings."""
        self.clock = FakeClock()
        self.limiter = Limiter(LimitSettings(per_minute, burst, concurrent), self.clock)
        self.concurrent = concurrent
        self.interval: int | None = None
        self.burst = 1
        if per_minute is not None:
            exact = Fraction(60 * SECOND) / Fraction(per_minute)
            self.interval = -(-exact.numerator // exact.denominator)
            self.burst = burst or -(-Fraction(per_minute).numerator // Fraction(per_minute).denominator)
        self.tokens: dict[str, Fraction] = {}
        self.open: dict[str, int] = {}

    @rule(target=leases, key=keys)
    def admit(self, key: str) -> tuple[str, HeldLease] | None:
        """Ask for one more; the answer is the model's, and so is the wait."""
        tokens = self.tokens.get(key, Fraction(self.burst))
        try:
            lease = self.limiter.admit(key)
        except TooManyConcurrent:
            assert self.concurrent is not None
            assert self.open[key] == self.concurrent
            return None
        except RateLimited as refusal:
            assert self.interval is not None
            assert self.concurrent is None or self.open.get(key, 0) < self.concurrent
            missing = (1 - tokens) * self.interval
            assert refusal.wait_ns == -(-missing.numerator // missing.denominator) > 0
            return None
        assert self.concurrent is None or self.open.get(key, 0) < self.concurrent
        self.open[key] = self.open.get(key, 0) + 1
        if self.interval is not None:
            assert tokens >= 1
            self.tokens[key] = tokens - 1
        self.check_fields(key, lease)
        return key, lease

    def check_fields(self, key: str, lease: HeldLease) -> None:
        """The fields tell the model's numbers."""
        fields = dict(lease.fields())
        if self.interval is None:
            assert not fields
            return
        assert fields[b"x-ratelimit-limit-requests"] == b"%d" % self.burst
        assert fields[b"x-ratelimit-remaining-requests"] == b"%d" % (self.tokens[key].__floor__())

    @rule(held=consumes(leases), times=st.integers(1, 2))
    def release(self, held: tuple[str, HeldLease] | None, times: int) -> None:
        """End an exchange; releasing it twice is the same as once."""
        if held is not None:
            key, lease = held
            for _ in range(times):
                lease.release()
            self.open[key] -= 1

    @rule(ns=st.one_of(st.integers(0, 200 * SECOND), st.integers(0, 1_000)))
    def wait(self, ns: int) -> None:
        """Let time pass."""
        self.clock.now += ns
        if self.interval is not None:
            for key, tokens in self.tokens.items():
                self.tokens[key] = min(tokens + Fraction(ns, self.interval), Fraction(self.burst))

    @rule(burst=st.integers(1, 8))
    def refill_and_drain(self, burst: int) -> None:
        """After a pause long enough for all, every key without open exchanges is as good as new."""
        self.wait((self.interval or 0) * self.burst)
        key = f"newcomer {burst}"
        if self.open.get(key, 0) == 0:
            held = self.admit(key)
            assert held is not None
            self.release(held, 1)

    def teardown(self) -> None:
        """Once all is over and refilled, the table empties as others come."""
        if not hasattr(self, "limiter"):
            return
        # Whatever is still open stays counted; what is not is forgotten.
        still_open = {key for key, count in self.open.items() if count}
        for _ in range(len(self.limiter) + 1):
            self.wait((self.interval or 0) * self.burst)
            self.limiter.admit("passer-by").release()
        assert len(self.limiter) <= len(still_open) + 1


class LimiterTests(SynchronousTestCase):
    """``Limiter``."""

    def setUp(self) -> None:
        self.clock = FakeClock()

    def limiter(
        self, per_minute: float | None = None, burst: int | None = None, concurrent: int | None = None
    ) -> Limiter:
        """A limiter on the fake clock."""
        return Limiter(LimitSettings(per_minute, burst, concurrent), self.clock)

    def refusal(self, limits: Limits, key: str = "anna") -> RateLimited:
        """What refuses the key."""
        refusal: RateLimited = self.assertRaises(RateLimited, limits.admit, key)
        return refusal

    def test_any_course(self) -> None:
        """In any order of admissions, releases and pauses the limits admit exactly what they promise, and forget."""
        run_state_machine_as_test(
            LimiterMachine, settings=settings(max_examples=200, stateful_step_count=40, deadline=None)
        )

    def test_unlimited(self) -> None:
        """Without settings everything passes, and no field speaks of a limit."""
        limiter = self.limiter()
        leases = [limiter.admit("anna") for _ in range(1_000)]
        self.assertEqual(leases[-1].fields(), [])

    def test_the_burst_is_a_minutes_worth_by_default(self) -> None:
        """Without a burst setting, a minute's requests may come at once, and at least one."""
        for per_minute, burst in ((60, 60), (2.5, 3), (0.25, 1)):
            limiter = self.limiter(per_minute)
            for _ in range(burst):
                limiter.admit("anna").release()
            self.refusal(limiter)

    def test_rate_refusal(self) -> None:
        """Who comes too soon is told the limit and the exact wait, in words and in OpenAI's fields."""
        limiter = self.limiter(60, burst=2)
        limiter.admit("anna")
        limiter.admit("anna")
        self.clock.now += 100_000_000
        refusal = self.refusal(limiter)
        self.assertEqual(refusal.wait_ns, 900_000_000)
        self.assertEqual(
            refusal.told,
            "Rate limit reached for requests: 60 per minute for this client. Please try again in 900ms.",
        )
        self.assertEqual((refusal.status, refusal.type, refusal.code), (429, "requests", "rate_limit_exceeded"))
        self.assertEqual(
            refusal.headers(),
            [
                (b"retry-after-ms", b"900"),
                (b"retry-after", b"1"),
                (b"x-ratelimit-limit-requests", b"2"),
                (b"x-ratelimit-remaining-requests", b"0"),
                (b"x-ratelimit-reset-requests", b"1.9s"),
            ],
        )

    def test_the_rate_is_told_as_it_was_set(self) -> None:
        """A rate is told without exponent or needless decimals, and a long wait in full beside the capped field."""
        for per_minute, told in ((1_000_000, "1000000 per"), (60.0, "60 per"), (0.5, "0.5 per")):
            limiter = self.limiter(per_minute, burst=1)
            limiter.admit("anna")
            self.assertIn(f"requests: {told} minute", self.refusal(limiter).told)
        refusal = self.refusal(limiter)
        self.assertIn("try again in 2m0s.", refusal.told)
        self.assertIn((b"retry-after", b"60"), refusal.headers())

    def test_concurrency_refusal(self) -> None:
        """Who has as many open as allowed is told so, with a second to wait and a code of its own."""
        limiter = self.limiter(concurrent=1)
        lease = limiter.admit("anna")
        refusal = self.refusal(limiter)
        self.assertIsInstance(refusal, TooManyConcurrent)
        self.assertEqual((refusal.status, refusal.code), (429, "concurrency_limit_exceeded"))
        self.assertEqual(
            refusal.told,
            "Concurrency limit reached: 1 open at once for this client. "
            "Please try again in 1s, or when one of them has ended.",
        )
        self.assertEqual(refusal.headers(), [(b"retry-after-ms", b"1000"), (b"retry-after", b"1")])
        lease.release()
        limiter.admit("anna")

    def test_a_concurrency_refusal_takes_no_request(self) -> None:
        """What is refused for the open ones leaves the requests of the minute as they were."""
        limiter = self.limiter(60, burst=2, concurrent=1)
        lease = limiter.admit("anna")
        for _ in range(5):
            self.assertIsInstance(self.refusal(limiter), TooManyConcurrent)
        lease.release()
        limiter.admit("anna")

    def test_a_rate_refusal_takes_no_place(self) -> None:
        """What is refused for the rate holds no place among the open ones."""
        limiter = self.limiter(60, burst=1, concurrent=1)
        limiter.admit("anna").release()
        for _ in range(5):
            self.assertNotIsInstance(self.refusal(limiter), TooManyConcurrent)
        self.clock.now += SECOND
        limiter.admit("anna")

    def test_keys_are_apart(self) -> None:
        """What one key takes is missing to no other."""
        limiter = self.limiter(60, burst=1, concurrent=1)
        limiter.admit("anna")
        limiter.admit("boris")
        self.refusal(limiter, "anna")
        self.refusal(limiter, "boris")

    def test_a_second_release_does_nothing(self) -> None:
        """A lease gives back one place, however often it is released, and then has nothing more to tell."""
        limiter = self.limiter(60, concurrent=2)
        first: Lease = limiter.admit("anna")
        limiter.admit("anna")
        first.release()
        first.release()
        self.assertEqual(first.fields(), [])
        limiter.admit("anna")
        self.assertIsInstance(self.refusal(limiter), TooManyConcurrent)

    def test_passers_by_are_forgotten(self) -> None:
        """However many keys come once, only those are remembered that still have something taken, and as many again."""
        limiter = self.limiter(60, burst=10)
        for number in range(10_000):
            limiter.admit(f"passer-by {number}").release()
            self.clock.now += SECOND // 20  # each is as good as new a second later: 20 are not
            self.assertLessEqual(len(limiter), 2 * 20 + 2)

    def test_open_exchanges_are_never_forgotten(self) -> None:
        """Keys with an exchange open for hours keep it counted, and those who come meanwhile are forgotten."""
        limiter = self.limiter(60, concurrent=1)
        residents = [f"resident {number}" for number in range(50)]
        for key in residents:
            limiter.admit(key)
        for number in range(5_000):
            self.clock.now += 3_600 * SECOND
            limiter.admit(f"passer-by {number}").release()
            self.assertLessEqual(len(limiter), 2 * len(residents) + 2)
        for key in residents:
            self.assertIsInstance(self.refusal(limiter, key), TooManyConcurrent)

    def test_no_leak_by_refusals(self) -> None:
        """Refused requests add nothing to what is remembered."""
        limiter = self.limiter(60, burst=1)
        limiter.admit("anna")
        for _ in range(100):
            self.refusal(limiter)
        self.assertEqual(len(limiter), 1)

    def test_limits_that_let_nothing_pass(self) -> None:
        """Settings under which nothing could ever pass are a mistake that names the setting and its value."""
        for made, said in (
            ({"concurrent": 0}, "concurrent must be at least 1, not 0"),
            ({"per_minute": 60, "burst": 0}, "burst must be at least 1, not 0"),
            ({"per_minute": 0}, "requests_per_minute must be a number above 0, not 0"),
            ({"per_minute": -1.5}, "requests_per_minute must be a number above 0, not -1.5"),
            ({"per_minute": float("nan")}, "requests_per_minute must be a number above 0, not nan"),
            ({"per_minute": float("inf")}, "requests_per_minute must be a number above 0, not inf"),
        ):
            with self.assertRaisesRegex(ValueError, re.escape(said)):
                self.limiter(**made)

    @given(st.floats(min_value=1e-6, max_value=1e12, exclude_min=True))
    def test_never_faster_than_set(self, per_minute: float) -> None:
        """For every rate, what passes in a long time is at most what the rate says, beyond the burst."""
        limiter = self.limiter(per_minute, burst=1)
        limiter.admit("anna").release()
        refusal = self.refusal(limiter)
        self.assertGreaterEqual(Fraction(refusal.wait_ns) * Fraction(per_minute), 60 * SECOND)
        self.assertLess(Fraction(refusal.wait_ns - 1) * Fraction(per_minute), 60 * SECOND)


class StandingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        own = Quota.of(requests_per_minute=60, burst=10, tokens_per_minute=60_000, concurrent=3)
        group = Quota.of(requests_per_minute=6)
        self.limits = KeyLimits(own, GlobTable([("gpt-5*", group)]))
        self.limiter = Limiter(self.limits, self.clock)

    def test_new_key(self) -> None:
        """A key that never came has all that its limits give, and is not remembered for the question."""
        own, group = self.limiter.standing("anna")
        assert own.requests is not None and own.tokens is not None and group.requests is not None
        self.assertEqual((own.pattern, own.requests.left, own.tokens.left, own.concurrent), (None, 10, 60_000, 3))
        self.assertEqual(
            (group.pattern, group.requests.left, group.tokens, group.concurrent), ("gpt-5*", 6, None, None)
        )
        self.assertEqual(len(self.limiter), 0)

    def test_where_it_stands(self) -> None:
        """What was taken is missing, in the key's own limits and in its model's; asking takes nothing."""
        lease = self.limiter.admit("anna", model="gpt-5-mini", tokens=1_000)
        for _ in range(2):
            own, group = self.limiter.standing("anna")
            assert own.requests is not None and own.tokens is not None and group.requests is not None
            self.assertEqual((own.requests.left, own.requests.full_in), (9, SECOND))
            self.assertEqual((own.tokens.left, own.tokens.full_in), (59_000, SECOND))
            self.assertEqual((group.requests.left, group.requests.full_in), (5, 10 * SECOND))
            self.assertEqual((own.open, group.open), (1, 1))
        self.assertEqual(self.limiter.open, 1)
        lease.release()
        self.assertEqual([levels.open for levels in self.limiter.standing("anna")], [0, 0])
        self.assertEqual(self.limiter.open, 0)

    def test_debt(self) -> None:
        """Of a limit that is overdrawn nothing is left, and the time tells how far."""
        self.limiter.admit("anna", tokens=1_000).settle(90_000)
        own, _ = self.limiter.standing("anna")
        assert own.tokens is not None
        self.assertEqual((own.tokens.left, own.tokens.full_in), (0, 90 * SECOND))

    def test_other_limits(self) -> None:
        """After a reload the question is answered by the new limits, less what was taken under the old ones."""
        self.limiter.admit("anna")
        [own] = self.limiter.standing("anna", KeyLimits(Quota.of(requests_per_minute=30, burst=5)))
        assert own.requests is not None
        self.assertEqual((own.requests.left, own.requests.full_in, own.tokens), (4, 2 * SECOND, None))
