"""
Decide whether a client who was let in may stay: held against what has been revoked, denied or distrusted since.

OpenSSL verifies in the handshake, once.  What is decided here holds for every
connection that is already open, and again for each that has just been made,
since what is in force may have changed while its handshake ran.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from openai_relay.core.deny import DenyList
from openai_relay.core.errors import RelayError, Unauthenticated
from openai_relay.core.identity import Identity


class CertificateRevoked(Unauthenticated):
    """Its authority, or the one above that, has revoked the certificate since the handshake."""

    code = "client_certificate_revoked"
    close_code = 1008
    told = "The client certificate has been revoked."
    end = "revoked"


class CertificateDenied(Unauthenticated):
    """The operator's deny list has the client on it."""

    code = "client_certificate_denied"
    close_code = 1008
    told = "The relay's operator has denied this client certificate."
    end = "revoked"


class CertificateUntrusted(Unauthenticated):
    """The relay no longer trusts the authority that the certificate is from."""

    code = "client_certificate_untrusted"
    close_code = 1008
    told = "The relay no longer trusts the authority of this client certificate."
    end = "revoked"


class RevocationListExpired(RelayError):
    """Nobody knows who has been revoked: the list is out of date, and the policy is to refuse."""

    status = 503
    type = "service_unavailable_error"
    code = "revocation_list_expired"
    told = "The relay's list of revoked certificates is out of date, so it lets nobody in until that is renewed."


@dataclass(frozen=True, slots=True)
class Refused:
    """A client that was let in and may not stay; its connection is kept, so that it can be told."""

    identity: Identity
    error: RelayError


@dataclass(frozen=True, slots=True)
class Standing:
    """
    What is in force.

    :ivar revoked: serial numbers by the name (RFC 4514) of the authority whose list has them.
    :ivar anchors: fingerprints of the certificates at which a chain may end.
    """

    revoked: Mapping[str, frozenset[int]] = field(default_factory=dict)
    anchors: frozenset[bytes] = frozenset()
    deny: DenyList = field(default_factory=DenyList)

    def refusal(self, identity: Identity) -> RelayError | None:
        """Why a client may not stay; ``None``: it may."""
        if self.deny.denies(identity):
            return CertificateDenied()
        for link in identity.chain:
            if link.serial in self.revoked.get(link.issuer, ()):
                return CertificateRevoked()
        if not any(link.fingerprint in self.anchors for link in identity.chain):
            return CertificateUntrusted()
        return None
