"""
Accept: the TLS context that clients meet, its reload, and a peer's `Identity`.

Chain, dates, purpose and revocation are OpenSSL's to check, in the handshake.
``client_auth = "optional"`` lets the handshake pass and keeps what OpenSSL
found, so that the request can be answered with a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
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


class BadCertificateFile(Exception):
    """A file that TLS needs cannot be used; the message says which, why and what to do."""

    def __init__(self, key: str, path: Path | None, problem: str) -> None:
        super().__init__(f"{key}: {path}: {problem}" if path else f"{key}: {problem}")
        self.key = key
        self.path = path
        self.problem = problem


def load_context(settings: ListenSettings) -> SSL.Context:
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
    _use_certificate(context, settings)
    _trust(context, settings)
    mode = SSL.VERIFY_PEER
    if settings.client_auth == "required":
        mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    context.set_verify(mode, _keep_going if settings.client_auth == "optional" else _note)
    return context


def _http11(_: SSL.Connection, offered: list[bytes]) -> Any:
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _note(connection: SSL.Connection, _: crypto.X509, error: int, depth: int, ok: int) -> bool:
    """Remember the first thing that was wrong, for the log."""
    if not ok and connection.get_app_data() is None:
        connection.set_app_data(error)
    return bool(ok)


def _keep_going(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
    """Remember the first thing that was wrong, for the answer."""
    _note(connection, certificate, error, depth, ok)
    return True


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadCertificateFile(
            key, path, f"cannot be read ({error.strerror}); check the path and its owner"
        ) from None


def _certificates(key: str, path: Path) -> list[x509.Certificate]:
    pem = _read(key, path)
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        certificates = []
    if not certificates:
        raise BadCertificateFile(key, path, "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    return certificates


def _use_certificate(context: SSL.Context, settings: ListenSettings) -> None:
    leaf, *chain = _certificates("listen.certificate", settings.certificate)
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


def _trust(context: SSL.Context, settings: ListenSettings) -> None:
    authorities = _certificates("listen.client_ca", settings.client_ca)
    store = context.get_cert_store()
    assert store is not None
    for certificate in authorities:
        store.add_cert(crypto.X509.from_cryptography(certificate))
    context.load_client_ca(bytes(settings.client_ca))  # so that browsers offer the certificates that can match
    if settings.crl is None:
        return
    lists = _revocation_lists(settings.crl)
    subjects = {certificate.subject for certificate in authorities}
    issuers = {one.issuer for one in lists}
    if not issuers & subjects:
        raise BadCertificateFile(
            "listen.crl",
            settings.crl,
            f"was issued by none of the authorities in {settings.client_ca}: nobody could connect",
        )
    for one in lists:
        of_that_name = [certificate for certificate in authorities if certificate.subject == one.issuer]
        if of_that_name and not any(_has_signed(certificate, one) for certificate in of_that_name):
            raise BadCertificateFile(
                "listen.crl",
                settings.crl,
                f"was issued by an authority that has the name, but not the key, of one in {settings.client_ca}: "
                "nobody could connect",
            )
        store.add_crl(one)
    flags = crypto.X509StoreFlags.CRL_CHECK
    if subjects <= issuers:  # a list for each authority: so intermediates can be checked too
        flags |= crypto.X509StoreFlags.CRL_CHECK_ALL
    store.set_flags(flags)


def _has_signed(authority: x509.Certificate, revocations: x509.CertificateRevocationList) -> bool:
    try:
        return revocations.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError, UnsupportedAlgorithm):  # a key of a kind that signs nothing, or not in this way
        return False


def _revocation_lists(path: Path) -> list[x509.CertificateRevocationList]:
    begin = b"-----BEGIN X509 CRL-----"
    try:
        lists = [x509.load_pem_x509_crl(begin + block) for block in _read("listen.crl", path).split(begin)[1:]]
    except ValueError:
        lists = []
    if not lists:
        raise BadCertificateFile("listen.crl", path, f"holds no revocation list in PEM form ({begin.decode()})")
    return lists


def _next_update(path: Path | None) -> float | None:
    lists = [] if path is None else _revocation_lists(path)
    times = [one.next_update_utc.timestamp() for one in lists if one.next_update_utc is not None]
    return min(times, default=None)


class Listener:
    """
    Holds the TLS context in force and tells who is on a connection.

    :param wall: seconds since the epoch, for certificate dates.
    """

    def __init__(self, settings: Settings, context: SSL.Context, wall: Callable[[], float]) -> None:
        self._context = context
        self.certificate_expiry = _certificates("listen.certificate", settings.listen.certificate)[
            0
        ].not_valid_after_utc.timestamp()
        #: When the first of the revocation lists is out of date; ``None``: there is none, or none says.
        self.crl_next_update = _next_update(settings.listen.crl)
        self._name_from: NameFrom = settings.identity.name
        self._limit_by = settings.identity.limit_by
        self._most = settings.listen.max_connections_per_identity
        self._open: Counter[str] = Counter()
        self._wall = wall

    def context(self) -> SSL.Context:
        """The context for the next connection."""
        return self._context

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
        problem = connection.get_app_data()
        if problem is None:
            return "there is none, or the handshake failed for another reason"
        return _REASONS.get(problem) or f"it did not verify (OpenSSL error {problem})"

    def _identity(self, connection: SSL.Connection) -> Identity:
        problem = connection.get_app_data()
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
