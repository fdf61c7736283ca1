"""The authority's commands, on a directory of its own and a clock that is set."""

from __future__ import annotations

import multiprocessing
import ssl
import stat
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.directory import Authority, Credential, utc_now
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.names import AlternativeNames
from openai_relay.authority.reading import read_certificate, read_key, read_revocation_list
from openai_relay.authority.reasons import Reason
from openai_relay.authority.revocations import CRL_DAYS
from tests.authority.directories import NOW, SetClock, contents, new_directory

SECONDS = NOW.replace(microsecond=0)
REASONS: tuple[Reason, ...] = ("unspecified", "superseded")


def issue_some(directory: Path, prefix: str) -> None:
    """Issue five certificates, from a process of its own."""
    authority = Authority.open(directory, SetClock())
    for number in range(5):
        authority.issue_client(f"{prefix}{number}")


class Case(SynchronousTestCase):
    """An authority in a directory of its own."""

    def setUp(self) -> None:
        self.directory = new_directory(self) / "authority"
        self.clock = SetClock()
        self.authority = Authority.create(self.directory, days=1000, clock=self.clock)

    def reopen(self) -> Authority:
        return Authority.open(self.directory, self.clock)

    def refused(self, function: object, *args: object, **extra: object) -> str:
        """What a refusal says; it changes nothing."""
        assert callable(function)
        before = contents(self.directory)
        error = self.assertRaises(AuthorityError, function, *args, **extra)
        self.assertEqual(contents(self.directory), before)
        return str(error)

    def revoked_serials(self) -> set[str]:
        crl = read_revocation_list(self.directory / "crl.pem", "")
        return {f"{each.serial_number:x}" for each in crl}


class CreateTests(Case):
    def test_files(self) -> None:
        """A new authority has its four files, and nobody else may read its key."""
        names = {".lock", "ca.key", "ca.pem", "crl.pem", "index.jsonl"}
        self.assertEqual(set(contents(self.directory)), names)
        self.assertEqual(stat.S_IMODE((self.directory / "ca.key").stat().st_mode), 0o600)
        key = read_key(self.directory / "ca.key", "")
        self.assertEqual(key.public_key(), self.authority.certificate.public_key())

    def test_name(self) -> None:
        """No two authorities have one name, unless they are given one."""
        names = {Authority.create(self.directory / each).certificate.subject for each in "ab"}
        self.assertEqual(len(names), 2)
        given = Authority.create(self.directory / "c", "Example CA").certificate.subject
        self.assertEqual(given.rfc4514_string(), "CN=Example CA")

    def test_dates(self) -> None:
        """It is good from a few minutes ago, for clocks that are behind, for as long as asked."""
        certificate = self.authority.certificate
        self.assertEqual(certificate.not_valid_before_utc, SECONDS - timedelta(minutes=5))
        self.assertEqual(certificate.not_valid_after_utc, SECONDS + timedelta(days=1000))
        self.assertEqual(self.authority.not_after, SECONDS + timedelta(days=1000))

    def test_empty_list(self) -> None:
        """Its revocation list is there from the start, and good."""
        crl = self.authority.crl()
        self.assertEqual((crl.revoked, crl.path), (0, self.directory / "crl.pem"))
        self.assertLess(crl.this_update, NOW)
        self.assertEqual(crl.next_update, SECONDS + timedelta(days=CRL_DAYS))

    def test_never_overwrites(self) -> None:
        """A second authority in the same place is refused, whichever file is left of the first."""
        self.assertIn("ca.pem: This file already exists", self.refused(Authority.create, self.directory))
        for left in ("ca.pem", "ca.key", "crl.pem"):
            (self.directory / left).unlink()
            self.assertIn("already exists", self.refused(Authority.create, self.directory))
        (self.directory / "index.jsonl").unlink()
        Authority.create(self.directory)

    def test_refused_arguments(self) -> None:
        """A bad name or duration is refused before anything is made."""
        path = self.directory / "new"
        self.assertIn("do not print", self.refused(Authority.create, path, "a\nb"))
        for days in (0, -1, 36_501):
            self.assertIn("1 to 36500 days", self.refused(Authority.create, path, "CA", days))

    def test_opened_again(self) -> None:
        """An authority that is opened is the one that was made."""
        self.assertEqual(self.reopen().certificate, self.authority.certificate)

    def test_not_an_authority(self) -> None:
        """A directory without an authority, or with another certificate in its place, is said to be so."""
        error = self.assertRaises(AuthorityError, Authority.open, self.directory / "no")
        self.assertIn("no/ca.pem: There is no such file. Make an authority with `openai-relay init`", str(error))
        made = self.authority.issue_client("alice")
        (self.directory / "ca.pem").write_bytes(made.certificate.read_bytes())
        self.assertIn("not the certificate of an authority made here", self.refused(Authority.open, self.directory))

    def test_usual_clock(self) -> None:
        """Who gives no clock gets the time of day, with its zone."""
        self.assertEqual(utc_now().tzinfo, UTC)


