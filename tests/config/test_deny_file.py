"""Deny lists: the one in the configuration, and the one in a file of its own."""

from __future__ import annotations

from openai_relay.core.deny import deny_list
from tests.config.case import LISTEN, UPSTREAM, ConfigurationCase


class DenyFileTests(ConfigurationCase):
    """What a person may write, and what is said about the rest."""

    def test_both(self) -> None:
        """Whoever is on either list is denied."""
        (self.directory / "deny.txt").write_text("# lost in the train\nserial:1f\n")
        read = self.read(LISTEN + 'deny = ["name:phone"]\ndeny_file = "deny.txt"\n' + UPSTREAM)
        self.assertEqual(read.listen.denied, deny_list(["name:phone", "serial:1f"]))

    def test_none(self) -> None:
        """Without a list nobody is."""
        self.assertEqual(len(self.read(LISTEN + UPSTREAM).listen.denied), 0)

    def test_bad_entries(self) -> None:
        """Each bad entry is said with the place in the list, or with its own file and line."""
        (self.directory / "deny.txt").write_text("name:phone\nphone\n\nserial:q\n")
        self.assertComplaint(
            LISTEN + 'deny = ["phone", 1]\ndeny_file = "deny.txt"\n' + UPSTREAM,
            'FILE:5: listen.deny[1]: "phone" does not say what it is about; begin it with "name:", "serial:" or',
            "FILE:5: listen.deny[2]: must be text",
            f'{self.directory}/deny.txt:2: "phone" does not say what it is about',
            f'{self.directory}/deny.txt:4: "serial:q" is no serial number',
        )

    def test_no_list(self) -> None:
        """A word in the place of a list is refused with the way to write one."""
        self.assertComplaint(LISTEN + 'deny = "name:phone"\n' + UPSTREAM, "FILE:5: listen.deny: must be a list")

    def test_no_text(self) -> None:
        """A file that is no text is refused as a whole."""
        (self.directory / "deny.txt").write_bytes(b"\xff\xfe")
        self.assertComplaint(LISTEN + 'deny_file = "deny.txt"\n' + UPSTREAM, "FILE:5: listen.deny_file: ")
