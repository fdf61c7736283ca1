"""What authorities and lists come to: which do not fit, what is said about them, and which findings are in order."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.tls.files import BadCertificateFile, ListRead
from openai_relay.tls.trust import NO_LIST, OTHER_SCOPE, Places, Trust, trust
from tests.certificates import DAY, NOW, Credential, authority, client, intermediate, place, revocation_list

URL = "https://ca.example/1.0/crl"
PLACED = revocation_list(scope=place(URL))
PLACES = Places(Path("ca.pem"), "listen.crl")
ROOT, ISSUING = authority(), intermediate()
#: X509_V_ERR_CERT_HAS_EXPIRED
EXPIRED = 10


def trusted(*authorities: Credential, lists: tuple[bytes, ...] = ()) -> Trust:
    """What these come to."""
    read = [ListRead(Path(f"{number}.pem"), x509.load_pem_x509_crl(pem)) for number, pem in enumerate(lists)]
    return trust([each.certificate for each in authorities], read, PLACES)


class ListTests(SynchronousTestCase):
    """Lists that cannot be used are refused when they are loaded: with them in place, nobody could connect."""

    def complaint(self, *lists: bytes) -> str:
        return str(self.assertRaises(BadCertificateFile, trusted, ROOT, lists=lists))

    def test_kinds(self) -> None:
        """Lists that are not the whole truth about their authority are refused, each for its reason."""
        for scope, reason in (
            (place(indirect_crl=True), "speaks for other authorities (issuingDistributionPoint)"),
            (place(only_contains_attribute_certs=True), "is about attribute certificates"),
            (x509.DeltaCRLIndicator(1), "holds only what has changed since another list (a delta)"),
            (
                x509.IssuingDistributionPoint(
                    None, None, False, False, frozenset([x509.ReasonFlags.key_compromise]), False, False
                ),
                "leaves out some reasons",
            ),
        ):
            said = self.complaint(revocation_list(), revocation_list(scope=scope))
            self.assertIn("listen.crl: 1.pem: " + reason, said)

    def test_malformed(self) -> None:
        """So is one whose extensions cannot be read."""
        oid = x509.IssuingDistributionPoint.oid
        said = self.complaint(revocation_list(scope=x509.UnrecognizedExtension(oid, b"\x04")))
        self.assertIn("0.pem: is malformed", said)

    def test_of_others(self) -> None:
        """Lists of none of the authorities are refused; beside one that fits, they do no harm."""
        other = revocation_list(issuer=authority("Other CA"))
        self.assertIn("was issued by none of the authorities in ca.pem", self.complaint(other))
        self.assertEqual(len(trusted(ROOT, lists=(revocation_list(), other)).lists), 2)

    def test_of_a_namesake(self) -> None:
        """One of an authority that has the name and not the key is refused."""
        said = self.complaint(revocation_list(), revocation_list(issuer=authority(number=1)))
        self.assertIn("1.pem: was issued by an authority that has the name, but not the key", said)


class WarningTests(SynchronousTestCase):
    """What is in order, but hardly meant."""

    def test_nothing(self) -> None:
        """There is nothing to say where every authority has its list, or none is looked at."""
        lists = (revocation_list(), revocation_list(issuer=ISSUING))
        self.assertEqual(trusted(ROOT, ISSUING, lists=lists).warnings, ())
        self.assertEqual(trusted(ROOT, ISSUING).warnings, ())
        self.assertEqual(trusted(ISSUING).warnings, ())

    def test_without_list(self) -> None:
        """An authority without a list is named, for its clients are refused."""
        (warning,) = trusted(ROOT, ISSUING, lists=(revocation_list(),)).warnings
        self.assertIn("listen.crl holds no list of 'CN=Test intermediate': whoever has a certificate", warning)

    def test_without_the_one_above(self) -> None:
        """An issuing authority that stands alone beside others that do not is named, and nothing is trusted by it."""
        other = intermediate("Partner", authority("Partner root"))
        found = trusted(ROOT, ISSUING, other)
        (warning,) = found.warnings
        self.assertIn("ca.pem holds 'CN=Partner' without the authority above it, so its clients are refused", warning)
        self.assertEqual(found.alone, frozenset())


class AloneTests(SynchronousTestCase):
    """Where a chain may end though there is no root."""

    def test_issuing_authorities(self) -> None:
        """Issuing authorities without the root above them are trusted, beside roots that issue themselves."""
        partner = intermediate("Partner", authority("Partner root"))
        found = trusted(ISSUING, partner, authority("Own"))
        self.assertEqual(found.alone, {ISSUING.certificate, partner.certificate})

    def test_clients(self) -> None:
        """A client's certificate in the file is no authority, and does not become one."""
        self.assertEqual(trusted(ROOT, client()).alone, frozenset())

    def test_below_each_other(self) -> None:
        """With the one above it in the file, an issuing authority is not alone."""
        self.assertEqual(trusted(ROOT, ISSUING).alone, frozenset())

    def test_namesake_above(self) -> None:
        """An authority that only has the name of the one above is not above."""
        self.assertEqual(trusted(authority(number=1), ISSUING).alone, {ISSUING.certificate})

    def test_own_list(self) -> None:
        """Whether it is revoked itself nobody can know, and that is in order; for what is below it, a list must be."""
        found = trusted(ISSUING, lists=(revocation_list(issuer=ISSUING),))
        self.assertTrue(found.clears(NO_LIST, ISSUING.certificate))
        self.assertFalse(found.clears(NO_LIST, client("bob", ISSUING).certificate))
        self.assertFalse(found.clears(EXPIRED, ISSUING.certificate))


