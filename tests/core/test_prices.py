"""What exchanges cost, and what is said of a table that cannot be used."""

from __future__ import annotations

import tomllib
from datetime import date
from fractions import Fraction
from importlib import resources

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.prices import BadPrices, Price, PriceTable, read_prices
from openai_relay.core.usage import Usage

counts = st.integers(0, 10_000_000)
prices = st.integers(0, 100_000_000)


def table(text: str) -> PriceTable:
    """The table of a TOML text."""
    return read_prices(tomllib.loads(text))


HEAD = 'as_of = "2026-06-01"\n[fallback]\ninput = 5\noutput = 30\n'


class PriceTests(SynchronousTestCase):
    """``Price``."""

    def test_each_kind_has_its_price(self) -> None:
        """Each kind of token costs what it is set to, and the rest of its direction costs the plain price."""
        price = Price(1_000_000, 100_000, 32_000_000, 8_000_000, 9_000_000, 64_000_000)
        for usage, cost in (
            (Usage(input_tokens=1_000), 1_000),
            (Usage(input_tokens=1_000, cached_tokens=400), 640),
            (Usage(input_tokens=1_000, input_audio_tokens=100), 900 + 3_200),
            (Usage(output_tokens=10), 80),
            (Usage(output_tokens=10, reasoning_tokens=4), 48 + 36),
            (Usage(output_tokens=10, output_audio_tokens=10), 640),
            (Usage(), 0),
        ):
            self.assertEqual(price.cost(usage), cost, usage)

    def test_what_is_not_set_costs_what_it_is_part_of(self) -> None:
        """Without prices of their own, cached and audio input cost as input, reasoning and audio output as output."""
        price = Price(input=1_000_000, output=2_000_000)
        self.assertEqual(price.cost(Usage(100, 50, 20, 10, 5, 3)), 100 + 20)

    def test_images_and_audio(self) -> None:
        """An image costs its price, and audio by the millisecond of its minute's."""
        self.assertEqual(Price(per_image=40_000).cost(Usage(), images=3), 120_000)
        self.assertEqual(Price(per_minute=6_000).cost(Usage(), audio_ms=90_000), 9_000)
        self.assertEqual(Price(per_minute=6_000).cost(Usage(), audio_ms=1), 1)

    @given(counts, counts, prices, prices, st.integers(0, 5), st.integers(0, 10**8), prices, prices)
    def test_rounded_up_once(
        self, entered: int, left: int, price_in: int, price_out: int, images: int, ms: int, each: int, minute: int
    ) -> None:
        """A cost is never below the exact sum, and less than a micro-dollar above it."""
        price = Price(input=price_in, output=price_out, per_image=each, per_minute=minute)
        cost = price.cost(Usage(input_tokens=entered, output_tokens=left), images, ms)
        exact = Fraction(entered * price_in + left * price_out, 10**6) + images * each + Fraction(ms * minute, 60_000)
        self.assertTrue(exact <= cost < exact + 1)

    @given(st.builds(Usage, counts, counts, counts, counts, counts, counts), st.builds(Price, prices, prices, prices))
    def test_never_below_zero(self, usage: Usage, price: Price) -> None:
        """Whatever an upstream tells, parts greater than their whole too, no cost is below zero."""
        self.assertGreaterEqual(price.cost(usage), 0)

    @given(counts, counts)
    def test_estimates_are_costs(self, entered: int, left: int) -> None:
        """An estimate is what so much plain text costs."""
        price = Price(input=3_000_000, cached_input=1, output=7_000_000)
        self.assertEqual(price.estimate(entered, left), 3 * entered + 7 * left)


