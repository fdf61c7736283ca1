"""What an admitted exchange waits for, pays, asks in addition, and learns on its way."""

from __future__ import annotations

import json

from openai_relay.core.budgets import Budget
from openai_relay.core.errors import TooManyConcurrent
from openai_relay.core.policy import ClientRules, Rules
from openai_relay.core.settings import LimitSettings, Secret, UpstreamSettings
from openai_relay.core.usage import Usage
from tests.admitting import CHAT, JSON, PLAIN, USED, AdmissionCase, chat, post
from tests.doubles import Wire
from tests.relay_case import BOB, KEY, STREAM_HEAD, RelayCase, answer, chunk, request

DAY = Budget("day", hard=3_000, soft=60, money=False)
#: Of chat streams: two pieces, and what tells the usage where it is asked for.
PIECES = b"".join(b'data: {"choices":[{"delta":{"content":"%b"}}],"usage":null}\n\n' % each for each in (b"a", b"b"))
EXTRA = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


class BudgetTests(AdmissionCase):
    """3,000 tokens a day, warned at 60; a request is let in for about 1,000, and 50 are used."""

    client_rules = {"alice": ClientRules(Rules(budgets=(DAY,)))}

    def spent(self) -> int:
        (standing,) = self.budgets.standing("alice", (DAY,))
        return standing.spent

    def test_spent(self) -> None:
        """Once too little is left, it is refused with a code of its own, and no SDK tries again."""
        self.serve(self.ask(post(chat(max_tokens=2_900))), b'{"usage":{"prompt_tokens":10,"completion_tokens":2890}}')
        answered = self.answered(self.ask(post(chat())), "POST")
        self.assertEqual((answered.status, answered.error["code"]), (429, "budget_exceeded"))
        self.assertEqual(answered.fields["x-should-retry"], "false")
        self.assertIn("daily budget", answered.error["message"])
        self.assertEqual(self.spent(), 2_900)

    def test_warned_once(self) -> None:
        """The soft limit warns once, by the exchange that reaches it."""
        for _ in range(3):
            self.serve(self.ask(post(chat())))
        self.assertEqual([(each.key, each.spent) for each in self.warned], [("alice", 100)])
        self.assertEqual(self.spent(), 150)

    def test_reserved_by_others(self) -> None:
        """What others have set aside may not be spent twice; that one comes again is worth its while."""
        wires = [self.ask(post(chat())) for _ in range(2)]
        answered = self.answered(self.ask(post(chat())), "POST")
        self.assertEqual((answered.status, answered.error["code"]), (429, "rate_limit_exceeded"))
        self.assertNotIn("x-should-retry", answered.fields)
        for number, wire in enumerate(wires):
            self.upstream_wire(number).receive(answer(USED))
            self.assertEqual(self.answered(wire, "POST").status, 200)
        self.assertEqual(self.spent(), 100)

    def test_what_costs_nothing(self) -> None:
        """A spent budget does not keep a client from what uses no tokens."""
        self.serve(self.ask(post(chat(max_tokens=2_900))), b'{"usage":{"prompt_tokens":10,"completion_tokens":2990}}')
        wire = self.asked(request(target="/v1/models"))
        self.upstream_wire().receive(answer())
        self.assertEqual(self.answered(wire).status, 200)

    def test_refused_by_a_limit(self) -> None:
        """A limit's refusal takes back what the budget had set aside."""
        self.limits.broken = TooManyConcurrent(1_000_000_000, "Too many at once.")
        self.assertEqual(self.refused(post(chat())), (429, "concurrency_limit_exceeded"))
        self.assertEqual((self.budgets.reserved, self.spent()), (0, 0))


class MoneyTests(AdmissionCase):
    client_rules = {"alice": ClientRules(Rules(budgets=(Budget("month", hard=1_000),)))}
    prices = PLAIN

    def test_cost(self) -> None:
        """What an exchange cost is what the table says for its model, and counts in a budget of money."""
        self.serve(self.ask(post(chat(max_tokens=100))))
        self.assertEqual((self.closed[-1].cost_micro_usd, self.closed[-1].fallback_price), (50, False))
        self.serve(self.ask(post(chat("unheard-of", max_tokens=100))))
        self.assertEqual((self.closed[-1].cost_micro_usd, self.closed[-1].fallback_price), (0, True))
        self.assertEqual(self.refused(post(chat(max_tokens=1_000))), (429, "budget_exceeded"))


