"""What a person is told, and what is never repeated."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.config.problems import (
    LONGEST_SHOWN,
    BadConfiguration,
    Problem,
    did_you_mean,
    printable,
    shown,
    shown_path,
)


class ProblemTests(SynchronousTestCase):
    """One line for each thing to put right."""

    def test_place_key_and_sentence(self) -> None:
        """File, line and key stand before what is wrong."""
        problem = Problem("relay.toml", "listen.adress", "is not known; take it out", 4)
        self.assertEqual(str(problem), "relay.toml:4: listen.adress: is not known; take it out")

    def test_option(self) -> None:
        """A problem of the command line names the option alone."""
        self.assertEqual(str(Problem("--burst", None, "is empty", in_file=False)), "--burst: is empty")

    def test_ordered_by_line(self) -> None:
        """Problems are listed in the order of the file, and none twice."""
        last, first = Problem("f", "b", "is bad", 9), Problem("f", "a", "is bad", 2)
        bad = BadConfiguration([last, first, last])
        self.assertEqual(bad.messages, ["f:2: a: is bad", "f:9: b: is bad"])
        self.assertEqual(str(bad), "f:2: a: is bad\nf:9: b: is bad")

    def test_whose_fault(self) -> None:
        """It is known whether a file is at fault or only the command line."""
        typed, written = Problem("--crl", None, "is empty", in_file=False), Problem("f", None, "is empty", 1)
        self.assertTrue(BadConfiguration([typed]).only_options)
        self.assertFalse(BadConfiguration([typed, written]).only_options)


class ShownTests(SynchronousTestCase):
    """Values as messages repeat them."""

    def test_as_in_toml(self) -> None:
        """Text is quoted, and the booleans are TOML's."""
        self.assertEqual([shown(value) for value in ("a", True, False, 3, -1.5)], ['"a"', "true", "false", "3", "-1.5"])

    def test_secrets_are_not_repeated(self) -> None:
        """What looks like a key, a token or PEM is not shown, wherever it was written."""
        for secret in ("sk-proj-abcdef", "Bearer abc", "-----BEGIN PRIVATE KEY-----", "x sess-abcdef"):
            self.assertNotIn(secret, shown(secret))
            self.assertNotIn(secret, shown([secret]))
            self.assertNotIn(secret, shown_path(Path("/etc") / secret))

    def test_words_that_only_resemble_secrets(self) -> None:
        """A path with "task-list" in it is no secret, and is shown however long it is."""
        path = "/srv/" + "long/" * 40 + "task-list/disk-keys.pem"
        self.assertEqual(shown_path(Path(path)), f'"{path}"')

    def test_number_too_long_to_print(self) -> None:
        """An integer that Python refuses to print is not shown."""
        self.assertIn("not shown", shown(1 << 100_000))

    @settings(deadline=None)
    @given(st.text() | st.integers() | st.lists(st.text()))
    def test_one_short_printable_line(self, value: object) -> None:
        """Whatever the value is, nothing that moves a cursor or fills a screen is printed."""
        said = shown(value)
        self.assertTrue(said.isprintable())
        self.assertLessEqual(len(said), LONGEST_SHOWN)

    @settings(deadline=None)
    @given(st.text())
    def test_printable(self, text: str) -> None:
        """Names stay as they are unless a character of theirs cannot be printed."""
        self.assertTrue(printable(text).isprintable())
        if text.isprintable():
            self.assertEqual(printable(text), text)


class SuggestionTests(SynchronousTestCase):
    """Did you mean."""

    def test_slip(self) -> None:
        """A slip, a hyphen or a capital finds the known word."""
        known = ("client_ca", "address")
        for word in ("client-ca", "Client_CA", "cleint_ca"):
            self.assertEqual(did_you_mean(word, known), "client_ca")

    def test_nothing_close(self) -> None:
        """A word that resembles none gets no suggestion."""
        self.assertIsNone(did_you_mean("xyzzy", ("client_ca", "address")))
