"""
The TLS context that clients meet, built whole from its files: certificate, key, authorities, revocation lists.

Chain, dates, purpose and revocation are OpenSSL's to check, in the handshake.
``client_auth = "optional"`` lets the handshake pass and keeps what OpenSSL
found, so that the request can be answered with a reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto

from openai_relay.core.settings import ListenSettings
from openai_relay.core.standing import Standing
from openai_relay.tls.files import BadCertificateFile, read_certificates, read_lists
from openai_relay.tls.trust import NO_LIST, OTHER_SCOPE, Places, Trust, trust

#: AEAD with forward secrecy only; TLS 1.3's own suites are all of that kind.
_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"

#: SSL_MODE_RELEASE_BUFFERS, which pyOpenSSL does not name: an idle connection keeps no 16 KiB buffers.
_RELEASE_BUFFERS: Final = 0x10

#: X509_V_ERR_CRL_HAS_EXPIRED.
_LIST_EXPIRED: Final = 12

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


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    What a listener needs, out of its files.

    :ivar crl_next_update: when the first of the revocation lists is out of date; ``None``: there is none, or none says.
    :ivar crl_this_update: when the oldest of those in force was made; ``None``: there is none.
    :ivar standing: what a client that was let in is held against from now on.
    :ivar warnings: what is in order, but hardly meant; a sentence each.
    """

    context: SSL.Context
    certificate_expiry: float
    crl_next_update: float | None
    crl_this_update: float | None
    standing: Standing
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
    late = settings.crl_expired == "warn"
    context.set_verify(mode, _verifier(trusted, late=late, keep_going=settings.client_auth == "optional"))
    return Loaded(
        context,
        expiry,
        trusted.next_update,
        trusted.this_update(),
        Standing(trusted.revoked(), trusted.anchors(), settings.denied),
        trusted.warnings,
    )


def _http11(_: SSL.Connection, offered: list[bytes]) -> Any:
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _verifier(
    trusted: Trust, *, late: bool, keep_going: bool
) -> Callable[[SSL.Connection, crypto.X509, int, int, int], bool]:
    """
    Remembers the first thing that is wrong with each client, for the log and the answer.

    :param late: a revocation list that is out of date counts all the same
    :param keep_going: let the handshake pass all the same
    """

    def verify(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
        if ok or (late and error == _LIST_EXPIRED) or _is_cleared(trusted, connection, certificate, error, depth):
            return True
        if found_wrong(connection) is None:
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
    if cleared and error == OTHER_SCOPE and found_wrong(connection) is None:
        connection.set_app_data(_Cleared(depth))
    return cleared


def found_wrong(connection: SSL.Connection) -> int | None:
    """The first thing that OpenSSL found wrong with the certificate on this connection."""
    found = connection.get_app_data()
    return found if isinstance(found, int) else None


def why_refused(connection: SSL.Connection) -> str:
    """What OpenSSL found wrong with the certificate on this connection, in words."""
    found = found_wrong(connection)
    if found is None:
        return "there is none, or the handshake failed for another reason"
    return _REASONS.get(found) or f"it did not verify (OpenSSL error {found})"


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
