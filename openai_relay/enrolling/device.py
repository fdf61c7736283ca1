"""
Ask a relay for a certificate: with a code, or with the certificate that is to be renewed. Blocking.

Whom it speaks to is known before anything is sent: by the public key whose
digest is in the code, by the authority that is trusted, or as any server in the
web is known.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from openai_relay.authority.profile import PrivateKey
from openai_relay.core.enrolment_code import Code
from openai_relay.enrolment.est import BadBody, certificates_of

#: Seconds for a connection, and for each answer.
PATIENCE: Final = 30.0
_ROOT: Final = "/.well-known/est/"
_MOST: Final = 1 << 20


class NotEnrolled(Exception):
    """There is no certificate; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Relay:
    """Where devices are let in, and how that place is known."""

    url: str  #: ``https://host[:port]``
    pin: bytes | None = None  #: SHA-256 of the server's public key; goes before all else
    ca: Path | None = None  #: trusted instead of the system's

    def _connect(self, client: tuple[Path, Path] | None) -> HTTPSConnection:
        parts = urlsplit(self.url)
        if parts.scheme != "https" or not parts.hostname or parts.path.strip("/"):
            raise NotEnrolled(f"{self.url} is no address of a relay; write https://HOST:PORT, as the invitation has it")
        if self.pin is None:
            tls = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        else:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # the pin says more than both
        if client is not None:
            tls.load_cert_chain(*client)
        connection = HTTPSConnection(parts.hostname, parts.port or 443, timeout=PATIENCE, context=tls)
        connection.connect()
        if self.pin is not None and pin_of(connection.sock.getpeercert(binary_form=True) or b"") != self.pin:
            connection.close()
            raise NotEnrolled(
                f"What answers at {self.url} is not the relay that the code is for, or that has another key by now: "
                "nothing was sent. Check the address; else ask for another code"
            )
        return connection

    def ask(
        self,
        operation: str,
        body: bytes | None = None,
        *,
        code: Code | None = None,
        client: tuple[Path, Path] | None = None,
    ) -> list[x509.Certificate]:
        """
        One operation of EST.

        :raises NotEnrolled: with what the relay says, or why it cannot be asked.
        """
        fields = {}
        if body is not None:
            fields["Content-Type"] = "application/pkcs10"
        if code is not None:
            fields["Authorization"] = "Basic " + base64.b64encode(f":{code}".encode()).decode()
        try:
            connection = self._connect(client)
            try:
                connection.request("GET" if body is None else "POST", _ROOT + operation, body, fields)
                answer = connection.getresponse()
                said = answer.read(_MOST)
            finally:
                connection.close()
        except ssl.SSLError as error:
            raise NotEnrolled(f"TLS with {self.url} failed ({_why(error)}). {_trust(self)}") from None
        except (OSError, HTTPException) as error:
            what = f"{self.url} cannot be reached ({error})"
            raise NotEnrolled(f"{what}; check the address, and that the relay runs") from None
        if answer.status != 200:
            told = said.decode("utf-8", "replace").strip()
            plain = (answer.getheader("content-type") or "").startswith("text/plain")
            raise NotEnrolled(
                told if plain and told else f"{self.url} answered {answer.status}; is it a relay's enrolment?"
            )
        try:
            return certificates_of(said)
        except BadBody as bad:
            raise NotEnrolled(f"What answers at {self.url} is no EST server: {bad}") from None


def pin_of(certificate: bytes) -> bytes:
    """What a code calls a server by: the SHA-256 of its public key."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def request_for(key: PrivateKey, name: str) -> bytes:
    """A request for a key, in base64; the name in it is only a wish."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return base64.encodebytes(request.public_bytes(serialization.Encoding.DER))


def _why(error: ssl.SSLError) -> str:
    """What OpenSSL says of it, the most telling first."""
    found: str = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
    return found


def _trust(relay: Relay) -> str:
    if relay.ca is not None:
        return f"It is verified with {relay.ca}"
    return "Its certificate must be one that this system trusts; else give --ca, or a code with a pin"
