"""``openai-relay usage``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.config.read import load, load_ledger
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

    def read(self, text: str, *words: object) -> Any:
        result = typed("usage", "--config", self.configuration(text), "--json", *words)
        self.assertEqual(result.exit_code, 0, result.output)
        return json.loads(result.stdout)

    def test_named_by_the_configuration(self) -> None:
        """The configuration's ledger is read, relative to it, without looking for its secrets, files or prices."""
        text = (
            '[listen]\nkey = "env:MISSING"\ncertificate = "no.pem"\n[upstream]\napi_key = "env:MISSING"\n'
            '[accounting]\nprices = "no.toml"\n[ledger]\ndatabase = "ledger.sqlite3"\n'
        )
        self.assertEqual(self.read(text)["total"]["requests"], 3)

    def test_in_the_state(self) -> None:
        """Where the configuration does not name the ledger, it is in the directory of the state."""
        (self.directory / "state").mkdir()
        there = Database(self.directory / "state" / "ledger.sqlite3")
        there.append([row(number, ended_ms=self.now_ms) for number in range(3)])
        there.close()
        self.assertEqual(self.read("")["total"]["requests"], 3)
        (self.directory / "state").rename(self.directory / "elsewhere")
        self.assertEqual(self.read('[state]\ndirectory = "elsewhere"\n')["total"]["requests"], 3)

    def test_the_place_that_the_relay_uses(self) -> None:
        """For any place that can be said, the ledger is the one that the whole configuration gives."""
        for name in ("server.pem", "server.key", "ca.pem"):
            (self.directory / name).write_text("x")
        rest = (
            '[listen]\ncertificate = "server.pem"\nkey = "file:server.key"\nclient_ca = "ca.pem"\n'
            '[upstream]\napi_key = "file:server.key"\n'
        )
        for places in (
            "",
            '[state]\ndirectory = "a/b"\n',
            '[state]\ndirectory = "/var/lib/relay"\n',
            '[state]\ndirectory = ""\n',
            '[state]\ndirectory = ""\n[ledger]\ndatabase = "x.db"\n',
            '[ledger]\ndatabase = "/srv/x.db"\nretention_days = 0\n[accounting]\ntime_zone = "Asia/Tokyo"\n',
        ):
            file = self.configuration(rest + places)
            settings = load(file, {})
            self.assertEqual(load_ledger(file)[0], settings.ledger)
            self.assertEqual(load_ledger(file)[1].time_zone, settings.accounting.time_zone)

    def test_zone_of_the_configuration(self) -> None:
        """Days begin where the configuration says, unless an option says otherwise."""
        text = '[accounting]\ntime_zone = "Asia/Tokyo"\n[ledger]\ndatabase = "ledger.sqlite3"\n'
        self.assertEqual(self.read(text)["timezone"], "Asia/Tokyo")
        self.assertEqual(self.read(text)["since"][-6:], "+09:00")
        self.assertEqual(self.read(text, "--timezone", "UTC")["timezone"], "UTC")

    def test_not_named(self) -> None:
        """A configuration that is missing, is wrong or wants no ledger is told apart."""
        self.assertIn("no.toml does not exist", self.refused(1, "--config", self.directory / "no.toml"))
        for text, told in (
            ("ledger = 3\n", "relay.toml:1: ledger: must be a table, and this is a whole number"),
            ("[ledger]\ndatabase = 3\n", "relay.toml:2: ledger.database: must be text, and this is a whole number"),
            ('[ledger]\ndatabase = ""\n', "relay.toml:2: ledger.database: names no file"),
            ('[accounting]\ntime_zone = "X"\n', 'relay.toml:2: accounting.time_zone: "X" is no time zone'),
            ("[state]\ndirectry = 3\n", 'relay.toml:2: state.directry: is not known; did you mean "directory"?'),
            ("[ledger\n", "relay.toml:1: is not TOML"),
        ):
            self.assertIn(told, self.refused(78, "--config", self.configuration(text)))
        for text, told in (
            ("", "state/ledger.sqlite3 does not exist"),
            ("[ledger]\nenabled = false\n", "relay.toml: ledger.enabled is false, so that the relay keeps no ledger"),
            ('[state]\ndirectory = ""\n', 'relay.toml: there is no ledger, since state.directory is ""'),
        ):
            self.assertIn(told, self.refused(1, "--config", self.configuration(text)))
