"""What an error of SQLite means for the ledger."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.ledger.errors import BadRow, Damaged, LedgerError, Unavailable, Unusable, translated

PATH = Path("ledger.sqlite3")


def failed(code: int) -> sqlite3.OperationalError:
    """An error as the library raises it."""
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    return error


class TranslatedTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """Damage, what may pass, and a value that cannot be stored are told apart, by extended codes too."""
        extended = sqlite3.SQLITE_CORRUPT | (2 << 8)
        for error, kind in (
            (failed(sqlite3.SQLITE_CORRUPT), Damaged),
            (failed(extended), Damaged),
            (failed(sqlite3.SQLITE_NOTADB), Damaged),
            (failed(sqlite3.SQLITE_FULL), Unavailable),
            (failed(sqlite3.SQLITE_BUSY), Unavailable),
            (failed(sqlite3.SQLITE_IOERR), Unavailable),
            (failed(sqlite3.SQLITE_ERROR), Unavailable),
            (sqlite3.OperationalError("without a code"), Unavailable),
            (sqlite3.IntegrityError("NOT NULL"), BadRow),
            (OverflowError("too large"), BadRow),
            (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate"), BadRow),
        ):
            self.assertIs(type(translated(error, PATH)), kind, repr(error))

    def test_words(self) -> None:
        """The message names the file, and says what a person can look after."""
        self.assertIn("ledger.sqlite3: the disk is full", str(translated(failed(sqlite3.SQLITE_FULL), PATH)))
        self.assertIn("another process keeps it locked", str(translated(failed(sqlite3.SQLITE_BUSY), PATH)))
        self.assertIn("ledger.sqlite3: as SQLite says it", str(translated(failed(sqlite3.SQLITE_ERROR), PATH)))

    def test_ours(self) -> None:
        """What is translated already stays as it is."""
        error: LedgerError = Unusable("no")
        self.assertIs(translated(error, PATH), error)