class WaitingTests(AdmissionCase):
    """One at a time; two may wait for ten seconds."""

    limit_settings = LimitSettings(concurrent=1, max_wait=10.0, max_queue=2)

    def test_in_their_order(self) -> None:
        """Who waits is served in the order of arrival, once the one before is over, and is told how long it took."""
        first, second, third = (self.ask(post(chat(name))) for name in ("m1", "m2", "m3"))
        self.assertEqual(self.refused(post(chat("m4"))), (429, "rate_limit_exceeded"))
        self.clock.advance(2)
        self.assertEqual(self.serve(first), 200)
        self.assertIn(b'"m2"', self.upstream_wire().taken())
        self.upstream_wire().receive(answer(USED))
        answered = self.answered(second, "POST")
        self.assertIn("relay-queue;dur=2000.000", answered.fields["server-timing"])
        self.assertEqual(self.closed[-1].queue_ns, 2_000_000_000)
        self.assertEqual(self.serve(third), 200)

    def test_leaving(self) -> None:
        """Who leaves while it waits makes room at once, and the next moves up."""
        first, second, third = (self.ask(post(chat(name))) for name in ("m1", "m2", "m3"))
        second.lose()
        self.assertEqual(self.closed[-1].end, "client_gone")
        fourth = self.ask(post(chat("m4")))
        for wire, model in ((first, b'"m1"'), (third, b'"m3"'), (fourth, b'"m4"')):
            self.assertIn(model, self.upstream_wire().value())
            self.assertEqual(self.serve(wire), 200)

    def test_too_long(self) -> None:
        """Who has waited as long as it may is refused."""
        first, second = (self.ask(post(chat())) for _ in range(2))
        self.clock.advance(10)
        self.assertEqual(self.answered(second, "POST").status, 429)
        self.assertEqual(self.serve(first), 200)

    def test_others_do_not_wait(self) -> None:
        """One client's line holds up nobody else."""
        first = self.ask(post(chat()))
        self.ask(post(chat()))
        other = self.ask(post(chat()), BOB)
        self.assertEqual(self.serve(other), 200)
        self.upstream_wire(0).receive(answer(USED))
        self.answered(first, "POST")

    def test_stopping(self) -> None:
        """Who still waits when the relay stops is told so."""
        self.ask(post(chat()))
        waiting = self.ask(post(chat()))
        self.relay.end_all()
        self.assertEqual(self.answered(waiting, "POST").error["code"], "relay_shutting_down")


class WaitingForTokensTests(AdmissionCase):
    limit_settings = LimitSettings(requests_per_minute=60, burst=1, max_wait=10.0, max_queue=5)

    def test_when_it_is_time(self) -> None:
        """Who waits for a bucket is let in when it has filled, without anybody coming or going."""
        self.assertEqual(self.serve(self.ask(post(chat("m1")))), 200)
        wire = self.ask(post(chat("m2")))
        self.clock.advance(0.9)
        self.assertNotIn(b'"m2"', self.upstream_wire().value())
        self.clock.advance(0.2)
        self.assertIn(b'"m2"', self.upstream_wire().value())
        self.assertEqual(self.serve(wire), 200)


class ShadowTests(AdmissionCase):
    limit_settings = LimitSettings(requests_per_minute=60, burst=1, tokens_per_minute=60, concurrent=1, shadow=True)

    def test_counts_and_never_refuses(self) -> None:
        """In shadow mode whatever would be refused is counted, and goes through."""
        for _ in range(4):
            self.assertEqual(self.serve(self.ask(post(chat()))), 200)
        self.assertGreaterEqual(self.limits.overlooked, 3)


