"""Parse a TOML file, and find the line of each of its keys."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import Any, Final

from openai_relay.config.lines import Key, key_lines
from openai_relay.config.problems import BadConfiguration, Problem

_PLACE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Document:
    """What a file holds, and where."""

    tree: dict[str, Any]
    lines: dict[Key, int]


def parsed(contents: bytes, called: str) -> Document:
    """
    The document in a file.

    :param called: what a person calls the file.
    :raises BadConfiguration: it is no TOML; with the line.
    """
    source = _decoded(contents, called)
    try:
        return Document(tomllib.loads(source), key_lines(source))
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        line = int(place[1]) if place and place[1] else source.count("\n") + 1
        told = _PLACE.sub("", str(error))
    except RecursionError:
        line, told = 1, "Lists or tables are nested too deeply"
    except ValueError:  # tomllib lets int() refuse a number of thousands of digits
        line, told = 1, "A number is too long"
    raise failed(called, line, f"is not TOML: {told}; correct this line or the one before it")


def failed(where: str, line: int | None, told: str) -> BadConfiguration:
    """What is wrong with a file as a whole."""
    return BadConfiguration([Problem(where, None, told, line)])


def _decoded(contents: bytes, called: str) -> str:
    try:
        return contents.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = contents.count(b"\n", 0, error.start) + 1
        raise failed(called, line, "holds bytes that are not UTF-8; save the file as UTF-8") from None
