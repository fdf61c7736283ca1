"""
Rules for whole tables: each key has its own, and all that is wrong is found at once.

cattrs walks a table, finds unknown and missing keys, and keeps every error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, Final

from cattrs import Converter
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, override

from openai_relay.config.problems import Finding, Wrong, Wrongs
from openai_relay.config.values import Rule, each, type_name

#: Said of a key that has no default.
MISSING: Final = "is missing and has no default; set it"

#: What to do about a name that is no key of a table.
Unknown = Callable[[str], str]


def table(kind: type, keys: Mapping[str, Rule], unknown: Unknown) -> Rule:
    """
    A rule: a table that becomes a dataclass.

    :param keys: the rule of each field.
    :param unknown: what is said of any other name.
    """
    hooks: dict[str, Any] = {key: override(struct_hook=_hook(rule)) for key, rule in keys.items()}
    structure: Callable[[Mapping[str, Any], Any], object] = make_dict_structure_fn(
        kind,
        Converter(forbid_extra_keys=True, detailed_validation=True),
        _cattrs_forbid_extra_keys=True,
        _cattrs_detailed_validation=True,
        _cattrs_use_linecache=False,  # it would keep the generated source of each reload
        **hooks,
    )

    def rule(value: object) -> object:
        if not isinstance(value, Mapping):
            raise Wrong(f"must be a table, and this is {type_name(value)}; write its name in brackets on its own line")
        try:
            return structure(value, kind)
        except ClassValidationError as error:
            raise Wrongs(_findings(error, unknown)) from None

    return rule


def tables_by_name(of_each: Rule, header: str, known: type) -> Rule:
    """
    A rule: tables whose names are chosen by whoever writes them.

    :param header: as a person writes it, for example ``[clients.NAME]``.
    :param known: whose keys might stand there because the name was forgotten.
    """
    keys = {field.name for field in fields(known)}

    def rule(value: object) -> dict[str, object]:
        if not isinstance(value, Mapping):
            raise Wrong(f"must be tables by name, and this is {type_name(value)}; write {header} on a line of its own")
        findings: list[Finding] = []
        for name in value:
            if not name:
                findings.append((("",), f"an empty name is nobody's; write {header} with a name"))
            elif name in keys and not isinstance(value[name], Mapping):
                findings.append(((name,), f"does not belong here; put it under {header}"))
        misplaced = {way[0] for way, _ in findings}
        named: dict[str, object] = {}
        try:
            named = each(of_each, ((name, inner) for name, inner in value.items() if name not in misplaced))
        except Wrongs as wrongs:
            findings.extend(wrongs.findings)
        if findings:
            raise Wrongs(findings)
        return named

    return rule


def list_of_tables(of_each: Rule, header: str) -> Rule:
    """
    A rule: tables one after the other.

    :param header: as a person writes it, for example ``[[clients.NAME.budgets]]``.
    """

    def rule(value: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise Wrong(
                f"must be a list of tables, and this is {type_name(value)}; write {header}, in double brackets, "
                "on a line of its own before each"
            )
        return tuple(each(of_each, enumerate(value)).values())

    return rule


def _hook(rule: Rule) -> Any:
    return lambda value, _: rule(value)


def _findings(error: ClassValidationError, unknown: Unknown) -> Iterator[Finding]:
    """Turn what cattrs found into ways and sentences."""
    noted, others = error.group_exceptions()
    for cause, note in noted:
        if isinstance(cause, KeyError):
            yield (note.name,), MISSING
        elif isinstance(cause, Wrong):
            yield (note.name,), str(cause)
        elif isinstance(cause, Wrongs):
            yield from cause.beneath(note.name)
        else:
            raise cause
    for other in others:
        if not isinstance(other, ForbiddenExtraKeysError):
            raise other
        for name in sorted(other.extra_fields):
            yield (name,), unknown(name)
