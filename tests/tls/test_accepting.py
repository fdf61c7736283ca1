"""The TLS context: which files are refused, and until when the others hold."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa, x25519
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.settings import IdentitySettings, ListenSettings, Secret, Settings, UpstreamSettings
from openai_relay.tls.accepting import load
from openai_relay.tls.files import BadCertificateFile
from tests import certificates
from tests.certificates import DAY, NOW, authority, client, revocation_list, server

HOUR = timedelta(hours=1)
#: What a relay made here by default calls its authority: another one of that name is easily mistaken for it.
NAMESAKE = authority(number=1)


class DirectoryCase(SynchronousTestCase):
    """Has a directory with the files of a relay."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)

    def listen(self, **others: Any) -> ListenSettings:
        return certificates.listen_settings(self.directory, **others)

    def settings(self, listen: ListenSettings, **identity: Any) -> Settings:
        return Settings(listen, identity=IdentitySettings(**identity), upstream=UpstreamSettings(api_key=Secret(b"k")))


class BadFileTests(DirectoryCase):
    """Files that cannot be used: the message names the key and the file, says why, and what to do."""

    def complaint(self, settings: ListenSettings) -> str:
        error = self.assertRaises(BadCertificateFile, load, settings)
        return str(error).replace(str(self.directory), "DIRECTORY")

    def test_good_files(self) -> None:
        """Good files make a context."""
        self.assertIsInstance(load(self.listen(crl=revocation_list())).context, SSL.Context)

    def test_missing(self) -> None:
        """A file that is not there is named with its key, whichever it is."""
        for key in ("certificate", "client_ca", "crl"):
            lost: dict[str, Any] = {key: self.directory / "lost.pem"}
            settings = replace(self.listen(crl=revocation_list()), **lost)
            self.assertEqual(
                self.complaint(settings),
                f"listen.{key}: DIRECTORY/lost.pem: cannot be read (No such file or directory); "
                "check the path and its owner",
            )

    def test_directory(self) -> None:
        """A directory in the place of a file is no file."""
        settings = replace(self.listen(), client_ca=self.directory)
        self.assertIn("cannot be read (Is a directory)", self.complaint(settings))

    def test_not_pem(self) -> None:
        """A file that is empty, garbage, DER, or a key, is no certificate."""
        der = server().certificate.public_bytes(serialization.Encoding.DER)
        for content in (b"", b"hello\n", b"\xff\xfe\x00", der, server().key_pem, revocation_list()):
            for key in ("certificate", "client_ca"):
                settings = self.listen()
                getattr(settings, key).write_bytes(content)
                self.assertEqual(
                    self.complaint(settings),
                    f"listen.{key}: DIRECTORY/{'server' if key == 'certificate' else 'ca'}.pem: "
                    "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
                )

    def test_damaged_certificate(self) -> None:
        """A certificate of which a part is missing is none."""
        settings = self.listen()
        settings.certificate.write_bytes(server().pem.replace(server().pem[100:200], b""))
        self.assertIn("holds no certificate", self.complaint(settings))

    def test_bad_key(self) -> None:
        """A key that is empty, garbage or encrypted is refused, and nothing of it is shown."""
        encrypted = server().private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
        for content in (b"", b"hello", server().pem, encrypted, b"\xff\x00"):
            self.assertEqual(
                self.complaint(replace(self.listen(), key=Secret(content))),
                "listen.key: is no private key in PEM form, or is encrypted; "
                "give it unencrypted, readable by its owner only",
            )

    def test_key_of_another_certificate(self) -> None:
        """A key that belongs to another certificate, of the same kind or not, is refused by name of the certificate."""
        of_no_use = x25519.X25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        of_rsa = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for content in (client().key_pem, of_no_use, of_rsa):
            self.assertEqual(
                self.complaint(replace(self.listen(), key=Secret(content))),
                "listen.key: does not belong to the certificate in DIRECTORY/server.pem, "
                "or is of a kind TLS cannot use",
            )

    def test_bad_crl(self) -> None:
        """A file that is empty, garbage or a certificate is no revocation list."""
        for content in (b"", b"hello", authority().pem, b"-----BEGIN X509 CRL-----\nhello\n-----END X509 CRL-----\n"):
            self.assertEqual(
                self.complaint(self.listen(crl=content)),
                "listen.crl: DIRECTORY/crl.pem: holds no revocation list, "
                "in PEM (-----BEGIN X509 CRL-----) or DER form",
            )

    def test_crl_of_another_authority(self) -> None:
        """A revocation list of an authority that is not trusted would shut everybody out."""
        self.assertEqual(
            self.complaint(self.listen(crl=revocation_list(issuer=authority("Other CA")))),
            "listen.crl: DIRECTORY/crl.pem: was issued by none of the authorities in DIRECTORY/ca.pem: "
            "nobody could connect",
        )

    def test_crl_of_a_namesake(self) -> None:
        """So would the list of another authority that has the same name, such as the one before."""
        self.assertEqual(
            self.complaint(self.listen(crl=revocation_list(issuer=NAMESAKE))),
            "listen.crl: DIRECTORY/crl.pem: was issued by an authority that has the name, but not the key, "
            "of one in DIRECTORY/ca.pem: nobody could connect",
        )

    def test_crl_beside_a_namesake(self) -> None:
        """Two trusted authorities may share a name, as after a change of key, and each may have its list."""
        settings = self.listen(crl=revocation_list() + revocation_list(issuer=NAMESAKE))
        settings.client_ca.write_bytes(authority().pem + NAMESAKE.pem)
        self.assertIsInstance(load(settings).context, SSL.Context)


class ExpiryTests(DirectoryCase):
    """What the listener knows about its own files."""

    def test_certificate(self) -> None:
        """It says when its own certificate expires."""
        self.assertEqual(load(self.listen()).certificate_expiry, server().certificate.not_valid_after_utc.timestamp())

    def test_revocation_lists(self) -> None:
        """It says when the first of its revocation lists is out of date, and nothing where there is none."""
        self.assertIsNone(load(self.listen()).crl_next_update)
        listen = self.listen(crl=revocation_list() + revocation_list(issuer=NAMESAKE, next_update=3 * DAY))
        listen.client_ca.write_bytes(authority().pem + NAMESAKE.pem)
        self.assertEqual(load(listen).crl_next_update, (NOW + 3 * DAY).timestamp())
