"""Certificate and key as one PKCS #12 file (``.p12``), which phones, browsers and key chains import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12
from cryptography.hazmat.primitives.serialization.pkcs12 import PBES

from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.profile import PrivateKey

#: Of the derivation of a key from the password; the old one is slow enough only with a password that is long.
ROUNDS: Final = 100_000
COMPATIBLE_ROUNDS: Final = 20_000
LONGEST_PASSWORD: Final = 128


@dataclass(frozen=True, slots=True)
class Bundle:
    """How the file is to be protected."""

    password: str
    compatible: bool  #: with SHA-1 and triple DES, all that older iOS, macOS and Windows read

    def __post_init__(self) -> None:
        """Refuse what importers disagree about."""
        if not self.password:
            raise AuthorityError("The password of the .p12 file is empty", "Give one: many importers insist on it")
        if not (self.password.isascii() and self.password.isprintable()):
            what = "The password of the .p12 file holds characters that not every importer reads alike"
            raise AuthorityError(what, "Use letters, digits and signs of ASCII")
        if len(self.password) > LONGEST_PASSWORD:
            what = f"The password of the .p12 file is longer than {LONGEST_PASSWORD} characters"
            raise AuthorityError(what, "Give a shorter one")

    def __repr__(self) -> str:
        """Not the password."""
        return f"Bundle(compatible={self.compatible})"


def bundle_bytes(
    bundle: Bundle, name: str, key: PrivateKey, certificate: x509.Certificate, authority: x509.Certificate
) -> bytes:
    """The file: the key, its certificate and the authority's, under the name that an importer shows."""
    builder = PrivateFormat.PKCS12.encryption_builder()
    if bundle.compatible:
        builder = builder.key_cert_algorithm(PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(hashes.SHA1())
        builder = builder.kdf_rounds(COMPATIBLE_ROUNDS)
    else:
        builder = builder.key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC).hmac_hash(hashes.SHA256())
        builder = builder.kdf_rounds(ROUNDS)
    encryption = builder.build(bundle.password.encode())
    return pkcs12.serialize_key_and_certificates(name.encode(), key, certificate, [authority], encryption)
