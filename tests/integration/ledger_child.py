"""A process that writes ledger rows as a busy relay does, until it is killed, and says which it has handed over."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from msgspec.structs import replace

from openai_relay.ledger.writer import LedgerWriter
from tests.ledger.rows import row


def main(path: Path, prefix: str) -> None:
    """Hand over about 500 rows a second, stamped with the time; ends only from outside, or after a minute."""
    writer = LedgerWriter(path, lambda line: sys.stderr.write(f"{line}\n"))
    writer.start()
    never = threading.Event()
    for number in range(30_000):
        now_ms = time.time_ns() // 1_000_000
        writer.append(replace(row(ended_ms=now_ms), relay_request_id=f"{prefix}_{number}"))
        if number % 10 == 9:
            sys.stdout.write(f"{number + 1} {now_ms}\n")
            sys.stdout.flush()
            never.wait(0.02)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
