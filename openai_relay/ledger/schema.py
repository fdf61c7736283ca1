"""
The tables of the ledger, as numbered migrations, and which file is a ledger at all.

``exchanges`` has a row per exchange.  ``totals`` has a row per quarter of an
hour, client, model and endpoint, kept by a trigger, so that each stored
exchange counts once and a duplicate does not.  A quarter of an hour, because
every time zone in use begins its days on one.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from openai_relay.ledger.errors import Unusable

#: In the header of every ledger: "oarl" in ASCII.
APPLICATION_ID: Final = 0x6F61726C
#: The length of a period of ``totals``, in milliseconds.
PERIOD_MS: Final = 15 * 60 * 1_000

_FIRST: Final = (
    """
    CREATE TABLE exchanges (
        id INTEGER PRIMARY KEY,
        ended_ms INTEGER NOT NULL,
        relay_request_id TEXT NOT NULL UNIQUE,
        client TEXT,
        fingerprint TEXT,
        endpoint TEXT NOT NULL,
        model TEXT,
        method TEXT NOT NULL,
        status INTEGER NOT NULL,
        upstream_status INTEGER,
        ending TEXT NOT NULL,
        stage TEXT NOT NULL,
        error_code TEXT,
        input_tokens INTEGER,
        cached_tokens INTEGER,
        input_audio_tokens INTEGER,
        output_tokens INTEGER,
        reasoning_tokens INTEGER,
        output_audio_tokens INTEGER,
        estimated INTEGER NOT NULL,
        cost_micro_usd INTEGER,
        fallback_price INTEGER NOT NULL,
        bytes_in INTEGER NOT NULL,
        bytes_out INTEGER NOT NULL,
        queue_ms REAL NOT NULL,
        first_byte_ms REAL,
        duration_ms REAL NOT NULL,
        upstream_request_id TEXT,
        messages_in INTEGER,
        messages_out INTEGER,
        close_code INTEGER
    )
    """,
    "CREATE INDEX exchanges_by_time ON exchanges (ended_ms)",
    # The key begins with the time: most questions are about a stretch of it, and retention is.
    """
    CREATE TABLE totals (
        period_ms INTEGER NOT NULL,
        client TEXT NOT NULL,
        model TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        requests INTEGER NOT NULL,
        errors INTEGER NOT NULL,
        estimated INTEGER NOT NULL,
        unpriced INTEGER NOT NULL,
        fallback_priced INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        input_audio_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        reasoning_tokens INTEGER NOT NULL,
        output_audio_tokens INTEGER NOT NULL,
        cost_micro_usd INTEGER NOT NULL,
        bytes_in INTEGER NOT NULL,
        bytes_out INTEGER NOT NULL,
        PRIMARY KEY (period_ms, client, model, endpoint)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX totals_by_client ON totals (client, period_ms)",
    f"""
    CREATE TRIGGER exchange_counts AFTER INSERT ON exchanges BEGIN
        INSERT INTO totals VALUES (
            new.ended_ms - new.ended_ms % {PERIOD_MS},
            coalesce(new.client, ''),
            coalesce(new.model, ''),
            new.endpoint,
            1,
            new.ending <> 'done' OR new.status >= 400,
            new.estimated,
            new.cost_micro_usd IS NULL AND coalesce(new.input_tokens, 0) + coalesce(new.output_tokens, 0) > 0,
            new.fallback_price,
            coalesce(new.input_tokens, 0),
            coalesce(new.cached_tokens, 0),
            coalesce(new.input_audio_tokens, 0),
            coalesce(new.output_tokens, 0),
            coalesce(new.reasoning_tokens, 0),
            coalesce(new.output_audio_tokens, 0),
            coalesce(new.cost_micro_usd, 0),
            new.bytes_in,
            new.bytes_out
        )
        ON CONFLICT (period_ms, client, model, endpoint) DO UPDATE SET
            requests = requests + 1,
            errors = errors + excluded.errors,
            estimated = estimated + excluded.estimated,
            unpriced = unpriced + excluded.unpriced,
            fallback_priced = fallback_priced + excluded.fallback_priced,
            input_tokens = input_tokens + excluded.input_tokens,
            cached_tokens = cached_tokens + excluded.cached_tokens,
            input_audio_tokens = input_audio_tokens + excluded.input_audio_tokens,
            output_tokens = output_tokens + excluded.output_tokens,
            reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens,
            output_audio_tokens = output_audio_tokens + excluded.output_audio_tokens,
            cost_micro_usd = cost_micro_usd + excluded.cost_micro_usd,
            bytes_in = bytes_in + excluded.bytes_in,
            bytes_out = bytes_out + excluded.bytes_out;
    END
    """,
)

#: Number n of these leads from version n - 1 to version n. What was published is never changed: a change is a new one.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_FIRST,)


def identify(connection: sqlite3.Connection, path: Path, known: int = len(MIGRATIONS)) -> int:
    """
    The version of an open ledger; 0 for an empty file.

    :raises Unusable: the database is another program's, or a newer relay's.
    """
    application = _number(connection, "PRAGMA application_id")
    found = _number(connection, "PRAGMA user_version")
    if application != APPLICATION_ID:
        if application or found or _number(connection, "SELECT count(*) FROM sqlite_master"):
            raise Unusable(f"{path} is another program's database, not a ledger: choose another path for the ledger")
        return 0
    if found > known:
        raise Unusable(
            f"{path} is a ledger of version {found}, and this relay knows versions up to {known}: "
            "a newer relay has written it. Run that one, or move the file away to begin a new ledger"
        )
    return found


def migrate(connection: sqlite3.Connection, path: Path, migrations: tuple[tuple[str, ...], ...] = MIGRATIONS) -> None:
    """
    Bring an open database (in autocommit mode) to the newest version; each step is a transaction of its own.

    :raises Unusable: as ``identify`` does.
    """
    for number, statements in enumerate(migrations, start=1):
        if identify(connection, path, len(migrations)) >= number:
            continue
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Again, now that nobody else can be at it: a second process may have been quicker.
            if identify(connection, path, len(migrations)) < number:
                for statement in statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise


def _number(connection: sqlite3.Connection, question: str) -> int:
    (value,) = connection.execute(question).fetchone()
    return int(value)
