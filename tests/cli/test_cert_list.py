"""Listing certificates: state, end, and when each was last seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from openai_relay.authority.directory import Authority, utc_now
from openai_relay.ledger.database import Database
from tests.authority.directories import SetClock
from tests.cli.commands import CommandCase, typed
from tests.cli.test_cert import FIELDS
from tests.ledger.rows import NOW_MS, row

HOUR_MS = 3_600_000
NOW = datetime.fromtimestamp(NOW_MS / 1_000, UTC)


class ListTests(CommandCase):
    def test_empty(self) -> None:
        """Where nothing was issued yet, the way to the first certificate is told; programs get an empty list."""
        self.assertIn("`openai-relay cert issue NAME`", self.succeed("cert", "list"))
        self.assertEqual(self.document("cert", "list"), {"certificates": [], "ledger": None, "seen_since": None})

    def test_table(self) -> None:
        """People see name, kind, serial, state, end and days left, each in its column."""
        alice = self.authority.issue_client("alice", days=10).issued
        self.authority.issue_server(["relay.example.org"])
        self.authority.revoke("relay.example.org")
        titles, first, second = self.succeed("cert", "list").splitlines()
        self.assertEqual(titles.split(), ["NAME", "KIND", "SERIAL", "STATE", "EXPIRES", "DAYS", "LEFT", "SOON"])
        self.assertEqual(first.split(), ["alice", "client", alice.serial, "valid", f"{alice.not_after:%Y-%m-%d}", "9"])
        self.assertEqual(second.split()[0], "relay.example.org")
        self.assertEqual((second.split()[3], second.split()[5]), ("revoked", "-"))
        self.assertEqual(titles.index("STATE"), first.index("valid"))
        self.assertNotIn("\x1b", first)

    def test_expired(self) -> None:
        """What has ended is said to be expired."""
        clock = SetClock(utc_now() - timedelta(days=500))
        past = Authority.create(self.file("past"), days=1_000, clock=clock)
        past.issue_client("old", days=10)
        self.directory = past.directory
        (document,) = self.document("cert", "list")["certificates"]
        self.assertEqual((document["state"], document["days_left"]), ("expired", -491))
        self.assertIn(" expired ", self.succeed("cert", "list"))

    def test_json(self) -> None:
        """Programs get every field of every certificate."""
        self.authority.issue_client("alice")
        self.authority.issue_client("bob")
        certificates = self.document("cert", "list")["certificates"]
        self.assertEqual([each["name"] for each in certificates], ["alice", "bob"])
        self.assertEqual({frozenset(each) for each in certificates}, {frozenset(FIELDS | {"last_seen"})})
        self.assertIsNone(certificates[0]["revoked_at"])

    def test_damaged_index(self) -> None:
        """A damaged list is an error with the line."""
        self.file("index.jsonl").write_text("{}\n")
        self.assertIn("Line 1 of the list of issued certificates", self.fail_with(1, "cert", "list"))

    def test_soon(self) -> None:
        """What ends soon is marked, counted, and the way on is told."""
        clock = SetClock(utc_now() - timedelta(days=8))
        past = Authority.create(self.file("past"), clock=clock)
        past.issue_client("short", days=10)
        past.issue_client("long", days=100)
        self.directory = past.directory
        titles, short, long, _, told = self.succeed("cert", "list").splitlines()
        self.assertEqual(short[titles.index("SOON") :], "soon")
        self.assertEqual((short.split()[0], long.split()[-1]), ("short", "91"))
        self.assertEqual(told, "1 certificate ends soon: `openai-relay cert renew NAME` makes the next one.")

    def test_sorted(self) -> None:
        """What is in force comes first, what ends first at its top; or it is sorted as asked."""
        for name, days in (("carol", 30), ("bob", 10), ("alice", 20), ("dave", 5)):
            self.authority.issue_client(name, days=days)
        self.authority.revoke("dave")
        for words, expected in (
            ((), ["bob", "alice", "carol", "dave"]),
            (("--sort", "name"), ["alice", "bob", "carol", "dave"]),
            (("--sort", "issued"), ["carol", "bob", "alice", "dave"]),
        ):
            certificates = self.document("cert", "list", *words)["certificates"]
            self.assertEqual([each["name"] for each in certificates], expected)
        self.assertIn("expiry", self.fail_with(2, "cert", "list", "--sort", "whim"))


class LastSeenTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.authority.issue_client("alice").issued
        self.bob = self.authority.issue_client("bob").issued

    def ledger(self, path: Path) -> Path:
        """A ledger in which alice has been seen twice."""
        database = Database(path)
        database.append([row(1, fingerprint="ab" * 32, ended_ms=NOW_MS - HOUR_MS)])
        database.append([row(n, fingerprint=self.alice.fingerprint, ended_ms=NOW_MS - n) for n in (2_000, 3)])
        database.close()
        return path

    def test_found(self) -> None:
        """The ledger that the relay.toml here names tells when each certificate was last seen, and how far it goes."""
        self.ledger(self.file("usage.sqlite3"))
        self.file("relay.toml").write_text('[ledger]\ndatabase = "usage.sqlite3"\n')
        titles, *lines = self.succeed("cert", "list").splitlines()
        at = titles.index("LAST SEEN")
        self.assertEqual(
            {line.split()[0]: line[at:] for line in lines[:2]}, {"alice": f"{NOW:%Y-%m-%d %H:%M}", "bob": "-"}
        )
        self.assertIn(f"usage.sqlite3, which goes back to {NOW - timedelta(hours=1):%Y-%m-%d %H:%M} UTC.", lines[-1])

    def test_named(self) -> None:
        """A ledger can be named; programs get the times, and null for who was not seen."""
        path = self.ledger(self.file("x.sqlite3"))
        document = self.document("cert", "list", "--database", path, "--sort", "seen")
        self.assertEqual(document["ledger"], str(path))
        self.assertEqual([each["name"] for each in document["certificates"]], ["alice", "bob"])
        alice, bob = document["certificates"]
        self.assertEqual(datetime.fromisoformat(alice["last_seen"]), NOW - timedelta(milliseconds=3))
        self.assertIsNone(bob["last_seen"])
        self.assertEqual(datetime.fromisoformat(document["seen_since"]), NOW - timedelta(hours=1))

    def test_no_ledger(self) -> None:
        """Without a ledger, or with a configuration that is none, the list is what it was."""
        toml = self.file("relay.toml")
        for text in (
            "",
            "[ledger]\n",
            '[ledger]\ndatabase = "no.sqlite3"\n',
            "[ledger]\ndatabase = 3\n",
            "ledger = 3",
            "[",
        ):
            toml.write_text(text)
            self.assertNotIn("LAST SEEN", self.succeed("cert", "list"))

    def test_empty_ledger(self) -> None:
        """A ledger in which nothing stands yet is said to be empty."""
        Database(self.file("x.sqlite3")).close()
        self.assertIn("x.sqlite3, which is empty.", self.succeed("cert", "list", "--database", self.file("x.sqlite3")))

    def test_damaged(self) -> None:
        """A ledger that cannot be read is a failure where it was named, and a remark where it was only found."""
        self.file("x.sqlite3").write_bytes(b"SQLite format 3\0" + b"x" * 2_000)
        self.assertIn("x.sqlite3", self.fail_with(1, "cert", "list", "--database", self.file("x.sqlite3")))
        self.assertIn("does not exist", self.fail_with(1, "cert", "list", "--database", self.file("no.sqlite3")))
        self.file("relay.toml").write_text('[ledger]\ndatabase = "x.sqlite3"\n')
        result = typed("cert", "list", "--dir", self.directory)
        self.assertEqual(result.exit_code, 0)
        self.assertIn("alice", result.stdout)
        self.assertIn("When certificates were last seen is not known: ", result.stderr)
