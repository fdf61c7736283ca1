"""Requests, renewals, bundles and passphrases, on a directory of its own and a clock that is set."""

from __future__ import annotations

import stat
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from openai_relay.authority import profile
from openai_relay.authority.bundle import Bundle
from openai_relay.authority.directory import CLIENT_DAYS, SERVER_DAYS, Authority, Signed
from openai_relay.authority.names import AlternativeNames
from openai_relay.authority.reading import read_certificate, read_key
from openai_relay.authority.requests import read_request
from openai_relay.authority.revocations import CRL_DAYS
from tests.authority.csrs import csr
from tests.authority.directories import SetClock, contents
from tests.authority.test_directory import SECONDS, Case

EVERYTHING = (
    x509.BasicConstraints(ca=True, path_length=5),
    x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    x509.KeyUsage(False, False, False, False, False, True, True, False, False),
)


class RequestTests(Case):
    def sign(self, content: bytes, name: str | None = None) -> Signed:
        return self.authority.sign_request(read_request(content), name)

    def test_bytes_in_certificate_out(self) -> None:
        """A request becomes a certificate for its key, which is recorded and written nowhere else."""
        key = profile.new_key()
        signed = self.sign(csr("alice", key=key))
        self.assertEqual(signed.certificate.public_key(), key.public_key())
        self.assertTrue(self.authority.has_issued(signed.certificate))
        self.assertEqual((signed.issued.name, signed.file, signed.shortened), ("alice", None, False))
        self.assertEqual(signed.issued.not_after, SECONDS + timedelta(days=CLIENT_DAYS))
        self.assertEqual(self.reopen().issued(), [signed.issued])
        self.assertFalse((self.directory / "clients").exists())

    def test_nothing_is_believed(self) -> None:
        """Whatever a request asks for (authority, purposes, names), the certificate is a client's like any other."""
        content = csr("root", alternative=[x509.DNSName("relay.example.org")], extensions=EVERYTHING)
        signed = self.sign(content, "alice")
        extensions = signed.certificate.extensions
        self.assertFalse(extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        self.assertFalse(extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign)
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(purposes), [ExtendedKeyUsageOID.CLIENT_AUTH])
        self.assertEqual((signed.issued.name, signed.issued.names), ("alice", ("DNS:alice",)))
        self.assertEqual(signed.certificate.subject.rfc4514_string(), "CN=alice")

    def test_names_of_the_request(self) -> None:
        """Alternative names are taken from the request by who wants them, and checked like all others."""
        request = read_request(csr("alice", alternative=[x509.DNSName("Laptop")]))
        signed = self.authority.sign_request(request, alternative=request.alternative())
        self.assertEqual(signed.issued.names, ("DNS:laptop",))
        bad = read_request(csr("alice", alternative=[x509.DNSName("a b")]))
        self.refused(self.authority.sign_request, bad, alternative=bad.alternative())

    def test_refused_names(self) -> None:
        """A request without a name of its own needs one, and a bad name is refused whoever gives it."""
        self.assertIn("The request has no CN", self.refused(self.sign, csr()))
        self.assertIn("path separator", self.refused(self.sign, csr("a/b")))
        self.assertIn("path separator", self.refused(self.sign, csr("alice"), "a/b"))

    def test_put(self) -> None:
        """The certificate goes where it is wanted; what is there already is not overwritten."""
        key = profile.new_key()
        request = read_request(csr("alice", key=key))
        place = self.authority.place_for("alice")
        self.authority.sign_request(request, place=place)
        self.assertEqual(read_certificate(place.certificate, "").public_key(), key.public_key())
        self.assertFalse(place.key.exists())
        self.assertIn("already exists", self.refused(self.authority.sign_request, request, place=place))

    def test_another_key_beside_it(self) -> None:
        """A certificate is not put beside a key that it does not belong to."""
        self.authority.issue_client("alice")
        place = self.authority.place_for("alice", renew=True)
        request = read_request(csr("alice"))
        self.assertIn("not the one that the request", self.refused(self.authority.sign_request, request, place=place))


