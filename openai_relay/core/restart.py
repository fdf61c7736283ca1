"""Decide which settings a running relay cannot take up: what it is bound to, and what it has counted by."""

from __future__ import annotations

from typing import Any, Final

from openai_relay.core.settings import Settings


class NotReloaded(Exception):
    """Nothing has changed; ``reasons`` say why, in a sentence each."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons


#: A table, or one key of it, and why another value takes a restart.
_BOUND: Final[tuple[tuple[str, str | None, str], ...]] = (
    ("listen", "address", "the port is open"),
    ("listen", "backlog", "the port is open"),
    ("identity", "name", "clients are known, and have been counted, by it"),
    ("identity", "limit_by", "what clients have used is counted by it"),
    ("accounting", "time_zone", "budgets have begun in it"),
    ("state", None, "its files are open"),
    ("ledger", None, "its files are open"),
    ("admin", None, "the port is open"),
    ("enrol", None, "the port is open"),
)


def needs_restart(running: Settings, wanted: Settings) -> list[str]:
    """A sentence for each setting that differs and takes a restart; empty: none does."""
    return [
        f"{table if key is None else f'{table}.{key}'} has changed, which takes a restart ({why}); "
        "restart the relay, or put the old value back"
        for table, key, why in _BOUND
        if _value(running, table, key) != _value(wanted, table, key)
    ]


def _value(settings: Settings, table: str, key: str | None) -> Any:
    value = getattr(settings, table)
    return value if key is None else getattr(value, key)
