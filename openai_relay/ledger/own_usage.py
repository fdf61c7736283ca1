"""Ask the ledger what one client has used; reads a file, so it is called in a thread."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from openai_relay.core.me import OwnUsage, Stretches, Sums
from openai_relay.ledger.errors import LedgerError
from openai_relay.ledger.reading import LedgerReader, Totals

#: The client is told no more: what is wrong with a file is the operator's, and is in the relay's log.
_UNREADABLE: Final = "The relay's ledger cannot be read at the moment."


def own_usage(path: Path, client: str, stretches: Stretches) -> OwnUsage:
    """
    What a client has used in the day and the month under way.

    A ledger that cannot be read is no error here: the answer then says so.
    """
    try:
        reader = LedgerReader(path)
        try:
            today = reader.totals(client, stretches.today.starts * 1_000)
            this_month = reader.totals(client, stretches.this_month.starts * 1_000)
        finally:
            reader.close()
    except LedgerError:
        return OwnUsage(unavailable=_UNREADABLE)
    return OwnUsage(_sums(today), _sums(this_month))


def _sums(totals: Totals) -> Sums:
    return Sums(totals.requests, totals.errors, totals.estimated, totals.cost_micro_usd, totals.usage)
