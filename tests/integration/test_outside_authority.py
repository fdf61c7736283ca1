"""
An authority that is not ours: a root, an issuing authority under it, and several lists in one file, as companies have.

Everything of it is made by openssl; the relay reads the files that such an authority hands out.
"""

from __future__ import annotations

import shutil
import ssl
from dataclasses import replace
from datetime import timedelta
from http.client import HTTPSConnection
from pathlib import Path
from unittest import skipUnless

from openai_relay.service import RelayService
from tests import certificates
from tests.doubles import observe
from tests.integration.in_process import WITHIN, InProcessCase, get, in_thread
from tests.integration.outside_authority import Holder, OutsideAuthority, openssl


@skipUnless(shutil.which("openssl"), "openssl is not installed")
class OutsideAuthorityTests(InProcessCase):
    def setUp(self) -> None:
        super().setUp()
        self.standin = self.upstream()
        self.root = OutsideAuthority.make(self.directory / "root", "Corp Root")
        self.issuing = OutsideAuthority.make(self.directory / "issuing", "Corp Issuing", self.root)
        self.alice = self.issuing.client("alice")

    def serve(self, bundle: bytes, lists: bytes | None, crl: Path | None = None) -> RelayService:
        """A relay that trusts these authorities, with these lists, or those in a directory."""
        settings = self.settings(self.standin, crl=lists)
        path = self.directory / "bundle.pem"
        path.write_bytes(bundle)
        listen = replace(settings.listen, client_ca=path, crl=crl or settings.listen.crl)
        return self.start(replace(settings, listen=listen))

    def ask_as(self, service: RelayService, holder: Holder, *chain: OutsideAuthority) -> str:
        """The status, or the alert; sends the chain along if there is one."""
        tls = ssl.create_default_context(cadata=certificates.authority().pem.decode())
        sent = self.directory / "sent.pem"
        sent.write_bytes(b"".join([holder.certificate.read_bytes(), *(each.pem for each in chain)]))
        tls.load_cert_chain(sent, holder.key)
        connection = HTTPSConnection("127.0.0.1", int(service.address.rpartition(":")[2]), timeout=WITHIN, context=tls)
        try:
            return str(get(connection, "/v1/models")[0])
        except ssl.SSLError as error:
            return (error.reason or "").replace("_", " ").lower()
        finally:
            connection.close()

    async def asked(self, service: RelayService, holder: Holder, *chain: OutsideAuthority) -> str:
        return await in_thread(self.ask_as, service, holder, *chain)

    @property
    def both(self) -> bytes:
        return self.root.pem + self.issuing.pem

    async def test_bundle_and_lists(self) -> None:
        """With both authorities in the bundle and a list of each in one file, only who is revoked is refused."""
        bob = self.issuing.client("bob")
        self.issuing.revoke(bob.certificate)
        for lists in (self.root.crl() + self.issuing.crl(), self.issuing.crl() + b"\nof the root:\n" + self.root.crl()):
            service = self.serve(self.both, lists)
            for chain in ((), (self.issuing,)):
                self.assertEqual(await self.asked(service, self.alice, *chain), "200")
                self.assertIn("certificate revoked", await self.asked(service, bob, *chain))
        self.assertEqual(self.standin.counters.requests, 4)

    async def test_root_alone(self) -> None:
        """With the root alone in the bundle, a client has to send its issuing authority, whose list counts."""
        bob = self.issuing.client("bob")
        self.issuing.revoke(bob.certificate)
        service = self.serve(self.root.pem, self.root.crl() + self.issuing.crl())
        self.assertEqual(await self.asked(service, self.alice, self.issuing), "200")
        self.assertIn("certificate revoked", await self.asked(service, bob, self.issuing))
        self.assertIn("unknown ca", await self.asked(service, self.alice))

    async def test_list_of_the_issuing_authority_alone(self) -> None:
        """Who gets the issuing authority's list only has its clients checked, and reads at the start what is not."""
        bob = self.issuing.client("bob")
        self.issuing.revoke(bob.certificate)
        events = observe(self)
        service = self.serve(self.both, self.issuing.crl())
        (warning,) = (event["warning"] for event in events if "warning" in event)
        self.assertIn("holds no list of 'CN=Corp Root,O=Corp'", warning)
        self.assertEqual(await self.asked(service, self.alice), "200")
        self.assertIn("certificate revoked", await self.asked(service, bob))

    async def test_revoked_issuing_authority(self) -> None:
        """When the root revokes an issuing authority, its clients are refused with it, and those of another are not."""
        other = OutsideAuthority.make(self.directory / "other", "Corp Issuing 2", self.root)
        carol = other.client("carol")
        self.root.revoke(self.issuing.directory / "ca.pem")
        lists = self.root.crl() + self.issuing.crl() + other.crl()
        service = self.serve(self.both + other.pem, lists)
        self.assertIn("certificate revoked", await self.asked(service, self.alice))
        self.assertEqual(await self.asked(service, carol), "200")

    async def test_newer_list_behind_the_older(self) -> None:
        """Of two lists of one authority in a file the newer counts, wherever it stands."""
        bob = self.issuing.client("bob")
        old = self.issuing.crl(age=timedelta(hours=1))
        self.issuing.revoke(bob.certificate)
        new = self.issuing.crl()
        for lists in (old + new, new + old):
            service = self.serve(self.both, self.root.crl() + lists)
            self.assertIn("certificate revoked", await self.asked(service, bob))
            self.assertEqual(await self.asked(service, self.alice), "200")

    async def test_list_with_a_place(self) -> None:
        """A list that says where it is published (step-ca's do) counts for clients whose certificates say so too."""
        alice, bob = (self.issuing.client(name, "client_with_place") for name in ("al", "bo"))
        self.issuing.revoke(bob.certificate)
        service = self.serve(self.both, self.issuing.crl("list_with_place"))
        self.assertEqual(await self.asked(service, alice), "200")
        self.assertIn("certificate revoked", await self.asked(service, bob))

    async def test_list_with_a_place_that_certificates_do_not_name(self) -> None:
        """Where certificates name no place at all (step-ca's do not), a list that names one counts for them."""
        bob = self.issuing.client("bob")
        self.issuing.revoke(bob.certificate)
        for lists in (self.issuing.crl("list_with_place"), self.root.crl() + self.issuing.crl("list_with_place")):
            service = self.serve(self.both, lists)
            self.assertEqual(await self.asked(service, self.alice), "200")
            self.assertIn("certificate revoked", await self.asked(service, bob))
        self.assertEqual(self.standin.counters.requests, 2)

    async def test_list_with_another_place(self) -> None:
        """A certificate that names another place has its list there, which may call it revoked: it is refused."""
        carol = self.issuing.client("carol", "client_with_other_place")
        service = self.serve(self.both, self.issuing.crl("list_with_place"))
        self.assertIn("alert", await self.asked(service, carol))
        self.assertEqual(self.standin.counters.requests, 0)

    async def test_issuing_authority_alone(self) -> None:
        """A bundle may trust an issuing authority without the root above it, and so without what else is under that."""
        other = OutsideAuthority.make(self.directory / "other", "Corp Issuing 2", self.root)
        bob, carol = self.issuing.client("bob"), other.client("carol")
        self.issuing.revoke(bob.certificate)
        service = self.serve(self.issuing.pem, self.issuing.crl() + other.crl())
        for chain in ((), (self.issuing,), (self.issuing, self.root)):
            self.assertEqual(await self.asked(service, self.alice, *chain), "200")
            self.assertIn("certificate revoked", await self.asked(service, bob, *chain))
            self.assertIn("unknown ca", await self.asked(service, carol, other, *chain))
        self.assertEqual(self.standin.counters.requests, 3)

    async def test_lists_in_another_form(self) -> None:
        """A list may be in DER, as authorities publish them."""
        bob = self.issuing.client("bob")
        self.issuing.revoke(bob.certificate)
        service = self.serve(self.both, self.der(self.issuing))
        self.assertEqual(await self.asked(service, self.alice), "200")
        self.assertIn("certificate revoked", await self.asked(service, bob))

    async def test_directory_of_lists(self) -> None:
        """The lists may lie in a directory, each in a file and a form of its own; other files do not count."""
        bob = self.issuing.client("bob")
        self.issuing.revoke(bob.certificate)
        lists = self.directory / "lists"
        lists.mkdir()
        (lists / "root.pem").write_bytes(self.root.crl())
        (lists / "issuing.CRL").write_bytes(self.der(self.issuing))
        (lists / "README").write_text("fetched every hour")
        service = self.serve(self.both, None, crl=lists)
        self.assertEqual(await self.asked(service, self.alice), "200")
        self.assertIn("certificate revoked", await self.asked(service, bob))
        self.root.revoke(self.issuing.directory / "ca.pem")
        (lists / "root.pem").write_bytes(self.root.crl())
        self.assertIn("certificate revoked", await self.asked(self.serve(self.both, None, crl=lists), self.alice))

    def der(self, of: OutsideAuthority) -> bytes:
        """Its list in DER."""
        path = self.directory / "list.pem"
        path.write_bytes(of.crl())
        return openssl("crl", "-in", path, "-outform", "DER")
