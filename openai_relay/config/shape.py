"""
Give a TOML document the shape of the settings, and collect all that is wrong with it.

Each key has one rule here, or in ``accounts.py``; its default stands in ``core/settings.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from datetime import UTC, tzinfo
from typing import Any, Final, cast, get_args, get_type_hints

from openai_relay.config.accounts import (
    BudgetTable,
    RulesTable,
    account_keys,
    burst,
    clients,
    concurrent,
    max_queue,
    max_wait,
    requests_per_minute,
    tiers,
    token_burst,
    tokens_per_minute,
)
from openai_relay.config.deny_file import denied, deny_file
from openai_relay.config.lines import Key
from openai_relay.config.policies import BURSTS, bad_policies, needs_rate
from openai_relay.config.price_file import price_file, shipped_prices
from openai_relay.config.problems import Finding, Wrong, Wrongs, did_you_mean, shown_name
from openai_relay.config.sources import Sources
from openai_relay.config.tables import Unknown, table
from openai_relay.config.times import time_zone
from openai_relay.config.values import (
    Rule,
    admin_address,
    header_word,
    https_url,
    listen_address,
    one_of,
    paths,
    seconds,
    tcp_address,
    text,
    whole_number,
    yes_or_no,
)
from openai_relay.core.errors import RelayError
from openai_relay.core.limit_rules import LimitSettings
from openai_relay.core.paths import PathPolicy
from openai_relay.core.policy import QuotaRules
from openai_relay.core.settings import (
    AccountingSettings,
    AdminSettings,
    Authorization,
    ClientAuth,
    CRLExpired,
    EnrolSettings,
    IdentitySettings,
    LedgerSettings,
    LimitBy,
    ListenSettings,
    LogFormat,
    LogSettings,
    NameFrom,
    Settings,
    StateSettings,
    UpstreamSettings,
    WebSocketSettings,
)

#: A TOML document, as ``tomllib`` gives it.
Document = Mapping[str, Any]

#: The tables that hold others, whose names are chosen freely.
NAMED: Final = ("tiers", "clients")
#: The ledger's name in the directory of the state.
LEDGER_FILE: Final = "ledger.sqlite3"


def tables() -> dict[str, type]:
    """The tables of a configuration and the class that each becomes; those of ``NAMED`` aside."""
    return {name: kind for name, kind in get_type_hints(Settings).items() if name not in NAMED}


def rules(sources: Sources, zone: tzinfo = UTC) -> dict[type, dict[str, Rule]]:
    """What each key accepts."""
    file, connections = sources.existing_file, whole_number(1, 1_000_000)
    return {
        ListenSettings: {
            "certificate": file,
            "key": sources.key,
            "client_ca": file,
            "address": listen_address,
            "crl": sources.existing_lists,
            "crl_expired": one_of(*get_args(CRLExpired)),
            "deny": denied,
            "deny_file": lambda value: deny_file(file(value)),
            "client_auth": one_of(*get_args(ClientAuth)),
            "backlog": whole_number(1, 65_535),
            "handshake_timeout": seconds,
            "head_timeout": seconds,
            "idle_timeout": seconds,
            "stall_timeout": seconds,
            "drain_timeout": seconds,
            "max_head": whole_number(1_024, 1_048_576),
            "max_fields": whole_number(16, 65_536),
            "max_connections": connections,
            "max_connections_per_identity": connections,
        },
        IdentitySettings: {
            "name": one_of(*get_args(NameFrom)),
            "limit_by": one_of(*get_args(LimitBy)),
            "default_tier": text,
        },
        UpstreamSettings: {
            "url": https_url,
            "ca": file,
            "authorization": one_of(*get_args(Authorization)),
            "api_key": sources.api_key,
            "keys": sources.api_keys,
            "include_usage": yes_or_no,
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
            "requests_per_minute": requests_per_minute,
            "burst": burst,
            "concurrent": concurrent,
            "tokens_per_minute": tokens_per_minute,
            "token_burst": token_burst,
            "max_wait": max_wait,
            "max_queue": max_queue,
            "shadow": yes_or_no,
            "expected_output": whole_number(0, 10_000_000),
        },
        AccountingSettings: {"prices": lambda value: price_file(file(value)), "time_zone": time_zone},
        StateSettings: {"directory": sources.directory_or_none},
        LedgerSettings: {"enabled": yes_or_no, "database": sources.new_file, "retention_days": _days_or_none},
        LogSettings: {"format": one_of(*get_args(LogFormat))},
        AdminSettings: {"address": admin_address},
        EnrolSettings: {
            "address": tcp_address,
            "authority": sources.existing_lists,
            "passphrase": sources.passphrase,
        },
        **account_keys(zone, {BudgetTable: _unknown(BudgetTable), QuotaRules: _unknown(QuotaRules)}),
    }


def shape(document: Document, sources: Sources) -> tuple[Settings | None, list[Finding]]:
    """
    The settings that a document describes, or everything that is wrong with it.

    :returns: the settings, ``None`` if anything was found; and the findings.
    """
    findings: list[Finding] = list(_combinations(document))
    known = rules(sources, _zone(document))
    hooks = {name: table(kind, known[kind], _unknown(kind)) for name, kind in tables().items()}
    hooks["tiers"] = tiers(known[RulesTable], _unknown(RulesTable))
    hooks["clients"] = clients(known[RulesTable], _unknown(RulesTable))
    try:
        settings = _completed(cast(Settings, table(Settings, hooks, _unknown_table)(document)), document)
    except Wrongs as wrongs:
        findings.extend(wrongs.findings)
        return None, findings
    findings.extend(_contradictions(settings, document))
    findings.extend(bad_policies(settings, document))
    return (None if findings else settings), findings


def ledger_of(document: Document, sources: Sources) -> tuple[LedgerSettings, AccountingSettings]:
    """
    Where the ledger is and when its days begin; nothing else of the document is looked at.

    :raises Wrongs: that cannot be said.
    """
    asked = {name: document[name] for name in ("state", "ledger", "accounting") if name in document}
    if isinstance(asked.get("accounting"), Mapping):
        asked["accounting"] = {name: value for name, value in asked["accounting"].items() if name != "prices"}
    known = rules(sources)
    read: dict[str, Any] = {}
    findings: list[Finding] = []
    for name in ("state", "ledger", "accounting"):
        kind = tables()[name]
        try:
            read[name] = table(kind, known[kind], _unknown(kind))(asked.get(name, {}))
        except Wrong as wrong:
            findings.append(((name,), str(wrong)))
        except Wrongs as wrongs:
            findings.extend(wrongs.beneath(name))
    if findings:
        raise Wrongs(findings)
    return _placed(read["ledger"], read["state"]), read["accounting"]


def _zone(document: Document) -> tzinfo:
    """The time zone in which the document's days are meant; what is wrong with it is found with the rest."""
    accounting = document.get("accounting", {})
    try:
        return time_zone(accounting["time_zone"]) if "time_zone" in accounting else UTC
    except (Wrong, TypeError):
        return UTC