class PlaceTests(SynchronousTestCase):
    """Lists that say where they are published, and certificates that do not."""

    def clears(self, certificate: Credential, *lists: bytes) -> bool:
        return trusted(ROOT, lists=lists).clears(OTHER_SCOPE, certificate.certificate)

    def test_no_place(self) -> None:
        """A certificate that names no place has the one list of its authority, old ones of the same place aside."""
        self.assertTrue(self.clears(client(), PLACED))
        self.assertTrue(self.clears(client(), PLACED, revocation_list(this_update=-2 * DAY, scope=place(URL))))

    def test_another_place(self) -> None:
        """A certificate that names a place has its list there, whatever else there is."""
        self.assertFalse(self.clears(client(place="https://ca.example/2"), PLACED))

    def test_several_places(self) -> None:
        """With lists of several places, nobody knows on which of them the certificate would be."""
        self.assertFalse(self.clears(client(), PLACED, revocation_list(scope=place(URL + "/2"))))
        self.assertFalse(self.clears(client(), PLACED, revocation_list(scope=place(only_contains_ca_certs=True))))

    def test_kinds_of_certificates(self) -> None:
        """A list about authorities says nothing of clients, nor the other way round."""
        for limit, cleared in (
            ({"only_contains_ca_certs": True}, (False, True)),
            ({"only_contains_user_certs": True}, (True, False)),
        ):
            pem = revocation_list(scope=place(URL, **limit))
            self.assertEqual((self.clears(client(), pem), self.clears(ROOT, pem)), cleared)

    def test_without_a_place(self) -> None:
        """A list that is about authorities only, and names no place, is none for clients."""
        self.assertFalse(self.clears(client(), revocation_list(scope=place(only_contains_ca_certs=True))))

    def test_issuer(self) -> None:
        """The list of another authority does not count, be it a namesake's."""
        self.assertFalse(self.clears(client(issuer=authority("Other CA")), PLACED))
        self.assertFalse(self.clears(client(issuer=authority(number=1)), PLACED))

    def test_authorities_are_checked(self) -> None:
        """Authorities are checked where each has a list that speaks of them."""
        self.assertTrue(trusted(ROOT, lists=(PLACED,)).complete)
        users = revocation_list(scope=place(only_contains_user_certs=True))
        self.assertFalse(trusted(ROOT, lists=(users,)).complete)
        self.assertFalse(trusted(ROOT).complete)


class NextUpdateTests(SynchronousTestCase):
    """When the first list is out of date."""

    def test_newer_one(self) -> None:
        """A newer list stands in the place of the older one of its authority and place, and of no other."""
        old = revocation_list(this_update=-2 * DAY, next_update=-DAY)
        for lists, days in (
            ((old, revocation_list()), 30),
            ((revocation_list(), revocation_list(issuer=ISSUING, next_update=3 * DAY)), 3),
            ((revocation_list(), revocation_list(scope=place(URL), next_update=2 * DAY)), 2),
        ):
            self.assertEqual(trusted(ROOT, ISSUING, lists=lists).next_update, (NOW + days * DAY).timestamp())

    def test_none(self) -> None:
        """Without a list there is nothing to run out."""
        self.assertIsNone(trusted(ROOT).next_update)
