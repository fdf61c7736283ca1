"""Accept: lists and bundles as companies have them; each finding of OpenSSL that is cleared is held in a handshake."""

from __future__ import annotations

from dataclasses import replace

from openai_relay.core.identity import Identity
from openai_relay.core.settings import ListenSettings
from openai_relay.tls.accepting import why_refused
from tests.certificates import DAY, Credential, authority, client, intermediate, place, revocation_list
from tests.test_listener import HandshakeCase

URL = "https://ca.example/1.0/crl"


class BundleCase(HandshakeCase):
    """Meets one client, and says what came of it, both where a handshake is refused and where a request is."""

    def bundle(self, *authorities: Credential, crl: bytes | None = None) -> ListenSettings:
        settings = self.listen(crl=crl)
        settings.client_ca.write_bytes(b"".join(each.pem for each in authorities))
        return settings

    def reason(self, settings: ListenSettings, credential: Credential) -> str:
        """Why a client is refused; empty: it is not."""
        listener = self.listener(settings)
        accepting, _ = self.meet(listener, credential)
        optional = self.listener(replace(settings, client_auth="optional"))
        let_pass, _ = self.meet(optional, credential)
        arrived = optional.arrived(let_pass.tls)
        self.assertEqual(accepting.handshaken, isinstance(arrived, Identity))
        if isinstance(arrived, Identity):
            return ""
        self.assertIn(why_refused(accepting.tls), arrived.told or "")
        return why_refused(accepting.tls)


class PlacedListTests(BundleCase):
    """A list that says where it is published, and clients whose certificates name no place."""

    def test_what_openssl_still_checks(self) -> None:
        """The list counts as any other: who is on it, whose it is, and when it ends."""
        bob = client("bob")
        for crl, reason in (
            (revocation_list(scope=place(URL)), ""),
            (revocation_list([bob], scope=place(URL)), "it has been revoked"),
            (revocation_list(scope=place(URL), next_update=-DAY / 24), "list of its authority is out of date"),
            (revocation_list(scope=place(URL), this_update=DAY), "is not in force yet"),
        ):
            found = self.reason(self.bundle(authority(), crl=crl), bob)
            self.assertIn(reason, found)
            self.assertEqual(bool(reason), bool(found))

    def test_newest_counts(self) -> None:
        """Of several lists of the place the newest counts."""
        bob = client("bob")
        old = revocation_list(scope=place(URL), this_update=-2 * DAY)
        new = revocation_list([bob], scope=place(URL))
        for crl in (old + new, new + old):
            self.assertEqual(self.reason(self.bundle(authority(), crl=crl), bob), "it has been revoked")
            self.assertEqual(self.reason(self.bundle(authority(), crl=crl), client()), "")

    def test_another_scope(self) -> None:
        """A certificate that names another place, or a list about authorities only, leaves the client refused."""
        elsewhere = client(place="https://ca.example/2")
        self.assertIn(
            "for certificates of another kind or place",
            self.reason(self.bundle(authority(), crl=revocation_list(scope=place(URL))), elsewhere),
        )
        crl = revocation_list(scope=place(URL, only_contains_ca_certs=True))
        self.assertIn("another kind or place", self.reason(self.bundle(authority(), crl=crl), client()))

    def test_one_authority_with_and_one_without(self) -> None:
        """Through an intermediate each certificate is held against the list of its own issuer."""
        between = intermediate()
        bob = client("bob", between)
        placed = revocation_list(issuer=between, scope=place(URL))
        bundle = (authority(), between)
        self.assertEqual(self.reason(self.bundle(*bundle, crl=revocation_list() + placed), bob), "")
        self.assertEqual(
            self.reason(self.bundle(*bundle, crl=revocation_list([between]) + placed), bob), "it has been revoked"
        )
        self.assertIn(
            "there is no revocation list of its authority", self.reason(self.bundle(*bundle, crl=placed), client())
        )


class IssuingAuthorityAloneTests(BundleCase):
    """A bundle without the root."""

    def test_alone(self) -> None:
        """The issuing authority is where the chain ends; what else is under the root is not trusted."""
        between, other = intermediate(), intermediate("Another intermediate")
        for crl in (None, revocation_list(issuer=between)):
            for credential in (client("bob", between), replace(client("bob", between), intermediates=())):
                self.assertEqual(self.reason(self.bundle(between, crl=crl), credential), "")
            self.assertIn("not one that this relay trusts", self.reason(self.bundle(between), client("eve", other)))
            self.assertIn("not one that this relay trusts", self.reason(self.bundle(between), client()))

    def test_revoked(self) -> None:
        """Its list is checked, and without it nobody is let in who needs one."""
        between = intermediate()
        bob = client("bob", between)
        crl = revocation_list([bob], issuer=between)
        self.assertEqual(self.reason(self.bundle(between, crl=crl), bob), "it has been revoked")
        bundle = self.bundle(between, authority("Own"), crl=revocation_list(issuer=authority("Own")))
        self.assertIn("there is no revocation list", self.reason(bundle, bob))

    def test_client_in_the_bundle(self) -> None:
        """A client's certificate that lies among the authorities is not trusted for being there."""
        stranger = client("eve", authority("Other CA"))
        self.assertIn("not one that this relay trusts", self.reason(self.bundle(intermediate(), stranger), stranger))

    def test_revoked_by_the_root_in_the_bundle(self) -> None:
        """Beside a whole chain nothing ends early: an authority that its root has revoked stays revoked."""
        between, partner = intermediate(), intermediate("Partner", authority("Partner root"))
        crl = b"".join([revocation_list([between]), revocation_list(issuer=between), revocation_list(issuer=partner)])
        bundle = self.bundle(authority(), between, partner, crl=crl)
        self.assertEqual(self.reason(bundle, client("bob", between)), "it has been revoked")
        self.assertIn("root is not one that this relay trusts", self.reason(bundle, client("pat", partner)))
