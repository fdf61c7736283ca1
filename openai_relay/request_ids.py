"""Identifiers for exchanges: no other process gives them out, and one more costs a counter."""

from __future__ import annotations

import os
from collections.abc import Callable


def request_ids(kind: str) -> Callable[[], str]:
    """
    Makes identifiers, one a call.

    :param kind: what each begins with; 26 hex digits follow.
    """
    prefix = kind + os.urandom(9).hex()
    count = 0

    def new() -> str:
        nonlocal count
        count += 1
        return f"{prefix}{count:08x}"

    return new
