"""Where the state is kept: whether a directory will do, and making it."""

from __future__ import annotations

import os
from pathlib import Path


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


def make_directory(directory: Path) -> None:
    """
    The directory exists afterwards; one that is made here is for its owner alone.

    :raises BadState:
    """
    try:
        directory.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadState(f"{directory} cannot be made: {error.strerror}") from None
