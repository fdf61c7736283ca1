"""A TOML file and its lines; what cannot be parsed is tried through ``load`` as well."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.config.documents import Document, failed, parsed
from openai_relay.config.problems import BadConfiguration


class ParsedTests(SynchronousTestCase):
    def test_values_and_lines(self) -> None:
        """A document has its values, and the line of each."""
        self.assertEqual(parsed(b"\xef\xbb\xbf\r\na = 1\r\n", "f"), Document({"a": 1}, {("a",): 2}))

    def test_no_toml(self) -> None:
        """What is no TOML, or no text, is told with the name that people call the file, and the line."""
        for contents, told in (
            (b"a = 1\nb\n", "f.toml:2: is not TOML: Expected '='"),
            (b"\n\xff", "f.toml:2: holds bytes that are not UTF-8; save the file as UTF-8"),
        ):
            bad = self.assertRaises(BadConfiguration, parsed, contents, "f.toml")
            self.assertTrue(bad.messages[0].startswith(told), bad.messages)

    def test_failed(self) -> None:
        """A file as a whole is blamed with or without a line."""
        self.assertEqual(str(failed("f", None, "is bad; mend it")), "f: is bad; mend it")
