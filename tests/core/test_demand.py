"""What a request is let in for, and what it then cost."""

from __future__ import annotations

from datetime import date

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.budgets import Budget, Cost
from openai_relay.core.demand import Asked, Demand, cost_of, demand, endpoint_asked
from openai_relay.core.endpoint import ENDPOINTS, OTHER
from openai_relay.core.endpoint import endpoint as endpoint_of
from openai_relay.core.errors import ModelHidden, ModelNotAllowed, RelayError
from openai_relay.core.globs import GlobTable
from openai_relay.core.policy import Policy, PolicyBook, QuotaRules, Rules
from openai_relay.core.prices import Price, PriceTable
from openai_relay.core.request_look import Model, RequestLook
from openai_relay.core.usage import Usage

FREE = PolicyBook().policy("anna")
BOUND = PolicyBook(Rules(models=("gpt-5*", "whisper-1"))).policy("anna")
#: Any model, but some have limits of their own.
LIMITED = PolicyBook(Rules(model_limits=(("gpt-5*", QuotaRules(concurrent=1)),))).policy("anna")
LOOK = RequestLook(Model.KNOWN, "gpt-5", False, None, 2, 100, 30)
NAMELESS = RequestLook(Model.ABSENT, input_tokens=30)
EXPECTED = 1000

WRITING = {
    "chat/completions",
    "completions",
    "responses",
    "responses/compact",
    "audio/transcriptions",
    "audio/translations",
    "images/generations",
    "images/edits",
    "images/variations",
    OTHER,
}
MUTE = {"embeddings", "audio/speech"}
#: What a model answers without that tokens are counted here.
LATER = {
    "assistants",
    "assistants/{id}",
    "batches",
    "chatkit/sessions",
    "evals/{id}/runs",
    "fine_tuning/alpha/graders/run",
    "fine_tuning/jobs",
    "realtime",
    "realtime/calls",
    "realtime/calls/{id}/accept",
    "realtime/client_secrets",
    "realtime/sessions",
    "realtime/transcription_sessions",
    "responses/input_tokens",
    "threads/runs",
    "threads/{id}/runs",
    "videos",
    "videos/{id}/remix",
}


#: What names its model where nobody looks.
ELSEWHERE = {
    "batches",
    "chatkit/sessions",
    "evals",
    "evals/{id}/runs",
    "fine_tuning/alpha/graders/run",
    "fine_tuning/alpha/graders/validate",
    "realtime/calls",
    "realtime/client_secrets",
}


def post(endpoint: str = "chat/completions") -> Asked:
    return Asked(endpoint, b"POST", b"/v1/" + endpoint.encode())


def socket(target: bytes, endpoint: str = "realtime") -> Asked:
    return Asked(endpoint, b"GET", target, upgrades=True)


def wanted(asked: Asked, look: RequestLook | None = LOOK, policy: Policy = FREE) -> Demand:
    return demand(asked, look, policy, EXPECTED)


class EndpointTests(SynchronousTestCase):
    """Which endpoint a path asks for, however it is written."""

    def test_plain(self) -> None:
        """A path that everybody reads alike is what it is."""
        for path in ("/v1/chat/completions", "/v1/files/file-abc/content", "/v1/models/ft:gpt-4o:org", "/v1/nothing"):
            self.assertEqual(endpoint_asked(path), endpoint_of(path))
        self.assertEqual(endpoint_asked("/v1/files/file-AbC"), "files/{id}")
        self.assertEqual(endpoint_asked("/v1/models/ft%3Agpt-4o"), "models/{id}")

    def test_escapes(self) -> None:
        """Of all that a path may be read as, what costs the most counts: no spelling is a way around a limit."""
        for path, expected in {
            "/v1/responses/compac%74": "responses/compact",
            "/v1/responses/Compact": "responses/compact",
            "/v1/threads/run%73": "threads/runs",
            "/v1/chat/%63ompletions": "chat/completions",
            "/v1/chat/completions/.": "chat/completions",
            "/v1/chat/completions/": "chat/completions",
            "/v1//chat/completions": "chat/completions",
            "/v1/models/..%2Fchat%2Fcompletions": "chat/completions",
            "/v1/batche%73": "batches",
            "/v1/%6eothing": OTHER,
        }.items():
            self.assertEqual(endpoint_asked(path), expected, path)

    @given(st.sampled_from(sorted(ENDPOINTS - {OTHER})), st.data())
    def test_any_escape(self, name: str, data: st.DataObject) -> None:
        """Whichever characters of a path are escaped, what costs is found to."""
        path = "/v1/" + name.replace("{id}", "x1")
        where = data.draw(st.sets(st.integers(1, len(path) - 1)))
        written = "".join(f"%{ord(each):02x}" if at in where else each for at, each in enumerate(path))
        asked = Asked(endpoint_asked(written), b"POST", b"/")
        self.assertGreaterEqual(asked.costs, post(name).costs, written)
        self.assertGreaterEqual(asked.leads_to_costs, post(name).leads_to_costs, written)


