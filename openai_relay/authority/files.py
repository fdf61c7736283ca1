"""
How the authority's files come to be: whole or not at all, one command at a time.

A file is written beside its target, flushed to the disk and then moved into
place, so a reader (the relay that starts) never sees half of one, and a full
disk or a power cut leaves the old one.  What root makes belongs to whom the
directory belongs to: a relay that issues certificates has a user of its own.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openai_relay.authority.errors import AuthorityError

PUBLIC: Final = 0o644  #: certificates and revocations: the relay may run as someone else
PRIVATE: Final = 0o600  #: keys

#: How long a command waits for another one on the same directory.
PATIENCE: Final = 10.0


def read_file(path: Path, do: str, most: int = -1) -> bytes:
    """
    A file's bytes, or an error that a person can act upon.

    :param do: what to do when there is no such file
    :param most: how many bytes of a file that may be any; -1: all
    """
    try:
        with path.open("rb") as file:
            return file.read(most)
    except FileNotFoundError:
        raise AuthorityError("There is no such file", do, path) from None
    except OSError as error:
        raise _unusable(error, path, "read") from error


def make_directory(path: Path) -> None:
    """The directory exists afterwards, with its parents."""
    try:
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            _leave_to_owner(path, path.parent)
    except OSError as error:
        raise _unusable(error, path, "create") from error


def refuse_existing(path: Path, do: str) -> None:
    """Nothing is ever overwritten without being asked for."""
    if path.exists() or path.is_symlink():
        raise AuthorityError("This file already exists and is not overwritten", do, path)


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Put a file in place, or replace it, in one step."""
    Staged.write(path, content, mode).commit()


@dataclass(frozen=True, slots=True)
class Staged:
    """A file that lies complete on the disk beside its target, not yet under its name."""

    temporary: Path
    target: Path

    @classmethod
    def write(cls, target: Path, content: bytes, mode: int) -> Staged:
        """The content is on the disk afterwards, with its mode, under a name nobody looks for."""
        try:
            # mkstemp opens with O_EXCL and 0600, so a key is never readable by others, not even at first.
            descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        except OSError as error:
            raise _unusable(error, target, "write") from error
        staged = cls(Path(name), target)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), mode)
                _leave_to_owner(file.fileno(), target.parent)
                os.fsync(file.fileno())
        except OSError as error:
            staged.discard()
            raise _unusable(error, target, "write") from error
        return staged

    def commit(self) -> None:
        """The file has its name, and the directory says so on the disk."""
        try:
            self.temporary.replace(self.target)
            directory = os.open(self.target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            self.discard()
            raise _unusable(error, self.target, "write") from error

    def discard(self) -> None:
        """Nothing is left of it, unless it already has its name."""
        self.temporary.unlink(missing_ok=True)


@contextmanager
def locked(
    path: Path,
    monotonic: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """
    One command at a time: the others wait for it, but not for ever.

    The kernel drops the lock with the process, so a killed command leaves none behind.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        _leave_to_owner(descriptor, path.parent)
    except OSError as error:
        raise _unusable(error, path, "lock") from error
    try:
        deadline = monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() >= deadline:
                    what = f"Another command has been at work in this directory for {PATIENCE:.0f} seconds"
                    raise AuthorityError(what, "Let it end, then try again", path) from None
                pause(0.05)
        yield
    finally:
        os.close(descriptor)


def _leave_to_owner(made: int | Path, directory: Path) -> None:
    if os.geteuid() == 0:
        owner = directory.stat()
        os.chown(made, owner.st_uid, owner.st_gid)


def _unusable(error: OSError, path: Path, verb: str) -> AuthorityError:
    reason = error.strerror or str(error)
    what = f"Cannot {verb} it ({reason[:1].lower()}{reason[1:]})"
    return AuthorityError(what, "Check the path, its owner and permissions, and the free space", path)
