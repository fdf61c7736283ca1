"""What a client may do, and by which of its rules."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.budgets import Budget
from openai_relay.core.errors import (
    BadRequest,
    CertificateExpired,
    ClientDisabled,
    MethodRefused,
    ModelHidden,
    ModelNotAllowed,
    PathNotAllowed,
    error_body,
)
from openai_relay.core.limit_rules import Quota
from openai_relay.core.policy import BadPolicy, ClientRules, Policy, PolicyBook, QuotaRules, Rules

SECOND = 1_000_000_000


def policy(rules: Rules, tier: Rules | None = None, defaults: Rules | None = None) -> Policy:
    """What holds for a client with these rules."""
    tiers = {} if tier is None else {"team": tier}
    clients = {"anna": ClientRules(rules, None if tier is None else "team")}
    return PolicyBook(defaults, tiers, clients).policy("anna")


class PolicyBookTests(SynchronousTestCase):
    """``PolicyBook``."""

    def test_client_over_tier_over_defaults(self) -> None:
        """Each rule is taken from the client, else from its tier, else from the defaults."""
        for rules, tier, defaults, project in (
            (Rules(project="c"), Rules(project="t"), Rules(project="d"), "c"),
            (Rules(), Rules(project="t"), Rules(project="d"), "t"),
            (Rules(), Rules(), Rules(project="d"), "d"),
            (Rules(), Rules(), Rules(), None),
            (Rules(), None, Rules(project="d"), "d"),
        ):
            self.assertEqual(policy(rules, tier, defaults).project, project)

    def test_every_rule_is_inherited(self) -> None:
        """Nothing that a tier says is lost on its way to the client, and nothing of it reaches others."""
        tier = Rules(
            models=("gpt-5*",),
            paths=("/v1/chat/",),
            methods=("POST",),
            upstream_key="second",
            organization="org",
            project="proj",
            limits=QuotaRules(60, 2, 600, 100, 3),
            model_limits=(("gpt-5*", QuotaRules(concurrent=1)),),
            shadow=True,
            max_wait=1.5,
            max_queue=4,
            budgets=(Budget("day", 5),),
            not_after=99.0,
            disabled=True,
        )
        book = PolicyBook(None, {"team": tier}, {"anna": ClientRules(tier="team")})
        found = book.policy("anna")
        assert found.models is not None
        self.assertEqual((found.tier, found.models.patterns, found.methods), ("team", ("gpt-5*",), ("POST",)))
        self.assertEqual((found.upstream_key, found.organization, found.project), ("second", "org", "proj"))
        self.assertEqual((found.budgets, found.not_after, found.disabled), ((Budget("day", 5),), 99.0, True))
        limits = found.limits
        self.assertEqual(limits.own, QuotaRules(60, 2, 600, 100, 3).quota())
        self.assertEqual(limits.for_model("gpt-5-mini"), ("gpt-5*", Quota.of(concurrent=1)))
        self.assertEqual((limits.shadow, limits.max_wait_ns, limits.max_queue), (True, 1_500_000_000, 4))
        self.assertRaises(PathNotAllowed, found.check_path, b"/v1/models", b"POST")
        other = book.policy("boris")
        self.assertEqual((other.tier, other.models, other.paths, other.disabled), (None, None, None, False))
        self.assertFalse(other.limits.own)
        self.assertEqual(book.names, ("anna",))

    def test_a_client_may_lift_what_its_tier_sets(self) -> None:
        """False, an empty list and "unlimited" are rules too, and stand before the tier's."""
        found = policy(
            Rules(disabled=False, models=(), limits=QuotaRules("unlimited", None, "unlimited", None, "unlimited")),
            Rules(disabled=True, models=("m",), limits=QuotaRules(60, 2, 600, 100, 3)),
        )
        found.check_client(0)
        self.assertFalse(found.limits.own)
        self.assertRaises(ModelNotAllowed, found.check_model, "m")

    def test_limits_are_merged_one_by_one(self) -> None:
        """A client's limit leaves its tier's others in force; a burst goes with the rate that it was set for."""
        tier = Rules(limits=QuotaRules(60, 5, 600, None, 3))
        for rules, quota in (
            (QuotaRules(concurrent=9), QuotaRules(60, 5, 600, None, 9)),
            (QuotaRules(burst=7), QuotaRules(60, 7, 600, None, 3)),
            (QuotaRules(30), QuotaRules(30, None, 600, None, 3)),
            (QuotaRules(token_burst=50), QuotaRules(60, 5, 600, 50, 3)),
        ):
            self.assertEqual(policy(Rules(limits=rules), tier).limits.own, quota.quota())

    def test_limits_of_models_are_merged_by_their_globs(self) -> None:
        """The same glob in client and tier is one limit, merged; others stand side by side."""
        found = policy(
            Rules(model_limits=(("m*", QuotaRules(concurrent=1)), ("n", QuotaRules(60)))),
            Rules(model_limits=(("m*", QuotaRules(30)),)),
        )
        self.assertEqual(found.limits.for_model("m1"), ("m*", QuotaRules(30, concurrent=1).quota()))
        self.assertEqual(found.limits.for_model("n"), ("n", QuotaRules(60).quota()))

    def test_budgets_replace_those_of_their_kind(self) -> None:
        """A client's monthly budget in money replaces its tier's, and leaves the daily one and the one in tokens."""
        day, month, tokens = Budget("day", 1), Budget("month", 2), Budget("month", 3, money=False)
        own = Budget("month", 9)
        self.assertEqual(
            set(policy(Rules(budgets=(own,)), Rules(budgets=(day, month, tokens))).budgets), {day, own, tokens}
        )

    def test_mistakes_name_table_and_key(self) -> None:
        """A rule that cannot be used is told with its table, its key and what is wrong, in tiers nobody is in, too."""
        for tier, rules, said in (
            (Rules(), Rules(limits=QuotaRules(0)), "clients.anna.limits: requests_per_minute must be a number above 0"),
            (Rules(), Rules(limits=QuotaRules(burst=1)), "clients.anna.limits: burst needs a rate to be a burst of"),
            (Rules(), Rules(limits=QuotaRules(token_burst=1)), "limits: token_burst needs a rate to be a burst of"),
            (Rules(), Rules(models=("a", "a")), "clients.anna.models: 'a' stands there twice"),
            (Rules(), Rules(model_limits=(("", QuotaRules()),)), "clients.anna.model_limits: an empty name"),
            (Rules(paths=("v1",)), Rules(), "tiers.team.paths: 'v1' is no path"),
            (Rules(), Rules(methods=("post",)), "clients.anna.methods: 'post' is no method; write it in capitals"),
            (Rules(), Rules(max_wait=1.0), "clients.anna.max_wait: max_wait and max_queue go together"),
            (Rules(), Rules(max_wait=-1.0, max_queue=1), "must not be below 0"),
            (Rules(), Rules(max_wait=float("inf"), max_queue=1), "nor endless"),
        ):
            with self.assertRaisesRegex(BadPolicy, said):
                PolicyBook(None, {"team": tier}, {"anna": ClientRules(rules)})
        with self.assertRaisesRegex(BadPolicy, "limits.limits: concurrent must be at least 1"):
            PolicyBook(Rules(limits=QuotaRules(concurrent=0)))

    def test_a_tier_that_is_not_there(self) -> None:
        """A client in a tier that does not exist is a mistake that names those that do."""
        clients = {"anna": ClientRules(tier="gold")}
        with self.assertRaisesRegex(BadPolicy, r"clients.anna.tier: there is no \[tiers.gold\]; there are: a, b"):
            PolicyBook(None, {"b": Rules(), "a": Rules()}, clients)
        with self.assertRaisesRegex(BadPolicy, "there are: none"):
            PolicyBook(None, None, clients)

    def test_two_budgets_of_a_kind(self) -> None:
        """Two budgets that count the same in one table are a mistake, not a riddle."""
        self.assertRaises(ValueError, Rules, budgets=(Budget("day", 1), Budget("day", 2)))


