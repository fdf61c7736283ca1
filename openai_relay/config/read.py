"""
Read a configuration from a TOML file, from command-line options, or from both.

Nothing here is global: the environment and the current directory are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from openai_relay.config.documents import failed, parsed
from openai_relay.config.lines import Key
from openai_relay.config.problems import BadConfiguration, Problem, Wrong, Wrongs, printable, shown
from openai_relay.config.shape import dotted, ledger_of, shape
from openai_relay.config.sources import Sources, read_file
from openai_relay.config.tables import MISSING
from openai_relay.core.settings import AccountingSettings, LedgerSettings, Settings

#: Where the API key is looked for when there is no file and no option says so.
DEFAULT_API_KEY: Final = "env:OPENAI_API_KEY"
#: Where a relay with a file keeps its state, beside that file; one without keeps none.
DEFAULT_STATE: Final = "state"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The options as they were typed; ``None``: not given."""

    config: str | None = None
    listen: str | None = None
    certificate: str | None = None
    key: str | None = None
    client_ca: str | None = None
    crl: str | None = None
    upstream: str | None = None
    upstream_ca: str | None = None
    api_key_from: str | None = None
    requests_per_minute: str | None = None
    burst: str | None = None


#: The option for each field of ``CommandLine``, and the key that it sets.
OPTIONS: Final[Mapping[str, tuple[str, tuple[str, str]]]] = {
    "listen": ("--listen", ("listen", "address")),
    "certificate": ("--certificate", ("listen", "certificate")),
    "key": ("--key", ("listen", "key")),
    "client_ca": ("--client-ca", ("listen", "client_ca")),
    "crl": ("--crl", ("listen", "crl")),
    "upstream": ("--upstream", ("upstream", "url")),
    "upstream_ca": ("--upstream-ca", ("upstream", "ca")),
    "api_key_from": ("--api-key-from", ("upstream", "api_key")),
    "requests_per_minute": ("--requests-per-minute", ("limits", "requests_per_minute")),
    "burst": ("--burst", ("limits", "burst")),
}
#: Keys of ``listen`` whose files are watched, beside that of the key.
_WATCHED: Final = ("certificate", "client_ca", "crl", "deny_file")
_PATHS: Final = ("certificate", "client_ca", "crl", "upstream_ca")


def load(path: Path, environment: Mapping[str, str]) -> Settings:
    """
    The settings that a TOML file describes; its relative paths start at its own directory.

    :raises BadConfiguration: with everything that is wrong.
    """
    return _read(path).settings(environment)


def load_ledger(path: Path) -> tuple[LedgerSettings, AccountingSettings]:
    """
    Where ``load`` finds the ledger to be, and when its days begin; the prices are left out.

    Nothing else is looked at: whoever reads a ledger need not have the secrets and files that the rest refers to.

    :raises BadConfiguration: with everything that is wrong with these tables.
    """
    draft = _read(path)
    try:
        return ledger_of(draft.tree, Sources(draft.directory, {}))
    except Wrongs as wrongs:
        raise BadConfiguration(draft.problem(way, told) for way, told in wrongs.findings) from None


def written(given: CommandLine, environment: Mapping[str, str], directory: Path) -> Written:
    """
    The configuration of the command line and its ``--config``, as it is written now.

    :param directory: where the relative paths of the options start.
    :raises BadConfiguration: the file cannot be read, or is no TOML.
    """
    return Written(_draft(given, directory), environment)


@dataclass(frozen=True, slots=True)
class Written:
    """A configuration as it was written, from which settings can be made again and again."""

    _draft: _Draft
    _environment: Mapping[str, str]

    def settings(self) -> Settings:
        """
        What it comes to, with what the files and variables that it names hold now.

        :raises BadConfiguration: with everything that is wrong, by option or by line of the file.
        """
        return self._draft.settings(self._environment)

    def watched(self) -> tuple[Path, ...]:
        """The files of certificates that it names, and those that say who is revoked or denied."""
        return self._draft.watched()


def placed(bad: BadConfiguration, given: CommandLine, directory: Path) -> BadConfiguration:
    """
    Give each problem that names only its key the option, or the file and line, where that key is set.

    For what is found after the settings were read: what is wrong inside a file that they name.
    """
    try:
        draft = _draft(given, directory)
    except BadConfiguration:  # the file has changed in the meantime
        return bad
    return BadConfiguration(
        draft.problem(tuple(problem.key.split(".")), problem.told) if problem.key and not problem.where else problem
        for problem in bad.problems
    )