class ReadPricesTests(SynchronousTestCase):
    """``read_prices``."""

    def problems(self, text: str) -> tuple[str, ...]:
        """What is wrong with a text."""
        refusal: BadPrices = self.assertRaises(BadPrices, table, text)
        return refusal.problems

    def test_a_table(self) -> None:
        """Dollars become micro-dollars, exactly; a day may be written as text or as a date of TOML."""
        read = table(
            HEAD + '[models."m*"]\nalso = ["n"]\ninput = 0.075\ncached_input = 0.000001\n[models.v]\nper_second = 0.1\n'
        )
        self.assertEqual(read.as_of, date(2026, 6, 1))
        self.assertEqual(read.fallback, Price(input=5_000_000, output=30_000_000))
        for model, price, pattern in (
            ("m-1", Price(input=75_000, cached_input=1), "m*"),
            ("n", Price(input=75_000, cached_input=1), "n"),
            ("v", Price(per_minute=6_000_000), "v"),
        ):
            quote = read.quote(model)
            self.assertEqual((quote.price, quote.known, quote.pattern), (price, True, pattern))
        self.assertEqual(table(HEAD.replace('"', "") + "[models]\n").as_of, read.as_of)

    def test_unknown_models(self) -> None:
        """A model that is not in the table, or not known at all, has the fallback price and is marked."""
        read = table(HEAD + "[models.m]\ninput = 1\n")
        for model in ("mm", "", None):
            quote = read.quote(model)
            self.assertEqual((quote.price, quote.known, quote.pattern), (read.fallback, False, None))

    def test_every_problem_is_named(self) -> None:
        """All that is wrong is told at once, with table and key, and what to write instead."""
        self.assertEqual(
            self.problems(
                'as_of = "soon"\ncolour = 1\n[fallback]\n[models.a]\ninput = -1\noutput = "2"\ncached = 1\nalso = 3\n'
                '[models."b c"]\nper_minute = 1\nper_second = 0.00000001\n'
                '[models.d]\ninput = true\nalso = ["a", ""]\n'
            ),
            (
                "colour: is not known; there are as_of, [fallback] and [models.NAME]",
                'as_of: must be the day of the prices, such as "2026-06-01"',
                "fallback: has no price; set input and output, per_image, per_minute or per_second (0 is free)",
                "models.a.input: must be dollars from 0 to 100000, with six decimals at most, such as 1.25",
                "models.a.output: must be dollars from 0 to 100000, with six decimals at most, such as 1.25",
                "models.a.cached: is not known; there are input, cached_input, audio_input, output, reasoning, "
                "audio_output, per_image, per_minute, per_second, also",
                'models.a.also: must be a list of names, such as ["gpt-5-20*"]',
                'models."b c".per_second: says again what per_minute says; keep one of the two',
                'models."b c".per_second: must be dollars from 0 to 100000, with six decimals at most, such as 1.25',
                "models.d.input: must be dollars from 0 to 100000, with six decimals at most, such as 1.25",
                "models.d: a has a price already; keep one of the two",
                "models.d: an empty name stands for no model",
            ),
        )

    def test_what_is_no_table(self) -> None:
        """Missing tables, and values where tables belong, are told as such."""
        self.assertEqual(
            self.problems("as_of = 2026-06-01T10:00:00\n"),
            (
                'as_of: must be the day of the prices, such as "2026-06-01"',
                "fallback: must be a table of prices, such as input = 1.25",
                "models: is missing; there must be a table [models.NAME] for each model, or an empty [models]",
            ),
        )
        self.assertEqual(
            self.problems(HEAD + "[models]\na = 5\n"),
            ("models.a: must be a table of prices, such as input = 1.25",),
        )

    def test_numbers_that_are_none(self) -> None:
        """Infinity, nan and a price in the wrong unit are refused as prices."""
        for value in ("inf", "nan", "1e9", "1.2345678"):
            self.assertEqual(len(self.problems(HEAD + f"[models.a]\ninput = {value}\n")), 1)

    def test_the_fallback_is_for_no_name(self) -> None:
        """The fallback has no further names."""
        self.assertIn("fallback.also: is not known", self.problems('[fallback]\ninput = 1\nalso = ["a"]\n')[1])


class ShippedTableTests(SynchronousTestCase):
    """``prices.toml``."""

    def setUp(self) -> None:
        text = (resources.files("openai_relay.core") / "prices.toml").read_text()
        self.text = text
        self.table = table(text)

    def test_it_can_be_used(self) -> None:
        """The table that is shipped is read, is dated, and says that it must be checked."""
        self.assertGreater(self.table.as_of, date(2025, 1, 1))
        self.assertIn("CHECK IT AGAINST YOUR OWN BILL", self.text)

    def test_models_fall_under_their_own_entries(self) -> None:
        """Dated names cost what their model costs, smaller and larger ones of a family what they cost."""
        for model, price_in, price_out in (
            ("gpt-5", 1_250_000, 10_000_000),
            ("gpt-5-2025-08-07", 1_250_000, 10_000_000),
            ("gpt-5-mini-2025-08-07", 250_000, 2_000_000),
            ("gpt-4o-mini", 150_000, 600_000),
            ("gpt-4o-2024-05-13", 5_000_000, 15_000_000),
            ("text-embedding-3-small", 20_000, 0),
            ("omni-moderation-latest", 0, 0),
        ):
            quote = self.table.quote(model)
            self.assertEqual((quote.known, quote.price.input, quote.price.output), (True, price_in, price_out), model)

    def test_what_it_does_not_know_is_marked(self) -> None:
        """A model that came later is not taken for one of its family, but marked and counted dearly."""
        for model in ("gpt-5-ultra", "gpt-6", "llama-3"):
            quote = self.table.quote(model)
            self.assertFalse(quote.known, model)
            self.assertGreaterEqual(quote.price.output, 10_000_000)
