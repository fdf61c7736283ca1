"""What can be wrong with a ledger, told apart by what is to be done about it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final


class LedgerError(Exception):
    """The base of what follows; the message says what is wrong and where."""


class Unusable(LedgerError):
    """It will not do until a person changes something: found at the start, before anything listens."""


class Unavailable(LedgerError):
    """It cannot be written or read now and may be later: locked, or on a full disk."""


class Damaged(LedgerError):
    """The file is no whole database any more."""


class BadRow(LedgerError):
    """One of the rows can never be stored."""


#: Primary result codes (https://www.sqlite.org/rescode.html) that mean the file itself is broken.
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REASONS: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_BUSY: "another process keeps it locked",
    sqlite3.SQLITE_LOCKED: "another process keeps it locked",
    sqlite3.SQLITE_READONLY: "it may not be written: check its permissions and its directory's",
    sqlite3.SQLITE_PERM: "it may not be opened: check its permissions and its directory's",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check that its directory is there, and the permissions",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
}
#: What Python's module raises about a value, never about a file.
_OF_VALUES: Final = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeError,
)


def translated(error: Exception, path: Path) -> LedgerError:
    """What an error of SQLite, or of one of its values, means for the ledger at a path."""
    if isinstance(error, LedgerError):
        return error
    if isinstance(error, _OF_VALUES):
        return BadRow(f"{path}: a row cannot be stored: {type(error).__name__}: {error}")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _DAMAGED:
        return Damaged(f"{path} is damaged: {error}")
    reason = _REASONS.get(code)
    return Unavailable(f"{path}: {error}" if reason is None else f"{path}: {reason} ({error})")