def _completed(settings: Settings, document: Document) -> Settings:
    """With the defaults that are no constants: the prices that are shipped, and the place of the ledger."""
    ledger, accounting = _placed(settings.ledger, settings.state), settings.accounting
    if "prices" not in document.get("accounting", {}):
        accounting = replace(accounting, prices=shipped_prices())
    return replace(settings, ledger=ledger, accounting=accounting)


def _placed(ledger: LedgerSettings, state: StateSettings) -> LedgerSettings:
    if ledger.database is not None or state.directory is None:
        return ledger
    return replace(ledger, database=state.directory / LEDGER_FILE)


def _days_or_none(value: object) -> int | None:
    return cast(int, whole_number(0, 36_500)(value)) or None


def _headers() -> dict[type, str]:
    """What a person writes before the keys of each kind."""
    return {
        **{kind: f"[{name}]" for name, kind in tables().items()},
        RulesTable: "[clients.NAME]",
        BudgetTable: "[[clients.NAME.budgets]]",
        QuotaRules: '[clients.NAME.model_limits."MODEL"]',
    }


def _unknown(kind: type) -> Unknown:
    """What to do about a name that is no key of a table."""
    keys = [field.name for field in fields(kind)]

    def told(name: str) -> str:
        homes = _homes(name, near_accounts=kind in (RulesTable, BudgetTable, QuotaRules))
        if homes:
            return f"does not belong here; put it under {homes}"
        meant = did_you_mean(name, keys)
        if meant is not None:
            return f'is not known; did you mean "{meant}"?'
        return f"is not known; take it out ({_headers()[kind]} takes {', '.join(keys)})"

    return told