class AskedTests(SynchronousTestCase):
    def test_what_is_looked_at(self) -> None:
        """A body is looked at where it may cost, and with a rule about models wherever a model answers."""
        for endpoint in ENDPOINTS:
            asked = post(endpoint)
            self.assertEqual(asked.is_looked_at(FREE), endpoint in WRITING | MUTE, endpoint)
            for policy in (BOUND, LIMITED):
                self.assertEqual(asked.is_looked_at(policy), endpoint in WRITING | MUTE | LATER, endpoint)
            self.assertFalse(Asked(endpoint, b"GET", b"/").is_looked_at(BOUND))
            self.assertFalse(Asked(endpoint, b"POST", b"/", upgrades=True).is_looked_at(BOUND))

    def test_what_costs(self) -> None:
        """Only a POST to what uses tokens costs, and whatever becomes a WebSocket may."""
        for endpoint in ENDPOINTS:
            self.assertEqual(post(endpoint).costs, endpoint in WRITING | MUTE, endpoint)
            self.assertFalse(Asked(endpoint, b"GET", b"/").costs)
            self.assertTrue(socket(b"/", endpoint).costs)

    def test_what_leads_to_costs(self) -> None:
        """A spent budget is asked wherever tokens are used, here or by what is begun here."""
        for endpoint in ENDPOINTS:
            leads = (WRITING | MUTE | LATER | ELSEWHERE | {"threads/{id}/runs/{id}/submit_tool_outputs"}) - {
                "responses/input_tokens"
            }
            self.assertEqual(post(endpoint).leads_to_costs, endpoint in leads, endpoint)
            self.assertFalse(Asked(endpoint, b"GET", b"/").leads_to_costs)

    def test_waiting(self) -> None:
        """A body is waited for where a rule, a budget or a limit needs it, and where a chat may be asked for usage."""
        counted = PolicyBook(Rules(limits=QuotaRules(tokens_per_minute=600))).policy("anna")
        paid = PolicyBook(Rules(budgets=(Budget("day", 5),))).policy("anna")
        paced = PolicyBook(Rules(limits=QuotaRules(requests_per_minute=60, concurrent=2))).policy("anna")
        for endpoint in ("chat/completions", "completions", "responses", OTHER):
            for policy, waits in (
                (BOUND, True),
                (LIMITED, True),
                (counted, True),
                (paid, True),
                (FREE, False),
                (paced, False),
            ):
                self.assertEqual(post(endpoint).waits_for_its_body(policy, False), waits, endpoint)
                asks = waits or endpoint in ("chat/completions", "completions")
                self.assertEqual(post(endpoint).waits_for_its_body(policy, True), asks, endpoint)

    def test_asking_for_usage(self) -> None:
        """The usage of a chat stream is asked for unless the client did so, though it says that it wants none."""
        for endpoint in ENDPOINTS:
            for stream in (False, True):
                for said in (None, False, True):
                    look = RequestLook(Model.KNOWN, "m", stream, said)
                    may = stream and said is not True and endpoint in ("chat/completions", "completions")
                    self.assertEqual(post(endpoint).may_ask_for_usage(look), may, (endpoint, look))


