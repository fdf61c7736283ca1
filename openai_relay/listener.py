"""
Accept: the TLS context that clients meet, its reload, and a peer's `Identity`.

Chain, dates, purpose and revocation are OpenSSL's to check, in the handshake.
``client_auth = "optional"`` lets the handshake pass and keeps what OpenSSL
found, so that the request can be answered with a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto

from openai_relay.core.errors import (
    CertificateExpired,
    RelayError,
    TooManyConnections,
    Unauthenticated,
)
from openai_relay.core.identity import Identity, is_plain_name
from openai_relay.core.settings import ListenSettings, NameFrom, Settings
from openai_relay.tls.files import BadCertificateFile, read_certificates, read_lists
from openai_relay.tls.trust import NO_LIST, OTHER_SCOPE, Places, Trust, trust

#: AEAD with forward secrecy only; TLS 1.3's own suites are all of that kind.
_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"

#: SSL_MODE_RELEASE_BUFFERS, which pyOpenSSL does not name: an idle connection keeps no 16 KiB buffers.
_RELEASE_BUFFERS: Final = 0x10

#: What OpenSSL's verification errors mean to whoever holds the certificate.
_REASONS: Final = {
    2: "the chain of its authorities is not complete: the root is not one that this relay trusts",
    3: "there is no revocation list of its authority",
    7: "its signature is not its issuer's",
    8: "the revocation list of its authority was not signed by that authority",
    9: "it is not valid yet",
    10: "it has expired",
    11: "the revocation list of its authority is not in force yet",
    12: "the revocation list of its authority is out of date",
    18: "it is self-signed",
    19: "its authority is not one that this relay trusts",
    20: "its issuer is not one that this relay trusts, or an intermediate certificate is missing",
    21: "its issuer is not one that this relay trusts, or an intermediate certificate is missing",
    23: "it has been revoked",
    26: "it is not meant for clients (extended key usage clientAuth)",
    33: "there is no certificate of the authority that signed the revocation list",
    36: "the revocation list of its authority has a critical extension that is not known here",
    44: "the revocation list of its authority is for certificates of another kind or place (issuingDistributionPoint)",
    66: "its key is too weak",
    67: "the key of its authority is too weak",
    68: "the digest of a signature in its chain is too weak",
    79: "its issuer is no certificate authority",
}
_NAMES: Final = {
    "cn": "common name (CN)",
    "dns": "DNS name (subjectAltName)",
    "uri": "URI (subjectAltName)",
    "email": "e-mail address (subjectAltName)",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    What a listener needs, out of its files.

    :ivar crl_next_update: when the first of the revocation lists is out of date; ``None``: there is none, or none says.
    :ivar warnings: what is in order, but hardly meant; a sentence each.
    """

    context: SSL.Context
    certificate_expiry: float
    crl_next_update: float | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Cleared:
    """At this depth of the chain, a list of another scope is in order."""

    depth: int


