"""Where the state is kept: whether a directory will do, and making it."""

from __future__ import annotations

import os
from pathlib import Path

from openai_relay.ledger.database import check_place
from openai_relay.ledger.errors import Unusable


class BadState(Exception):
    """The directory cannot be used; the message says why and what to do."""


def check_directory(directory: Path) -> None:
    """
    Whether the state can be kept in a directory, found out without making it.

    :raises BadState:
    """
    there = directory
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise BadState(f"{there} is not a directory: choose another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadState(f"{there} may not be written: give it to the account that runs the relay, or choose another one")


def check_places(directory: Path | None, database: Path | None) -> None:
    """
    Whether state and ledger can be kept where the settings want them; nothing is made.

    :raises BadState: beginning with the key of the setting.
    """
    if directory is not None:
        try:
            check_directory(directory)
        except BadState as error:
            raise BadState(f"state.directory: {error}") from None
    if database is not None and not (database.parent == directory and not directory.exists()):
        try:
            check_place(database)
        except Unusable as error:
            raise BadState(f"ledger.database: {error}") from None


def make_directory(directory: Path) -> None:
    """
    The directory exists afterwards; one that is made here is for its owner alone.

    :raises BadState:
    """
    try:
        directory.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadState(f"{directory} cannot be made: {error.strerror}") from None
