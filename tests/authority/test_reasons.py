"""The words for revocation."""

from __future__ import annotations

from typing import get_args

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.reasons import Reason


class ReasonTests(SynchronousTestCase):
    def test_every_word_is_one_of_the_standard(self) -> None:
        """Each word is a reason code of RFC 5280, but for the two that do not mean "revoked for good"."""
        known = {flag.name.replace("_", "-") for flag in x509.ReasonFlags}
        self.assertLessEqual(set(get_args(Reason)), known)
        self.assertFalse({"certificate-hold", "remove-from-crl"} & set(get_args(Reason)))