class DemandTests(SynchronousTestCase):
    def test_tokens(self) -> None:
        """What writes may use its input and its bound for each choice; what does not write, its input."""
        for endpoint in WRITING:
            images = 2 if endpoint.startswith("images/") else 0
            self.assertEqual(wanted(post(endpoint)), Demand("gpt-5", 30, 200, images), endpoint)
            self.assertEqual(wanted(post(endpoint), NAMELESS).tokens, 30 + EXPECTED)
        for endpoint in MUTE:
            self.assertEqual(wanted(post(endpoint)), Demand("gpt-5", 30, 0), endpoint)
            self.assertEqual(wanted(post(endpoint)).tokens, 30)

    def test_nothing(self) -> None:
        """What costs nothing asks for nothing, but its model is known if it was seen."""
        for endpoint in LATER:
            self.assertEqual(wanted(post(endpoint)), Demand("gpt-5"), endpoint)
        for endpoint in ENDPOINTS:
            self.assertEqual(wanted(Asked(endpoint, b"GET", b"/"), None), Demand())
            self.assertEqual(wanted(Asked(endpoint, b"GET", b"/"), None, BOUND), Demand())

    def test_no_body(self) -> None:
        """A request without a body may still cost what is expected of an answer."""
        self.assertEqual(wanted(post("responses"), None), Demand(None, 0, EXPECTED))

    def test_socket(self) -> None:
        """A WebSocket may use what is expected of one answer, by the model that its address names."""
        self.assertEqual(wanted(socket(b"/v1/realtime?a=b&model=gpt-5"), None), Demand("gpt-5", 0, EXPECTED))
        self.assertEqual(wanted(socket(b"/v1/responses?model=gpt-5", "responses"), None), Demand(None, 0, EXPECTED))

    @given(st.binary(max_size=40))
    def test_any_address(self, query: bytes) -> None:
        """Whatever stands in an address, it names a model, or is refused where that matters."""
        asked = socket(b"/v1/realtime?model" + query)
        wanted(asked, None)
        try:
            self.assertTrue(str(wanted(asked, None, BOUND).model).startswith(("gpt-5", "whisper-1")))
        except RelayError as error:
            self.assertIsInstance(error, (ModelHidden, ModelNotAllowed))

    @given(st.builds(RequestLook, st.sampled_from(Model), choices=st.integers(1, 9), most_output=st.integers(0, 99)))
    def test_any_look(self, look: RequestLook) -> None:
        """Without a rule about models nothing is refused, whatever was seen."""
        for endpoint in ENDPOINTS:
            self.assertGreaterEqual(wanted(post(endpoint), look).tokens, 0)