def load(settings: ListenSettings) -> Loaded:
    """
    Build the server's TLS context whole from its files.

    :raises BadCertificateFile: a file is missing, is not what it should be, or does not fit the others.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(_CIPHERS)
    # A resumed session skips verification, so there is none (and OpenSSL 4 renegotiates only if asked to).
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"openai-relay")
    context.set_mode(_RELEASE_BUFFERS)
    context.set_alpn_select_callback(_http11)
    expiry = _use_certificate(context, settings)
    trusted = _trust(context, settings)
    mode = SSL.VERIFY_PEER
    if settings.client_auth == "required":
        mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    context.set_verify(mode, _verifier(trusted, keep_going=settings.client_auth == "optional"))
    return Loaded(context, expiry, trusted.next_update, trusted.warnings)


def _http11(_: SSL.Connection, offered: list[bytes]) -> Any:
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _verifier(trusted: Trust, *, keep_going: bool) -> Callable[[SSL.Connection, crypto.X509, int, int, int], bool]:
    """
    Remembers the first thing that is wrong with each client, for the log and the answer.

    :param keep_going: let the handshake pass all the same
    """

    def verify(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
        if ok or _is_cleared(trusted, connection, certificate, error, depth):
            return True
        if _problem(connection) is None:
            connection.set_app_data(error)
        return keep_going

    return verify


def _is_cleared(trusted: Trust, connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int) -> bool:
    if error not in (NO_LIST, OTHER_SCOPE):
        return False
    if error == NO_LIST and connection.get_app_data() == _Cleared(depth):
        return True
    try:
        cleared = trusted.clears(error, certificate.to_cryptography())
    except (ValueError, x509.DuplicateExtension):  # of a form that cannot be read
        return False
    if cleared and error == OTHER_SCOPE and _problem(connection) is None:
        connection.set_app_data(_Cleared(depth))
    return cleared


def _problem(connection: SSL.Connection) -> int | None:
    """The first thing that OpenSSL found wrong with the certificate on this connection."""
    found = connection.get_app_data()
    return found if isinstance(found, int) else None


def _use_certificate(context: SSL.Context, settings: ListenSettings) -> float:
    leaf, *chain = read_certificates("listen.certificate", settings.certificate)
    try:
        key = serialization.load_pem_private_key(settings.key.reveal(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadCertificateFile(
            "listen.key",
            None,
            "is no private key in PEM form, or is encrypted; give it unencrypted, readable by its owner only",
        ) from None
    try:
        context.use_certificate(leaf)
        for certificate in chain:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(key)  # type: ignore[arg-type]
        context.check_privatekey()
    except (SSL.Error, TypeError):
        raise BadCertificateFile(
            "listen.key",
            None,
            f"does not belong to the certificate in {settings.certificate}, or is of a kind TLS cannot use",
        ) from None
    return leaf.not_valid_after_utc.timestamp()


def _trust(context: SSL.Context, settings: ListenSettings) -> Trust:
    authorities = read_certificates("listen.client_ca", settings.client_ca)
    lists = [] if settings.crl is None else read_lists("listen.crl", settings.crl)
    trusted = trust(authorities, lists, Places(settings.client_ca, "listen.crl"))
    store = context.get_cert_store()
    assert store is not None
    trusted.fill(store)
    context.load_client_ca(bytes(settings.client_ca))  # so that browsers offer the certificates that can match
    return trusted


class Listener:
    """
    Holds the TLS context in force and tells who is on a connection.

    :param wall: seconds since the epoch, for certificate dates.
    :ivar loaded: what is in force.
    """

    def __init__(self, settings: Settings, loaded: Loaded, wall: Callable[[], float]) -> None:
        self.loaded = loaded
        self._name_from: NameFrom = settings.identity.name
        self._limit_by = settings.identity.limit_by
        self._most = settings.listen.max_connections_per_identity
        self._open: Counter[str] = Counter()
        self._wall = wall

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

    def left(self, client: Identity | TooManyConnections) -> None:
        """Its connection is gone."""
        key = client.key if isinstance(client, TooManyConnections) else client.limit_key(self._limit_by)
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]

    def check(self, client: Identity | RelayError | None) -> Identity:
        """
        Before each request: is the client of this connection still who may ask?

        :raises Unauthenticated: it showed no certificate that holds.
        :raises CertificateExpired: its certificate has expired since the handshake.
        :raises TooManyConnections: it has more connections than it may.
        """
        if isinstance(client, Identity):
            if client.not_after <= self._wall():
                raise CertificateExpired()
            return client
        if client is None:
            raise Unauthenticated()
        # Kept as long as the connection: it must not collect the frames of every request that it ends.
        raise client.with_traceback(None)

    def why_refused(self, connection: SSL.Connection) -> str:
        """What OpenSSL found wrong with the certificate on this connection, in words."""
        problem = _problem(connection)
        if problem is None:
            return "there is none, or the handshake failed for another reason"
        return _REASONS.get(problem) or f"it did not verify (OpenSSL error {problem})"

    def _identity(self, connection: SSL.Connection) -> Identity:
        problem = _problem(connection)
        if problem is not None:  # looked at no further: it may be of a form that cannot even be read
            raise Unauthenticated(
                f"X509 error {problem}", f"Your client certificate was refused: {self.why_refused(connection)}."
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
