"""
Decide whether a request's target is one that this relay forwards.

The target goes on untouched, so what counts is where any server behind the
relay may read it to lead.  A plain target has one reading.  Any other is
judged by all its readings: percent-decoded once or more, slashes merged, dot
segments and ``;parameters`` resolved, in whatever order.  It passes when each
of them is inside the allowed paths and none inside the denied.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

from openai_relay.core.errors import BadRequest, PathNotAllowed

#: Nothing in it can be read in two ways; the query is not a path and anything legal may stand there.
_PLAIN: Final = re.compile(rb"((?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9_~!$&'()*+,=:@.-]*+)++/?)(?:\?[!-\"$-\[\]-~]*)?")
_LEGAL: Final = re.compile(rb"/[!-\"$-\[\]-~]*")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ENCODED_SLASH: Final = re.compile(rb"%(2[Ff]|5[Cc])")
_SLASHES: Final = re.compile(rb"//+")
_PARAMETERS: Final = re.compile(rb";[^/]*")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")

#: What a check may read, so that it takes a few milliseconds at most.  A path of OpenAI's
#: has fewer than 200 bytes and one reading, rarely four: it needs a fraction of this.
_MOST_BYTES: Final = 8_192
_BYTES_PER_READING: Final = 128  #: the cost of a reading beside its length


class PathPolicy:
    """
    Which paths are forwarded; asked once for each request, before anything is sent.

    An entry stands for itself and all that is beneath it, with or without a
    slash at its end: ``/v1/`` allows ``/v1`` and ``/v1/models``, never
    ``/v1beta``.  What is denied wins, in any case of letters.

    :raises ValueError: for an entry that is no plain absolute path.
    """

    __slots__ = ("_allow", "_allowed_told", "_deny", "_refused_told")

    def __init__(self, allow: Iterable[str], deny: Iterable[str]) -> None:
        self._allow = tuple(_entry(text) for text in allow)
        self._deny = tuple(_entry(text).lower() for text in deny)
        names = ", ".join(entry.decode() for entry in self._allow) or "(none)"
        self._allowed_told = f"The relay does not allow this path. It forwards: {names}"
        self._refused_told = "The relay does not allow this path: its operator has denied it."

    @property
    def allowed(self) -> tuple[str, ...]:
        """What is allowed, each with a slash at its end."""
        return tuple(entry.decode() for entry in self._allow)

    def check(self, target: bytes, method: bytes = b"GET") -> None:
        """
        Let the target pass, in silence.

        :param target: in origin-form, or ``*`` for OPTIONS (RFC 9112 §3.2).
        :raises BadRequest: when it is no legal target.
        :raises PathNotAllowed: when it leads, in any reading, where it may not.
        """
        plain = _PLAIN.fullmatch(target)
        if plain is not None:
            self._judge(plain[1])
        elif target == b"*" and method == b"OPTIONS":
            self._judge(b"/")  # it asks about the server as a whole
        else:
            for path in readings(_path_of(target)):
                self._judge(path)

    def _judge(self, path: bytes) -> None:
        below = path + b"/"
        if not below.startswith(self._allow):
            raise PathNotAllowed(told=self._allowed_told)
        if _folded(below).startswith(self._deny):
            raise PathNotAllowed(told=self._refused_told)


def _entry(text: str) -> bytes:
    path = text.encode()
    if _LEGAL.fullmatch(path) is None or b"*" in path or not _has_one_reading(path):
        raise ValueError(
            f"{text!r} is no path that can be allowed or denied: write it from the first slash on and without "
            "?, *, %, ;, // or dot segments; all that is beneath it is meant, too"
        )
    return path.rstrip(b"/") + b"/"


def _path_of(target: bytes) -> bytes:
    """The path of a target that is legal but not plain."""
    if _LEGAL.fullmatch(target) is None:
        if not target.startswith(b"/"):
            raise BadRequest(told="The request target must begin with a slash.")
        raise BadRequest(
            told="The request target holds a character that must be percent-encoded "
            "(a space, a backslash, a #, a control character, or one outside ASCII)."
        )
    path = target.split(b"?", 1)[0]
    if _BAD_ESCAPE.search(path):
        raise BadRequest(told="The request path holds a % that is not followed by two hexadecimal digits.")
    return path


def readings(path: bytes) -> set[bytes]:
    """
    Every path that some server may take this one for, itself among them.

    :param path: of a legal target, without its query.

    :raises BadRequest: when one of them is not UTF-8, or holds a control character.
    :raises PathNotAllowed: when they are too many and too long to be read.
    """
    readings = {path}
    unread = [path]
    budget = _MOST_BYTES
    while unread:
        path = unread.pop()
        budget -= len(path) + _BYTES_PER_READING
        if budget < 0:
            raise PathNotAllowed(told="The relay does not allow this path: it can be read in too many ways.")
        if _CONTROL.search(path):
            raise BadRequest(told="The request path holds an encoded control character.")
        if not path.isascii() and not _is_utf8(path):
            raise BadRequest(told="The request path holds encoded bytes that are not UTF-8.")
        found = {read(path) for read in _READERS} - readings
        readings |= found
        unread.extend(found)
    return readings


def _has_one_reading(path: bytes) -> bool:
    return all(read(path) == path for read in _READERS)


def _decoded(path: bytes) -> bytes:
    return unquote_to_bytes(path)


def _decoded_in_segments(path: bytes) -> bytes:
    """Decoded, where an encoded slash is part of a name."""
    return unquote_to_bytes(_ENCODED_SLASH.sub(rb"%25\1", path))


def _merged(path: bytes) -> bytes:
    return _SLASHES.sub(b"/", path)


def _turned(path: bytes) -> bytes:
    return path.replace(b"\\", b"/")


def _without_parameters(path: bytes) -> bytes:
    return _PARAMETERS.sub(b"", path)


def _before_query(path: bytes) -> bytes:
    return path.replace(b"#", b"?").split(b"?", 1)[0]


def _resolved(path: bytes) -> bytes:
    """Dot segments removed (RFC 3986 §5.2.4)."""
    kept: list[bytes] = []
    *directories, last = path.split(b"/")[1:]
    for segment in directories:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if last == b"..":
        del kept[-1:]
    return b"/".join([b"", *kept, b"" if last in (b".", b"..") else last])


def _composed(path: bytes) -> bytes:
    """Look-alikes as the ASCII they are compatible with, where a server applies NFKC."""
    return path if path.isascii() else unicodedata.normalize("NFKC", path.decode()).encode()


def _folded(path: bytes) -> bytes:
    # Upper case first: it alone turns a dotless i and a long s into ASCII.
    return path.lower() if path.isascii() else path.decode().upper().lower().encode()


def _is_utf8(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True


_READERS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    _decoded,
    _decoded_in_segments,
    _merged,
    _turned,
    _without_parameters,
    _before_query,
    _resolved,
    _composed,
)
