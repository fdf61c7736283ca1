"""What is counted of each exchange."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core import errors
from openai_relay.core.endpoint import ENDPOINTS, OTHER
from openai_relay.core.exchange import Exchange
from openai_relay.core.identity import Identity
from openai_relay.core.tally import DURATION_BOUNDS, GAP_BOUNDS, NOBODY, Histogram, Tally, Used
from tests.core.exchanges import ALICE, BOB, SECOND, done, exchanges, used


class HistogramTests(SynchronousTestCase):
    @given(st.lists(st.integers(0, 10**13) | st.sampled_from([round(b * SECOND) for b in DURATION_BOUNDS])))
    def test_every_observation_is_under_its_bound(self, durations: list[int]) -> None:
        """At each bound, as many were counted as are not above it."""
        histogram = Histogram(DURATION_BOUNDS)
        for ns in durations:
            histogram.observe(ns)
        for at, bound in enumerate(DURATION_BOUNDS):
            self.assertEqual(sum(histogram.counts[: at + 1]), sum(ns <= round(bound * SECOND) for ns in durations))
        self.assertEqual(sum(histogram.counts), len(durations))
        self.assertEqual(histogram.sum_ns, sum(durations))

    def test_zeros(self) -> None:
        """What took no time at all is under the lowest bound, and adds nothing to the sum."""
        histogram = Histogram(GAP_BOUNDS)
        histogram.observe(2 * SECOND)
        histogram.observe_zeros(3)
        self.assertEqual((histogram.counts[0], sum(histogram.counts), histogram.sum_ns), (3, 4, 2 * SECOND))


class TallyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.tally = Tally("api.openai.com")

    def count(self, exchange: Exchange) -> None:
        self.tally.exchange_opened(exchange)
        self.tally.exchange_closed(exchange)

    def test_open_exchange_is_active(self) -> None:
        """An exchange is active from its opening to its closing, for its client only."""
        self.tally.exchange_opened(done(ALICE))
        self.tally.exchange_opened(done(ALICE))
        self.tally.exchange_opened(done(BOB))
        self.tally.exchange_closed(done(ALICE))
        self.assertEqual(self.tally.clients["alice"].active, 1)
        self.assertEqual(self.tally.clients["bob"].active, 1)

    def test_closed_exchange(self) -> None:
        """A closed exchange is counted with its bytes, its time, its end and its certificate's."""
        self.count(done(ALICE))
        alice = self.tally.clients["alice"]
        self.assertEqual((alice.bytes_in, alice.bytes_out), (312, 4_096))
        self.assertEqual(alice.certificate_expiry, ALICE.not_after)
        self.assertEqual({key: kind.requests for key, kind in alice.kinds.items()}, {("chat/completions", 200): 1})
        self.assertEqual(self.tally.durations["chat/completions", 200].sum_ns, SECOND + SECOND // 4)
        self.assertEqual(self.tally.first_bytes["chat/completions"].sum_ns, SECOND // 4)
        self.assertEqual(self.tally.ends, {"done": 1})
        self.assertEqual(self.tally.upstream_answers, {("api.openai.com", 200): 1})

    def test_times_are_shared(self) -> None:
        """Clients have counts of their own and share the histograms, so that these stay few."""
        self.count(done(ALICE))
        self.count(done(BOB))
        self.assertEqual(sum(self.tally.durations["chat/completions", 200].counts), 2)
        self.assertEqual(self.tally.clients["bob"].kinds["chat/completions", 200].requests, 1)

    def test_limits(self) -> None:
        """A refusal is counted under the limit that refused it, and asked nothing of the upstream."""
        causes = (errors.RateLimited, errors.TokensLimited, errors.TooManyConcurrent, errors.TooManyConnections)
        for error in (*[cause(SECOND, "Too many.") for cause in causes], errors.BudgetSpent()):
            self.count(done(ALICE, status=429, upstream_status=None, error=error))
        self.assertEqual(
            self.tally.clients["alice"].limited,
            {"requests": 1, "tokens": 1, "concurrent": 1, "connections": 1, "budget": 1},
        )
        self.assertEqual(self.tally.upstream_answers, {})
        self.assertEqual(self.tally.ends, {"limited": 5})

    def test_rules(self) -> None:
        """A refusal because of a rule is counted under that rule, and other refusals under none."""
        for cause in (
            errors.ClientDisabled,
            errors.ModelNotAllowed,
            errors.ModelHidden,
            errors.MethodRefused,
            errors.PathNotAllowed,
            errors.BadRequest,
        ):
            self.count(done(ALICE, status=cause.status, upstream_status=None, error=cause()))
        alice = self.tally.clients["alice"]
        self.assertEqual(alice.forbidden, dict.fromkeys(("disabled", "model", "model_hidden", "method", "path"), 1))
        self.assertEqual(alice.limited, {})

    def test_usage(self) -> None:
        """Tokens and cost are counted for the client and for the model, and estimates are known for what they are."""
        self.count(used(ALICE))
        self.count(used(ALICE, model="o3", estimated=True))
        self.count(done(ALICE))
        alice = self.tally.clients["alice"]
        self.assertEqual(alice.used, Used(200, 40, 100, 20, 14, 2_500))
        self.assertEqual(alice.estimated, 1)
        self.assertEqual(self.tally.models, dict.fromkeys(("gpt-5", "o3"), Used(100, 20, 50, 10, 7, 1_250)))

    def test_free_usage(self) -> None:
        """Usage without a cost costs nothing."""
        exchange = used(ALICE)
        exchange.cost_micro_usd = None
        self.count(exchange)
        self.assertEqual(self.tally.clients["alice"].used.micro_usd, 0)

    def test_times_of_streams(self) -> None:
        """The time to the first event and the wait for a limit are counted where there were any."""
        self.count(used(ALICE))
        exchange = done(ALICE)
        self.count(exchange)
        first = self.tally.first_events["chat/completions"]
        self.assertEqual((sum(first.counts), first.sum_ns), (1, SECOND * 3 // 10))
        self.assertEqual((sum(self.tally.queue.counts), self.tally.queue.sum_ns), (1, SECOND // 10))

    def test_gaps(self) -> None:
        """Streams of an endpoint share the histogram of their gaps, and no other endpoint gets one."""
        gaps = self.tally.event_gaps("responses")
        gaps.observe(SECOND)
        self.assertIs(self.tally.event_gaps("responses"), gaps)
        self.assertIs(self.tally.event_gaps("no/endpoint"), self.tally.event_gaps(OTHER))
        self.assertEqual(set(self.tally.gaps), {"responses", OTHER})

    def test_models_are_capped(self) -> None:
        """Beyond the cap, new models are counted together and known ones still by name."""
        tally = Tally("api.openai.com", max_models=2)
        for name in ("a", "b", "c", "d", "a"):
            tally.exchange_opened(done(ALICE))
            tally.exchange_closed(used(ALICE, model=name))
        self.assertEqual({name: model.input for name, model in tally.models.items()}, {"a": 200, "b": 100, OTHER: 200})

    def test_model_of_a_failure(self) -> None:
        """What the upstream refuses gives no model a name; a model that has one keeps its failures."""
        self.count(used(ALICE, model="invented", status=404))
        self.assertEqual(set(self.tally.models), {OTHER})
        self.count(used(ALICE))
        self.count(used(ALICE, status=499))
        self.assertEqual(self.tally.models["gpt-5"].input, 200)

    def test_model_that_is_none(self) -> None:
        """No name, an empty one, one too long and one that cannot be read are all told as ``other``."""
        for name in (None, "", "x" * 257, "gpt\x1b[2J"):
            self.count(used(ALICE, model=name))
        self.assertEqual({name: model.input for name, model in self.tally.models.items()}, {OTHER: 400})

    def test_upstream_that_does_not_answer(self) -> None:
        """An upstream that was asked in vain is counted, with no status."""
        self.count(done(ALICE, status=502, upstream_status=None, error=errors.UpstreamUnreachable("refused")))
        self.assertEqual(self.tally.upstream_answers, {("api.openai.com", None): 1})

    def test_upstream_that_breaks_off(self) -> None:
        """An upstream that answered and then broke off is counted once, with its status."""
        self.count(done(ALICE, error=errors.UpstreamClosed("3 bytes missing")))
        self.assertEqual(self.tally.upstream_answers, {("api.openai.com", 200): 1})

    def test_another_upstream(self) -> None:
        """After a reload, exchanges are counted under the upstream's new name."""
        self.count(done(ALICE))
        self.tally.upstream = "eu.api.openai.com"
        self.count(done(ALICE))
        self.assertEqual(self.tally.upstream_answers, {("api.openai.com", 200): 1, ("eu.api.openai.com", 200): 1})

    def test_nobody(self) -> None:
        """An exchange without an identity is counted too, under no name."""
        self.count(done(None, status=401, upstream_status=None, error=errors.Unauthenticated()))
        self.assertEqual(self.tally.clients[NOBODY].bytes_in, 312)
        self.assertIsNone(self.tally.clients[NOBODY].certificate_expiry)

    def test_handshakes(self) -> None:
        """Handshakes are counted by how they ended."""
        for result in ("ok", "ok", "revoked"):
            self.tally.handshake_ended(result)
        self.assertEqual(self.tally.handshakes, {"ok": 2, "revoked": 1})

    def test_clients_are_capped(self) -> None:
        """Beyond the cap, new clients are counted together and known ones still by name."""
        tally = Tally("api.openai.com", max_clients=2)
        for name in ("a", "b", "c", "d", "a"):
            tally.exchange_opened(done(Identity(name, "f" * 64, "1", 0.0)))
        self.assertEqual({name: client.active for name, client in tally.clients.items()}, {"a": 2, "b": 1, OTHER: 2})

    @given(st.lists(exchanges(), max_size=8))
    def test_nothing_is_lost_and_keys_are_bounded(self, many: list[Exchange]) -> None:
        """Whatever the exchanges, each is counted once, none stays active, and only the cap names clients."""
        tally = Tally("api.openai.com", max_clients=2, max_models=2)
        for exchange in many:
            tally.exchange_opened(exchange)
        for exchange in many:
            tally.exchange_closed(exchange)
        clients = tally.clients.values()
        self.assertLessEqual(len(clients), 3)
        self.assertEqual(sum(client.active for client in clients), 0)
        self.assertEqual(sum(client.bytes_out for client in clients), sum(e.bytes_out for e in many))
        self.assertEqual(sum(kind.requests for client in clients for kind in client.kinds.values()), len(many))
        self.assertEqual(sum(sum(h.counts) for h in tally.durations.values()), len(many))
        self.assertEqual(sum(tally.ends.values()), len(many))
        self.assertLessEqual({asked for asked, _ in tally.durations}, ENDPOINTS)
        self.assertLessEqual(len(tally.models), 3)
        told = [exchange.usage for exchange in many if exchange.usage is not None]
        for counted in ([client.used for client in clients], tally.models.values()):
            self.assertEqual(sum(each.output for each in counted), sum(usage.output_tokens for usage in told))
