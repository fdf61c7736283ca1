"""Certificate signing requests, good ones and others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from openai_relay.authority import profile


def csr(
    *common_names: str,
    key: Any = None,
    alternative: Sequence[x509.GeneralName] = (),
    extensions: Sequence[x509.ExtensionType] = (),
    encoding: serialization.Encoding = serialization.Encoding.PEM,
) -> bytes:
    """A request with these common names, of a new key unless one is given, signed with SHA-256."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each) for each in common_names])
    builder = x509.CertificateSigningRequestBuilder(subject)
    if alternative:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
    for each in extensions:
        builder = builder.add_extension(each, critical=False)
    key = profile.new_key() if key is None else key
    return builder.sign(key, hashes.SHA256()).public_bytes(encoding)
