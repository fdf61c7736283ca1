"""Find every rule of tiers and clients that cannot be used, alone or with what stands behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from openai_relay.config.lines import Key
from openai_relay.config.problems import did_you_mean, shown, shown_name
from openai_relay.core.policy import BadPolicy, ClientRules, PolicyBook, QuotaRules, Rules, defaults_of
from openai_relay.core.settings import Settings

#: The bursts, and the rates that they are bursts of.
BURSTS: Final = {"burst": "requests_per_minute", "token_burst": "tokens_per_minute"}

_LIMITS: Final = tuple(field.name for field in fields(QuotaRules))
_WAITING: Final = ("max_wait", "max_queue")


def bad_policies(settings: Settings, document: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    """
    All that is wrong with who may do what; said of the keys that were set.

    :param document: where these settings come from.
    """
    defaults, tiers, default_tier = defaults_of(settings.limits), settings.tiers, settings.identity.default_tier
    everyone = _refusal(defaults)
    if everyone is not None:
        yield _finding(("limits",), everyone, document)
        return  # it stands behind every other rule, and would be said of each of them
    bad_tiers = set()
    for name, rules in tiers.items():
        yield from _unknown_key(("tiers", name), rules, settings)
        refusal = _refusal(defaults, {name: rules})
        if refusal is not None:
            bad_tiers.add(name)
            yield _of_model(("tiers", name), refusal, defaults, {}, rules, None, document)
    if default_tier is not None and default_tier not in tiers:
        yield ("identity", "default_tier"), _no_tier(default_tier, tiers)
        default_tier = None
    for name, client in settings.clients.items():
        way = ("clients", name)
        yield from _unknown_key(way, client.rules, settings)
        tier = client.tier or default_tier
        if tier is not None and tier not in tiers:
            yield (*way, "tier"), _no_tier(tier, tiers)
        elif tier not in bad_tiers:
            behind = {} if tier is None else {tier: tiers[tier]}
            refusal = _refusal(defaults, behind, {name: ClientRules(client.rules, tier)})
            if refusal is not None:
                yield _of_model(way, refusal, defaults, behind, client.rules, tier, document)


def needs_rate(rate: str) -> str:
    """What is said of a burst without its rate."""
    return f"needs a rate to be a burst of; set {rate} too"


def _refusal(
    defaults: Rules, tiers: Mapping[str, Rules] | None = None, clients: Mapping[str, ClientRules] | None = None
) -> BadPolicy | None:
    try:
        PolicyBook(defaults, tiers, clients)
    except BadPolicy as bad:
        return bad
    return None


def _unknown_key(way: tuple[str, str], rules: Rules, settings: Settings) -> Iterator[tuple[Key, str]]:
    named, keys = rules.upstream_key, settings.upstream.keys
    if named is None or named in keys:
        return
    meant = did_you_mean(named, keys)
    there = ", ".join(shown_name(key) for key in sorted(keys)) or "none yet"
    hint = f'did you mean "{meant}"?' if meant else f"set it there; there are: {there}"
    yield (*way, "upstream_key"), f"{shown(named)} is no key of [upstream.keys]; {hint}"


def _no_tier(name: str, tiers: Mapping[str, Rules]) -> str:
    meant = did_you_mean(name, tiers)
    there = ", ".join(shown_name(tier) for tier in sorted(tiers)) or "none yet"
    hint = f'did you mean "{meant}"?' if meant else f"write one of that name; there are: {there}"
    return f"there is no [tiers.{shown_name(name)}]; {hint}"


def _of_model(
    way: tuple[str, str],
    refusal: BadPolicy,
    defaults: Rules,
    tiers: Mapping[str, Rules],
    rules: Rules,
    tier: str | None,
    document: Mapping[str, Any],
) -> tuple[Key, str]:
    """The finding; of the limits of several models it is about the first that is refused alone."""
    if refusal.key == "model_limits":
        for entry in rules.model_limits:
            alone = ClientRules(replace(rules, model_limits=(entry,)), tier)
            found = _refusal(defaults, tiers, {way[1]: alone})
            if found is not None:
                return _finding((*way, "model_limits", entry[0]), found, document)
    return _finding(way, refusal, document)


def _finding(way: tuple[str, ...], refusal: BadPolicy, document: Mapping[str, Any]) -> tuple[Key, str]:
    """The key that is at fault and was set, or the table where none was; and what is wrong with it."""
    table: Any = document
    for part in way:
        table = table.get(part, {})
    keys: tuple[str, ...] = (refusal.key,)
    if refusal.key in ("limits", "model_limits"):
        keys = tuple(key for key in _LIMITS if refusal.told.startswith(key))
    elif refusal.key in _WAITING:
        keys = _WAITING
    at_fault = next((key for key in keys if key in table), None)
    if at_fault is None:
        return way, refusal.told
    rate = BURSTS.get(at_fault)
    return (*way, at_fault), refusal.told if rate is None else needs_rate(rate)
