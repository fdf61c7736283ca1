"""What ``--json`` says, by names that stay."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.revocations import RevocationList
from openai_relay.cli.documents import CertificateDocument, CrlDocument, ListedDocument
from tests.authority.test_index import SAMPLE
from tests.authority.test_profile import START, VALIDITY


class DocumentTests(SynchronousTestCase):
    def test_certificate(self) -> None:
        """Whatever the index knows is told, with state and days left as of now."""
        now = VALIDITY.not_after - timedelta(days=3)
        document = CertificateDocument.of(SAMPLE, now)
        self.assertEqual((document.state, document.days_left, document.reason), ("valid", 3, None))
        for each in fields(SAMPLE):
            self.assertEqual(getattr(document, each.name), getattr(SAMPLE, each.name))
        revoked = CertificateDocument.of(replace(SAMPLE, revoked_at=now, reason="superseded"), now)
        self.assertEqual((revoked.state, revoked.revoked_at, revoked.reason), ("revoked", now, "superseded"))

    def test_ends_soon(self) -> None:
        """A certificate ends soon when it is valid and has less than 30 days, or a third of its life, left."""
        month = timedelta(days=30)
        second = timedelta(seconds=1)
        end = VALIDITY.not_after
        for life, left in ((365 * month, month), (month, month / 3)):
            issued = replace(SAMPLE, not_before=end - life)
            self.assertFalse(CertificateDocument.of(issued, end - left).expires_soon)
            self.assertTrue(CertificateDocument.of(issued, end - left + second).expires_soon)
            self.assertFalse(CertificateDocument.of(issued, end + second).expires_soon)
            revoked = replace(issued, revoked_at=end - life)
            self.assertFalse(CertificateDocument.of(revoked, end - second).expires_soon)

    def test_last_seen(self) -> None:
        """When it was last seen stands beside all that is told of a certificate."""
        document = ListedDocument.seen(SAMPLE, START, START)
        self.assertEqual((document.last_seen, document.name), (START, SAMPLE.name))

    def test_revocation_list(self) -> None:
        """A list is told with the days that it is good for."""
        crl = RevocationList(Path("crl.pem"), 7, START, START + timedelta(days=30), 2)
        document = CrlDocument.of(crl, START + timedelta(days=1), written=True)
        self.assertEqual((document.file, document.number, document.revoked), (Path("crl.pem"), 7, 2))
        self.assertEqual((document.days_left, document.due, document.written), (29, START + timedelta(days=20), True))
