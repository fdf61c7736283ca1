"""
Say why a relay gave no answer, to whoever holds the certificate that it was shown.

The one who reads this can act on it: start the relay, name the right authority,
ask for a new certificate.  What OpenSSL and Twisted found comes as an error's
detail; a TLS alert is how a relay refuses a certificate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Final

from openai_relay.core.errors import (
    Pair,
    RelayError,
    UpstreamConnectTimeout,
    UpstreamError,
    UpstreamMalformed,
    UpstreamTimeout,
    UpstreamUnreachable,
    UpstreamUntrusted,
)

#: What stands in an error's detail when the certificate of the relay did not verify; X509_V_ERR_* follows.
UNVERIFIED: Final = "certificate verify failed, reason"

_ALERT: Final = re.compile(r"\balert ([a-z ]+)")
_VERIFIED: Final = re.compile(rf"{UNVERIFIED} (\d+)")
_ERRNO: Final = re.compile(r"\b\d{1,3}: ([^:]+?)\.?$")

#: What the alerts of a relay (RFC 8446 §6.2) mean, by OpenSSL's names.
_ALERTS: Final = {
    "bad certificate": "it is not valid yet, or its signature does not hold",
    "certificate required": "it wants one, and got none",
    "certificate revoked": "it has been revoked",
    "certificate unknown": "it did not say why",
    "unknown ca": "its authority is not one that the relay trusts",
    "unsupported certificate": "it is not meant for clients (extended key usage clientAuth)",
    "access denied": "its holder is not let in",
    "decrypt error": "its signature does not hold: is the key the right one?",
}
_EXPIRED: Final = "certificate expired"

#: What OpenSSL may find wrong with the relay's certificate (X509_V_ERR_*).
_REASONS: Final = {
    9: "it is not valid yet (or the clock of this machine is wrong)",
    10: "it has expired (or the clock of this machine is wrong)",
    18: "it is self-signed",
    **dict.fromkeys((2, 19, 20, 21), "its authority is not a trusted one"),
    26: "it is not meant for servers (extended key usage serverAuth)",
}


class CertificateRefused(UpstreamError):
    """The relay did not take the client certificate; another try with the same one is in vain."""

    status: ClassVar[int] = 401
    type: ClassVar[str] = "invalid_request_error"
    code: ClassVar[str] = "client_certificate_refused"

    def headers(self) -> list[Pair]:
        """SDKs must not try again."""
        return [(b"x-should-retry", b"false")]


class RelayUntrusted(UpstreamUntrusted):
    """The relay's certificate does not hold; nothing was sent to it."""

    code: ClassVar[str] = "relay_certificate_invalid"

    def headers(self) -> list[Pair]:
        """SDKs must not try again."""
        return [(b"x-should-retry", b"false")]


class RelayUnreachable(UpstreamUnreachable):
    """No connection to the relay."""

    code: ClassVar[str] = "relay_unreachable"


class RelayConnectTimeout(UpstreamConnectTimeout):
    """No connection to the relay within the time-out."""

    code: ClassVar[str] = "relay_connect_timeout"


@dataclass(frozen=True, slots=True)
class Place:
    """The relay, and what it is shown."""

    relay: str  #: ``host:port``
    ca: str | None  #: the file of the authorities that the relay's certificate may be of; ``None``: the system's
    certificate: str  #: the file that ours is in
    not_after: float  #: of ours, seconds since the epoch


def in_words(error: RelayError, place: Place, now: float) -> RelayError:
    """
    The same failure as whoever is in front of this machine should read it.

    :param now: seconds since the epoch.
    """
    detail = str(error)
    if not isinstance(error, UpstreamError):
        return error
    alert = _ALERT.search(detail)
    if alert is not None:
        return _of_alert(alert[1].strip(), detail, place, now)
    if isinstance(error, UpstreamUntrusted):
        return RelayUntrusted(detail, _untrusted(detail, place))
    if isinstance(error, UpstreamConnectTimeout):
        return RelayConnectTimeout(
            detail, f"{place.relay} did not answer in time. Is the relay running, and does a firewall let you through?"
        )
    if isinstance(error, UpstreamUnreachable):
        return RelayUnreachable(detail, f"Cannot reach {place.relay}: {_unreachable(detail)}")
    told = {
        UpstreamTimeout: "has been silent for too long.",
        UpstreamMalformed: "sent no well-formed HTTP: is it a relay that answers there?",
    }
    error.told = f"{place.relay} {told.get(type(error), 'closed the connection before its answer was complete.')}"
    return error


def _of_alert(alert: str, detail: str, place: Place, now: float) -> UpstreamError:
    if alert == _EXPIRED:
        until = f"{datetime.fromtimestamp(place.not_after, UTC):%Y-%m-%d %H:%M} UTC"
        if place.not_after <= now:
            why = f"it expired on {until}"
        else:
            why = (
                f"it says that it has expired, but that is valid until {until}; a clock may be wrong, or the relay's "
                "list of revoked certificates out of date"
            )
    elif alert in _ALERTS:
        why = _ALERTS[alert]
    else:
        return RelayUnreachable(detail, f"{place.relay} refused the TLS connection ({alert}).")
    return CertificateRefused(
        detail,
        f"The relay at {place.relay} refused the client certificate in {place.certificate}: {why}. "
        "Ask whoever runs the relay for a new one; it is taken up as soon as it lies in its file.",
    )


def _untrusted(detail: str, place: Place) -> str:
    found = _VERIFIED.search(detail)
    trusted = "the system's authorities" if place.ca is None else place.ca
    if found is not None:
        reason = _REASONS.get(int(found[1]), f"it does not verify (OpenSSL error {found[1]})")
        remedy = f"Trusted are {trusted}; name the relay's own with --ca." if "authority" in reason else ""
    else:
        reason = "it is for another name"
        remedy = "Use the name that the relay's operator gave you."
    return f"Nothing was sent to {place.relay}, as its certificate does not hold: {reason}. {remedy}".rstrip()


def _unreachable(detail: str) -> str:
    kind, _, message = detail.partition(": ")
    if kind == "DNSLookupError":
        return "the name does not resolve. Check its spelling, and the network."
    if "wrong version number" in message or "record layer failure" in message or "packet length" in message:
        return "what answers there does not speak TLS."
    found = _ERRNO.search(message)
    if kind == "ConnectionRefusedError":
        return "connection refused. Is the relay running, and on this port?"
    if found is not None:
        return f"{found[1][:1].lower()}{found[1][1:]}. Check the address, and the network."
    return "the connection was lost while it was made."
