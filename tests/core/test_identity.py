"""Who a certificate is, and what its limits are counted under."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.identity import Identity, is_plain_name

ANNA = Identity("anna", "ab" * 32, "1f", 1_800_000_000.0)


class IdentityTests(SynchronousTestCase):
    """``Identity``."""

    def test_limits_by_certificate(self) -> None:
        """By certificate, two certificates of one name are counted apart."""
        renewed = Identity("anna", "cd" * 32, "20", 1_900_000_000.0)
        self.assertNotEqual(ANNA.limit_key("certificate"), renewed.limit_key("certificate"))

    def test_limits_by_name(self) -> None:
        """By name, certificates of one name are counted together, and those of others apart."""
        renewed = Identity("anna", "cd" * 32, "20", 1_900_000_000.0)
        boris = Identity("boris", "ab" * 32, "1f", 1_800_000_000.0)
        self.assertEqual(ANNA.limit_key("name"), renewed.limit_key("name"))
        self.assertNotEqual(ANNA.limit_key("name"), boris.limit_key("name"))

    def test_is_frozen(self) -> None:
        """An identity does not change once it is made."""
        with self.assertRaises(FrozenInstanceError):
            ANNA.name = "boris"  # type: ignore[misc]

    def test_equality(self) -> None:
        """Two readings of one certificate are the same identity, and one key in a table."""
        again = Identity("anna", "ab" * 32, "1f", 1_800_000_000.0)
        self.assertEqual({ANNA: 1}[again], 1)


class PlainNameTests(SynchronousTestCase):
    """``is_plain_name``."""

    def test_plain(self) -> None:
        """Names of people, hosts, devices and addresses are plain, in any script."""
        for name in ("anna", "Anna Müller", "spiffe://example.org/ci", "a@example.org", "жанна", "a" * 256):
            self.assertTrue(is_plain_name(name), name)

    def test_not_plain(self) -> None:
        """What is empty, too long, padded or unprintable is not."""
        for name in ("", "a" * 257, " anna", "anna ", "an\nna", "anna\r\nx: 1", "\x00", "an\u202ena", "\u200banna"):
            self.assertFalse(is_plain_name(name), name)

    @given(st.text(max_size=300))
    def test_a_plain_name_is_one_line(self, name: str) -> None:
        """No plain name can begin a second line or a second field."""
        if is_plain_name(name):
            self.assertEqual(name.splitlines(), [name])
            self.assertFalse(set(name) & {"\r", "\n", "\0", "\t"})
