"""Codes: whole or not at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.enrolment_code import PIN_BYTES, SECRET_BYTES, BadCode, Code, digest_of, read_code

codes = st.builds(
    Code,
    st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES),
    st.none() | st.binary(min_size=PIN_BYTES, max_size=PIN_BYTES),
)


class CodeTests(SynchronousTestCase):
    @given(codes)
    def test_round_trip(self, code: Code) -> None:
        """A code that was written is read as it was meant, in capitals too, and with blanks and dashes within."""
        text = str(code)
        self.assertRegex(text, r"\A[a-z2-7]+\Z")
        for typed in (text, text.upper(), f" {text[:9]}-{text[9:20]} {text[20:]}\n"):
            self.assertEqual(read_code(typed), code)

    @given(codes, st.data())
    def test_any_damage(self, code: Code, data: st.DataObject) -> None:
        """A character that is another, missing or too many is noticed."""
        text = str(code)
        at = data.draw(st.integers(0, len(text) - 1))
        other = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567018!").filter(lambda each: each != text[at]))
        for damaged in (text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :], text[:at] + other + text[at:]):
            if damaged != text:
                self.assertRaises(BadCode, read_code, damaged)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """What is no code is refused, and nothing worse happens."""
        self.assertRaises(BadCode, read_code, text)

    def test_nothing_shows(self) -> None:
        """A code that is printed by mistake shows no secret, and neither does what it is filed under."""
        code = Code(b"s" * SECRET_BYTES, None)
        self.assertNotIn("sss", repr(code))
        self.assertNotIn(code.secret.hex(), digest_of(code.secret))
        self.assertEqual(len(digest_of(code.secret)), 64)