class ModelRuleTests(SynchronousTestCase):
    def test_allowed(self) -> None:
        """An allowed model passes at every endpoint."""
        for endpoint in ENDPOINTS - ELSEWHERE:
            self.assertEqual(wanted(post(endpoint), policy=BOUND).model, "gpt-5")

    def test_elsewhere(self) -> None:
        """What names its model in a file, a session or a grader is refused, whatever stands at the top."""
        for endpoint in ELSEWHERE:
            error = self.assertRaises(ModelHidden, wanted, post(endpoint), LOOK, BOUND)
            self.assertIn("where the relay does not look", error.told)
            self.assertEqual(wanted(post(endpoint)).tokens, 0)

    def test_not_allowed(self) -> None:
        """Another one passes at none where it was seen."""
        look = RequestLook(Model.KNOWN, "o3")
        for endpoint in (WRITING | MUTE | LATER) - ELSEWHERE:
            self.assertRaises(ModelNotAllowed, wanted, post(endpoint), look, BOUND)
            wanted(post(endpoint), look, LIMITED)

    def test_hidden(self) -> None:
        """Where a model answers, none that is absent, hidden or not certain passes, nor a body that is not there."""
        looks = (NAMELESS, RequestLook(), RequestLook(Model.HIDDEN, "gpt-5"), RequestLook(Model.AMBIGUOUS), None)
        for endpoint in WRITING | MUTE | LATER:
            for look in looks:
                for policy in (BOUND, LIMITED):
                    self.assertRaises(ModelHidden, wanted, post(endpoint), look, policy)
                wanted(post(endpoint), look)

    def test_no_model_answers(self) -> None:
        """Where none answers, none is asked for: files are uploaded, models listed, answers read."""
        for endpoint in ENDPOINTS - WRITING - MUTE - LATER - ELSEWHERE:
            self.assertEqual(wanted(post(endpoint), None, BOUND), Demand(), endpoint)

    def test_two_models(self) -> None:
        """Two models in one request are refused in words that say so."""
        for asked, look in (
            (post(), RequestLook(Model.AMBIGUOUS)),
            (socket(b"/v1/realtime?model=gpt-5&model=o3"), None),
            (socket(b"/v1/realtime?model=gpt-5&model="), None),
        ):
            error = self.assertRaises(ModelHidden, wanted, asked, look, BOUND)
            self.assertIn("more than one model", error.told)

    def test_sockets(self) -> None:
        """The address of a WebSocket names an allowed model, once, or it is not opened."""
        for target in (b"/v1/realtime?model=gpt-5-mini", b"/v1/realtime?model=gpt%2D5", b"/r?model=gpt-5&model=gpt-5"):
            self.assertIn("gpt-5", wanted(socket(target), None, BOUND).model or "")
        for target in (b"/v1/realtime?model=o3", b"/v1/realtime?model=%6f3", b"/v1/realtime?model=\xff"):
            self.assertRaises(ModelNotAllowed, wanted, socket(target), None, BOUND)
        for target in (b"/v1/realtime", b"/v1/realtime?", b"/v1/realtime?model=", b"/v1/realtime?intent=transcription"):
            self.assertRaises(ModelHidden, wanted, socket(target), None, BOUND)

    def test_sockets_elsewhere(self) -> None:
        """A WebSocket whose messages name the model is not opened: nobody reads them first."""
        for endpoint in ("responses", OTHER, "models"):
            self.assertRaises(ModelHidden, wanted, socket(b"/v1/x?model=gpt-5", endpoint), None, BOUND)


#: Micro-dollars for a million tokens, in and out, an image, and a minute.
PRICE = Price(input=2_000_000, output=8_000_000, per_image=40_000, per_minute=6_000)
PRICES = PriceTable(date(2026, 6, 1), Price(input=1_000_000), GlobTable([("gpt-5", PRICE)]))


class CostTests(SynchronousTestCase):
    def test_most(self) -> None:
        """What an exchange may cost is its tokens and its images, at the price of its model."""
        self.assertEqual(Demand("gpt-5", 10, 100, 3).most(PRICES), Cost(110, 20 + 800 + 120_000))
        self.assertEqual(Demand(None, 10, 100, 3).most(PRICES), Cost(110, 10))

    def test_told(self) -> None:
        """What was told costs what it says, and images are in it."""
        asked = Demand("gpt-5", 10, 100, 3)
        self.assertEqual(cost_of(Usage(5, output_tokens=7), asked, PRICES), (10 + 56, False))

    def test_images_by_the_piece(self) -> None:
        """Images whose usage nobody told cost by the piece."""
        asked = Demand("gpt-5", 10, 100, 3)
        self.assertEqual(cost_of(Usage(10, estimated=True), asked, PRICES), (20 + 120_000, False))

    def test_seconds(self) -> None:
        """Sound that is told by its length costs by the minute."""
        self.assertEqual(cost_of(Usage(seconds=90.0), Demand("gpt-5"), PRICES), (9_000, False))
        self.assertEqual(cost_of(Usage(seconds=0.001), Demand("gpt-5"), PRICES), (1, False))

    def test_unknown_model(self) -> None:
        """A model without a price costs what stands in for it, and that is said."""
        for model in ("o3", None):
            self.assertEqual(cost_of(Usage(5), Demand(model), PRICES), (5, True))
