"""Forms that two readers would read in two ways are not read at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.form_look import FormScan, Model, boundary_of, settled
from tests.core.transcripts import pieces

PART = b'--edge\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
END = b"--edge--\r\n"


def found(body: bytes, where: list[int] | None = None) -> tuple[Model, str | None]:
    scan = FormScan("edge")
    for piece in pieces(body, where or []):
        scan.feed(piece)
    return scan.found(whole=True)


class FormLookTests(SynchronousTestCase):
    @given(st.lists(st.integers(0, len(PART + END))))
    def test_plain(self, where: list[int]) -> None:
        """A form as everybody writes it is read, wherever it is cut."""
        self.assertEqual(found(PART + END, where), (Model.KNOWN, "whisper-1"))

    @given(st.lists(st.integers(0, 20)))
    def test_preamble(self, where: list[int]) -> None:
        """What stands before the first boundary is passed over by some: then the model is hidden."""
        for before in (b"x", b"\r\n", b"--other\r\n", b"--edg\r\n"):
            self.assertEqual(found(before + PART + END, where)[0], Model.HIDDEN, before)

    def test_names(self) -> None:
        """So is it behind a name that is encoded, escaped, in pieces, or there twice."""
        for odd in (
            b"form-data; name*=utf-8''model",
            b'form-data; name*0="mo"; name*1="del"',
            b'form-data; name="model"; name="x"',
            b'form-data; name="mo\\del"',
        ):
            body = b"--edge\r\nContent-Disposition: %b\r\n\r\ngpt-5-pro\r\n" % odd + PART + END
            self.assertEqual(found(body)[0], Model.HIDDEN, odd)
        named = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nx\r\n'
        self.assertEqual(found(named + PART + END), (Model.KNOWN, "whisper-1"))

    def test_boundaries(self) -> None:
        """A boundary is taken only as everybody takes it; other bodies have none."""
        for content_type, boundary in {
            b"multipart/form-data; boundary=edge": "edge",
            b'Multipart/Form-Data;boundary="ed:ge"': "ed:ge",
            b"multipart/form-data; boundary=A,B": "",
            b'multipart/form-data; boundary="A B"': "",
            b"multipart/form-data; boundary=A\\B": "",
            b"multipart/form-data; boundary=a; charset=utf-8": "",
            b"multipart/mixed; boundary=edge": "",
            b"multipart/form-data": "",
        }.items():
            self.assertEqual(boundary_of(content_type), boundary, content_type)
        self.assertIsNone(boundary_of(b"application/json"))

    def test_settled(self) -> None:
        """One name is known, two are not, and none is absent only when all was seen."""
        for names, readable, whole, model in (
            (["a"], True, False, Model.KNOWN),
            (["a", "b"], True, True, Model.AMBIGUOUS),
            (["a"], False, True, Model.HIDDEN),
            ([None], True, True, Model.HIDDEN),
            ([], True, True, Model.ABSENT),
            ([], True, False, Model.HIDDEN),
        ):
            self.assertIs(settled(list(names), readable, whole)[0], model)
