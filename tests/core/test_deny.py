"""The deny list: what an entry may look like, and whom it means."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.deny import BadEntry, DenyList, deny_list, entries_of
from openai_relay.core.identity import Identity

PHONE = Identity("phone", "a1" * 32, "1f3c9e", 0.0)
LAPTOP = Identity("laptop", "b2" * 32, "2e", 0.0)


class DenyListTests(SynchronousTestCase):
    """Whom a list means."""

    def test_each_kind(self) -> None:
        """A client is denied by its name, its serial number or its fingerprint, and nobody else is."""
        for entry in (
            "name:phone",
            "serial:1f3c9e",
            "serial:00:1F:3C:9E",
            "serial:0x1f3c9e",
            "sha256:" + "A1:" * 31 + "a1",
        ):
            denied = deny_list([entry])
            self.assertTrue(denied.denies(PHONE), entry)
            self.assertFalse(denied.denies(LAPTOP), entry)

    def test_together(self) -> None:
        """Two lists together deny whom either denies."""
        both = deny_list(["name:phone"]) | deny_list(["serial:2e"])
        self.assertTrue(both.denies(PHONE) and both.denies(LAPTOP))
        self.assertEqual((len(both), len(DenyList())), (2, 0))

    def test_bad_entries(self) -> None:
        """What could mean nobody, or somebody else, is refused with what to write instead."""
        for entry, told in {
            "phone": 'begin it with "name:"',
            "": "does not say what it is about",
            "CN:phone": "does not say what it is about",
            "name:": "names nobody",
            "name: phone": "names nobody",
            "serial:": "hex digits",
            "serial:xyz": "hex digits",
            "serial:" + "1" * 41: "hex digits",
            "sha256:a1": "64 hex digits",
            "sha256:" + "g" * 64: "64 hex digits",
            "sha1:" + "a" * 40: "does not say what it is about",
        }.items():
            with self.assertRaises(BadEntry, msg=entry) as caught:
                deny_list([entry])
            self.assertIn(told, str(caught.exception))

    @given(st.text())
    def test_any_text(self, entry: str) -> None:
        """Whatever is written is either understood or refused."""
        try:
            self.assertEqual(len(deny_list([entry])), 1)
        except BadEntry:
            pass

    @given(st.from_regex(r"[0-9a-f]{1,40}", fullmatch=True))
    def test_any_serial_number(self, digits: str) -> None:
        """A serial number is found however many zeros lead it."""
        serial = f"{int(digits, 16):x}"
        self.assertTrue(deny_list([f"serial:{digits}"]).denies(Identity("x", "c" * 64, serial, 0.0)))

    def test_lines(self) -> None:
        """A file has an entry to a line; blank lines and comments are passed over, and lines keep their numbers."""
        text = "# lost\n\n name:phone \r\nserial:2e\n"
        self.assertEqual(list(entries_of(text)), [(3, "name:phone"), (4, "serial:2e")])
