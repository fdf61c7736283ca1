"""Tables of prices: the one that is shipped, and those that people write."""

from __future__ import annotations

from datetime import date

from openai_relay.config.price_file import price_file, shipped_prices
from openai_relay.config.problems import Wrong, Wrongs
from tests.config.case import PRICES, ConfigurationCase


class PriceFileTests(ConfigurationCase):
    def said(self, text: bytes) -> list[str]:
        """What is said of a table of prices."""
        path = self.directory / "prices.toml"
        path.write_bytes(text)
        wrongs = self.assertRaises(Wrongs, price_file, path)
        return [str(told).replace(str(path), "FILE") for _, told in wrongs.findings]

    def test_shipped(self) -> None:
        """The table that is shipped has a date, and prices for current models."""
        prices = shipped_prices()
        self.assertGreater(prices.as_of, date(2026, 1, 1))
        self.assertTrue(prices.quote("gpt-5.5").known)

    def test_read(self) -> None:
        """A file becomes a table of prices."""
        path = self.directory / "prices.toml"
        path.write_text(PRICES)
        self.assertEqual(price_file(path).quote("m").price.input, 2_000_000)

    def test_wrong(self) -> None:
        """Each thing that is wrong is told with its line, however the model is called."""
        text = PRICES + '[models."a.b*"]\ninput = -1\n\n[models."g\u00fc"]\ninputs = 1\nalso = 3\n[x]\n'
        said = self.said(text.encode())
        for beginning in (
            'FILE:7: models."a.b*".input: must be dollars from 0 to 100000',
            'FILE:9: models."g\\xfc": has no price',
            'FILE:10: models."g\\xfc".inputs: is not known; there are input,',
            'FILE:11: models."g\\xfc".also: must be a list of names',
            "FILE:12: x: is not known; there are as_of,",
        ):
            self.assertEqual(len([told for told in said if told.startswith(beginning)]), 1, (beginning, said))
        self.assertEqual(len(said), 5)

    def test_missing_parts(self) -> None:
        """What is not there at all is told at the first line."""
        self.assertEqual(
            [told.split(" ")[:2] for told in self.said(b"\n")],
            [["FILE:1:", "as_of:"], ["FILE:1:", "fallback:"], ["FILE:1:", "models:"]],
        )

    def test_no_toml(self) -> None:
        """A file that is no TOML is told with the line, and one that is not there as such."""
        self.assertTrue(self.said(b"\n[models\n")[0].startswith("FILE:2: is not TOML: "))
        self.assertRaises(Wrong, price_file, self.directory / "none.toml")
