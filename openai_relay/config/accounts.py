"""What ``[tiers.NAME]`` and ``[clients.NAME]`` may say, and the rules that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from decimal import Decimal
from typing import Final, cast, get_args

from openai_relay.config.problems import Finding, Wrong, Wrongs, shown
from openai_relay.config.tables import Unknown, list_of_tables, table, tables_by_name
from openai_relay.config.times import end_of_access
from openai_relay.config.values import (
    Rule,
    api_path,
    each,
    header_word,
    items,
    number,
    one_of,
    text,
    type_name,
    unlimited_or,
    whole_number,
    yes_or_no,
)
from openai_relay.core.budgets import Budget
from openai_relay.core.periods import PeriodName
from openai_relay.core.policy import ClientRules, QuotaRules, Rules, Unlimited

#: A longer wait outlives every client's patience.
LONGEST_WAIT: Final = 3_600
#: More than this is a slip, and far from what the ledger can hold.
MOST_TOKENS: Final = 1_000_000_000_000_000
MOST_DOLLARS: Final = 1_000_000_000

_MILLION: Final = 1_000_000

requests_per_minute: Final = number(0.001, 1_000_000_000)
burst: Final = whole_number(1, 1_000_000)
concurrent: Final = whole_number(1, 1_000_000)
tokens_per_minute: Final = number(1, 1_000_000_000)
token_burst: Final = whole_number(1, 1_000_000_000)
max_wait: Final = number(0, LONGEST_WAIT)
max_queue: Final = whole_number(0, 1_000_000)


@dataclass(frozen=True, slots=True)
class BudgetTable:
    """One budget as it is written."""

    per: PeriodName
    dollars: int | None = None  #: micro-dollars
    tokens: int | None = None
    warn_dollars: int | None = None
    warn_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class RulesTable:
    """The rules of a tier or of a client as they are written."""

    tier: str | None = None  #: of a client only
    models: tuple[str, ...] | None = None
    paths: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    upstream_key: str | None = None
    organization: str | None = None
    project: str | None = None
    requests_per_minute: float | Unlimited | None = None
    burst: int | None = None
    concurrent: int | Unlimited | None = None
    tokens_per_minute: float | Unlimited | None = None
    token_burst: int | None = None
    max_wait: float | None = None
    max_queue: int | None = None
    shadow: bool | None = None
    not_after: float | None = None
    disabled: bool | None = None
    budgets: tuple[Budget, ...] = ()
    model_limits: tuple[tuple[str, QuotaRules], ...] = ()


def account_keys(zone: tzinfo, unknown: Mapping[type, Unknown]) -> dict[type, dict[str, Rule]]:
    """
    What each key accepts.

    :param zone: in which days are meant.
    :param unknown: what is said of other keys, by table.
    """
    limits: dict[str, Rule] = {
        "requests_per_minute": unlimited_or(requests_per_minute),
        "burst": burst,
        "concurrent": unlimited_or(concurrent),
        "tokens_per_minute": unlimited_or(tokens_per_minute),
        "token_burst": token_burst,
    }
    budget: dict[str, Rule] = {
        "per": one_of(*get_args(PeriodName)),
        "dollars": _micro_dollars,
        "tokens": whole_number(1, MOST_TOKENS),
        "warn_dollars": _micro_dollars,
        "warn_tokens": whole_number(1, MOST_TOKENS),
    }
    return {
        QuotaRules: limits,
        BudgetTable: budget,
        RulesTable: {
            "tier": _name,
            "models": _models,
            "paths": items(api_path, '["/v1/chat/", "/v1/models"]'),
            "methods": items(_method, '["GET", "POST"]'),
            "upstream_key": _name,
            "organization": header_word,
            "project": header_word,
            **limits,
            "max_wait": max_wait,
            "max_queue": max_queue,
            "shadow": yes_or_no,
            "not_after": end_of_access(zone),
            "disabled": yes_or_no,
            "budgets": _budgets(table(BudgetTable, budget, unknown[BudgetTable])),
            "model_limits": _model_limits(table(QuotaRules, limits, unknown[QuotaRules])),
        },
    }


def tiers(keys: Mapping[str, Rule], unknown: Unknown) -> Rule:
    """A rule: ``[tiers.NAME]``, by name."""
    one = table(RulesTable, {**keys, "tier": _no_tier}, unknown)
    return tables_by_name(lambda value: _rules(cast(RulesTable, one(value))), "[tiers.NAME]", RulesTable)


def clients(keys: Mapping[str, Rule], unknown: Unknown) -> Rule:
    """A rule: ``[clients.NAME]``, by name."""
    one = table(RulesTable, keys, unknown)

    def rule(value: object) -> ClientRules:
        written = cast(RulesTable, one(value))
        return ClientRules(_rules(written), written.tier)

    return tables_by_name(rule, "[clients.NAME]", RulesTable)


def _rules(written: RulesTable) -> Rules:
    return Rules(
        models=written.models,
        paths=written.paths,
        methods=written.methods,
        upstream_key=written.upstream_key,
        organization=written.organization,
        project=written.project,
        limits=QuotaRules(
            written.requests_per_minute,
            written.burst,
            written.tokens_per_minute,
            written.token_burst,
            written.concurrent,
        ),
        model_limits=written.model_limits,
        shadow=written.shadow,
        max_wait=written.max_wait,
        max_queue=written.max_queue,
        budgets=written.budgets,
        not_after=written.not_after,
        disabled=written.disabled,
    )


def _budgets(one: Rule) -> Rule:
    tables = list_of_tables(lambda value: _budget(cast(BudgetTable, one(value))), "[[clients.NAME.budgets]]")

    def rule(value: object) -> tuple[Budget, ...]:
        budgets = cast(tuple[Budget, ...], tables(value))
        known: set[tuple[str, bool]] = set()
        again: list[Finding] = []
        for position, budget in enumerate(budgets):
            counted = (budget.period, budget.money)
            if counted in known:
                what = "dollars" if budget.money else "tokens"
                again.append(
                    ((position,), f"there is a budget of {what} per {budget.period} already; keep one of them")
                )
            known.add(counted)
        if again:
            raise Wrongs(again)
        return budgets

    return rule


def _budget(written: BudgetTable) -> Budget:
    money = (written.dollars, written.warn_dollars)
    tokens = (written.tokens, written.warn_tokens)
    in_money, in_tokens = money != (None, None), tokens != (None, None)
    if in_money and in_tokens:
        raise Wrong("counts both dollars and tokens; write one budget for each")
    if not in_money and not in_tokens:
        raise Wrong("limits nothing; set dollars or tokens, or warn_dollars or warn_tokens to be warned only")
    hard, soft = money if in_money else tokens
    if hard is not None and soft is not None and soft >= hard:
        key = "dollars" if in_money else "tokens"
        raise Wrongs([((f"warn_{key}",), f"would warn only where the budget ends; set it below {key}")])
    return Budget(written.per, hard, soft, in_money)


def _model_limits(one: Rule) -> Rule:
    def rule(value: object) -> tuple[tuple[str, QuotaRules], ...]:
        if not isinstance(value, Mapping):
            raise Wrong(
                f"must be tables by model, and this is {type_name(value)}; "
                'write for example model_limits."gpt-5*" = { requests_per_minute = 10 }'
            )
        if "" in value:
            raise Wrongs([(("",), "an empty name stands for no model; write a name, or a glob such as gpt-5*")])
        return tuple(cast(dict[str, QuotaRules], each(one, value.items())).items())

    return rule


def _micro_dollars(value: object) -> int:
    number(0.000001, MOST_DOLLARS)(value)
    # As it was written: what a float prints as is the shortest text that means it.
    amount = Decimal(str(value)) * _MILLION
    if amount != int(amount):
        raise Wrong(f"{shown(value)} has more than six decimals; round it, for example to 0.01")
    return int(amount)


def _name(value: object) -> str:
    name = text(value)
    if not name:
        raise Wrong("is empty; give a name, or leave the key out")
    return name


def _no_tier(_: object) -> None:
    raise Wrong("is a client's key, and a tier is in no other tier; take it out, and repeat what the other one says")


def _models(value: object) -> tuple[str, ...]:
    names = cast(tuple[str, ...], items(_model, '["gpt-5*", "text-embedding-3-small"]')(value))
    again = [position for position, name in enumerate(names) if name in names[:position]]
    if again:
        raise Wrongs(((at,), f"{shown(names[at])} stands there twice; take one of them out") for at in again)
    return names


def _model(value: object) -> str:
    name = text(value)
    if not name:
        raise Wrong("an empty name stands for no model; write a name, or a glob such as gpt-5*")
    return name


def _method(value: object) -> str:
    method = text(value)
    if not (method.isascii() and method.isalpha() and method.isupper()):
        raise Wrong(f"{shown(method)} is no method; write it in capitals, such as POST")
    return method
