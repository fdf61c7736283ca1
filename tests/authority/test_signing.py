"""When an authority's key may sign."""

from __future__ import annotations

from datetime import timedelta

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority import profile
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.signing import LONGEST_PASSPHRASE, new_passphrase, open_signer
from tests.authority.directories import new_directory
from tests.authority.test_profile import VALIDITY, new_signer


class SignerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self)
        self.signer = new_signer()
        self.now = VALIDITY.not_before

    def put(self, key: profile.PrivateKey, passphrase: bytes | None = None) -> None:
        (self.directory / "ca.key").write_bytes(profile.key_pem(key, passphrase))

    def test_opens(self) -> None:
        """The key beside the certificate signs for it, with a passphrase or without."""
        for passphrase in (None, b"secret"):
            self.put(self.signer.key, passphrase)
            found = open_signer(self.directory, self.signer.certificate, self.now, lambda: b"secret")
            self.assertEqual(found.key.public_key(), self.signer.key.public_key())
            self.assertIs(found.certificate, self.signer.certificate)

    def test_nobody_to_ask(self) -> None:
        """An encrypted key signs nothing for who has no passphrase, and the way to give one is told."""
        self.put(self.signer.key, b"secret")
        error = self.assertRaises(AuthorityError, open_signer, self.directory, self.signer.certificate, self.now, None)
        self.assertIn("This key is encrypted. Give its passphrase with --ca-passphrase-from", str(error))

    def test_refused(self) -> None:
        """Another authority's key, and any time at which the authority is not in force, is refused."""
        self.put(profile.new_key())
        second = timedelta(seconds=1)
        for now, reason in (
            (self.now, "does not belong to ca.pem"),
            (VALIDITY.not_before - second, "Set the clock"),
            (VALIDITY.not_after + second, "The authority expired"),
        ):
            error = self.assertRaises(AuthorityError, open_signer, self.directory, self.signer.certificate, now, None)
            self.assertIn(reason, str(error))


class PassphraseTests(SynchronousTestCase):
    def test_new(self) -> None:
        """A new passphrase is what was given, within what OpenSSL can do."""
        self.assertIsNone(new_passphrase(None))
        for given in (b"x", b"x" * LONGEST_PASSPHRASE):
            self.assertEqual(new_passphrase(lambda given=given: given), given)  # type: ignore[misc]
        for given, reason in ((b"", "is empty"), (b"x" * (LONGEST_PASSPHRASE + 1), "longer than 1023 bytes")):
            error = self.assertRaises(AuthorityError, new_passphrase, lambda given=given: given)
            self.assertIn(reason, str(error))
