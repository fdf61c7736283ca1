"""Issuing certificates, and what is printed to paste."""

from __future__ import annotations

import json
import shlex

from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12

from openai_relay.authority.directory import Authority
from openai_relay.authority.profile import key_pem, new_key
from openai_relay.authority.reading import read_certificate
from tests.authority.csrs import csr
from tests.authority.directories import contents
from tests.cli.commands import CommandCase, typed


class IssueTests(CommandCase):
    def test_lines_to_paste(self) -> None:
        """Each kind of client gets what it needs, with the paths of the files just written."""
        said = self.succeed("cert", "issue", "alice", "--url", "https://relay.example.org/v1/")
        certificate, key = self.file("clients/alice.pem"), self.file("clients/alice.key")
        self.assertIn("Issued to alice, good until ", said)
        self.assertIn(f"curl -N --cacert {self.file('ca.pem')} --cert {certificate} --key {key} ", said)
        self.assertIn(" https://relay.example.org/v1/chat/completions ", said)
        self.assertIn('    base_url="https://relay.example.org/v1",', said)
        self.assertIn(f'tls.load_cert_chain("{certificate}", "{key}")', said)
        self.assertIn(f'        cert: readFileSync("{certificate}"),', said)
        self.assertIn(f"export OPENAI_MTLS_PRIVATE_KEY={shlex.quote(str(key))}", said)
        self.assertIn("export OPENAI_BASE_URL=https://relay.example.org/v1", said)
        self.assertNotIn("PRIVATE KEY-----", said)

    def test_json(self) -> None:
        """Programs get the certificate, its files, and what to tell an SDK."""
        document = self.document("cert", "issue", "alice", "--days", 10, "--email", "alice@example.org")
        (issued,) = self.authority.issued()
        self.assertEqual(
            set(document),
            {"certificate", "certificate_file", "key_file", "p12_file", "ca_file", "shortened", "base_url"},
        )
        self.assertEqual(document["certificate"]["serial"], issued.serial)
        self.assertEqual(document["certificate"]["names"], ["email:alice@example.org"])
        self.assertEqual(document["certificate"]["days_left"], 9)
        self.assertEqual(document["base_url"], "https://localhost:8443/v1")
        self.assertEqual(read_certificate(self.file("clients/alice.pem"), "").serial_number, int(issued.serial, 16))

    def test_out(self) -> None:
        """The files go where they are wanted."""
        self.succeed("cert", "issue", "alice", "--out", self.file("elsewhere"))
        self.assertTrue(self.file("elsewhere/alice.key").is_file())

    def test_rsa(self) -> None:
        """An RSA key is made for who asks for it."""
        self.succeed("cert", "issue", "alice", "--rsa")
        self.assertEqual(self.document("cert", "show", self.file("clients/alice.pem"))["key"], "RSA 3072")

    def test_server(self) -> None:
        """A server's certificate is server.pem, and a renewal keeps its names."""
        said = self.succeed("cert", "issue", "relay.example.org", "--server", "--dns", "r.example.org", "--ip", "::1")
        self.assertIn("DNS:relay.example.org, DNS:r.example.org, IP:::1", said)
        self.assertIn("takes it up within a second", said)
        self.assertNotIn("curl", said)
        document = self.document("cert", "issue", "relay.example.org", "--server", "--renew")
        self.assertEqual(document["certificate_file"], str(self.file("server.pem")))
        self.assertEqual(document["certificate"]["names"], ["DNS:relay.example.org", "DNS:r.example.org", "IP:::1"])
        self.assertIsNone(document["base_url"])

    def test_renew(self) -> None:
        """The same name again is refused with a hint, and with --renew the files are replaced."""
        self.succeed("cert", "issue", "alice")
        before = contents(self.directory)
        self.assertIn("--renew", self.fail_with(1, "cert", "issue", "alice"))
        self.assertEqual(contents(self.directory), before)
        self.succeed("cert", "issue", "alice", "--renew")
        self.assertNotEqual(contents(self.directory)["clients/alice.pem"], before["clients/alice.pem"])

    def test_ends_with_the_authority(self) -> None:
        """Who asks for more than the authority has left is told what it got instead, not in the JSON's way."""
        result = typed("cert", "issue", "alice", "--days", 9_999, "--dir", self.directory)
        self.assertIn("before the 9999 days that were asked for", result.stderr)
        document = self.document("cert", "issue", "bob", "--days", 9_999)
        self.assertTrue(document["shortened"])

    def test_bad_input(self) -> None:
        """Names and durations that cannot be are refused in words, and options that do not fit as usage."""
        self.assertIn("path separator", self.fail_with(1, "cert", "issue", "../x"))
        self.assertIn("0 is not in the range", self.fail_with(2, "cert", "issue", "alice", "--days", 0))
        self.assertIn("not an e-mail address", self.fail_with(1, "cert", "issue", "alice", "--email", "x"))
        self.assertIn("not a host name", self.fail_with(1, "cert", "issue", "x y", "--server"))
        self.assertIn("add --server", self.fail_with(2, "cert", "issue", "alice", "--ip", "::1"))
        self.assertIn("not --uri", self.fail_with(2, "cert", "issue", "alice", "--server", "--uri", "a:b"))
        self.assertIn("NAME", self.fail_with(2, "cert", "issue"))
        self.assertEqual(self.authority.issued(), [])

    def test_request(self) -> None:
        """A request is certified without its key, by its CN or the name that is given, and the lines name its key."""
        key = new_key()
        self.file("laptop.csr").write_bytes(csr("alice", key=key))
        self.file("laptop.key").write_bytes(key_pem(key))
        said = self.succeed("cert", "issue", "--csr", self.file("laptop.csr"))
        self.assertIn("Issued to alice, ", said)
        self.assertIn("  key          where the request was made\n", said)
        self.assertIn(f" --cert {self.file('clients/alice.pem')} --key {self.file('laptop.key')} ", said)
        self.assertEqual(read_certificate(self.file("clients/alice.pem"), "").public_key(), key.public_key())
        self.assertFalse(self.file("clients/alice.key").exists())
        document = self.document("cert", "issue", "bob", "--csr", self.file("laptop.csr"))
        self.assertEqual((document["certificate"]["name"], document["key_file"]), ("bob", None))

    def test_request_on_standard_input(self) -> None:
        """A request can be piped in."""
        result = typed("cert", "issue", "--csr", "-", "--dir", self.directory, standard_input=csr("alice"))
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("\nalice.key below is the key that the request was made with.\n", result.stdout)
        result = typed("cert", "issue", "--csr", "-", "--dir", self.directory, standard_input=b"")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("standard input: This is not a certificate signing request", result.stderr)

    def test_names_of_a_request(self) -> None:
        """Alternative names of a request count for who asks for them only."""
        self.file("x.csr").write_bytes(csr("alice", alternative=[x509.DNSName("laptop")]))
        document = self.document("cert", "issue", "--csr", self.file("x.csr"), "--csr-names")
        self.assertEqual(document["certificate"]["names"], ["DNS:laptop"])
        document = self.document("cert", "issue", "bob", "--csr", self.file("x.csr"))
        self.assertEqual(document["certificate"]["names"], ["DNS:bob"])

    def test_bad_requests(self) -> None:
        """A request that is no good is refused in words, and nothing is issued for it."""
        self.file("x.csr").write_bytes(csr())
        self.assertIn("x.csr: The request has no CN", self.fail_with(1, "cert", "issue", "--csr", self.file("x.csr")))
        self.assertIn("There is no such file", self.fail_with(1, "cert", "issue", "--csr", self.file("no.csr")))
        self.assertIn("longer than any", self.fail_with(1, "cert", "issue", "--csr", "/dev/zero"))
        self.assertIn("a private key", self.fail_with(1, "cert", "issue", "a", "--csr", self.file("ca.key")))
        self.assertEqual(self.authority.issued(), [])

    def test_bundle(self) -> None:
        """Phones get a .p12 file with the password that is named, which is printed nowhere."""
        words = ("--p12-compat", "--p12-password-from", "env:P12", "--dir", self.directory)
        result = typed("cert", "issue", "alice", *words, environment={"P12": "hunter2"})
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn(f"  both in one  {self.file('clients/alice.p12')} ", result.stdout)
        self.assertIn("Phones and browsers", result.stdout)
        self.assertNotIn("hunter2", result.output)
        pkcs12.load_pkcs12(self.file("clients/alice.p12").read_bytes(), b"hunter2")
        result = typed("cert", "issue", "bob", *words, "--json", environment={"P12": "hunter2"})
        self.assertEqual(json.loads(result.stdout)["p12_file"], str(self.file("clients/bob.p12")))

    def test_bundle_without_a_password(self) -> None:
        """Where no password is to be had, nothing is issued, and the option is named."""
        self.assertIn("--p12-password-from file:PATH", self.fail_with(1, "cert", "issue", "alice", "--p12"))
        self.assertEqual(self.authority.issued(), [])

    def test_options_that_exclude_each_other(self) -> None:
        """Options that do not go together are a usage error that says which."""
        for words, reason in (
            (("--csr", "x", "--rsa"), "no key is made here"),
            (("--csr", "x", "--p12"), "no key is made here"),
            (("--csr-names",), "--csr-names needs --csr"),
            (("--csr", "x", "--csr-names", "--dns", "y"), "in place of --dns"),
            (("--server", "--csr", "x"), "are for clients"),
            (("--server", "--p12"), "are for clients"),
            (("--p12-password-from", "env:X"), "add --p12"),
        ):
            self.assertIn(reason, self.fail_with(2, "cert", "issue", "alice", *words))
        self.assertEqual(self.authority.issued(), [])

    def test_encrypted_authority(self) -> None:
        """The passphrase of the authority's key is found where it is said to be, or the way is told."""
        self.directory = Authority.create(self.file("x"), passphrase=lambda: b"secret").directory
        self.assertIn("Passphrase of ca.key: there is no terminal", self.fail_with(1, "cert", "issue", "alice"))
        self.file("pass").write_text("secret\n")
        self.succeed("cert", "issue", "alice", "--ca-passphrase-from", f"file:{self.file('pass')}")

    def test_no_authority(self) -> None:
        """Where there is no authority, the way to one is told."""
        result = typed("cert", "issue", "alice", "--dir", self.file("no"))
        self.assertEqual(result.exit_code, 1)
        self.assertIn("`openai-relay init`", result.stderr)

    def test_name_of_letters_that_move_the_cursor(self) -> None:
        """A path with control characters is printed escaped, and is still right as JSON."""
        out = self.file("a\x1b[2Jb")
        self.assertNotIn("\x1b", self.succeed("cert", "issue", "alice", "--out", out).split("curl")[0])
        document = json.loads(self.succeed("cert", "issue", "bob", "--out", out, "--json"))
        self.assertEqual(document["key_file"], str(out / "bob.key"))
