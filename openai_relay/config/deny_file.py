"""Read deny lists: the one in the configuration, and one in a file of its own, a line for each entry."""

from __future__ import annotations

from pathlib import Path

from openai_relay.config.problems import Problem, Wrong, Wrongs, printable, shown, shown_path
from openai_relay.config.sources import read_file
from openai_relay.config.values import each, text, type_name
from openai_relay.core.deny import BadEntry, DenyFile, DenyList, deny_list, entries_of


def denied(value: object) -> DenyList:
    """A rule: a list of entries."""
    if not isinstance(value, list):
        raise Wrong(f'must be a list, and this is {type_name(value)}; write for example ["name:phone"]')
    return deny_list(str(entry) for entry in each(_entry, enumerate(value)).values())


def deny_file(path: Path) -> DenyFile:
    """
    The entries of a file.

    :raises Wrong: it cannot be read.
    :raises Wrongs: it can, and what is in it is wrong; each with its line.
    """
    try:
        lines = list(entries_of(read_file(path).decode("utf-8")))
    except UnicodeDecodeError:
        raise Wrong(f"{shown_path(path)} is no text in UTF-8; write one entry to a line") from None
    problems = []
    for number, entry in lines:
        try:
            deny_list([entry])
        except BadEntry as bad:
            problems.append(Problem(printable(str(path)), None, f"{shown(entry)} {bad}", number))
    if problems:
        raise Wrongs(((), problem) for problem in problems)
    return DenyFile(path, deny_list(entry for _, entry in lines))


def _entry(value: object) -> str:
    entry = text(value)
    try:
        deny_list([entry])
    except BadEntry as bad:
        raise Wrong(f"{shown(entry)} {bad}") from None
    return entry