class IssueTests(Case):
    def test_client(self) -> None:
        """A client gets a certificate that the authority has signed, and the key to it, private to its owner."""
        made = self.authority.issue_client("alice@example.org", days=10)
        self.assertEqual(made.certificate, self.directory / "clients" / "alice@example.org.pem")
        self.assertEqual(stat.S_IMODE(made.key.stat().st_mode), 0o600)
        certificate = read_certificate(made.certificate, "")
        self.assertTrue(self.authority.has_issued(certificate))
        self.assertEqual(read_key(made.key, "").public_key(), certificate.public_key())
        self.assertEqual(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value, "alice@example.org")
        self.assertEqual(made.issued.names, ("email:alice@example.org",))
        self.assertEqual(made.issued.not_after, SECONDS + timedelta(days=10))
        self.assertEqual(made.issued.not_before, SECONDS - timedelta(minutes=5))
        self.assertEqual(self.reopen().issued(), [made.issued])
        self.assertFalse(made.shortened)

    def test_alternative_names(self) -> None:
        """Names that are given stand in place of what the client's name implies."""
        names = AlternativeNames(uri=("spiffe://x/alice",), dns=("laptop",))
        made = self.authority.issue_client("alice", alternative=names)
        self.assertEqual(made.issued.names, ("DNS:laptop", "URI:spiffe://x/alice"))

    def test_server(self) -> None:
        """A server's certificate lies beside the authority's and carries every name."""
        made = self.authority.issue_server(["relay.example.org", "10.0.0.1"], key_type="rsa")
        self.assertEqual(made.certificate, self.directory / "relay.example.org.pem")
        self.assertEqual(made.issued.kind, "server")
        self.assertEqual(made.issued.names, ("DNS:relay.example.org", "IP:10.0.0.1"))

    def test_server_with_a_long_name(self) -> None:
        """A host name that no CN can hold stands among the alternative names."""
        host = f"{'a' * 60}.{'b' * 60}.example.org"
        made = self.authority.issue_server([host], stem="server")
        self.assertEqual((made.issued.name, made.issued.names), ("server", (f"DNS:{host}",)))

    def test_place(self) -> None:
        """Certificate and key go where they are wanted, under the name that is wanted."""
        made = self.authority.issue_client("alice", into=self.directory / "x" / "y", stem="client")
        self.assertEqual(made.key, self.directory / "x" / "y" / "client.key")

    def test_strange_name(self) -> None:
        """A name that is no file name gets a file name, and keeps its own in the certificate."""
        made = self.authority.issue_client("Zoë: laptop?")
        self.assertRegex(made.certificate.name, r"^Zo___laptop_-[0-9a-f]{8}\.pem$")
        self.assertEqual(made.issued.name, "Zoë: laptop?")

    def test_never_outlives_the_authority(self) -> None:
        """A certificate ends with its authority at the latest, and says when that was sooner than asked."""
        made = self.authority.issue_client("alice", days=1001)
        self.assertEqual(made.issued.not_after, self.authority.not_after)
        self.assertTrue(made.shortened)

    def test_refused(self) -> None:
        """A bad name, duration, or place, is refused and leaves no certificate behind."""
        issue = self.authority.issue_client
        self.assertIn("path separator", self.refused(issue, "../alice"))
        self.assertIn("1 to 36500 days", self.refused(issue, "alice", days=0))
        self.assertIn("not an absolute URI", self.refused(issue, "alice", alternative=AlternativeNames(uri=("x",))))
        self.assertIn("are the authority's own", self.refused(issue, "ca", into=self.directory, renew=True))
        self.assertIn("not a host name", self.refused(self.authority.issue_server, ["https://x"]))
        (self.directory / "file").write_bytes(b"")
        self.assertIn("Cannot create it", self.refused(issue, "alice", into=self.directory / "file" / "x"))

    def test_not_overwritten(self) -> None:
        """The same name again is refused while its files are there, unless it is renewed."""
        first = self.authority.issue_client("alice")
        self.assertIn("already exists", self.refused(self.authority.issue_client, "alice"))
        second = self.authority.issue_client("alice", renew=True)
        self.assertEqual(second.certificate, first.certificate)
        self.assertNotEqual(second.issued.serial, first.issued.serial)
        self.assertEqual(self.authority.issued(), [first.issued, second.issued])
        self.assertEqual(read_key(second.key, "").public_key(), read_certificate(second.certificate, "").public_key())

    def test_renewal_keeps_the_names(self) -> None:
        """A renewal that gives no alternative names keeps the old ones; one that does replaces them."""
        issue = self.authority.issue_client
        issue("alice", alternative=AlternativeNames(uri=("spiffe://x/alice",)))
        self.assertEqual(issue("alice", renew=True).issued.names, ("URI:spiffe://x/alice",))
        changed = issue("alice", renew=True, alternative=AlternativeNames(dns=("laptop",)))
        self.assertEqual(changed.issued.names, ("DNS:laptop",))
        serve = self.authority.issue_server
        serve(["localhost", "::1"])
        self.assertEqual(serve(["localhost"], renew=True).issued.names, ("DNS:localhost", "IP:::1"))
        self.assertEqual(serve(["localhost", "127.0.0.1"], renew=True).issued.names, ("DNS:localhost", "IP:127.0.0.1"))

    def test_expired_authority(self) -> None:
        """An authority that has expired issues nothing, and says since when."""
        self.clock.advance(days=1001)
        self.assertIn("The authority expired on 2033-03-11", self.refused(self.authority.issue_client, "alice"))

    def test_clock_before_the_authority(self) -> None:
        """A clock from before the authority's time is named, and nothing is issued by it."""
        self.clock.advance(days=-100)
        self.assertIn("clock says 2030-03-07 12:30 UTC", self.refused(self.authority.issue_client, "alice"))

    def test_wrong_key(self) -> None:
        """A key that belongs to another authority signs nothing."""
        other = Authority.create(self.directory / "other")
        (self.directory / "ca.key").write_bytes((other.directory / "ca.key").read_bytes())
        self.assertIn("does not belong to ca.pem", self.refused(self.authority.issue_client, "alice"))

    def test_missing_key(self) -> None:
        """Without its key the authority still lists, and issues nothing."""
        self.authority.issue_client("alice")
        (self.directory / "ca.key").unlink()
        self.assertEqual(len(self.authority.issued()), 1)
        self.assertIn("ca.key: There is no such file. Restore it", self.refused(self.authority.issue_client, "bob"))

    def test_lost_index(self) -> None:
        """Without its index the authority does nothing: a new list would un-revoke what was revoked."""
        (self.directory / "index.jsonl").unlink()
        for command in (self.authority.issued, self.authority.refresh_crl):
            self.assertIn("revocations would be forgotten", self.refused(command))
        self.assertIn("index.jsonl: There is no such file", self.refused(self.authority.issue_client, "alice"))

    def test_two_at_once(self) -> None:
        """Commands of several processes at once leave every certificate in the index."""
        start = multiprocessing.get_context("spawn")
        processes = [start.Process(target=issue_some, args=(self.directory, prefix)) for prefix in "ab"]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            self.assertEqual(process.exitcode, 0)
        names = {f"{prefix}{number}" for prefix in "ab" for number in range(5)}
        self.assertEqual({each.name for each in self.authority.issued()}, names)


class RevokeTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.authority.issue_client("alice", days=10)
        self.bob = self.authority.issue_client("bob")

    def test_by_every_name_it_has(self) -> None:
        """A certificate is found by name, serial, fingerprint (with colons too), and by its file."""
        fingerprint = self.alice.issued.fingerprint
        colons = ":".join(fingerprint[at : at + 2] for at in range(0, 64, 2)).upper()
        serial = self.alice.issued.serial
        for which in (
            "alice",
            serial,
            f"0x{serial.upper()}",
            f"00{serial}",
            fingerprint,
            colons,
            str(self.alice.certificate),
        ):
            self.assertEqual([each.serial for each in self.authority.revoke(which)], [serial])
        self.assertEqual(self.revoked_serials(), {serial})

    def test_index_and_list_agree(self) -> None:
        """A revocation stands in the index and in the list, with its time and reason."""
        (revoked,) = self.authority.revoke("alice", "key-compromise")
        self.assertEqual((revoked.revoked_at, revoked.reason), (SECONDS, "key-compromise"))
        self.assertEqual(self.reopen().issued(), [revoked, self.bob.issued])
        self.assertEqual(revoked.state(NOW), "revoked")
        entry = read_revocation_list(self.directory / "crl.pem", "").get_revoked_certificate_by_serial_number(
            int(revoked.serial, 16)
        )
        assert entry is not None
        self.assertEqual(entry.revocation_date_utc, SECONDS)
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        self.assertEqual(reason, x509.ReasonFlags.key_compromise)

    def test_name_means_all_of_it(self) -> None:
        """A name takes back everything that this client still holds, and nothing of another's."""
        renewed = self.authority.issue_client("alice", renew=True)
        revoked = self.authority.revoke("alice")
        self.assertEqual([each.serial for each in revoked], [self.alice.issued.serial, renewed.issued.serial])
        self.assertEqual(self.revoked_serials(), {self.alice.issued.serial, renewed.issued.serial})

    def test_twice(self) -> None:
        """Revoking again changes neither time nor reason, and writes the list anew."""
        (first,) = self.authority.revoke("alice", "superseded")
        (self.directory / "crl.pem").unlink()
        self.clock.advance(hours=1)
        self.assertEqual(self.authority.revoke("alice"), [first])
        self.assertEqual(self.revoked_serials(), {first.serial})

    def test_expired_by_name(self) -> None:
        """A name whose certificates have all expired is said to be so; a serial still works."""
        self.clock.advance(days=11)
        self.assertIn("have expired already", self.refused(self.authority.revoke, "alice"))
        self.assertEqual(len(self.authority.revoke(self.alice.issued.serial)), 1)

    def test_unknown(self) -> None:
        """What is no name, serial, fingerprint or file is refused, and so is another authority's certificate."""
        self.assertIn("'carol': No certificate has this name", self.refused(self.authority.revoke, "carol"))
        for which in ("", "0", ":", str(self.directory)):
            self.assertIn("No certificate", self.refused(self.authority.revoke, which))
        other = Authority.create(self.directory / "other", clock=self.clock).issue_client("alice")
        self.assertIn("from another authority", self.refused(self.authority.revoke, str(other.certificate)))
        self.assertIn("private key", self.refused(self.authority.revoke, str(self.alice.key)))

    def test_not_in_the_index(self) -> None:
        """A certificate that the index has lost is revoked all the same, by its file."""
        (self.directory / "index.jsonl").write_bytes(b"")
        (revoked,) = self.authority.revoke(str(self.alice.certificate))
        self.assertEqual((revoked.name, revoked.serial), ("alice", self.alice.issued.serial))
        self.assertEqual(self.revoked_serials(), {revoked.serial})
        self.assertEqual(self.authority.issued(), [revoked])

    def test_without_the_key(self) -> None:
        """Where the list cannot be signed, nothing is marked as revoked that is not."""
        (self.directory / "ca.key").unlink()
        self.assertIn("ca.key", self.refused(self.authority.revoke, "alice"))


