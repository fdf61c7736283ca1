"""
The client certificate that the relay is shown: read from its files, checked, and made into a TLS context.

Built whole or not at all, so that a file in the middle of being replaced
changes nothing.  Nothing here keeps a key: whoever renews a certificate writes
its files, and `watch` takes them up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from openai_relay.config.problems import Wrong, shown_path
from openai_relay.config.sources import Sources, read_file
from openai_relay.core.connect_settings import ConnectSettings
from openai_relay.core.identity import Identity, is_plain_name
from openai_relay.core.relay_words import UNVERIFIED
from openai_relay.core.settings import Secret
from openai_relay.upstream import BadUpstream, client_context

_NO_NAME: Final = "(no name)"

T = TypeVar("T")


class Unusable(Exception):
    """
    A certificate, a key or the authorities cannot be used; the message says what is wrong, and what to do.

    :ivar option: which option names it.
    """

    def __init__(self, option: str, told: str) -> None:
        super().__init__(told)
        self.option = option


@dataclass(frozen=True, slots=True)
class Contents:
    """What the files hold."""

    certificate: bytes
    key: Secret
    ca: bytes | None


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What new connections to the relay are made with, and whose it is."""

    context: SSL.Context = field(repr=False)
    identity: Identity


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where certificate, key and authorities are; read as often as is asked for."""

    settings: ConnectSettings
    sources: Sources

    def read(self) -> Contents:
        """
        What they hold now.

        :raises Unusable: one cannot be read.
        """
        settings, directory = self.settings, self.sources.directory
        ca = settings.ca
        return Contents(
            _asked("--certificate", lambda: read_file(directory / settings.certificate)),
            _asked("--key", lambda: self.sources.key(settings.key)),
            None if ca is None else _asked("--ca", lambda: read_file(directory / ca)),
        )

    def build(self, contents: Contents) -> ClientCertificate:
        """
        What to connect with.

        :raises Unusable: a file is not what it should be, or does not fit the others.
        """
        settings = self.settings
        leaf, *chain = _certificates("--certificate", contents.certificate)
        if contents.ca is not None:
            _certificates("--ca", contents.ca)
        try:
            context = client_context(None if settings.ca is None else self.sources.directory / settings.ca)
        except BadUpstream:  # replaced since it was read
            raise Unusable("--ca", "holds no certificate in PEM form any more") from None
        context.set_verify(SSL.VERIFY_PEER, _say_why)
        try:
            key = serialization.load_pem_private_key(contents.key.reveal(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Unusable("--key", "is no private key in PEM form, or is encrypted; give it unencrypted") from None
        try:
            context.use_certificate(leaf)
            for certificate in chain:
                context.add_extra_chain_cert(certificate)
            context.use_privatekey(key)  # type: ignore[arg-type]  # other kinds are refused by it, as below
            context.check_privatekey()
        except (SSL.Error, TypeError):
            raise Unusable(
                "--key", f"does not belong to the certificate in {shown_path(settings.certificate)}"
            ) from None
        return ClientCertificate(context, _identity(leaf))


def _asked(option: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except Wrong as wrong:
        raise Unusable(option, str(wrong)) from None


def _certificates(option: str, pem: bytes) -> list[x509.Certificate]:
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        certificates = []
    if not certificates:
        raise Unusable(option, "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----); name another file")
    return certificates


def _say_why(_connection: Any, _certificate: Any, error: int, _depth: int, ok: int) -> bool:
    """OpenSSL's own error would only say that the relay's certificate did not verify."""
    if not ok:
        raise SSL.Error(f"{UNVERIFIED} {error}")
    return True


def _identity(certificate: x509.Certificate) -> Identity:
    names = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return Identity(
        names[0] if names and is_plain_name(names[0]) else _NO_NAME,
        certificate.fingerprint(hashes.SHA256()).hex(),
        f"{certificate.serial_number:x}",
        certificate.not_valid_after_utc.timestamp(),
    )
