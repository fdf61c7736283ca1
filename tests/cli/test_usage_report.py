"""How usage is told, to people and to programs."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, datetime

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.cli.usage_report import WIDTH, Asked, comma_separated, document, lines
from openai_relay.core.usage import Usage
from openai_relay.ledger.reading import By, Group, Totals

SMALL = Totals(12, 1, 0, 0, 0, 45_600, 10, 20, Usage(1_000, 0, 0, 500, 0, 0))
LARGE = Totals(1_234_567, 890, 3, 2, 1, 987_654_321_000, 10, 20, Usage(2_345_678_901, 1_234_567, 5, 345_678_901, 9, 7))


def asked(by: By = "client", client: str | None = None) -> Asked:
    return Asked(by, datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 23, 18, 28, tzinfo=UTC), client, "UTC")


class TableTests(SynchronousTestCase):
    def test_a_table(self) -> None:
        """A heading, a line for each, the dearest first, and the total below: numbers aligned, in groups of three."""
        self.assertEqual(
            list(lines(asked(), [Group("alice", SMALL), Group("bob", replace(SMALL, requests=1_234, errors=0))]))[:2],
            ["Usage from 2026-11-01 00:00 to 2026-11-23 18:28 (UTC)", ""],
        )
        said = list(lines(asked(), [Group("alice", SMALL), Group("", replace(SMALL, cost_micro_usd=1_000_000))]))
        self.assertEqual(
            said[2:],
            [
                "CLIENT            REQUESTS  ERRORS  INPUT  OUTPUT  COST $",
                "(no certificate)        12       1  1,000     500  1.0000",
                "alice                   12       1  1,000     500  0.0456",
                "---------------------------------------------------------",
                "total                   24       2  2,000   1,000  1.0456",
            ],
        )

    def test_days_stay_in_order(self) -> None:
        """Days are in their own order, whatever they cost."""
        said = list(lines(asked("day"), [Group("2026-11-01", SMALL), Group("2026-11-02", LARGE)]))
        self.assertEqual([line.split()[0] for line in said[3:5]], ["2026-11-01", "2026-11-02"])

    def test_fits(self) -> None:
        """Long names and large numbers fit into 100 columns, and controls in names are escaped."""
        groups = [Group("n" * 256, LARGE), Group("a\x1b[2J", SMALL), Group("b", replace(LARGE, cost_micro_usd=10**15))]
        said = list(lines(asked(), groups))
        self.assertLessEqual(max(map(len, said)), WIDTH)
        self.assertIn("a\\x1b[2J", "".join(said))
        self.assertIn("n…", "".join(said))
        huge = replace(LARGE, usage=Usage(10**12, 10**11, 0, 10**11, 10**10))
        said = list(lines(asked(), [Group("n" * 256, huge)]))
        self.assertIn("INPUT k", said[2])
        self.assertLessEqual(max(map(len, said)), WIDTH)

    def test_notes(self) -> None:
        """What is estimated or has no price of its own is said below, and only then."""
        said = list(lines(asked(), [Group("alice", LARGE)]))
        self.assertEqual(
            said[-4:],
            [
                "",
                "3 requests have estimated tokens: the upstream told none.",
                "2 requests have no price: counted as costing 0.",
                "1 request has the fallback price: the model is not in the table.",
            ],
        )
        self.assertNotIn("", list(lines(asked(), [Group("alice", SMALL)]))[2:])

    def test_nothing(self) -> None:
        """Where nothing was used, that is said, with the time that was looked at and the client."""
        self.assertEqual(
            list(lines(asked(client="bob"), [])),
            ["Usage of bob from 2026-11-01 00:00 to 2026-11-23 18:28 (UTC)", "", "Nothing was used in that time."],
        )


class ProgramTests(SynchronousTestCase):
    def test_document(self) -> None:
        """A program gets what was asked, every number of each group, and their sum."""
        made = document(asked("model"), [Group("", SMALL), Group("gpt-5", LARGE)])
        self.assertEqual([group.key for group in made.groups], [None, "gpt-5"])
        self.assertEqual((made.total.requests, made.total.input_audio_tokens), (1_234_579, 5))
        self.assertEqual(made.groups[0].usage.cost_usd, 0.0456)

    def test_csv(self) -> None:
        """CSV has a line of titles and plain numbers; a name that a spreadsheet would calculate is quoted."""
        said = list(
            csv.DictReader(comma_separated("model", [Group("=1+1", SMALL), Group('a,"b"', LARGE)]).splitlines())
        )
        self.assertEqual([line["model"] for line in said], ["'=1+1", 'a,"b"'])
        self.assertEqual((said[1]["requests"], said[1]["cost_usd"]), ("1234567", "987654.321000"))
        self.assertEqual(said[0]["output_tokens"], "500")
