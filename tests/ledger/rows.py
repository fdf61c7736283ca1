"""Rows to store, and a ledger to store them in."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from openai_relay.core.exchange import Exchange
from openai_relay.core.ledger_row import LedgerRow, ledger_row
from openai_relay.core.usage import Usage
from tests.core.exchanges import done

#: 2026-11-23 18:28:05.123 UTC.
NOW_MS = 1_795_458_485_123
DAY_MS = 86_400_000


def row(number: int = 0, *, ended_ms: int = NOW_MS, model: str | None = "gpt-5", **changed: Any) -> LedgerRow:
    """A row of its own number: alice's, 100 tokens in, 50 out, for 1,000 micro-dollars."""
    exchange: Exchange = done()
    exchange.usage = Usage(100, 20, 0, 50, 10, 0)
    exchange.model, exchange.cost_micro_usd = model, 1_000
    made = ledger_row(exchange, ended_ms * 1_000_000)
    return replace(made, relay_request_id=f"rly_{number}", **changed)


def stored(path: Path, question: str = "SELECT relay_request_id FROM exchanges ORDER BY id") -> list[Any]:
    """What the file holds, as somebody else reads it; single columns without their tuples."""
    connection = sqlite3.connect(path)
    try:
        return [row[0] if len(row) == 1 else row for row in connection.execute(question)]
    finally:
        connection.close()
