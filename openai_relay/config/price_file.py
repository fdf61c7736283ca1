"""Read a table of prices; what is wrong in it is said with its own file and line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from openai_relay.config.documents import parsed
from openai_relay.config.lines import Key
from openai_relay.config.problems import BadConfiguration, Problem, Wrongs, printable
from openai_relay.config.sources import read_file
from openai_relay.core.prices import BadPrices, PriceTable, read_prices

#: How a message of the price table begins: the dotted way to a key, then a colon.
_PLACE: Final = re.compile(r'((?:[A-Za-z0-9_-]+|"[^"]*")(?:\.(?:[A-Za-z0-9_-]+|"[^"]*"))*): ')
_PART: Final = re.compile(r'[A-Za-z0-9_-]+|"[^"]*"')


def shipped_prices() -> PriceTable:
    """The dated default that comes with the relay."""
    return read_prices(tomllib.loads((resources.files("openai_relay.core") / "prices.toml").read_text("utf-8")))


def price_file(path: Path) -> PriceTable:
    """
    The prices in a file.

    :raises Wrong: the file cannot be read.
    :raises Wrongs: it can, and what is in it is wrong.
    """
    called = printable(str(path))
    try:
        document = parsed(read_file(path), called)
    except BadConfiguration as bad:
        raise Wrongs(((), problem) for problem in bad.problems) from None
    try:
        return read_prices(document.tree)
    except BadPrices as bad:
        raise Wrongs(((), _placed(told, called, document.lines)) for told in bad.problems) from None


def _placed(told: str, called: str, lines: Mapping[Key, int]) -> Problem:
    place = _PLACE.match(told)
    if place is None:
        return Problem(called, None, told, 1)
    way = tuple(_unquoted(part) for part in _PART.findall(place[1]))
    line = next((lines[way[:end]] for end in range(len(way), 0, -1) if way[:end] in lines), 1)
    return Problem(called, place[1], told[place.end() :], line)


def _unquoted(part: str) -> str:
    """A name as the file holds it, out of the ASCII that messages show."""
    return part[1:-1].encode("ascii").decode("unicode_escape") if part.startswith('"') else part