class RenewTests(Case):
    def test_same_names_new_key(self) -> None:
        """A renewal has the names of the old certificate and a new key, and the old one stays good."""
        names = AlternativeNames(("laptop",), ("spiffe://x/alice",), ("alice@example.org",))
        old = self.authority.issue_client("alice", alternative=names, days=30)
        before = read_key(old.key, "").public_key()
        self.clock.advance(days=20)
        new = self.authority.renew("alice")
        self.assertEqual((new.certificate, new.key), (old.certificate, old.key))
        self.assertEqual((new.issued.name, new.issued.names), ("alice", old.issued.names))
        self.assertNotEqual(read_key(new.key, "").public_key(), before)
        self.assertEqual(read_key(new.key, "").public_key(), read_certificate(new.certificate, "").public_key())
        self.assertEqual({each.state(self.clock.now) for each in self.authority.issued()}, {"valid"})
        self.assertEqual(new.issued.not_after, SECONDS + timedelta(days=20 + CLIENT_DAYS))

    def test_without_the_files(self) -> None:
        """What was handed over and deleted here is renewed all the same, by name, serial number or fingerprint."""
        old = self.authority.issue_client("alice", alternative=AlternativeNames(uri=("spiffe://x/alice",)))
        for which in ("alice", old.issued.serial, old.issued.fingerprint):
            old.certificate.unlink()
            old.key.unlink()
            self.assertEqual(self.authority.renew(which).issued.names, old.issued.names)

    def test_server(self) -> None:
        """A server's certificate is renewed in its place, with its names and the duration of its kind."""
        self.authority.issue_server(["localhost", "::1", "127.0.0.1"], stem="server")
        new = self.authority.renew("localhost")
        self.assertEqual(new.certificate, self.directory / "server.pem")
        self.assertEqual(new.issued.names, ("DNS:localhost", "IP:::1", "IP:127.0.0.1"))
        self.assertEqual(new.issued.not_after, SECONDS + timedelta(days=SERVER_DAYS))

    def test_expired(self) -> None:
        """A certificate that has expired is renewed, too: the operator decides."""
        self.authority.issue_client("alice", days=10)
        self.clock.advance(days=11)
        self.assertEqual(self.authority.renew("alice", days=5).issued.days_left(self.clock.now), 4)

    def test_revoked(self) -> None:
        """A revoked certificate is not renewed, with a new key or with a request."""
        old = self.authority.issue_client("alice")
        self.authority.revoke("alice")
        self.assertIn("was revoked", self.refused(self.authority.renew, "alice"))
        request = read_request(csr("alice"))
        self.assertIn("was revoked", self.refused(self.authority.renew_request, old.issued.serial, request))

    def test_by_request(self) -> None:
        """A request renews with its own key; names come from the old certificate, whatever it says."""
        key = profile.new_key()
        first = self.authority.sign_request(read_request(csr("alice", key=key)))
        request = read_request(csr("mallory", key=key, alternative=[x509.DNSName("mallory")]))
        signed = self.authority.renew_request(first.issued.serial, request)
        self.assertEqual((signed.issued.name, signed.issued.names), ("alice", ("DNS:alice",)))
        self.assertEqual(signed.certificate.public_key(), key.public_key())
        self.assertNotEqual(signed.issued.serial, first.issued.serial)


class BundleTests(Case):
    def test_file(self) -> None:
        """The .p12 file lies beside the others, for its owner only, with the same certificate."""
        made = self.authority.issue_client("alice", bundle=Bundle("secret", True))
        assert made.bundle is not None
        self.assertEqual(made.bundle, self.directory / "clients" / "alice.p12")
        self.assertEqual(stat.S_IMODE(made.bundle.stat().st_mode), 0o600)
        found = pkcs12.load_pkcs12(made.bundle.read_bytes(), b"secret")
        assert found.cert is not None
        self.assertEqual(found.cert.certificate, read_certificate(made.certificate, ""))
        self.assertIsNone(self.authority.issue_client("bob").bundle)

    def test_not_overwritten(self) -> None:
        """One that is there is replaced by a renewal only."""
        bundle = Bundle("secret", False)
        first = self.authority.issue_client("alice", bundle=bundle)
        first.certificate.unlink()
        first.key.unlink()
        self.assertIn("alice.p12: This file", self.refused(self.authority.issue_client, "alice", bundle=bundle))
        self.assertEqual(self.authority.renew("alice", bundle=bundle).bundle, first.bundle)


class PassphraseTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.directory = self.directory / "locked"
        self.asked = 0
        self.authority = Authority.create(self.directory, clock=self.clock, passphrase=self.passphrase)

    def passphrase(self) -> bytes:
        self.asked += 1
        return b"secret"

    def test_encrypted(self) -> None:
        """The key on the disk opens with the passphrase and not without."""
        content = (self.directory / "ca.key").read_bytes()
        self.assertRaises(TypeError, serialization.load_pem_private_key, content, None)
        serialization.load_pem_private_key(content, b"secret")

    def test_asked_to_sign(self) -> None:
        """Who signs is asked; who only reads is not."""
        self.asked = 0
        self.authority.issued()
        self.authority.crl()
        self.assertEqual(self.asked, 0)
        self.authority.issue_client("alice")
        self.assertEqual(self.asked, 1)

    def test_wrong(self) -> None:
        """A wrong passphrase, or none, issues, revokes and renews nothing."""
        self.authority.issue_client("alice")
        for passphrase, reason in ((lambda: b"wrong", "not this key's"), (None, "--ca-passphrase-from")):
            authority = Authority.open(self.directory, self.clock, passphrase)
            for command, words in (
                (authority.issue_client, ("bob",)),
                (authority.revoke, ("alice",)),
                (authority.renew, ("alice",)),
                (authority.refresh_crl, ()),
            ):
                self.assertIn(reason, self.refused(command, *words))

    def test_empty(self) -> None:
        """A key is not encrypted with nothing, and no authority is made then."""
        self.assertIn("is empty", self.refused(Authority.create, self.directory / "x", passphrase=lambda: b""))
        self.assertFalse((self.directory / "x").exists())


class RefreshTests(Case):
    def test_only_when_due(self) -> None:
        """The list is left alone until two thirds of its time have gone; then it is written, once."""
        before = contents(self.directory)
        due = self.authority.crl().due
        self.assertIsNone(self.authority.refresh_if_due(due - timedelta(seconds=1)))
        self.assertEqual(contents(self.directory), before)
        old = self.authority.crl()
        self.clock.now = due
        new = self.authority.refresh_if_due(due)
        assert new is not None
        self.assertEqual(self.authority.crl(), new)
        self.assertGreater((new.number, new.this_update), (old.number, old.this_update))
        self.assertEqual(new.next_update, due.replace(microsecond=0) + timedelta(days=CRL_DAYS))
        self.assertIsNone(self.authority.refresh_if_due(due))

    def test_lost(self) -> None:
        """A list that is lost is due, with all that was revoked."""
        self.authority.issue_client("alice")
        self.authority.revoke("alice")
        (self.directory / "crl.pem").unlink()
        new = self.authority.refresh_if_due(self.clock.now)
        assert new is not None
        self.assertEqual(new.revoked, 1)

    def test_issuing_leaves_it(self) -> None:
        """Issuing writes a list when a new one lasts a day longer, so that many certificates cost few lists."""
        clock = SetClock()
        authority = Authority.create(self.directory / "x", clock=clock)
        number = authority.crl().number
        clock.advance(hours=24)
        authority.issue_client("alice")
        self.assertEqual(authority.crl().number, number)
        clock.advance(seconds=1)
        authority.issue_client("bob")
        self.assertGreater(authority.crl().number, number)
        longer = authority.refresh_crl(100)
        clock.advance(days=60)
        authority.issue_client("carol")
        self.assertEqual(authority.crl(), longer)
