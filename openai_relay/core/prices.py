"""
Decide what an exchange cost, in whole micro-dollars, out of its usage and a table of prices.

Prices are kept as whole micro-dollars for a million tokens, for an image and
for a minute, so every cost is exact until the end; it is then rounded up, once
for each exchange, to a whole micro-dollar.  A sum of costs is therefore never
below what was used, and above it by less than a micro-dollar an exchange.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from decimal import Decimal
from typing import Final

from openai_relay.core.globs import GlobTable
from openai_relay.core.usage import Usage

_MILLION: Final = 1_000_000
_MS_PER_MINUTE: Final = 60_000
#: A price above this (dollars) is a slip of the pen, such as one for a million tokens in cents.
_HIGHEST: Final = 100_000
_REMEMBERED: Final = 1_000


class BadPrices(ValueError):
    """A table of prices cannot be used; one line for each thing to put right, naming table and key."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Price:
    """
    What one model costs, in micro-dollars: for a million tokens of each kind, for an image, for a minute of audio.

    ``None`` is what the kind is part of costs: cached and audio input as
    input, reasoning and audio output as output.
    """

    input: int = 0
    cached_input: int | None = None
    audio_input: int | None = None
    output: int = 0
    reasoning: int | None = None
    audio_output: int | None = None
    per_image: int = 0
    per_minute: int = 0

    def cost(self, usage: Usage, images: int = 0, audio_ms: int = 0) -> int:
        """What this usage costs, rounded up to a whole micro-dollar."""
        of_input, of_output = usage.input_tokens * self.input, usage.output_tokens * self.output
        if usage.cached_tokens:
            of_input += _extra(min(usage.cached_tokens, usage.input_tokens), self.cached_input, self.input)
        if usage.input_audio_tokens:
            of_input += _extra(usage.input_audio_tokens, self.audio_input, self.input)
        if usage.reasoning_tokens:
            of_output += _extra(min(usage.reasoning_tokens, usage.output_tokens), self.reasoning, self.output)
        if usage.output_audio_tokens:
            of_output += _extra(usage.output_audio_tokens, self.audio_output, self.output)
        exact = (max(of_input, 0) + max(of_output, 0)) * _MS_PER_MINUTE
        exact += images * self.per_image * _MILLION * _MS_PER_MINUTE + audio_ms * self.per_minute * _MILLION
        return -(-exact // (_MILLION * _MS_PER_MINUTE))

    def estimate(self, input_tokens: int, output_tokens: int) -> int:
        """The most that so many tokens can cost; audio aside, which costs more than text."""
        return self.cost(Usage(input_tokens=input_tokens, output_tokens=output_tokens))


def _extra(part: int, price_of_part: int | None, price: int) -> int:
    return 0 if price_of_part is None else part * (price_of_part - price)


@dataclass(frozen=True, slots=True)
class Quote:
    """The price for one model."""

    price: Price
    known: bool  #: False: the table has no such model, and the fallback price stands in
    pattern: str | None  #: the entry that it was found under


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices by model; of several entries that match, the most specific one counts."""

    as_of: date  #: when they were looked up
    fallback: Price  #: for a model that is not in the table, or not known
    models: GlobTable[Price]

    # Of late: each request asks for one.
    _quotes: dict[str | None, Quote] = field(default_factory=dict, repr=False, compare=False)

    def quote(self, model: str | None) -> Quote:
        """The price for a model."""
        quote = self._quotes.get(model)
        if quote is None:
            found = None if model is None else self.models.find(model)
            quote = Quote(self.fallback, known=False, pattern=None)
            if found is not None:
                quote = Quote(found[1], known=True, pattern=found[0])
            if len(self._quotes) >= _REMEMBERED:  # strangers' names must not fill the memory
                self._quotes.clear()
            self._quotes[model] = quote
        return quote


#: Nothing costs anything, and no model is known.
NO_PRICES: Final = PriceTable(date.min, Price(), GlobTable(()))

#: What a table may say, in dollars, and the field that holds it.
_KEYS: Final = {field.name: field.name for field in fields(Price)} | {"per_second": "per_minute"}
_ALSO: Final = "also"


def read_prices(document: Mapping[str, object]) -> PriceTable:
    """
    A table out of a parsed TOML document: ``as_of``, ``[fallback]`` and ``[models."NAME OR GLOB"]``.

    Prices are dollars, for a million tokens where nothing else is said.  ``also``
    lists further names and globs of the same price.

    :raises BadPrices: with all that is wrong.
    """
    problems: list[str] = []
    for key in sorted(document.keys() - {"as_of", "fallback", "models"}):
        problems.append(f"{_quoted(key)}: is not known; there are as_of, [fallback] and [models.NAME]")
    as_of = document.get("as_of")
    if isinstance(as_of, str):
        try:
            as_of = date.fromisoformat(as_of)
        except ValueError:
            as_of = None
    if type(as_of) is not date:  # a date with a time is one, too
        problems.append('as_of: must be the day of the prices, such as "2026-06-01"')
        as_of = date.min
    fallback = _price("fallback", document.get("fallback"), problems, may_have_also=False)
    models = document.get("models")
    if not isinstance(models, Mapping):
        problems.append("models: is missing; there must be a table [models.NAME] for each model, or an empty [models]")
        models = {}
    entries: dict[str, Price] = {}
    for name, table in models.items():
        where = f"models.{_quoted(str(name))}"
        price = _price(where, table, problems, may_have_also=True)
        for pattern in _names(str(name), where, table, problems):
            if not pattern:
                problems.append(f"{where}: an empty name stands for no model")
            elif pattern in entries:
                problems.append(f"{where}: {_quoted(pattern)} has a price already; keep one of the two")
            else:
                entries[pattern] = price
    if problems:
        raise BadPrices(problems)
    return PriceTable(as_of, fallback, GlobTable(entries.items()))


def _names(name: str, where: str, table: object, problems: list[str]) -> Iterator[str]:
    yield name
    also = table.get(_ALSO, []) if isinstance(table, Mapping) else []
    if isinstance(also, list) and all(isinstance(pattern, str) for pattern in also):
        yield from also
    else:
        problems.append(f'{where}.also: must be a list of names, such as ["gpt-5-20*"]')


def _price(where: str, table: object, problems: list[str], *, may_have_also: bool) -> Price:
    if not isinstance(table, Mapping):
        problems.append(f"{where}: must be a table of prices, such as input = 1.25")
        return Price()
    known = [*_KEYS, *([_ALSO] if may_have_also else [])]
    if "per_second" in table and "per_minute" in table:
        problems.append(f"{where}.per_second: says again what per_minute says; keep one of the two")
    amounts: dict[str, int] = {}
    for key, value in table.items():
        if key not in known:
            problems.append(f"{where}.{_quoted(str(key))}: is not known; there are {', '.join(known)}")
        elif key != _ALSO:
            amount = _micro_dollars(value, 60 if key == "per_second" else 1)
            if amount is None:
                problems.append(
                    f"{where}.{key}: must be dollars from 0 to {_HIGHEST}, with six decimals at most, such as 1.25"
                )
            else:
                amounts[_KEYS[key]] = amount
    if not table.keys() & set(_KEYS):
        problems.append(f"{where}: has no price; set input and output, per_image, per_minute or per_second (0 is free)")
    return Price(**amounts)


def _micro_dollars(value: object, times: int) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _HIGHEST:
        return None
    # As it was written: what a float prints as is the shortest text that means it.
    amount = Decimal(str(value)) * _MILLION * times
    return int(amount) if amount == int(amount) else None


def _quoted(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() and name.isascii() else f'"{ascii(name)[1:-1]}"'