def _unknown_table(name: str) -> str:
    homes = _homes(name, near_accounts=False)
    if homes:
        return f"does not belong here; put it under {homes}"
    known = [field.name for field in fields(Settings)]
    meant = did_you_mean(name, known)
    if meant in NAMED:
        return f"is not known; did you mean [{meant}.NAME]?"
    if meant is not None:
        return f"is not known; did you mean [{meant}]?"
    return f"is not known; take it out (the tables are {', '.join(known)})"


def _homes(name: str, *, near_accounts: bool) -> str:
    """The tables that know a name; of accounts and the others, those that are nearer."""
    homes = {kind: header for kind, header in _headers().items() if name in [field.name for field in fields(kind)]}
    settings = [header for kind, header in homes.items() if kind in tables().values()]
    accounts = [header for kind, header in homes.items() if kind not in tables().values()][:1]
    return " or ".join((accounts or settings) if near_accounts else (settings or accounts))


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
        for key in ("api_key", "keys"):
            if authorization == "passthrough" and key in upstream:
                yield (
                    ("upstream", key),
                    (
                        'would never be sent, since authorization = "passthrough" leaves the clients\' own keys '
                        f'in place; take {key} out, or set authorization = "inject"'
                    ),
                )
    if isinstance(limits, Mapping):
        for burst_key, rate in BURSTS.items():
            if burst_key in limits and rate not in limits:
                yield ("limits", burst_key), needs_rate(rate)


def _contradictions(settings: Settings, document: Document) -> Iterator[Finding]:
    """What is wrong although each value is right; said of the key that was set, not of the one left alone."""
    listen, admin = settings.listen.address, settings.admin.address
    if listen == admin and not listen.endswith(":0"):
        if "address" in document.get("admin", {}):
            yield ("admin", "address"), "is the same as listen.address; give it another port"
        else:
            yield ("listen", "address"), f"is where the admin listener is ({admin}); give it another port"
    if (settings.enrol.address is None) != (settings.enrol.authority is None):
        missing = "authority" if settings.enrol.authority is None else "address"
        yield ("enrol", missing), "is missing; [enrol] takes an address and the authority's directory, or neither"
    elif settings.enrol.address is not None and settings.enrol.address in _others(listen, admin):
        yield ("enrol", "address"), "is taken by another listener of this relay; give it another port"
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


def _others(*addresses: str | None) -> list[str]:
    """The addresses that are taken; port 0 is any that is free."""
    return [each for each in addresses if each is not None and not each.endswith(":0")]


def _passes(path: str, upstream: UpstreamSettings) -> bool:
    try:
        PathPolicy(upstream.allow_paths, upstream.deny_paths).check(path.encode())
    except RelayError:
        return False
    return True


def dotted(way: Key) -> str:
    """A way as a person writes it; list items count from 1."""
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{_part(part)}" for part in way).removeprefix(".")


def _part(name: str) -> str:
    name = shown_name(name)
    plain = re.fullmatch(r"[A-Za-z0-9_-]+", name) or not name.isprintable() or name.startswith(("'", "("))
    return name if plain else f'"{name}"'