class PolicyTests(SynchronousTestCase):
    """``Policy``."""

    def test_no_rules_refuse_nothing(self) -> None:
        """Without rules a client may do what the relay may."""
        free = PolicyBook().policy("anna")
        free.check_client(1e12)
        free.check_path(b"/anything", b"DELETE")
        free.check_model(None)
        free.check_model("gpt-5")
        self.assertFalse(free.has_model_rule)

    def test_disabled(self) -> None:
        """A client that is switched off is told so with a 403 of its own code."""
        refusal = self.assertRaises(ClientDisabled, policy(Rules(disabled=True)).check_client, 0)
        self.assertEqual((refusal.status, refusal.code), (403, "client_disabled"))

    def test_an_end_before_the_certificates(self) -> None:
        """From the moment that its rules name, a client is out."""
        ending = policy(Rules(not_after=100.0))
        ending.check_client(99.9)
        self.assertRaises(CertificateExpired, ending.check_client, 100.0)

    def test_models(self) -> None:
        """Only what is allowed by name or glob passes, and a refusal names what is."""
        narrow = policy(Rules(models=("gpt-5*", "o3")))
        for model in ("gpt-5", "gpt-5-mini", "o3"):
            narrow.check_model(model)
        for model in ("gpt-4o", "o3-pro", "", "xgpt-5"):
            refusal = self.assertRaises(ModelNotAllowed, narrow.check_model, model)
            self.assertEqual((refusal.status, refusal.code), (403, "model_not_allowed"))
            self.assertEqual(
                refusal.told,
                f'The relay does not allow the model "{model}" for this client. It allows: gpt-5*, o3.',
            )

    def test_a_refusal_names_so_many_and_no_more(self) -> None:
        """A long list of allowed models is cut in the answer, and so is a long name that was asked for."""
        told = self.assertRaises(
            ModelNotAllowed, policy(Rules(models=tuple(f"m{n}" for n in range(25)))).check_model, "x" * 10_000
        ).told
        self.assertIn(f'"{"x" * 64}..."', told)
        self.assertTrue(told.endswith("m18, m19 and 5 more."), told)

    @given(st.text(st.characters(codec=None, exclude_categories=())))
    def test_any_name_can_be_answered(self, model: str) -> None:
        """Whatever a client calls its model, the refusal is one line of ASCII that fits into an answer."""
        refusal = self.assertRaises(ModelNotAllowed, policy(Rules(models=())).check_model, model)
        self.assertTrue(refusal.told.isascii() and refusal.told.isprintable())
        self.assertIn(b"(none)", error_body(refusal))

    def test_a_hidden_model(self) -> None:
        """Where a rule about models applies, of permission or of limits, a request must show its model."""
        for rules in (Rules(models=("m",)), Rules(model_limits=(("m", QuotaRules(60)),))):
            ruled = policy(rules)
            self.assertTrue(ruled.has_model_rule)
            refusal = self.assertRaises(ModelHidden, ruled.check_model, None)
            self.assertEqual((refusal.status, refusal.code), (400, "model_hidden"))
            ruled.check_model("m")

    def test_paths(self) -> None:
        """A client's paths narrow the relay's, by the same reading, and what is no path is malformed."""
        narrow = policy(Rules(paths=("/v1/chat/",)))
        narrow.check_path(b"/v1/chat/completions?x=1", b"POST")
        for target in (b"/v1/models", b"/v1/chat/../models", b"/v1/chat/%2e%2e/models"):
            self.assertRaises(PathNotAllowed, narrow.check_path, target, b"GET")
        self.assertRaises(BadRequest, narrow.check_path, b"/v1/chat/\\", b"GET")

    def test_methods(self) -> None:
        """A client's methods are those listed, told with the refusal; a stranger's bytes are none of them."""
        narrow = policy(Rules(methods=("GET", "POST")))
        narrow.check_path(b"/v1/models", b"GET")
        for method in (b"DELETE", b"get", b"\xff"):
            refusal = self.assertRaises(MethodRefused, narrow.check_path, b"/v1/models", method)
            self.assertEqual((refusal.status, refusal.code), (403, "method_not_allowed_for_client"))
            self.assertTrue(refusal.told.endswith("It allows: GET, POST."))
