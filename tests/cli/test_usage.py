"""``openai-relay usage``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.ledger.database import Database
from tests.authority.directories import new_directory
from tests.cli.commands import typed
from tests.ledger.rows import DAY_MS, row


class UsageCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self)
        self.path = self.directory / "ledger.sqlite3"
        self.now_ms = time.time_ns() // 1_000_000
        self.database = Database(self.path)
        self.addCleanup(self.database.close)
        self.database.append(
            [
                row(1, ended_ms=self.now_ms),
                row(2, ended_ms=self.now_ms, client="bob", model="gpt-5-mini"),
                row(3, ended_ms=self.now_ms - 10 * DAY_MS, endpoint="embeddings"),
                row(4, ended_ms=self.now_ms - 50 * DAY_MS),
            ]
        )

    def said(self, *words: object) -> str:
        result = typed("usage", "--database", self.path, *words)
        self.assertEqual((result.exit_code, result.exception), (0, None), result.output)
        return result.stdout

    def document(self, *words: object) -> Any:
        return json.loads(self.said(*words, "--json"))

    def requests(self, *words: object) -> dict[str, int]:
        """How many requests of which client, model, endpoint or day."""
        return {each["key"]: each["usage"]["requests"] for each in self.document(*words)["groups"]}

    def refused(self, code: int, *words: object) -> str:
        result = typed("usage", *words)
        self.assertEqual((result.exit_code, result.stdout), (code, ""), result.output)
        return " ".join(result.stderr.split())


class ShownTests(UsageCase):
    def test_table(self) -> None:
        """People see a table of the last 30 days by client, with a total."""
        lines = self.said().splitlines()
        self.assertEqual(
            lines[2].split(), ["CLIENT", "REQUESTS", "ERRORS", "INPUT", "CACHED", "OUTPUT", "REASONING", "COST", "$"]
        )
        self.assertEqual(lines[3].split(), ["alice", "2", "0", "200", "40", "100", "20", "0.0020"])
        self.assertEqual(lines[-1].split()[:2], ["total", "3"])

    def test_by(self) -> None:
        """The same exchanges are counted by client, model, endpoint or day."""
        self.assertEqual(self.requests("--by", "client"), {"alice": 2, "bob": 1})
        self.assertEqual(self.requests("--by", "model"), {"gpt-5": 2, "gpt-5-mini": 1})
        self.assertEqual(self.requests("--by", "endpoint"), {"chat/completions": 2, "embeddings": 1})
        self.assertEqual(sorted(self.requests("--by", "day").values()), [1, 2])

    def test_chosen(self) -> None:
        """Time and client limit what is counted."""
        self.assertEqual(self.requests("--since", "60d"), {"alice": 3, "bob": 1})
        self.assertEqual(self.requests("--since", "2020-01-01", "--until", "8d"), {"alice": 2})
        self.assertEqual(self.requests("--client", "bob"), {"bob": 1})
        self.assertEqual(self.requests("--client", "nobody"), {})
        self.assertEqual(self.document("--timezone", "Asia/Tokyo")["since"][-6:], "+09:00")

    def test_the_time_that_is_told(self) -> None:
        """The time in the answer is the one that counted: a quarter of an hour, rounded down."""
        document = self.document("--since", "2026-11-01T10:44", "--until", "2026-11-01T11:14")
        self.assertEqual((document["since"], document["until"]), ("2026-11-01T10:30:00Z", "2026-11-01T11:00:00Z"))
        self.assertEqual(self.document("--until", "2030-11-01")["until"], "2030-11-02T00:00:00Z")

    def test_csv(self) -> None:
        """Spreadsheets get a line for each, without a total."""
        lines = self.said("--csv").splitlines()
        self.assertEqual([line.partition(",")[0] for line in lines], ["client", "alice", "bob"])

    def test_json(self) -> None:
        """Programs get all sums and what they are of."""
        document = self.document()
        self.assertEqual(set(document), {"by", "since", "until", "timezone", "client", "groups", "total"})
        self.assertEqual((document["total"]["cost_usd"], document["total"]["reasoning_tokens"]), (0.003, 30))


class RefusedTests(UsageCase):
    def test_bad_options(self) -> None:
        """Each wrong option is a usage error that says which, and what would do."""
        for words, told in (
            (("--since", "7x"), "--since: '7x' is no point in time; write today"),
            (("--until", "2026-02-30"), "--until: '2026-02-30' is no date that there is"),
            (("--timezone", "Mars"), "--timezone: 'Mars' is no time zone"),
            (("--since", "1d", "--until", "2d"), "--until 2d is not a quarter of an hour later than --since 1d"),
            (("--by", "weather"), "'weather' is not one of 'client', 'model', 'day', 'endpoint'"),
            (("--csv", "--json"), "--csv and --json exclude each other"),
            (("--config", "relay.toml"), "leave out --config, or --database"),
            (("extra",), "unexpected extra argument"),
        ):
            self.assertIn(told, self.refused(2, "--database", self.path, *words))

    def test_no_ledger(self) -> None:
        """A file that is missing, or is something else, is a failure with its name."""
        self.assertIn("no.db does not exist", self.refused(1, "--database", self.directory / "no.db"))
        text = self.directory / "text"
        text.write_text("no database at all" * 100)
        self.assertIn("text is damaged", self.refused(1, "--database", text))
        self.refused(2, "--database", self.directory)

    def test_locked(self) -> None:
        """A ledger in which nothing is committed is not waited for: readers do not mind a writer."""
        self.database.connection.execute("BEGIN IMMEDIATE")
        self.assertEqual(self.requests(), {"alice": 2, "bob": 1})


class ConfigurationTests(UsageCase):
    def configuration(self, text: str) -> Path:
        file = self.directory / "relay.toml"
        file.write_text(text)
        return file

    def test_named_by_the_configuration(self) -> None:
        """The configuration's ledger is read, relative to it, without looking for its secrets."""
        file = self.configuration('[listen]\nkey = "env:MISSING"\n[ledger]\ndatabase = "ledger.sqlite3"\n')
        result = typed("usage", "--config", file, "--json")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(json.loads(result.stdout)["total"]["requests"], 3)

    def test_not_named(self) -> None:
        """A configuration that is missing, is not TOML or names no ledger is told apart."""
        self.assertIn("no.toml does not exist", self.refused(1, "--config", self.directory / "no.toml"))
        for text in ("", "[ledger]\n", "ledger = 3\n", "[ledger]\ndatabase = 3\n", '[ledger]\ndatabase = ""\n'):
            said = self.refused(78, "--config", self.configuration(text))
            self.assertIn('ledger.database names no file: write database = "ledger.sqlite3" under [ledger]', said)
        self.assertIn("check-config", self.refused(78, "--config", self.configuration("[ledger\n")))
