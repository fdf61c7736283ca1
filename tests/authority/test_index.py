"""The record of what was issued."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority import profile
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.index import Issued, common_name, dump_index, load_index, record
from tests.authority.directories import NOW
from tests.authority.test_profile import START, VALIDITY, new_signer

PATH = Path("index.jsonl")
SAMPLE = Issued("client", "alice", "1f", "ab" * 32, VALIDITY.not_before, VALIDITY.not_after, ("DNS:alice",))


class IndexTests(SynchronousTestCase):
    @given(
        st.lists(
            st.builds(
                replace,
                st.just(SAMPLE),
                name=st.text(),
                serial=st.integers(1, 1 << 159).map("{:x}".format),
                names=st.tuples(st.text()),
                revoked_at=st.none() | st.just(START),
                reason=st.none() | st.just("key-compromise"),
            )
        )
    )
    def test_round_trip(self, index: list[Issued]) -> None:
        """Whatever was written is read again, a line each."""
        content = dump_index(index)
        self.assertEqual(load_index(content, PATH), index)
        self.assertEqual(content.count(b"\n"), len(index))

    def test_damaged_line(self) -> None:
        """A line that cannot be read is an error with its number: to skip it would un-revoke."""
        good = dump_index([SAMPLE])
        for bad in (b"{", b"[]", b"{}", b"", b"\xff", good.replace(b"Z", b""), good.replace(b'"1f"', b'"xyz"')):
            content = good + bad.rstrip(b"\n") + b"\n" + good
            error = self.assertRaises(AuthorityError, load_index, content, PATH)
            self.assertIn("index.jsonl: Line 2 of the list of issued certificates", str(error))
            self.assertIn("Restore the file from a backup", str(error))

    @given(st.binary(max_size=200))
    def test_any_bytes(self, content: bytes) -> None:
        """No file, however damaged, ends in anything but an index or an error for people."""
        try:
            load_index(content, PATH)
        except AuthorityError:
            pass

    def test_record(self) -> None:
        """A certificate's line says what the certificate says, by the names that the relay logs."""
        certificate = profile.leaf_certificate(
            new_signer(), "server", profile.new_key().public_key(), "relay", [x509.DNSName("localhost")], VALIDITY
        )
        issued = record(certificate)
        self.assertEqual((issued.kind, issued.name, issued.names), ("server", "relay", ("DNS:localhost",)))
        self.assertEqual(int(issued.serial, 16), certificate.serial_number)
        self.assertEqual(issued.fingerprint, certificate.fingerprint(hashes.SHA256()).hex())
        self.assertEqual((issued.not_before, issued.not_after), (VALIDITY.not_before, VALIDITY.not_after))

    def test_record_of_a_plain_certificate(self) -> None:
        """A certificate without purposes and alternative names has a line too."""
        issued = record(new_signer().certificate)
        self.assertEqual((issued.kind, issued.name, issued.names), ("client", "Test CA", ()))

    def test_name_without_a_cn(self) -> None:
        """Where there is no CN, the whole subject is the name."""
        subject = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Example")])
        self.assertEqual(common_name(subject), "O=Example")

    def test_states(self) -> None:
        """A certificate is not yet valid, valid, expired, or, before all else, revoked."""
        first, last = VALIDITY.not_before, VALIDITY.not_after
        second = timedelta(seconds=1)
        self.assertEqual(
            [SAMPLE.state(now) for now in (first - second, first, last, last + second)],
            ["not-yet-valid", "valid", "valid", "expired"],
        )
        revoked = replace(SAMPLE, revoked_at=NOW)
        self.assertEqual({revoked.state(now) for now in (first, last + second)}, {"revoked"})

    def test_days_left(self) -> None:
        """Only whole days count."""
        self.assertEqual(SAMPLE.days_left(VALIDITY.not_after - timedelta(days=2, seconds=-1)), 1)
        self.assertEqual(SAMPLE.days_left(VALIDITY.not_after + timedelta(seconds=1)), -1)
