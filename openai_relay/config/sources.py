"""Find what the configuration points at: files that must be readable, and secrets that are never inline."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from openai_relay.config.problems import Wrong, shown_name, shown_path
from openai_relay.config.values import each, text, type_name
from openai_relay.core.settings import Secret

#: No configuration, key or credential comes near this; a device or a wrong file would fill the memory.
LARGEST_FILE: Final = 1_048_576

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CREDENTIAL: Final = re.compile(r"(?!\.\.?$)[A-Za-z0-9_.@-]{1,255}")
_FORMS: Final = '"file:PATH", "env:NAME" or "credential:NAME"'


def opened(path: Path) -> BinaryIO:
    """
    A regular file, open for reading.

    :raises Wrong: with the path and the reason, in words for a person.
    """
    try:
        if path.is_file():
            return path.open("rb")
        if path.exists():
            raise Wrong(f"{shown_path(path)} is no regular file; give the path of a file")
    except OSError as error:
        raise Wrong(_unreadable(path, error)) from None
    raise Wrong(f"{shown_path(path)} does not exist; correct the path, or make the file")


def read_file(path: Path) -> bytes:
    """
    The contents of a regular file of sensible size.

    :raises Wrong: as ``opened`` does.
    """
    with opened(path) as file:
        try:
            contents = file.read(LARGEST_FILE + 1)
        except OSError as error:
            raise Wrong(_unreadable(path, error)) from None
    if len(contents) > LARGEST_FILE:
        raise Wrong(f"{shown_path(path)} is larger than {LARGEST_FILE} bytes; give the path of the right file")
    return contents


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a configuration's paths and names lead; made anew for each reading of it."""

    directory: Path  #: relative paths start here
    environment: Mapping[str, str]

    def existing_file(self, value: object) -> Path:
        """A rule: a file that can be opened; what is in it is the owner's to judge."""
        path = self._path(text(value))
        opened(path).close()
        return path

    def existing_lists(self, value: object) -> Path:
        """A rule: a file that can be opened, or a directory of such that can be listed."""
        path = self._path(text(value))
        try:
            if path.is_dir():
                list(path.iterdir())
                return path
        except OSError as error:
            raise Wrong(_unreadable(path, error)) from None
        return self.existing_file(value)

    def new_file(self, value: object) -> Path:
        """A rule: a file that may come to be; the directory is its owner's to judge."""
        return self._path(_without_nul(text(value)))

    def directory_or_none(self, value: object) -> Path | None:
        """A rule: a directory that may come to be; empty is none."""
        return None if value == "" else self._path(_without_nul(text(value)))

    def api_keys(self, value: object) -> dict[str, Secret]:
        """A rule: API keys by name."""
        if not isinstance(value, Mapping):
            raise Wrong(
                f"must be a table of keys by name, and this is {type_name(value)}; "
                'write for example research = "env:RESEARCH_API_KEY" under [upstream.keys]'
            )
        if "" in value:
            raise Wrong("has a key without a name; give it one, for a client's upstream_key to say")
        return cast(dict[str, Secret], each(self.api_key, value.items()))

    def key(self, value: object) -> Secret:
        """A rule: a private key, byte for byte."""
        return Secret(self._resolve(value))

    def passphrase(self, value: object) -> Secret:
        """A rule: a passphrase; the line end that editors and ``echo`` add is not part of it."""
        return Secret(self._resolve(value).rstrip(b"\r\n"))

    def api_key(self, value: object) -> Secret:
        """A rule: an API key; the line end that editors and ``echo`` add is not part of it."""
        secret = self._resolve(value).rstrip(b"\r\n")
        if not secret:
            raise Wrong("what it names holds an empty line; put the API key there")
        if not all(0x21 <= byte <= 0x7E for byte in secret):
            raise Wrong(
                "what it names holds a space, a control character or one beyond ASCII; put the API key alone there"
            )
        return Secret(secret)

    def _path(self, given: str) -> Path:
        if not given:
            raise Wrong("names no file; give a path, relative to the configuration file")
        return self.directory / given

    def _resolve(self, value: object) -> bytes:
        if not isinstance(value, str):
            raise Wrong(f"must say where the secret is; write {_FORMS}")
        scheme, colon, name = value.partition(":")
        if colon and scheme == "file":
            found = read_file(self._path(name))
        elif colon and scheme == "env":
            found = self._variable(name)
        elif colon and scheme == "credential":
            found = self._credential(name)
        else:  # whatever it is, it may be the secret itself
            raise Wrong(f"must say where the secret is, and not hold it; write {_FORMS}")
        if not found.strip():
            raise Wrong(f"{scheme}: names something that is empty; put the secret there, or name another place")
        return found

    def _variable(self, name: str) -> bytes:
        if not _VARIABLE.fullmatch(name):
            raise Wrong('"env:" is not followed by the name of a variable; write for example "env:OPENAI_API_KEY"')
        if name not in self.environment:
            # Only what looks like a variable is repeated: people do paste the key itself here.
            variable = f"the environment variable {name}" if name.isupper() else "the environment variable"
            raise Wrong(f"{variable} is not set; set it, or name another place: {_FORMS}")
        return os.fsencode(self.environment[name])

    def _credential(self, name: str) -> bytes:
        if not _CREDENTIAL.fullmatch(name):
            raise Wrong(
                '"credential:" is not followed by the name of a credential; write for example "credential:api-key"'
            )
        directory = self.environment.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise Wrong(
                "there is no CREDENTIALS_DIRECTORY; systemd sets it for a unit with "
                f"LoadCredential={shown_name(name, 'NAME')}:PATH, elsewhere use file: or env:"
            )
        return read_file(Path(directory, name))


def _without_nul(path: str) -> str:
    if "\0" in path:
        raise Wrong("holds a character that no path has; correct the path")
    return path


def _unreadable(path: Path, error: OSError) -> str:
    return f"{shown_path(path)} cannot be read ({error.strerror}); correct the path or its permissions"
