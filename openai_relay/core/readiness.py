"""``Check``: one condition of being ready, as whoever knows it reports it to ``/readyz``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold before requests should be sent here."""

    name: str  #: short and stable, for scripts: ``started``, ``crl``
    ok: bool
    detail: str = ""  #: for people; anybody who reaches the admin listener reads it


def unmet(checks: Sequence[Check]) -> list[Check]:
    """The checks that fail, in their order; ready is when there are none."""
    return [check for check in checks if not check.ok]
