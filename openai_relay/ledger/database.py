"""
The ledger's file, written: opened, appended to, pruned, and set aside when it is damaged.

WAL lets readers read while this writes.  ``synchronous = NORMAL`` syncs at
checkpoints only: a killed process loses no commit, a power cut may lose the
last ones, and neither damages the file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Final

from openai_relay.core.ledger_row import LedgerRow
from openai_relay.ledger.errors import Damaged, LedgerError, Unavailable, Unusable, translated
from openai_relay.ledger.schema import identify, migrate

#: How long to wait for another process's lock before it counts as a failure, in seconds.
BUSY: Final = 1.0
#: The write-ahead log is cut to this after a checkpoint; a long reader can make it grow beyond.
_LOG_BYTES: Final = 16 * 1024 * 1024
#: Pages kept in memory: rows are added at the end, so few are met again.
_CACHE_KIB: Final = 512
#: Pages given back to the file system in one go, 4 KiB each.
_VACUUM_PAGES: Final = 256
_SQLITE: Final = b"SQLite format 3\0"

_COLUMNS: Final = LedgerRow.__struct_fields__
_values: Final = attrgetter(*_COLUMNS)
#: Rows that one statement stores: each statement lets go of the interpreter's lock, which the reactor then takes,
#: and has to be waited for by this thread, and that by the reactor.
_TOGETHER: Final = 32


def _insert(rows: int) -> str:
    places = f"({', '.join('?' * len(_COLUMNS))})"
    return (
        f"INSERT INTO exchanges ({', '.join(_COLUMNS)}) VALUES {', '.join([places] * rows)} "
        "ON CONFLICT (relay_request_id) DO NOTHING"
    )


_INSERT: Final = _insert(1)
_INSERT_MANY: Final = _insert(_TOGETHER)


def check_place(path: Path) -> None:
    """
    Whether a ledger can be at a path, found out without making or changing a file.

    What may pass by itself (a lock, a full disk) and what the writer mends (damage) is no objection.

    :raises Unusable: with what is wrong and what to do.
    """
    directory = path.parent
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        raise Unusable(f"{path}: the directory {directory} {what}: make it, or choose another path for the ledger")
    if path.is_dir():
        raise Unusable(f"{path} is a directory: give the path of a file in it")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise Unusable(
            f"{path}: the directory {directory} may not be written: SQLite keeps its log beside the file. "
            "Give it to the account that runs the relay"
        )
    if not path.exists():
        return
    if not os.access(path, os.R_OK | os.W_OK):
        raise Unusable(f"{path} may not be read and written: give it to the account that runs the relay")
    _refuse_text(path)
    try:
        connection = _connect(path, 0)
        try:
            identify(connection, path)
        finally:
            connection.close()
    except sqlite3.Error as error:
        if not isinstance(translated(error, path), Unavailable | Damaged):
            raise


def set_aside(path: Path, wall_ns: int) -> Path:
    """
    Rename a damaged ledger, log included, to a name that says when.

    :raises Unavailable: it cannot be renamed.
    """
    stamp = datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    try:
        # The log first: left behind, it would be taken for the new file's.
        for suffix in ("-wal", "-shm", ""):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
    except OSError as error:
        raise Unavailable(f"{path} is damaged and cannot be renamed: {error.strerror}") from None
    return aside


class Database:
    """The open file; belongs to the ledger's thread."""

    def __init__(self, path: Path, busy: float = BUSY) -> None:
        """
        Open the file, make it if there is none, and bring it to the newest version.

        :raises LedgerError: the kind says what is to be done.
        """
        self._path = path
        with _translating(path):
            _make(path)
            self.connection = _connect(path, busy)
            try:
                self.connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # heard only while there is no table yet
                self.connection.execute("PRAGMA journal_mode = WAL").fetchall()
                self.connection.execute("PRAGMA synchronous = NORMAL")
                self.connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
                self.connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
                migrate(self.connection, path)
            except BaseException:
                self.connection.close()
                raise
        self._inode = _inode(path)

    def append(self, rows: Sequence[LedgerRow]) -> None:
        """
        Store all rows or none; those that are there already, by their relay request id, change nothing.

        :raises LedgerError: the kind says what is to be done.
        """
        if _inode(self._path) != self._inode:
            raise Unavailable(f"{self._path} was moved or deleted: a new one is begun")
        with _translating(self._path), self._transaction():
            whole = len(rows) - len(rows) % _TOGETHER
            for at in range(0, whole, _TOGETHER):
                values = chain.from_iterable(map(_values, rows[at : at + _TOGETHER]))
                self.connection.execute(_INSERT_MANY, tuple(values))
            self.connection.executemany(_INSERT, map(_values, rows[whole:]))

    def prune(self, rows_before_ms: int, totals_before_ms: int, limit: int) -> bool:
        """
        Delete a few of the rows and totals that ended before these times, oldest first.

        :returns: whether there may be more.
        :raises LedgerError: the kind says what is to be done.
        """
        with _translating(self._path):
            with self._transaction():
                rows = self.connection.execute(
                    "DELETE FROM exchanges WHERE id IN "
                    "(SELECT id FROM exchanges WHERE ended_ms < ? ORDER BY ended_ms LIMIT ?)",
                    (rows_before_ms, limit),
                ).rowcount
                # By whole periods, as the key begins with them: few at once.
                totals = self.connection.execute(
                    "DELETE FROM totals WHERE period_ms = (SELECT min(period_ms) FROM totals) AND period_ms < ?",
                    (totals_before_ms,),
                ).rowcount
            # Not by `execute`: that takes this pragma for done after one page, as its rows have no columns.
            self.connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
        return rows == limit or totals > 0

    def close(self) -> None:
        """Close; the last one to do so folds the log into the file."""
        try:
            self.connection.close()
        except sqlite3.Error:  # what is committed is in the log, and found there at the next start
            pass

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            self.connection.rollback()
            raise


@contextmanager
def _translating(path: Path) -> Iterator[None]:
    try:
        yield
    except LedgerError:
        raise
    except (sqlite3.Error, OverflowError, UnicodeError) as error:
        raise translated(error, path) from None
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from None


def _connect(path: Path, busy: float) -> sqlite3.Connection:
    # By a URI, as only that says that the file must be there already.
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", busy, isolation_level=None, uri=True)


def _make(path: Path) -> None:
    """An empty file for the account and its group, unless there is one; SQLite's own would be for everybody."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
    except FileExistsError:
        _refuse_text(path)


def _refuse_text(path: Path) -> None:
    """Somebody's document is no damaged ledger, and must not be renamed like one."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError:  # SQLite will say it better
        return
    if head and not head.startswith(_SQLITE) and b"\0" not in head:
        raise Unusable(f"{path} is no ledger, but some other file: choose another path for the ledger")


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0
