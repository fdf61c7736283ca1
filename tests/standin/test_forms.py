"""Multipart bodies, in any blocks."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.forms import KEPT, LONGEST_VALUE, Digest, FormReader, boundary_of
from openai_relay.standin.problems import Problem
from tests.standin.asking import BOUNDARY, form, multipart


def read(body: bytes, size: int) -> FormReader:
    reader = FormReader(BOUNDARY)
    for start in range(0, len(body), size):
        reader.feed(body[start : start + size])
    return reader


class FormTests(SynchronousTestCase):
    @given(st.binary(max_size=300), st.text(max_size=30), st.integers(1, 100))
    def test_blocks_do_not_matter(self, content: bytes, purpose: str, size: int) -> None:
        """However a form is cut into blocks, its values and files are the same."""
        body = multipart(("purpose", None, purpose.encode()), ("file", "a.bin", content))
        found = read(body, size).close()
        self.assertEqual(found.value("purpose"), purpose)
        part = found.file("file")
        self.assertEqual((part.filename, part.content.kept), ("a.bin", content))
        self.assertEqual(part.content.sha256, hashlib.sha256(content).hexdigest())

    def test_large_files_are_not_kept(self) -> None:
        """Of a file that is too large only size and hash remain."""
        content = b"x" * (KEPT + 1)
        told = read(multipart(("file", "big", content)), 65_536).close().file("file").content
        self.assertEqual((told.length, told.kept), (KEPT + 1, None))
        self.assertEqual(told.sha256, hashlib.sha256(content).hexdigest())

    def test_missing(self) -> None:
        """A field or file that is missing is named."""
        for ask, param in ((lambda: form().value("purpose"), "purpose"), (lambda: form().file("file"), "file")):
            problem = self.assertRaises(Problem, ask)
            self.assertEqual((problem.status, problem.param), (400, param))

    def test_long_value(self) -> None:
        """A plain value has a limit of its own."""
        body = multipart(("prompt", None, b"x" * (LONGEST_VALUE + 1)))
        self.assertEqual(self.assertRaises(Problem, read, body, 65_536).param, "prompt")

    def test_malformed(self) -> None:
        """What is not multipart, or breaks off, is 400."""
        whole = multipart(("file", "a", b"content"))
        for body in (b"\r\n--nothing", whole[:-6], whole.replace(b"Content-Disposition", b"Some(thing)"), b""):
            problem = self.assertRaises(Problem, lambda body=body: read(body, 1_000).close())
            self.assertEqual((problem.status, problem.code), (400, "invalid_multipart"))

    def test_many_parts(self) -> None:
        """A form cannot have parts without number."""
        body = multipart(*[("a", None, b"")] * 300)
        self.assertEqual(self.assertRaises(Problem, read, body, 65_536).status, 400)

    @given(st.binary(max_size=200), st.integers(1, 50))
    def test_any_bytes(self, body: bytes, size: int) -> None:
        """Any body is either a form or answered with 400."""
        try:
            read(body, size).close()
        except Problem as problem:
            self.assertEqual(problem.status, 400)


class BoundaryTests(SynchronousTestCase):
    def test_boundary(self) -> None:
        """The boundary is found, quoted or not, and only in multipart/form-data."""
        self.assertEqual(boundary_of(b"multipart/form-data; boundary=abc"), "abc")
        self.assertEqual(boundary_of(b'Multipart/Form-Data; charset=utf-8; boundary="a b"'), "a b")
        for other in (b"", b"application/json", b"multipart/form-data", b"multipart/mixed; boundary=x"):
            self.assertIsNone(boundary_of(other))


class DigestTests(SynchronousTestCase):
    @given(st.lists(st.binary(max_size=20)), st.integers(0, 60))
    def test_keeps_what_is_short(self, blocks: list[bytes], keep: int) -> None:
        """Length and hash are those of all blocks; the content is there exactly when it is short enough."""
        digest = Digest(keep)
        for block in blocks:
            digest.feed(block)
        whole = b"".join(blocks)
        told = digest.content()
        self.assertEqual((told.length, told.sha256), (len(whole), hashlib.sha256(whole).hexdigest()))
        self.assertEqual(told.kept, whole if len(whole) <= keep else None)
