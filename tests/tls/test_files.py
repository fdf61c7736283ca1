"""Which files hold certificates and lists, and what is said of those that do not."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.tls.files import BadCertificateFile, read_certificates, read_lists
from tests.certificates import authority, client, intermediate, revocation_list


class FilesCase(SynchronousTestCase):
    """Has a directory."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)

    def write(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content)
        return path


class CertificateTests(FilesCase):
    def test_all_of_them(self) -> None:
        """Every certificate of a file is read, in its order, whatever stands between."""
        path = self.write("ca.pem", authority().pem + b"\nthe one below:\n" + intermediate().pem)
        found = read_certificates("listen.client_ca", path)
        self.assertEqual(found, [authority().certificate, intermediate().certificate])

    def test_none(self) -> None:
        """A file without one is named with its setting."""
        path = self.write("ca.pem", b"hello")
        error = self.assertRaises(BadCertificateFile, read_certificates, "listen.client_ca", path)
        self.assertEqual((error.key, error.path), ("listen.client_ca", path))
        self.assertIn("holds no certificate in PEM form", error.problem)


class ListTests(FilesCase):
    def complaint(self, path: Path) -> str:
        error = self.assertRaises(BadCertificateFile, read_lists, "listen.crl", path)
        return str(error).replace(str(self.directory), "DIRECTORY")

    def test_forms(self) -> None:
        """A list is read in PEM and in DER, and several of them from one file in PEM."""
        one, other = revocation_list(), revocation_list(issuer=authority("Other CA"))
        der = revocation_list(encoding=Encoding.DER)
        for content, count in ((one, 1), (one + b"and\n" + other, 2), (der, 1)):
            path = self.write("crl.pem", content)
            found = read_lists("listen.crl", path)
            self.assertEqual([each.path for each in found], [path] * count)
            self.assertEqual(found[0].crl.issuer, authority().certificate.subject)

    def test_something_else(self) -> None:
        """What is neither form, or another thing in either, is no list."""
        der = client().certificate.public_bytes(Encoding.DER)
        for content in (b"", b"hello", b"\x30\x00", der, client().pem, revocation_list()[:-60]):
            self.assertEqual(
                self.complaint(self.write("crl.pem", content)),
                "listen.crl: DIRECTORY/crl.pem: holds no revocation list, "
                "in PEM (-----BEGIN X509 CRL-----) or DER form",
            )

    def test_directory(self) -> None:
        """Of a directory every *.pem and *.crl is read, by name, and nothing else."""
        of_pem = self.write("b.pem", revocation_list())
        of_der = self.write("a.CRL", revocation_list(encoding=Encoding.DER))
        self.write("c.crl.tmp", b"half of it")
        found = read_lists("listen.crl", self.directory)
        self.assertEqual([each.path for each in found], [of_der, of_pem])

    def test_directory_with_something_else(self) -> None:
        """A file in it that is none would be a list that is missed: it is named, and so is a link to nowhere."""
        self.write("a.pem", revocation_list())
        wrong = self.write("b.pem", authority().pem)
        self.assertIn("DIRECTORY/b.pem: holds no revocation list", self.complaint(self.directory))
        wrong.unlink()
        (self.directory / "c.crl").symlink_to("nowhere")
        self.assertIn("DIRECTORY/c.crl: is no regular file", self.complaint(self.directory))
        (self.directory / "c.crl").unlink()
        os.mkfifo(self.directory / "d.crl")
        self.assertIn("DIRECTORY/d.crl: is no regular file", self.complaint(self.directory))

    def test_empty_directory(self) -> None:
        """A directory without a list is not taken for one that revokes nobody."""
        self.assertIn("is a directory without a revocation list", self.complaint(self.directory))

    def test_missing(self) -> None:
        """What is not there is told by the system's own words."""
        self.assertIn("cannot be read (No such file or directory)", self.complaint(self.directory / "crl.pem"))
