"""
Give a TOML document the shape of the settings, and collect all that is wrong with it.

Each key has one rule here; its default stands in ``core/settings.py`` alone.
cattrs walks the tables, finds unknown and missing keys, and keeps every error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, Final, get_args, get_type_hints

from cattrs import Converter
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, override

from openai_relay.config.lines import Key
from openai_relay.config.problems import Wrong, did_you_mean, shown_name
from openai_relay.config.sources import Sources
from openai_relay.config.values import (
    Rule,
    admin_address,
    header_word,
    https_url,
    listen_address,
    number,
    one_of,
    paths,
    seconds,
    type_name,
    whole_number,
    yes_or_no,
)
from openai_relay.core.errors import RelayError
from openai_relay.core.paths import PathPolicy
from openai_relay.core.settings import (
    AdminSettings,
    Authorization,
    ClientAuth,
    IdentitySettings,
    LimitBy,
    LimitSettings,
    ListenSettings,
    LogFormat,
    LogSettings,
    NameFrom,
    Settings,
    UpstreamSettings,
    WebSocketSettings,
)

#: A TOML document, as ``tomllib`` gives it.
Document = Mapping[str, Any]
#: The way to a key, and what is wrong there.
Finding = tuple[Key, str]

#: Said of a key that has no default.
MISSING: Final = "is missing and has no default; set it"


def tables() -> dict[str, type]:
    """The tables of a configuration and the class that each becomes."""
    return dict(get_type_hints(Settings))


def rules(sources: Sources) -> dict[type, dict[str, Rule]]:
    """What each key accepts."""
    file, connections = sources.existing_file, whole_number(1, 1_000_000)
    return {
        ListenSettings: {
            "certificate": file,
            "key": sources.key,
            "client_ca": file,
            "address": listen_address,
            "crl": sources.existing_lists,
            "client_auth": one_of(*get_args(ClientAuth)),
            "backlog": whole_number(1, 65_535),
            "handshake_timeout": seconds,
            "head_timeout": seconds,
            "idle_timeout": seconds,
            "stall_timeout": seconds,
            "max_head": whole_number(1_024, 1_048_576),
            "max_fields": whole_number(16, 65_536),
            "max_connections": connections,
            "max_connections_per_identity": connections,
        },
        IdentitySettings: {
            "name": one_of(*get_args(NameFrom)),
            "limit_by": one_of(*get_args(LimitBy)),
        },
        UpstreamSettings: {
            "url": https_url,
            "ca": file,
            "authorization": one_of(*get_args(Authorization)),
            "api_key": sources.api_key,
            "organization": header_word,
            "project": header_word,
            "allow_paths": paths(may_be_empty=False),
            "deny_paths": paths(may_be_empty=True),
            "connect_timeout": seconds,
            "first_byte_timeout": seconds,
            "idle_timeout": seconds,
            "keepalive_timeout": seconds,
            "max_idle_connections": whole_number(0, 1_000_000),
        },
        WebSocketSettings: {"enabled": yes_or_no, "idle_timeout": seconds},
        LimitSettings: {
            "requests_per_minute": number(0.001, 1_000_000_000),
            "burst": whole_number(1, 1_000_000),
            "concurrent": whole_number(1, 1_000_000),
        },
        LogSettings: {"format": one_of(*get_args(LogFormat))},
        AdminSettings: {"address": admin_address},
    }


def shape(document: Document, sources: Sources) -> tuple[Settings | None, list[Finding]]:
    """
    The settings that a document describes, or everything that is wrong with it.

    :returns: the settings, ``None`` if anything was found; and the findings.
    """
    findings = list(_combinations(document))
    try:
        settings: Settings = _converter(sources).structure(document, Settings)
    except ClassValidationError as error:
        findings.extend(_findings(error, ()))
        return None, findings
    findings.extend(_contradictions(settings, document))
    return (None if findings else settings), findings


def _converter(sources: Sources) -> Converter:
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    for kind, keys in rules(sources).items():
        converter.register_structure_hook(kind, _table_rule(kind, keys, converter))
    return converter


def _table_rule(kind: type, keys: Mapping[str, Rule], converter: Converter) -> Any:
    hooks: dict[str, Any] = {key: override(struct_hook=_hook(rule)) for key, rule in keys.items()}
    structure: Callable[[Mapping[str, Any], Any], object] = make_dict_structure_fn(
        kind,
        converter,
        _cattrs_forbid_extra_keys=True,
        _cattrs_detailed_validation=True,
        _cattrs_use_linecache=False,  # it would keep the generated source of each reload
        **hooks,
    )

    def rule(value: object, _: object) -> object:
        if not isinstance(value, Mapping):
            raise Wrong(f"must be a table, and this is {type_name(value)}; write its name in brackets on its own line")
        return structure(value, kind)

    return rule


def _hook(rule: Rule) -> Any:
    return lambda value, _: rule(value)


def _findings(error: ClassValidationError, way: tuple[str, ...]) -> Iterator[Finding]:
    """Turn cattrs' tree of errors into ways and sentences."""
    noted, others = error.group_exceptions()
    for cause, note in noted:
        here = (*way, note.name)
        if isinstance(cause, ClassValidationError):
            yield from _findings(cause, here)
        elif isinstance(cause, KeyError):
            yield here, MISSING
        elif isinstance(cause, Wrong):
            yield here if cause.item is None else (*here, cause.item), str(cause)
        else:
            raise cause
    for other in others:
        if not isinstance(other, ForbiddenExtraKeysError):
            raise other
        for name in sorted(other.extra_fields):
            yield (*way, name), _unknown(name, way)


