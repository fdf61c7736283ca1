"""What may be replaced by a new certificate."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority import profile
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.place import Place
from tests.authority.directories import contents, new_directory
from tests.authority.test_profile import VALIDITY, new_signer


class PlaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self)
        self.signer = new_signer()
        self.authority = self.signer.certificate

    def put(self, kind: profile.Kind = "client", name: str = "alice", signer: profile.Signer | None = None) -> None:
        """An earlier certificate lies at alice.pem."""
        certificate = profile.leaf_certificate(
            signer or self.signer, kind, profile.new_key().public_key(), name, [], VALIDITY
        )
        (self.directory / "alice.pem").write_bytes(profile.certificate_pem(certificate))

    def refused(self, place: Place) -> str:
        before = contents(self.directory)
        error = self.assertRaises(AuthorityError, place.prepare, self.authority, "client", "alice")
        self.assertEqual(contents(self.directory), before)
        return str(error)

    def test_new(self) -> None:
        """A new place is made, with the directories above it."""
        place = Place(self.directory / "a" / "b", "alice", renew=False)
        self.assertIsNone(place.prepare(self.authority, "client", "alice"))
        self.assertEqual((place.certificate.parent, place.key.name), (self.directory / "a" / "b", "alice.key"))
        self.assertTrue(place.certificate.parent.is_dir())

    def test_either_file_is_in_the_way(self) -> None:
        """A certificate or a key that is there is not overwritten, and the message offers the ways out."""
        place = Place(self.directory, "alice", renew=False)
        for path in (place.certificate, place.key):
            path.write_bytes(b"precious")
            self.assertIn(f"{path}: This file already exists and is not overwritten.", self.refused(place))
            self.assertIn("--renew", self.refused(place))
            path.unlink()

    def test_renew(self) -> None:
        """An earlier certificate for the same client may be replaced; so may nothing at all."""
        place = Place(self.directory, "alice", renew=True)
        self.assertIsNone(place.prepare(self.authority, "client", "alice"))
        self.put()
        old = place.prepare(self.authority, "client", "alice")
        assert old is not None
        self.assertEqual(profile.certificate_pem(old), place.certificate.read_bytes())

    def test_renew_of_something_else(self) -> None:
        """Another client's certificate, a server's, another authority's, or no certificate at all stays."""
        place = Place(self.directory, "alice", renew=True)
        self.put(name="bob")
        self.assertIn("another certificate (a client's, for 'bob') and is not replaced", self.refused(place))
        self.put(kind="server")
        self.assertIn("(a server's, for 'alice')", self.refused(place))
        self.put(signer=new_signer())
        self.assertIn("is not replaced", self.refused(place))
        place.certificate.write_bytes(b"notes")
        self.assertIn("This is not a certificate", self.refused(place))

    def test_bundle_is_in_the_way(self) -> None:
        """A .p12 file that is there is not overwritten either, where another is wanted."""
        bundle = self.directory / "alice.p12"
        bundle.write_bytes(b"precious")
        place = Place(self.directory, "alice", renew=False, bundled=True)
        self.assertEqual(place.bundle, bundle)
        self.assertIn(f"{bundle}: This file already exists", self.refused(place))
        self.assertIsNone(Place(self.directory, "alice", renew=False).prepare(self.authority, "client", "alice"))

    def test_key_of_a_request(self) -> None:
        """A key beside a certificate that was requested for it is not in the way; another one is, and stays."""
        key = profile.new_key()
        place = Place(self.directory, "alice", renew=False)
        place.keep_key(key.public_key())
        place.key.write_bytes(profile.key_pem(key))
        self.assertIsNone(place.prepare(self.authority, "client", "alice", with_key=False))
        place.keep_key(key.public_key())
        error = self.assertRaises(AuthorityError, place.keep_key, profile.new_key().public_key())
        self.assertIn("alice.key: This key is not the one that the request was made with", str(error))

    def test_reserved(self) -> None:
        """Nobody's files are called like the authority's own, even when renewing."""
        for stem in ("ca", "crl"):
            self.assertIn("are the authority's own", self.refused(Place(self.directory, stem, renew=True)))
