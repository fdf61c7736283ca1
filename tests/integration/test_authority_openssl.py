"""What openssl makes of our files, and we of its: requests, .p12 files, encrypted keys, revocation lists."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.bundle import Bundle
from openai_relay.authority.directory import Authority
from openai_relay.authority.requests import read_request
from tests.authority.directories import new_directory
from tests.integration.outside_authority import openssl


@skipUnless(shutil.which("openssl"), "openssl is not installed")
class OpensslTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = new_directory(self)
        self.authority = Authority.create(self.directory / "ca", passphrase=lambda: b"secret")

    def request(self, *key: str, form: str = "PEM") -> bytes:
        path = self.directory / "x.csr"
        names = ("-subj", "/O=Else/CN=alice", "-addext", "subjectAltName=DNS:laptop")
        openssl("req", "-new", "-nodes", *key, *names, "-keyout", "/dev/null", "-outform", form, "-out", path)
        return path.read_bytes()

    def assertVerified(self, certificate: Path) -> None:
        """Openssl accepts it as a client's, at its strictest, with the list that is in force."""
        trusted = ("-CAfile", self.authority.certificate_path, "-CRLfile", self.authority.crl_path, "-crl_check")
        said = openssl("verify", "-x509_strict", "-purpose", "sslclient", *trusted, certificate)
        self.assertIn(b": OK", said)

    def test_requests(self) -> None:
        """Requests of openssl's, of each kind and form, become certificates that openssl accepts."""
        kinds = (
            ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"),
            ("-newkey", "rsa:2048"),
        )
        for number, kind in enumerate(kinds):
            for form in ("PEM", "DER"):
                request = read_request(self.request(*kind, form=form))
                place = self.authority.place_for(f"alice-{number}-{form}")
                signed = self.authority.sign_request(request, place=place, alternative=request.alternative())
                self.assertEqual((signed.issued.name, signed.issued.names), ("alice", ("DNS:laptop",)))
                self.assertVerified(place.certificate)

    def test_bundles(self) -> None:
        """Openssl opens both forms of .p12 file, and calls the old one by its algorithms."""
        for compatible, words, algorithm in (
            (False, (), b"PBES2, PBKDF2, AES-256-CBC"),
            (True, ("-legacy",), b"pbeWithSHA1And3-KeyTripleDES-CBC"),
        ):
            made = self.authority.issue_client(f"phone-{compatible}", bundle=Bundle("pass word", compatible))
            assert made.bundle is not None
            read = ("pkcs12", "-in", made.bundle, "-passin", "pass:pass word", "-nodes", *words)
            text = openssl(*read)
            self.assertEqual(text.count(b"BEGIN CERTIFICATE"), 2)
            self.assertIn(b"BEGIN PRIVATE KEY", text)
            info = subprocess.run(
                ["openssl", *map(str, read), "-info", "-noout"], capture_output=True, check=True, timeout=60
            ).stderr
            self.assertIn(algorithm, info)
            error = self.assertRaises(
                subprocess.CalledProcessError, openssl, "pkcs12", "-in", made.bundle, "-passin", "pass:x", *words
            )
            self.assertIn(b"mac verify", error.stderr.lower())

    def test_encrypted_key(self) -> None:
        """Openssl opens the authority's key by its passphrase, and takes one off or puts one on as the docs say."""
        path, plain = self.authority.directory / "ca.key", self.directory / "plain.key"
        openssl("pkey", "-in", path, "-passin", "pass:secret", "-out", plain)
        openssl("pkcs8", "-topk8", "-in", plain, "-scrypt", "-passout", "pass:other", "-out", path)
        Authority.open(self.authority.directory, passphrase=lambda: b"other").issue_client("alice")
        path.write_bytes(plain.read_bytes())
        Authority.open(self.authority.directory).issue_client("bob")
        self.assertVerified(self.authority.directory / "clients" / "bob.pem")

    def test_renewed_and_revoked(self) -> None:
        """A renewed certificate is accepted beside the old one; the list takes just the one that was revoked."""
        old = self.authority.issue_client("alice")
        kept = self.directory / "old.pem"
        kept.write_bytes(old.certificate.read_bytes())
        new = self.authority.renew("alice")
        for each in (kept, new.certificate):
            self.assertVerified(each)
        self.authority.revoke(old.issued.serial, "superseded")
        self.assertVerified(new.certificate)
        error = self.assertRaises(subprocess.CalledProcessError, self.assertVerified, kept)
        self.assertIn(b"certificate revoked", error.stderr + error.stdout)
