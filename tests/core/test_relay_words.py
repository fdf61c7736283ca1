"""What is told of a relay that gave no answer, and of one that refused the certificate."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.errors import (
    ClientGone,
    RelayError,
    UpstreamClosed,
    UpstreamConnectTimeout,
    UpstreamError,
    UpstreamMalformed,
    UpstreamTimeout,
    UpstreamUnreachable,
    UpstreamUntrusted,
)
from openai_relay.core.relay_words import UNVERIFIED, Place, in_words

NOT_AFTER = datetime(2030, 6, 15, 12, 30, tzinfo=UTC).timestamp()
PLACE = Place("relay.example:8443", "ca.pem", "phone.pem", NOT_AFTER)


def alert(name: str) -> str:
    """As pyOpenSSL prints it."""
    return f"[('SSL routines', '', 'ssl/tls alert {name}')]"


class AlertTests(SynchronousTestCase):
    def told(self, name: str, now: float = 0.0, kind: type[UpstreamError] = UpstreamClosed) -> RelayError:
        return in_words(kind(alert(name)), PLACE, now)

    def test_meanings(self) -> None:
        """Each alert about a certificate is told in words, whichever error it came in, and is not tried again."""
        for name, why in (
            ("certificate revoked", "it has been revoked"),
            ("unknown ca", "its authority is not one that the relay trusts"),
            ("bad certificate", "it is not valid yet"),
            ("unsupported certificate", "it is not meant for clients"),
            ("certificate unknown", "it did not say why"),
            ("certificate required", "got none"),
            ("access denied", "not let in"),
            ("decrypt error", "is the key the right one?"),
        ):
            for kind in (UpstreamClosed, UpstreamUntrusted, UpstreamUnreachable):
                error = self.told(name, kind=kind)
                self.assertEqual((error.status, error.code), (401, "client_certificate_refused"))
                self.assertTrue(
                    error.told.startswith("The relay at relay.example:8443 refused the client certificate in phone.pem")
                )
                self.assertIn(why, error.told)
                self.assertEqual(error.headers(), [(b"x-should-retry", b"false")])
                self.assertEqual(str(error), alert(name))

    def test_expired(self) -> None:
        """Whether a certificate has expired is known here, and so what it means that the relay says so."""
        self.assertIn("it expired on 2030-06-15 12:30 UTC", self.told("certificate expired", NOT_AFTER).told)
        early = self.told("certificate expired", NOT_AFTER - 1).told
        self.assertIn("valid until 2030-06-15 12:30 UTC; a clock may be wrong", early)

    def test_not_about_a_certificate(self) -> None:
        """Any other alert is told by its name."""
        error = self.told("protocol version")
        self.assertEqual((error.status, error.code), (502, "relay_unreachable"))
        self.assertEqual(error.told, "relay.example:8443 refused the TLS connection (protocol version).")


class ErrorTests(SynchronousTestCase):
    def check(self, error: RelayError, code: str, told: str, place: Place = PLACE) -> None:
        status = error.status
        found = in_words(error, place, 0.0)
        self.assertEqual((found.status, found.code, str(found)), (status, code, str(error)))
        self.assertIn(told, found.told)

    def test_unreachable(self) -> None:
        """Why there is no connection is told, and what to look at."""
        for detail, told in (
            (
                "ConnectionRefusedError: Connection was refused by other side: 111: Connection refused.",
                "Cannot reach relay.example:8443: connection refused. Is the relay running",
            ),
            ("DNSLookupError: DNS lookup failed: no results for hostname lookup: x.", "the name does not resolve"),
            (
                "ConnectError: An error occurred while connecting: 101: Network is unreachable.",
                "network is unreachable. Check the address",
            ),
            ("Error: [('SSL routines', '', 'wrong version number')]", "does not speak TLS"),
            ("Error: [('SSL routines', '', 'record layer failure')]", "does not speak TLS"),
            ("Error: [('SSL routines', '', 'packet length too long')]", "does not speak TLS"),
            ("ConnectionLost: closed during the TLS handshake", "was lost while it was made"),
            ("", "was lost while it was made"),
        ):
            self.check(UpstreamUnreachable(detail), "relay_unreachable", told)
        self.check(UpstreamConnectTimeout("TimeoutError: "), "relay_connect_timeout", "did not answer in time")

    def test_untrusted(self) -> None:
        """What is wrong with the relay's certificate is told, and --ca named where it can help."""
        for reason, told in (
            (10, "it has expired"),
            (9, "it is not valid yet"),
            (20, "its authority is not a trusted one. Trusted are ca.pem; name the relay's own with --ca"),
            (26, "not meant for servers"),
            (18, "self-signed"),
            (66, "OpenSSL error 66"),
        ):
            self.check(UpstreamUntrusted(f"Error: {UNVERIFIED} {reason}"), "relay_certificate_invalid", told)
        self.check(UpstreamUntrusted("VerificationError: …"), "relay_certificate_invalid", "it is for another name")
        system = Place("relay.example:8443", None, "phone.pem", NOT_AFTER)
        unknown = UpstreamUntrusted(f"Error: {UNVERIFIED} 19")
        self.check(unknown, "relay_certificate_invalid", "Trusted are the system's authorities", system)
        self.assertEqual(in_words(unknown, PLACE, 0.0).headers(), [(b"x-should-retry", b"false")])

    def test_others(self) -> None:
        """Other failures keep their kind, and name the relay."""
        self.check(UpstreamTimeout("silent"), "upstream_timeout", "relay.example:8443 has been silent")
        self.check(UpstreamMalformed("no HTTP"), "upstream_malformed", "is it a relay that answers there?")
        self.check(UpstreamClosed("reset"), "upstream_closed", "relay.example:8443 closed the connection before")

    def test_not_of_the_relay(self) -> None:
        """What did not happen at the relay is left as it is."""
        error = ClientGone("alert certificate revoked")
        self.assertIs(in_words(error, PLACE, 0.0), error)

    @given(st.sampled_from([UpstreamUnreachable, UpstreamUntrusted, UpstreamClosed, UpstreamMalformed]), st.text())
    def test_any_detail(self, kind: type[UpstreamError], detail: str) -> None:
        """Whatever a library says, there are words; its own are not repeated beyond a reason or an alert."""
        found = in_words(kind(detail), PLACE, 0.0)
        self.assertIn("relay.example:8443", found.told)
