"""Accept: the TLS context in force, and who is on a connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from openai_relay.core.errors import (
    CertificateExpired,
    RelayError,
    TooManyConnections,
    Unauthenticated,
)
from openai_relay.core.identity import Identity, Link, is_plain_name
from openai_relay.core.settings import NameFrom, Settings
from openai_relay.core.standing import Refused, RevocationListExpired
from openai_relay.tls.accepting import Loaded, found_wrong, why_refused

_NAMES: Final = {
    "cn": "common name (CN)",
    "dns": "DNS name (subjectAltName)",
    "uri": "URI (subjectAltName)",
    "email": "e-mail address (subjectAltName)",
}


class Listener:
    """
    Holds the TLS context in force and tells who is on a connection.

    :param wall: seconds since the epoch, for certificate dates.
    :ivar loaded: what is in force.
    """

    def __init__(self, settings: Settings, loaded: Loaded, wall: Callable[[], float]) -> None:
        self._name_from: NameFrom = settings.identity.name
        self._limit_by = settings.identity.limit_by
        self._open: Counter[str] = Counter()
        self._wall = wall
        self.renew(settings, loaded)

    def renew(self, settings: Settings, loaded: Loaded) -> None:
        """
        Put other files in force, for the next handshake and for whoever is asked about from now on.

        How clients are known does not change: what they have used is counted by it.
        """
        self.loaded = loaded
        self._most = settings.listen.max_connections_per_identity
        until = loaded.crl_next_update
        self._lists_until = inf if until is None or settings.listen.crl_expired == "warn" else until

    def context(self) -> SSL.Context:
        """The context for the next connection."""
        return self.loaded.context

    def arrived(self, connection: SSL.Connection) -> Identity | RelayError:
        """
        Who has finished a handshake: its identity, or why none of its requests will be served.

        Each counts against the connections that its identity may have, until `left`.  As many again
        are kept so that they can be told; nobody may hold all connections by saying nothing on them.
        """
        try:
            identity = self._identity(connection)
            refusal = self.refusal(identity)  # by what is in force now: the handshake may have begun before
            if refusal is not None:
                raise refusal
        except RelayError as error:
            return error
        except (ValueError, x509.DuplicateExtension) as error:  # an extension that cannot be read
            return Unauthenticated(str(error), "Your client certificate is not well-formed (RFC 5280).")
        key = identity.limit_key(self._limit_by)
        self._open[key] += 1
        count = self._open[key]
        if count > self._most:
            refusal = TooManyConnections(
                1_000_000_000,
                f"Connection limit reached: {self._most} open at once for this client. Close idle ones, or reuse them.",
            )
            refusal.key, refusal.heard = key, count <= 2 * self._most
            return refusal
        return identity

    def left(self, client: Identity | Refused | TooManyConnections) -> None:
        """Its connection is gone."""
        if isinstance(client, TooManyConnections):
            key = client.key
        else:
            key = (client.identity if isinstance(client, Refused) else client).limit_key(self._limit_by)
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]

    def check(self, client: Identity | Refused | RelayError | None) -> Identity:
        """
        Before each request: is the client of this connection still who may ask?

        :raises Unauthenticated: it showed no certificate that holds, or none that still does.
        :raises CertificateExpired: its certificate has expired since the handshake.
        :raises RevocationListExpired: nobody can tell who has been revoked.
        :raises TooManyConnections: it has more connections than it may.
        """
        if isinstance(client, Identity):
            now = self._wall()
            if client.not_after <= now:
                raise CertificateExpired()
            if self._lists_until <= now:
                raise RevocationListExpired()
            return client
        if client is None:
            raise Unauthenticated()
        if isinstance(client, Refused):
            raise client.error.with_traceback(None)
        # Kept as long as the connection: it must not collect the frames of every request that it ends.
        raise client.with_traceback(None)

    def refusal(self, identity: Identity) -> RelayError | None:
        """Why a client that was let in may not stay; ``None``: it may."""
        if identity.not_after <= self._wall():
            return CertificateExpired()
        return self.loaded.standing.refusal(identity)

    def _identity(self, connection: SSL.Connection) -> Identity:
        problem = found_wrong(connection)
        if problem is not None:  # looked at no further: it may be of a form that cannot even be read
            raise Unauthenticated(
                f"X509 error {problem}", f"Your client certificate was refused: {why_refused(connection)}."
            )
        try:
            certificate = connection.get_peer_certificate(as_cryptography=True)
        except (ValueError, x509.InvalidVersion) as error:
            raise Unauthenticated(str(error), "Your client certificate is not well-formed (RFC 5280).") from None
        if certificate is None:
            raise Unauthenticated(
                told="This relay knows its clients by certificate, and you sent none. "
                "Configure a client certificate and its key."
            )
        return Identity(
            name=_name(certificate, self._name_from),
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            serial=f"{certificate.serial_number:x}",
            not_after=certificate.not_valid_after_utc.timestamp(),
            chain=tuple(_link(each) for each in connection.get_verified_chain(as_cryptography=True) or ()),
        )


def _link(certificate: x509.Certificate) -> Link:
    return Link(
        certificate.issuer.rfc4514_string(), certificate.serial_number, certificate.fingerprint(hashes.SHA256())
    )


def _name(certificate: x509.Certificate, name_from: NameFrom) -> str:
    names = _names(certificate, name_from)
    if not names:
        raise Unauthenticated(
            told=f"Your client certificate has no {_NAMES[name_from]}, by which this relay knows its clients."
        )
    if name_from == "cn" and len(names) > 1:
        raise Unauthenticated(told="Your client certificate has more than one common name (CN).")
    if not is_plain_name(names[0]):
        raise Unauthenticated(told=f"Your client certificate's {_NAMES[name_from]} is too long or not printable.")
    return names[0]


def _names(certificate: x509.Certificate, name_from: NameFrom) -> list[str]:
    if name_from == "cn":
        return [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    if name_from == "dns":
        return names.get_values_for_type(x509.DNSName)
    if name_from == "uri":
        return names.get_values_for_type(x509.UniformResourceIdentifier)
    return names.get_values_for_type(x509.RFC822Name)