def _unknown(name: str, way: tuple[str, ...]) -> str:
    """What to do about a name that is no key here."""
    known = {table: [field.name for field in fields(kind)] for table, kind in tables().items()}
    homes = [f"[{table}]" for table, keys in known.items() if name in keys]
    if homes:
        return f"does not belong here; put it under {' or '.join(homes)}"
    meant = did_you_mean(name, known[way[0]] if way else known)
    if meant is not None:
        return f'is not known; did you mean "{meant}"?' if way else f"is not known; did you mean [{meant}]?"
    place = f"[{way[0]}] takes {', '.join(known[way[0]])}" if way else f"the tables are {', '.join(known)}"
    return f"is not known; take it out ({place})"


def _combinations(document: Document) -> Iterator[Finding]:
    """What needs two keys to be wrong, as far as it shows before the values are understood."""
    upstream, limits = document.get("upstream", {}), document.get("limits", {})
    if isinstance(upstream, Mapping):
        authorization = upstream.get("authorization", UpstreamSettings().authorization)
        if authorization == "inject" and "api_key" not in upstream:
            yield (
                ("upstream", "api_key"),
                (
                    'is missing; say where the key is, for example "env:OPENAI_API_KEY", '
                    'or set authorization = "passthrough" to let clients send their own'
                ),
            )
        if authorization == "passthrough" and "api_key" in upstream:
            yield (
                ("upstream", "api_key"),
                (
                    'would never be sent, since authorization = "passthrough" leaves the clients\' own keys in place; '
                    'take api_key out, or set authorization = "inject"'
                ),
            )
    if isinstance(limits, Mapping) and "burst" in limits and "requests_per_minute" not in limits:
        yield ("limits", "burst"), "needs a rate to be a burst of; set requests_per_minute too"


def _contradictions(settings: Settings, document: Document) -> Iterator[Finding]:
    """What is wrong although each value is right; said of the key that was set, not of the one left alone."""
    listen, admin = settings.listen.address, settings.admin.address
    if listen == admin and not listen.endswith(":0"):
        if "address" in document.get("admin", {}):
            yield ("admin", "address"), "is the same as listen.address; give it another port"
        else:
            yield ("listen", "address"), f"is where the admin listener is ({admin}); give it another port"
    upstream = settings.upstream
    if not any(_passes(path, upstream) for path in upstream.allow_paths):
        if "deny_paths" in document.get("upstream", {}):
            yield ("upstream", "deny_paths"), "refuses all that allow_paths lets through; make it narrower"
        else:
            denied = ", ".join(upstream.deny_paths)
            yield (
                ("upstream", "allow_paths"),
                f"lets through only what deny_paths refuses ({denied}); set deny_paths too",
            )


def _passes(path: str, upstream: UpstreamSettings) -> bool:
    try:
        PathPolicy(upstream.allow_paths, upstream.deny_paths).check(path.encode())
    except RelayError:
        return False
    return True


def dotted(way: Key) -> str:
    """A way as a person writes it; list items count from 1."""
    parts = (f"[{part + 1}]" if isinstance(part, int) else f".{shown_name(part)}" for part in way)
    return "".join(parts).removeprefix(".")
