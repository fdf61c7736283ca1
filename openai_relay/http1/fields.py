"""Header fields as they are on the wire: pairs of bytes, in their order and case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twisted.web.http_headers import Headers

Pair = tuple[bytes, bytes]


class FieldLines(Headers):
    """
    Field lines behind the face of `Headers`, for what speaks Twisted's API.

    `Headers` sorts, joins and re-cases; these lines pass through untouched.
    Made once and not changed: the setters of `Headers` do not reach ``pairs``.
    """

    __slots__ = ("pairs",)

    def __init__(self, pairs: Sequence[Pair]) -> None:
        # The dict of Headers is not made: it costs several microseconds and nobody reads it on the way through.
        self.pairs = pairs

    def getAllRawHeaders(self) -> Iterator[tuple[bytes, Sequence[bytes]]]:
        """Each line by itself, so that duplicates keep their places."""
        for name, value in self.pairs:
            yield name, [value]

    def getRawHeaders(self, name, default=None):  # type: ignore[no-untyped-def]
        """All values of one name, compared without case; ``str`` for a ``str`` name, as in `Headers`."""
        wanted = name.encode("ascii").lower() if isinstance(name, str) else name.lower()
        values = [value for other, value in self.pairs if other.lower() == wanted]
        if not values:
            return default
        return [value.decode("latin-1") for value in values] if isinstance(name, str) else values

    def hasHeader(self, name: str | bytes) -> bool:
        """Whether there is at least one line of that name."""
        return self.getRawHeaders(name) is not None

    def copy(self) -> FieldLines:
        """The same lines."""
        return FieldLines(self.pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FieldLines) and list(other.pairs) == list(self.pairs)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        # Values may be secrets.
        return f"FieldLines({[name for name, _ in self.pairs]!r})"


def pairs_of(headers: Headers | None) -> list[Pair]:
    """The lines of any `Headers`."""
    if headers is None:
        return []
    if isinstance(headers, FieldLines):
        return list(headers.pairs)
    return [(name, value) for name, values in headers.getAllRawHeaders() for value in values]
