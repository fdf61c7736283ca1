"""Files: uploaded, listed, fetched and deleted."""

from __future__ import annotations

from typing import Any

from openai.types import FileDeleted, FileObject
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.answer import Call
from openai_relay.standin.controls import Controls
from openai_relay.standin.files import MOST_FILES, MOST_KEPT, Files
from openai_relay.standin.forms import KEPT
from openai_relay.standin.problems import Problem
from tests.standin.asking import NOW, form, unary


class FilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.files = Files()
        self.number = 0

    def upload(self, content: bytes = b"content", purpose: str = "user_data", name: str = "a.txt") -> Any:
        self.number += 1
        sent = form(("purpose", None, purpose.encode()), ("file", name, content))
        return unary(self.files.upload(Call(Controls(), self.number, NOW, form=sent)))

    def about(self, identifier: str = "", /, **query: str) -> Call:
        return Call(Controls(), 99, NOW, parameter=identifier, query=tuple(query.items()))

    def listed(self, **query: str) -> tuple[list[str], bool]:
        told = unary(self.files.list(self.about(**query)))
        return [each["id"] for each in told["data"]], told["has_more"]

    def test_upload_satisfies_the_sdk(self) -> None:
        """An upload passes the SDK's own model and tells size and hash."""
        told = FileObject.model_validate(self.upload(b"hello"), strict=True)
        self.assertEqual((told.bytes, told.filename, told.purpose), (5, "a.txt", "user_data"))
        self.assertTrue(str(told.sha256).startswith("2cf24dba"))  # type: ignore[attr-defined]
        self.assertEqual(unary(self.files.retrieve(self.about(told.id))), told.model_dump())

    def test_content_comes_back(self) -> None:
        """A small file can be fetched as it was sent, under a name that cannot break the field."""
        stored = self.upload(b"\0\xff", name="a%22ü.txt")
        answer = self.files.content(self.about(stored["id"]))
        self.assertEqual(answer.body, b"\0\xff")
        self.assertEqual(answer.fields, ((b"Content-Disposition", b'attachment; filename="a__.txt"'),))

    def test_large_content_is_gone(self) -> None:
        """Of a large file only size and hash can be had, and the error says what can be had instead."""
        stored = self.upload(b"x" * (KEPT + 1))
        problem = self.assertRaises(Problem, self.files.content, self.about(stored["id"]))
        self.assertEqual(problem.status, 410)
        self.assertIn(stored["sha256"], str(problem))

    def test_generated_content(self) -> None:
        """``file-generated-N`` is there without an upload, with N bytes that are made as they are sent."""
        self.assertEqual(unary(self.files.retrieve(self.about("file-generated-1000000")))["bytes"], 1_000_000)
        answer = self.files.content(self.about("file-generated-1000000"))
        assert answer.blocks is not None
        self.assertEqual((answer.length, sum(map(len, answer.blocks))), (1_000_000, 1_000_000))

    def test_delete(self) -> None:
        """A deleted file is gone."""
        stored = self.upload()
        told = unary(self.files.delete(self.about(stored["id"])))
        self.assertTrue(FileDeleted.model_validate(told, strict=True).deleted)
        for ask in (self.files.retrieve, self.files.content, self.files.delete):
            problem = self.assertRaises(Problem, ask, self.about(stored["id"]))
            self.assertEqual((problem.status, problem.param), (404, "id"))

    def test_list(self) -> None:
        """Files are listed newest first, by purpose, in pages that go on after an id."""
        first, second, third = (self.upload(purpose=purpose)["id"] for purpose in ("batch", "vision", "batch"))
        self.assertEqual(self.listed(), ([third, second, first], False))
        self.assertEqual(self.listed(order="asc"), ([first, second, third], False))
        self.assertEqual(self.listed(purpose="batch"), ([third, first], False))
        self.assertEqual(self.listed(limit="2"), ([third, second], True))
        self.assertEqual(self.listed(limit="2", after=second), ([first], False))

    def test_wrong_requests(self) -> None:
        """A wrong purpose, limit or place in the list is refused by name."""
        for ask, param in (
            (lambda: self.upload(purpose="fun"), "purpose"),
            (lambda: self.listed(limit="0"), "limit"),
            (lambda: self.listed(after="nothing"), "after"),
        ):
            problem = self.assertRaises(Problem, ask)
            self.assertEqual((problem.status, problem.param), (400, param))

    def test_memory_is_bounded(self) -> None:
        """The oldest files are forgotten when there are too many, or too much of them is kept."""
        oldest = self.upload()["id"]
        for _ in range(MOST_FILES):
            self.upload(b"")
        self.assertRaises(Problem, self.files.retrieve, self.about(oldest))
        for _ in range(MOST_KEPT // KEPT + 1):
            self.upload(b"x" * KEPT)
        self.assertEqual(len(self.listed()[0]), MOST_KEPT // KEPT)
