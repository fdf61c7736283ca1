"""What becomes of a wish for a certificate."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority import profile
from openai_relay.authority.bundle import Bundle
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.issuing import BACKDATING, KeyMade, Wanted, check_days, given_names
from openai_relay.authority.names import AlternativeNames
from openai_relay.authority.place import Place
from tests.authority.test_profile import VALIDITY, new_signer

DAY = timedelta(days=1)


class IssuingTests(SynchronousTestCase):
    def test_validity(self) -> None:
        """A certificate begins a little in the past and ends as asked, but within its authority's life."""
        authority = new_signer().certificate
        begin, end = VALIDITY.not_before, VALIDITY.not_after
        middle = begin + 10 * DAY
        wanted = Wanted("client", "alice", [], 5)
        self.assertEqual(wanted.validity(middle, authority), profile.Validity(middle - BACKDATING, middle + 5 * DAY))
        self.assertEqual(wanted.validity(begin, authority).not_before, begin)
        self.assertEqual(wanted.validity(end - DAY, authority).not_after, end)
        self.assertEqual(wanted.asked(end - DAY), end + 4 * DAY)

    def test_names(self) -> None:
        """Names that are given count; without any, those that the name implies."""
        self.assertEqual(given_names("a.example", None), [x509.DNSName("a.example")])
        self.assertEqual(given_names("a.example", AlternativeNames(dns=("b",))), [x509.DNSName("b")])
        self.assertEqual(given_names("a.example", AlternativeNames()), [])

    def test_days(self) -> None:
        """Durations without sense are refused."""
        for days in (1, 36_500):
            check_days(days)
        for days in (0, -1, 36_501):
            self.assertIn("1 to 36500 days", str(self.assertRaises(AuthorityError, check_days, days)))

    def test_files_of_a_key(self) -> None:
        """Every file that holds a key is for its owner only, and the .p12 file is made when it is asked for."""
        signer, place = new_signer(), Place(Path("x"), "alice", renew=False)
        certificate = profile.leaf_certificate(signer, "client", signer.key.public_key(), "alice", [], VALIDITY)
        for bundle, names in ((None, ["alice.key"]), (Bundle("p", False), ["alice.key", "alice.p12"])):
            files = list(KeyMade(signer.key, bundle).files(place, "alice", certificate, signer.certificate))
            self.assertEqual([path.name for path, _, _ in files], names)
            self.assertEqual({mode for _, _, mode in files}, {0o600})
