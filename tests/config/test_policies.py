"""Rules that are right alone and cannot be used together."""

from __future__ import annotations

from openai_relay.core.policy import PolicyBook, defaults_of
from tests.config.case import MINIMAL, ConfigurationCase


class BadPolicyTests(ConfigurationCase):
    def test_bursts(self) -> None:
        """A burst needs a rate in its own table or behind it."""
        for before in ("[limits]\nrequests_per_minute = 1\n", "[identity]\ndefault_tier = 'a'\n"):
            tier = "[tiers.a]\nrequests_per_minute = 1\n"
            self.assertEqual(self.complaints(MINIMAL + before + tier + "[clients.b]\nburst = 3\n"), [])
        self.assertComplaint(
            MINIMAL + "[tiers.a]\ntoken_burst = 3\n[clients.b]\nburst = 3\n[clients.c]\ntier = 'a'\n",
            "FILE:8: tiers.a.token_burst: needs a rate to be a burst of; set tokens_per_minute too",
            "FILE:10: clients.b.burst: needs a rate to be a burst of; set requests_per_minute too",
        )

    def test_bursts_of_models(self) -> None:
        """Of several models, the one whose burst has no rate is named; a tier's rate for the same glob will do."""
        tier = '[tiers.a.model_limits."x*"]\nrequests_per_minute = 1\n'
        client = "[clients.b]\ntier = 'a'\n[clients.b.model_limits]\n"
        self.assertEqual(self.complaints(MINIMAL + tier + client + '"x*" = { burst = 3 }\n'), [])
        self.assertComplaint(
            MINIMAL + tier + client + '"x*" = { burst = 3 }\n"y*" = { burst = 3 }',
            'FILE:13: clients.b.model_limits."y*".burst: needs a rate to be a burst of; set requests_per_minute too',
        )

    def test_waiting(self) -> None:
        """A wait and a queue may come from two tables, and not from one alone."""
        self.assertEqual(
            self.complaints(MINIMAL + "[tiers.a]\nmax_wait = 1\nmax_queue = 1\n[clients.b]\ntier = 'a'\nmax_wait = 2"),
            [],
        )
        self.assertComplaint(
            MINIMAL + "[tiers.a]\nmax_wait = 1\n[clients.b]\nmax_queue = 1\n",
            "FILE:8: tiers.a.max_wait: max_wait and max_queue go together; set both, or neither",
            "FILE:10: clients.b.max_queue: max_wait and max_queue go together; set both, or neither",
        )

    def test_what_stands_behind_is_told_once(self) -> None:
        """What is wrong with the limits of all is not repeated for each client."""
        self.assertComplaint(
            MINIMAL + "[limits]\nmax_wait = 1\n[clients.b]\nburst = 3\n[clients.c]\n", "FILE:8: limits.max_wait: "
        )

    def test_models_twice(self) -> None:
        """A model that stands there twice is refused."""
        self.assertComplaint(
            MINIMAL + '[clients.b]\nmodels = ["x",\n"x"]',
            'FILE:9: clients.b.models[2]: "x" stands there twice; take one',
        )

    def test_tiers_that_are_not_there(self) -> None:
        """An unknown tier is answered with the nearest, or with all."""
        self.assertComplaint(
            MINIMAL + '[identity]\ndefault_tier = "standrd"\n[tiers.standard]\n[clients.a]\ntier = "x"\n[clients.b]\n',
            'FILE:8: identity.default_tier: there is no [tiers.standrd]; did you mean "standard"?',
            "FILE:11: clients.a.tier: there is no [tiers.x]; write one of that name; there are: standard",
        )
        self.assertComplaint(
            MINIMAL + '[clients.a]\ntier = "x"',
            "FILE:8: clients.a.tier: there is no [tiers.x]; write one of that name; there are: none yet",
        )

    def test_keys_that_are_not_there(self) -> None:
        """An unknown upstream key is answered with the nearest, or with all; so is that of a tier nobody is in."""
        self.assertComplaint(
            MINIMAL
            + 'keys = { research = "env:OPENAI_API_KEY" }\n[tiers.a]\nupstream_key = "x"\n'
            + '[clients.a]\nupstream_key = "reserch"\n',
            'FILE:9: tiers.a.upstream_key: "x" is no key of [upstream.keys]; set it there; there are: research',
            'FILE:11: clients.a.upstream_key: "reserch" is no key of [upstream.keys]; did you mean "research"?',
        )

    def test_what_passes_makes_a_book(self) -> None:
        """What nothing is said of is what the relay's own book of policies takes."""
        settings = self.read(
            MINIMAL
            + "[identity]\ndefault_tier = 'a'\n[limits]\nrequests_per_minute = 5\n"
            + "[tiers.a]\nburst = 2\n[clients.b]\nrequests_per_minute = 'unlimited'\n"
        )
        book = PolicyBook(
            defaults_of(settings.limits), settings.tiers, settings.clients, settings.identity.default_tier
        )
        self.assertEqual(book.policy("b").limits.own.requests, None)
        requests = book.policy("anybody").limits.own.requests
        assert requests is not None
        self.assertEqual(requests.burst, 2)
