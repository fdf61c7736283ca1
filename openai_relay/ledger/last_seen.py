"""
When each certificate was last seen, out of the ledger, in bounded time.

With an index that begins with the fingerprint the answer is exact.  Without
one only the newest rows are looked at, and the answer says since when.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from openai_relay.ledger.errors import translated
from openai_relay.ledger.reading import LedgerReader

#: As many rows are looked at where there is no index: some 100 MB at most, well under a second once they are cached.
NEWEST_ROWS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Seen:
    """A certificate, and when its last exchange ended."""

    fingerprint: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class LastSeen:
    """Who was seen, and how far back the answer goes."""

    certificates: tuple[Seen, ...]
    since_ms: int | None  #: the oldest exchange that was looked at; ``None``: there is none


class SightingReader(LedgerReader):
    """An open ledger that is asked about certificates."""

    def last_seen(self, fingerprints: Iterable[str], newest_rows: int = NEWEST_ROWS) -> LastSeen:
        """
        When each of these was last seen; who is missing in the answer was not.

        :raises LedgerError: the ledger cannot be read.
        """
        try:
            if self._has_index():
                return self._exactly(fingerprints)
            return self._lately(frozenset(fingerprints), newest_rows)
        except sqlite3.Error as error:
            raise translated(error, self._path) from None

    def _has_index(self) -> bool:
        first = "SELECT count(*) FROM pragma_index_list('exchanges') AS l, pragma_index_info(l.name) AS i "
        (count,) = self._connection.execute(first + "WHERE i.seqno = 0 AND i.name = 'fingerprint'").fetchone()
        return bool(count)

    def _exactly(self, fingerprints: Iterable[str]) -> LastSeen:
        found = []
        for each in fingerprints:
            question = "SELECT max(ended_ms) FROM exchanges WHERE fingerprint = ?"
            (at_ms,) = self._connection.execute(question, (each,)).fetchone()
            if at_ms is not None:
                found.append(Seen(each, at_ms))
        (since,) = self._connection.execute("SELECT min(ended_ms) FROM exchanges").fetchone()
        return LastSeen(tuple(found), since)

    def _lately(self, fingerprints: frozenset[str], newest_rows: int) -> LastSeen:
        # By id, as the rows lie in the file: they are read one after another.
        rows = self._connection.execute(
            "SELECT fingerprint, max(ended_ms), min(ended_ms) FROM "
            "(SELECT fingerprint, ended_ms FROM exchanges ORDER BY id DESC LIMIT ?) GROUP BY fingerprint",
            (newest_rows,),
        ).fetchall()
        found = tuple(Seen(name, last) for name, last, _ in rows if name in fingerprints)
        return LastSeen(found, min((first for _, _, first in rows), default=None))