class UsageOfStreamsTests(AdmissionCase):
    """Chat streams tell their usage when they are asked to."""

    def stream(self, wire: Wire, events: bytes) -> bytes:
        self.upstream_wire().receive(STREAM_HEAD)
        self.took(wire)
        got = b""
        for at in range(0, len(events), 7):
            self.upstream_wire().receive(chunk(events[at : at + 7]))
        self.upstream_wire().receive(chunk(b""))
        wire_bytes = self.took(wire)
        while wire_bytes:
            size, _, rest = wire_bytes.partition(b"\r\n")
            count = int(size, 16)
            got, wire_bytes = got + rest[:count], rest[count + 2 :]
        return got

    def body_sent(self) -> dict[str, object]:
        head, _, body = self.upstream_wire().taken().partition(b"\r\n\r\n")
        self.assertIn(b"Content-Length: %d\r\n" % len(body), head + b"\r\n")
        sent = json.loads(body)
        assert isinstance(sent, dict)
        return sent

    def test_asked_for(self) -> None:
        """It is asked for where the client says nothing; the event that tells it is taken out, and nothing else."""
        wire = self.ask(post(chat(stream=True)))
        self.assertEqual(self.body_sent(), json.loads(chat(stream=True, stream_options={"include_usage": True})))
        self.assertEqual(self.stream(wire, PIECES + EXTRA + DONE), PIECES + DONE)
        self.assertEqual(self.closed[-1].usage, Usage(3, output_tokens=2))

    def test_client_that_said_no(self) -> None:
        """A client that wants none gets none, and pays what the upstream tells all the same."""
        wire = self.ask(post(chat(stream=True, stream_options={"include_usage": False})))
        self.assertEqual(self.body_sent()["stream_options"], {"include_usage": True})
        self.assertEqual(self.stream(wire, PIECES + EXTRA + DONE), PIECES + DONE)

    def test_client_that_asked(self) -> None:
        """A client that asks for it itself gets all of it, and its request goes up as it is."""
        body = chat(stream=True, stream_options={"include_usage": True})
        wire = self.ask(post(body))
        self.assertTrue(self.upstream_wire().value().endswith(body))
        self.assertEqual(self.stream(wire, PIECES + EXTRA + DONE), PIECES + EXTRA + DONE)
        self.assertEqual(self.closed[-1].usage, Usage(3, output_tokens=2))

    def test_broken_stream(self) -> None:
        """What was held back when the stream breaks is sent before it is said that it broke."""
        wire = self.ask(post(chat(stream=True)))
        self.upstream_wire().receive(STREAM_HEAD + chunk(PIECES + b'data: {"choices":[]'))
        self.upstream_wire().lose()
        self.assertIn(b'data: {"choices":[]', self.took(wire))

    def test_not_a_stream(self) -> None:
        """Nothing is asked for where the answer tells it anyway, or the endpoint knows no such option."""
        for body, target in ((chat(), CHAT), (chat(stream=True), "/v1/responses")):
            self.ask(post(body, target=target))
            self.assertTrue(self.upstream_wire().value().endswith(body))


class SwitchedOffTests(AdmissionCase):
    upstream_settings = UpstreamSettings(url="https://api.example", api_key=Secret(KEY), include_usage=False)

    def test_switch(self) -> None:
        """Switched off, no request is changed, and what a stream cost is estimated."""
        body = chat(stream=True)
        self.ask(post(body))
        self.assertTrue(self.upstream_wire().value().endswith(body))
        self.upstream_wire().receive(STREAM_HEAD + chunk(PIECES + DONE) + chunk(b""))
        usage = self.closed[-1].usage
        assert usage is not None
        self.assertTrue(usage.estimated)
        self.assertEqual(usage.output_tokens, 2)


class OnItsWayTests(RelayCase):
    """Bodies that nobody waits for."""

    def test_model_is_learnt(self) -> None:
        """Where nothing depends on it a body goes on as it comes, and its model is read in passing."""
        wire = self.asked(request("POST", "/v1/embeddings", JSON, "Content-Length: 42"))
        wire.receive(b'{"model":"emb-3",')
        self.assertTrue(self.upstream_wire().taken().endswith(b'{"model":"emb-3",'))
        wire.receive(b'"input":"eleven letters"}')
        self.upstream_wire().receive(answer(b'{"usage":{"prompt_tokens":4,"total_tokens":4}}'))
        self.assertEqual(self.answered(wire, "POST").status, 200)
        exchange = self.recorded()
        self.assertEqual((exchange.model, exchange.usage), ("emb-3", Usage(4)))