class RevocationListTests(Case):
    def test_refreshed_by_every_command(self) -> None:
        """Issuing and revoking keep the list good for another month."""
        for command in (lambda: self.authority.issue_client("alice"), lambda: self.authority.revoke("alice")):
            self.clock.advance(days=20)
            command()
            self.assertEqual(
                self.authority.crl().next_update, self.clock.now.replace(microsecond=0) + timedelta(days=CRL_DAYS)
            )

    def test_later_and_larger(self) -> None:
        """Each list is later than the one before by a second at least, and has a larger number."""
        lists = [self.authority.crl(), *(self.authority.refresh_crl() for _ in range(20))]
        for before, after in pairwise(lists):
            self.assertGreaterEqual(after.this_update - before.this_update, timedelta(seconds=1))
            self.assertGreater(after.number, before.number)
        self.assertLessEqual(lists[-1].this_update, self.clock.now)

    def test_lost_list(self) -> None:
        """A list that was lost or damaged is made anew from the index, with a number that is larger still."""
        self.authority.issue_client("alice")
        self.authority.revoke("alice")
        number = self.authority.crl().number
        for damage in (lambda path: path.unlink(), lambda path: path.write_bytes(b"-----BEGIN X509 CRL-----")):
            damage(self.directory / "crl.pem")
            self.clock.advance(seconds=60)
            self.assertIn("`openai-relay crl`", self.refused(self.authority.crl))
            crl = self.authority.refresh_crl()
            self.assertEqual(crl.revoked, 1)
            self.assertGreater(crl.number, number)

    def test_days(self) -> None:
        """A list is good for as long as asked, within reason."""
        self.assertEqual(self.authority.refresh_crl(7).next_update, SECONDS + timedelta(days=7))
        self.assertIn("1 to 36500", self.refused(self.authority.refresh_crl, 0))

    def test_expired_certificates_leave_it(self) -> None:
        """A revoked certificate stays on the list until well after its end, and then goes."""
        self.authority.issue_client("alice", days=10)
        self.authority.revoke("alice")
        self.clock.advance(days=10 + CRL_DAYS)
        self.assertEqual(self.authority.refresh_crl().revoked, 1)
        self.clock.advance(days=CRL_DAYS)
        self.assertEqual(self.authority.refresh_crl().revoked, 0)
        self.assertEqual(self.authority.issued()[0].state(self.clock.now), "revoked")

    def test_clock_set_back(self) -> None:
        """After the clock was set back a list is good at once, although it is not later than the last."""
        self.clock.advance(days=10)
        number = self.authority.refresh_crl().number
        self.clock.advance(days=-5)
        crl = self.authority.refresh_crl()
        self.assertLessEqual(crl.this_update, self.clock.now)
        self.assertGreater(crl.number, number)

    def test_foreign_zone(self) -> None:
        """A clock in another zone makes the same dates."""
        east = datetime.fromisoformat("2030-06-15T14:30:45.678900+02:00")
        self.clock.now = east
        self.assertEqual(self.authority.refresh_crl().next_update, SECONDS + timedelta(days=CRL_DAYS))


