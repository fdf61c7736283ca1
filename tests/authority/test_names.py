"""Which names a certificate may carry, and which file names follow."""

from __future__ import annotations

import re
from ipaddress import ip_address

from cryptography import x509
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.names import (
    LONGEST_NAME,
    AlternativeNames,
    client_name,
    dns_name,
    email_name,
    file_stem,
    host_names,
    implied_names,
    name_text,
    named,
    uri_name,
)


class ClientNameTests(SynchronousTestCase):
    def test_ordinary_names(self) -> None:
        """Names of people, machines and addresses pass as they are."""
        for name in ("alice", "alice@example.org", "Zoë's laptop", "build-7.ci", "山田", "a" * 64):
            self.assertEqual(client_name(name), name)

    def test_one_spelling(self) -> None:
        """Two ways to write the same letters are one name."""
        self.assertEqual(client_name("Zoe\u0308"), "Zoë")

    def test_refused(self) -> None:
        """What cannot be printed, stored or told apart is refused with the reason."""
        for name, reason in {
            "": "empty",
            "   ": "empty",
            "a" * 65: "65 bytes",
            "山" * 22: "66 bytes",
            "a\nb": "do not print",
            "a\x1b[31m": "do not print",
            "a\u202eb": "do not print",
            "../etc/passwd": "path separator",
            "a\\b": "path separator",
            ".hidden": "starts with a dot or a dash",
            "-rf": "starts with a dot or a dash",
            " alice": "space around it",
            "alice ": "space around it",
        }.items():
            error = self.assertRaises(AuthorityError, client_name, name)
            self.assertIn(reason, str(error))
            self.assertTrue(str(error).isprintable(), repr(name))

    @given(st.text(max_size=80))
    @example("a/../b")
    @example("\ud800")
    def test_what_passes_is_safe(self, text: str) -> None:
        """Whatever passes fits a CN, prints on one line, and is a single path component."""
        try:
            name = client_name(text)
        except AuthorityError:
            return
        self.assertTrue(0 < len(name) <= LONGEST_NAME and name.isprintable())
        self.assertFalse(set(name) & {"/", "\\", "\0"})
        x509.NameAttribute(x509.NameOID.COMMON_NAME, name)

    @given(st.text(min_size=1, max_size=64))
    def test_file_stem_is_safe(self, name: str) -> None:
        """A file name made from any name needs no quoting and never leaves its directory."""
        stem = file_stem(name)
        self.assertTrue(re.fullmatch(r"[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*|-?[0-9a-f]{8}", stem), stem)
        self.assertNotIn("/", stem)

    def test_file_stem_keeps_names_apart(self) -> None:
        """Names that look alike as files get different files, and plain names stay plain."""
        self.assertEqual(file_stem("alice@example.org"), "alice@example.org")
        self.assertNotEqual(file_stem("alice é"), file_stem("alice è"))
        self.assertTrue(file_stem("alice é").startswith("alice__-"))
        self.assertFalse(file_stem("..").startswith("."))


class AlternativeNameTests(SynchronousTestCase):
    def test_all_kinds_in_order(self) -> None:
        """Each kind becomes its own, as it was given."""
        names = AlternativeNames(dns=("A.example",), uri=("spiffe://x/alice",), email=("a@b.example",)).general_names()
        self.assertEqual(
            [name_text(name) for name in names], ["DNS:a.example", "URI:spiffe://x/alice", "email:a@b.example"]
        )

    def test_implied(self) -> None:
        """A name that is an e-mail address or a host name is an alternative name as well; another is not."""
        self.assertEqual(implied_names("alice@example.org"), AlternativeNames(email=("alice@example.org",)))
        self.assertEqual(implied_names("Laptop-7"), AlternativeNames(dns=("laptop-7",)))
        self.assertEqual(implied_names("Zoë's laptop"), AlternativeNames())

    def test_host_names(self) -> None:
        """Addresses and host names are told apart, wildcards allowed, and each stands once."""
        names = host_names(["localhost", "127.0.0.1", "::1", "*.example.org", "LOCALHOST"])
        self.assertEqual(
            names,
            [
                x509.DNSName("localhost"),
                x509.IPAddress(ip_address("127.0.0.1")),
                x509.IPAddress(ip_address("::1")),
                x509.DNSName("*.example.org"),
            ],
        )
        self.assertIn("needs a name", str(self.assertRaises(AuthorityError, host_names, [])))

    def test_refused_dns(self) -> None:
        """URLs, ports, other scripts and broken addresses are no host names."""
        for text in (
            *(
                "",
                "https://x.example",
                "x:443",
                "bücher.example",
                "a..b",
                "-a",
                "a-",
                "a" * 64,
                "1.2.3.400",
                "*.a",
                "a.",
            ),
            ".".join(["a" * 60] * 5),
        ):
            error = self.assertRaises(AuthorityError, dns_name, text)
            self.assertIn("not a host name", str(error))

    def test_refused_uri(self) -> None:
        """Only absolute URIs in ASCII pass."""
        self.assertEqual(uri_name("urn:example:alice"), "urn:example:alice")
        for text in ("", "alice", "//x/alice", "spiffe://ü/a", "http://a b", "http:", "http://[::1", "x://<>"):
            self.assertIn("not an absolute URI", str(self.assertRaises(AuthorityError, uri_name, text)))

    def test_refused_email(self) -> None:
        """Only plain addresses in ASCII pass."""
        self.assertEqual(email_name("alice+relay@example.org"), "alice+relay@example.org")
        for text in ("", "alice", "@example.org", "a b@example.org", "é@example.org", "a@", "a@b:25"):
            self.assertIn("not an e-mail address", str(self.assertRaises(AuthorityError, email_name, text)))

    @given(st.text(max_size=100))
    def test_what_passes_can_be_certified(self, text: str) -> None:
        """Whatever passes a check makes an alternative name."""
        for check, kind in ((dns_name, "dns"), (uri_name, "uri"), (email_name, "email")):
            try:
                check(text)
            except AuthorityError as error:
                self.assertLess(len(str(error)), 1000)
            else:
                self.assertEqual(len(AlternativeNames(**{kind: (text,)}).general_names()), 1)

    def test_text_of_foreign_kinds(self) -> None:
        """Kinds that we never issue are still shown."""
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
        self.assertEqual(name_text(x509.DirectoryName(subject)), "DirName:CN=x")
        self.assertEqual(name_text(x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))), "RegisteredID")
        self.assertEqual(name_text(x509.IPAddress(ip_address("::1"))), "IP:::1")

    def test_back_from_words(self) -> None:
        """The names that are issued here are found again from their words; others are refused."""
        for name in (
            x509.DNSName("*.a.example"),
            x509.IPAddress(ip_address("::1")),
            x509.IPAddress(ip_address("10.0.0.1")),
            x509.UniformResourceIdentifier("spiffe://x/alice:1"),
            x509.RFC822Name("a@b.example"),
        ):
            self.assertEqual(named(name_text(name)), name)
        for other in ("DirName:CN=x", "RegisteredID", ""):
            self.assertIn("cannot be renewed", str(self.assertRaises(AuthorityError, named, other)))
