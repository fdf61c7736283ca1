"""The certificate as an account: what its holder is told, what the SDKs make of it, and what outlives the relay."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any, ClassVar
from unittest import skipUnless

from openai import RateLimitError

from tests.integration.running import BIN, WITHIN, Relay, Running, Tables, wait_for
from tests.integration.test_openai_node import MISSING, PRESENT, NodeTestCase
from tests.integration.test_openai_python import MODEL, QUESTION, SDKTestCase

#: A request of the SDK that says no more is let in for about 1,000 tokens, and takes about 50.
ONE_ONLY: Tables = {"[clients.alice.budgets]": {"per": "day", "tokens": 1_040}}
#: 1,000 tokens come back each second.
SECOND_AFTER: Tables = {"limits": {"tokens_per_minute": 60_000, "token_burst": 1_200}}
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}


class MeTests(SDKTestCase):
    configuration: ClassVar[Tables] = {
        "limits": {"requests_per_minute": 600, "tokens_per_minute": 100_000},
        "tiers.staff": {"models": ("gpt-4o*", "gpt-5*")},
        "clients.alice": {"tier": "staff"},
        "[clients.alice.budgets]": {"per": "month", "dollars": 5},
    }

    def me(self) -> dict[str, Any]:
        status, body = self.ask("GET", "/relay/v1/me")
        self.assertEqual(status, 200)
        told = json.loads(body)
        assert isinstance(told, dict)
        return told

    def test_used(self) -> None:
        """A client reads who it is, what it may do, and, a moment later, what it has used."""
        self.relay.wait_for_metric("openai_relay_ledger_rows_waiting", 0)
        before = self.me()["usage"]["today"]
        completion = self.client.chat.completions.create(**CHAT)
        assert completion.usage is not None
        told = wait_for(
            lambda: me if (me := self.me())["usage"]["today"]["input_tokens"] > before["input_tokens"] else None,
            "the usage",
        )
        self.assertEqual((told["client"], told["tier"], told["models"]), ("alice", "staff", ["gpt-4o*", "gpt-5*"]))
        today = told["usage"]["today"]
        self.assertEqual(
            (today["input_tokens"] - before["input_tokens"], today["output_tokens"] - before["output_tokens"]),
            (completion.usage.prompt_tokens, completion.usage.completion_tokens),
        )
        self.assertEqual(today["estimated"], 0)
        (budget,) = told["budgets"]
        self.assertEqual((budget["limit"], budget["spent"]), (5, today["cost_usd"]))
        self.assertGreater(today["cost_usd"], 0)
        self.assertEqual(told["limits"]["tokens"]["limit"], 100_000)

    def test_fields_of_an_answer(self) -> None:
        """Each answer says what is left of the client's own limits, and the relay's share of the time."""
        self.client.chat.completions.create(**CHAT)
        fields = self.answers[0].headers
        self.assertEqual(fields["x-ratelimit-limit-requests"], "600")
        self.assertEqual(fields["x-ratelimit-limit-tokens"], "100000")
        self.assertLess(int(fields["x-ratelimit-remaining-tokens"]), 100_000)
        self.assertRegex(fields["server-timing"], r"^relay;dur=[0-9]+\.[0-9]{3}$")

    def test_metrics(self) -> None:
        """The same tokens are in the metrics."""
        self.client.chat.completions.create(**CHAT)
        self.assertGreater(self.relay.metric('openai_relay_tokens_total{client="alice",kind="output"}'), 0)

    def test_ledger_as_a_person_reads_it(self) -> None:
        """``openai-relay usage`` tells a row for the client, beside the running relay."""
        self.client.chat.completions.create(**CHAT)
        wait_for(lambda: self.me()["usage"]["today"]["input_tokens"], "the ledger")
        done = subprocess.run(
            [BIN / "openai-relay", "usage", "--config", self.site.file("relay.toml"), "--csv"],
            capture_output=True,
            text=True,
            timeout=WITHIN,
            check=True,
        )
        self.assertRegex(done.stdout, r"(?m)^alice,")


class PythonTests(SDKTestCase):
    configuration = ONE_ONLY

    def test_spent_budget_is_not_tried_again(self) -> None:
        """An SDK that would try five times asks once when the budget is spent, and is told which."""
        client = self.sdk(max_retries=5)
        client.chat.completions.create(**CHAT)
        with self.assertRaises(RateLimitError) as raised:
            client.chat.completions.create(**CHAT)
        self.assertEqual([answer.status_code for answer in self.answers], [200, 429])
        self.assertEqual(raised.exception.code, "budget_exceeded")
        self.assertIn("daily budget", raised.exception.message)
        self.assertEqual(self.reached().requests, 1)


class PythonTokenTests(SDKTestCase):
    configuration = SECOND_AFTER

    def test_tokens_are_waited_for(self) -> None:
        """An SDK comes back when it was told to, once tokens that a running stream holds have grown again."""
        client = self.sdk(max_retries=1)
        with client.chat.completions.create(
            **CHAT, stream=True, extra_query={"standin.endless": "1", "standin.interval_ms": "50"}
        ) as stream:
            next(stream)
            client.chat.completions.create(**CHAT)
        self.assertEqual([answer.status_code for answer in self.answers], [200, 429, 200])
        refused = self.answers[1]
        self.assertEqual(refused.json()["error"]["type"], "tokens")
        self.assertGreater(int(refused.headers["retry-after-ms"]), 0)


@skipUnless(PRESENT, MISSING)
class NodeTests(NodeTestCase):
    configuration = ONE_ONLY

    def test_spent_budget_is_not_tried_again(self) -> None:
        """The SDK for Node asks once when the budget is spent, though it would try again."""
        told = self.run_script("refused.mjs")
        self.assertEqual([answer["status"] for answer in told["answers"]], [200, 429])
        self.assertEqual((told["raised"], told["code"]), ("RateLimitError", "budget_exceeded"))


@skipUnless(PRESENT, MISSING)
class NodeTokenTests(NodeTestCase):
    configuration = SECOND_AFTER

    def test_tokens_are_waited_for(self) -> None:
        """The SDK for Node comes back when it was told to."""
        told = self.run_script("tokens.mjs")
        self.assertEqual([answer["status"] for answer in told["answers"]], [200, 429, 200])


class RestartTests(SDKTestCase):
    configuration: ClassVar[Tables] = {
        **ONE_ONLY,
        "clients.alice": {"requests_per_minute": 1, "burst": 2},
        "limits": {"tokens_per_minute": 100_000},
    }

    def again(self) -> Relay:
        relay = Relay.configured(self.site, self.standin.url, self.configuration)
        self.addCleanup(relay.close)
        return relay

    def answer_of(self, relay: Running, target: str, body: bytes | None = None) -> tuple[int, str]:
        assert isinstance(relay, Relay)
        connection = relay.connect()
        try:
            connection.request("POST" if body else "GET", target, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, re.sub(r".*\"code\": ?\"(\w+)\".*", r"\1", response.read().decode(), flags=re.S)
        finally:
            connection.close()

    def test_limits_and_budgets_outlive_it(self) -> None:
        """A relay that is stopped and started again gives back neither requests nor budget."""
        first = self.again()
        self.assertEqual(self.answer_of(first, "/v1/chat/completions", json.dumps(CHAT).encode())[0], 200)
        first.close()
        second = self.again()
        self.assertEqual(
            self.answer_of(second, "/v1/chat/completions", json.dumps(CHAT).encode()), (429, "budget_exceeded")
        )
        self.assertEqual(self.answer_of(second, "/v1/models")[0], 200)
        self.assertEqual(self.answer_of(second, "/v1/models"), (429, "rate_limit_exceeded"))
