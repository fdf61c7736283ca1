"""``Form``: a multipart body taken apart as it arrives; contents are counted and hashed, and kept only when small."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header  # type: ignore[import-untyped]

from openai_relay.standin.problems import Problem, invalid

#: Contents up to this are kept, so that they can be fetched again.
KEPT: Final = 1 << 20
#: A plain value is text for the API itself; nobody needs a longer one.
LONGEST_VALUE: Final = 1 << 20
MOST_PARTS: Final = 256


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that were received: all that is remembered of them."""

    length: int
    sha256: str
    kept: bytes | None  #: None: there were too many


@dataclass(frozen=True, slots=True)
class FilePart:
    """One uploaded file of a form."""

    filename: str
    content_type: str
    content: Content


@dataclass(slots=True)
class Form:
    """A form's values and files, each by name, the last one winning."""

    values: dict[str, str] = field(default_factory=dict)
    files: dict[str, FilePart] = field(default_factory=dict)

    def value(self, name: str) -> str:
        """
        A value that the form must have.

        :raises Problem: 400 when it is missing.
        """
        if name not in self.values:
            raise invalid(f"The form lacks the field '{name}'.", name, "missing_required_parameter")
        return self.values[name]

    def file(self, *names: str) -> FilePart:
        """
        The first file under one of the names.

        :raises Problem: 400 when there is none.
        """
        for name in names:
            if name in self.files:
                return self.files[name]
        raise invalid(f"The form lacks a file in the field '{names[0]}'.", names[0], "missing_required_parameter")


class Digest:
    """Counts and hashes what it is fed, and keeps it while it is short."""

    def __init__(self, keep: int = KEPT) -> None:
        self.length = 0
        self._keep = keep
        self._hash = hashlib.sha256()
        self._kept: list[bytes] | None = []

    def feed(self, block: bytes) -> None:
        """The next block."""
        self.length += len(block)
        self._hash.update(block)
        if self._kept is not None:
            self._kept.append(block)
            if self.length > self._keep:
                self._kept = None

    def content(self) -> Content:
        """All of it, in short."""
        kept = None if self._kept is None else b"".join(self._kept)
        return Content(self.length, self._hash.hexdigest(), kept)


class FormReader:
    """Feeds a multipart body to the parser, block by block."""

    def __init__(self, boundary: str) -> None:
        self.form = Form()
        self._parser = PushMultipartParser(boundary, max_segment_count=MOST_PARTS)
        self._segment: MultipartSegment | None = None
        self._digest = Digest()

    def feed(self, block: bytes) -> None:
        """
        The next block of the body.

        :raises Problem: 400 when it is not multipart.
        """
        try:
            for event in self._parser.parse(block):
                if isinstance(event, MultipartSegment):
                    self._segment = event
                    self._digest = Digest(KEPT if event.filename is not None else LONGEST_VALUE)
                elif event is None:
                    self._part_ended()
                else:
                    self._digest.feed(bytes(event))
        except MultipartError as error:
            raise _malformed(error) from error

    def close(self) -> Form:
        """
        The body has ended.

        :raises Problem: 400 when the form has not.
        """
        try:
            self._parser.close()
        except MultipartError as error:
            raise _malformed(error) from error
        return self.form

    def _part_ended(self) -> None:
        segment = self._segment
        assert segment is not None
        content = self._digest.content()
        name = segment.name or ""
        if segment.filename is not None:
            type_ = segment.content_type or "application/octet-stream"
            self.form.files[name] = FilePart(segment.filename, type_, content)
            return
        if content.kept is None:
            raise invalid(f"The field '{name[:64]}' is longer than {LONGEST_VALUE} bytes.", name[:64])
        self.form.values[name] = content.kept.decode("utf-8", "replace")


def boundary_of(content_type: bytes) -> str | None:
    """The boundary of a multipart body, or None when the type names another or no body."""
    kind, options = parse_options_header(content_type.decode("latin-1"))
    return options.get("boundary") or None if kind == "multipart/form-data" else None


def _malformed(error: MultipartError) -> Problem:
    return invalid(f"The body is not well-formed multipart/form-data: {error}.", None, "invalid_multipart")