def _draft(given: CommandLine, directory: Path) -> _Draft:
    if given.config is None:
        draft = _Draft(directory, tree={"upstream": {"api_key": DEFAULT_API_KEY}})
    else:
        draft = _read(directory / given.config, given.config)
    draft.override(given, directory)
    return draft


def _read(path: Path, name: str | None = None) -> _Draft:
    """Read and parse one file; ``name`` is what a person calls it."""
    called = printable(name or str(path))
    try:
        contents = read_file(path)
    except Wrong as wrong:
        raise failed(called, None, f"{wrong} (`openai-relay init` makes a commented relay.toml)") from None
    document = parsed(contents, called)
    draft = _Draft(path.absolute().parent, document.tree, called, document.lines)
    if isinstance(draft.tree.setdefault("state", {}), dict):
        draft.tree["state"].setdefault("directory", DEFAULT_STATE)
    return draft


@dataclass(slots=True)
class _Draft:
    """A document on its way to settings, and where each of its keys comes from."""

    directory: Path
    tree: dict[str, Any] = field(default_factory=dict)
    called: str | None = None  #: the file's name; ``None``: there is none
    lines: dict[Key, int] = field(default_factory=dict)
    by_option: dict[Key, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def override(self, given: CommandLine, directory: Path) -> None:
        """Put the options over the file's values."""
        for name, (option, way) in OPTIONS.items():
            typed = getattr(given, name)
            if typed is None:
                continue
            self.by_option[way] = option
            try:
                value = _value(name, typed, directory)
            except Wrong as wrong:
                self.problems.append(Problem(option, None, str(wrong), in_file=False))
                value = 1  # stands for the number to be, so that the rest is checked too
            table, key = way
            if isinstance(self.tree.setdefault(table, {}), dict):
                self.tree[table][key] = value

    def settings(self, environment: Mapping[str, str]) -> Settings:
        self.tree.setdefault("listen", {})  # its keys are what is missing, not the table
        settings, findings = shape(self.tree, Sources(self.directory, environment))
        findings.sort(key=lambda finding: isinstance(finding[1], Problem))  # this file's own first
        problems = [*self.problems, *(self.problem(way, told) for way, told in findings)]
        if settings is None or problems:
            raise BadConfiguration(problems)
        return settings

    def watched(self) -> tuple[Path, ...]:
        listen = self.tree.get("listen", {})
        named = [listen[key] for key in _WATCHED if isinstance(listen.get(key), str) and listen[key]]
        key = listen.get("key", "")
        if isinstance(key, str) and key.startswith("file:"):
            named.append(key.removeprefix("file:"))
        return tuple(self.directory / name for name in named)

    def problem(self, way: Key, told: str | Problem) -> Problem:
        """What is wrong at a key, with the place that set it, or should have."""
        if isinstance(told, Problem):  # it has a place of its own, in a file that is named here
            return told
        option = self.by_option.get(way)
        if option is None and self.called is None:
            option = next((option for option, key in OPTIONS.values() if key == way), "the command line")
        if option is not None:
            told = "is missing; give it, or --config and a file" if told == MISSING else told
            return Problem(option, None, told, in_file=False)
        line = next((self.lines[way[:end]] for end in range(len(way), 0, -1) if way[:end] in self.lines), 1)
        return Problem(str(self.called), dotted(way), told, line)


def _value(name: str, typed: str, directory: Path) -> object:
    """What an option means, in the terms of a file's key."""
    if name in _PATHS:
        return str(directory / typed) if typed else ""
    if name == "key":
        return f"file:{directory / typed}" if typed else "file:"
    if name == "api_key_from":
        scheme, _, path = typed.partition(":")
        return f"file:{directory / path}" if scheme == "file" and path else typed
    if name in ("requests_per_minute", "burst"):
        return _number(typed)
    return typed


def _number(typed: str) -> int | float:
    try:
        return int(typed)
    except ValueError:
        pass
    try:
        return float(typed)
    except ValueError:
        raise Wrong(f"{shown(typed)} is no number; write digits, for example 60") from None