class HandshakeTests(SynchronousTestCase):
    """What OpenSSL makes of the certificates, in memory and at its strictest."""

    def setUp(self) -> None:
        self.authority = Authority.create(new_directory(self) / "authority")
        self.server = self.authority.issue_server(["relay.example.org"])

    def shake_hands(self, credential: Credential) -> None:
        """
        Let a client with this certificate meet the server.

        :raises ssl.SSLError: either of the two is not satisfied.
        """
        strict = ssl.VerifyFlags.VERIFY_X509_STRICT
        accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        accepting.load_cert_chain(self.server.certificate, self.server.key)
        accepting.verify_mode = ssl.CERT_REQUIRED
        accepting.verify_flags |= strict | ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
        for trusted in (self.authority.certificate_path, self.authority.crl_path):
            accepting.load_verify_locations(trusted)
        calling = ssl.create_default_context(cafile=self.authority.certificate_path)
        calling.verify_flags |= strict
        calling.load_cert_chain(credential.certificate, credential.key)
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = calling.wrap_bio(down, up, server_hostname="relay.example.org")
        server = accepting.wrap_bio(up, down, server_side=True)
        for end in (client, server, client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue

    def test_accepted(self) -> None:
        """A client's certificate is accepted, with an ECDSA key and with an RSA key."""
        self.shake_hands(self.authority.issue_client("alice"))
        self.shake_hands(self.authority.issue_client("bob", key_type="rsa"))

    def test_refused(self) -> None:
        """A server's certificate is no client's; a revoked one is refused, and others go on."""
        self.assertIn("unsuitable", str(self.assertRaises(ssl.SSLError, self.shake_hands, self.server)))
        alice, bob = self.authority.issue_client("alice"), self.authority.issue_client("bob")
        self.authority.revoke("alice")
        self.assertIn("certificate revoked", str(self.assertRaises(ssl.SSLError, self.shake_hands, alice)))
        self.shake_hands(bob)


class HistoryTests(SynchronousTestCase):
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.tuples(st.sampled_from("ir"), st.sampled_from("abc"), st.integers(0, 40)), max_size=12))
    def test_list_is_what_the_index_says(self, history: list[tuple[str, str, int]]) -> None:
        """Whatever is issued and revoked in whatever order, the list holds just what was revoked and may be shown."""
        clock = SetClock()
        authority = Authority.create(new_directory(self) / "authority", clock=clock)
        revoked = set()
        for command, name, days in history:
            clock.advance(days=days)
            if command == "i":
                authority.issue_client(name, days=300, renew=True)
            elif any(each.name == name and clock.now <= each.not_after for each in authority.issued()):
                revoked |= {each.serial for each in authority.revoke(name, REASONS[days % 2])}
        marked = {each.serial for each in authority.issued() if each.state(clock.now) == "revoked"}
        kept = {each.serial for each in authority.issued() if clock.now < each.not_after + timedelta(days=2 * CRL_DAYS)}
        listed = {f"{each.serial_number:x}" for each in read_revocation_list(authority.crl_path, "")}
        self.assertEqual(marked, revoked)
        self.assertEqual(listed, revoked & kept)
