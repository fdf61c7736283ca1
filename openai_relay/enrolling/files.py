"""
A device's certificate, key and authority as files, and beside them where they are renewed.

A renewal is for the same key, and replaces one file in one step: the two fit
each other at every moment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from openai_relay.authority import files
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.index import common_name
from openai_relay.authority.names import file_stem
from openai_relay.authority.profile import key_pem, new_key
from openai_relay.authority.reading import read_key
from openai_relay.core.enrolment_code import Code
from openai_relay.enrolling.device import NotEnrolled, Relay, request_for

_AGAIN: Final = "Choose another directory with --out, or move it away"
#: Of its life, after which a certificate is due.
DUE: Final = 2 / 3


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a device has."""

    certificate: Path
    key: Path
    ca: Path
    leaf: x509.Certificate

    @property
    def due(self) -> datetime:
        """When it is to be renewed."""
        return due(self.leaf)


def due(leaf: x509.Certificate) -> datetime:
    """When two thirds of a certificate's life are over."""
    life: timedelta = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return leaf.not_valid_before_utc + life * DUE


def enrol(url: str, code: Code, into: Path) -> Enrolled:
    """
    A first certificate: the key is made here, and goes nowhere.

    :raises NotEnrolled: there is none.
    :raises AuthorityError: a file cannot be written, or would be overwritten.
    """
    relay = Relay(url.rstrip("/"), code.pin)
    files.make_directory(into)
    ca = into / "ca.pem"
    authorities = _pem(*relay.ask("cacerts"))
    if ca.exists() and ca.read_bytes() != authorities:
        raise AuthorityError("This is the certificate of another authority", _AGAIN, ca)
    made = new_key()
    # Whatever may fail for want of space or rights comes before the code is used up.
    key = files.Staged.write(into / "enrolled.key", key_pem(made), files.PRIVATE)
    try:
        (leaf, *_) = relay.ask("simpleenroll", request_for(made, "device"), code=code)
        certificate = _free(into, leaf)
        files.Staged(key.temporary, certificate.with_suffix(".key")).commit()
    finally:
        key.discard()
    files.write_file(certificate, _pem(leaf), files.PUBLIC)
    files.write_file(ca, authorities, files.PUBLIC)
    _note(certificate, _lasting(relay, ca))
    return Enrolled(certificate, certificate.with_suffix(".key"), ca, leaf)


def _free(into: Path, leaf: x509.Certificate) -> Path:
    """Where a certificate can go: its code is used up, so another name is better than none."""
    stem = file_stem(common_name(leaf.subject))
    for name in (stem, f"{stem}-{leaf.serial_number:x}"):
        path = into / f"{name}.pem"
        if not (path.exists() or path.with_suffix(".key").exists()):
            return path
    raise AuthorityError("This file already exists and is not overwritten", _AGAIN, path)


def renew(certificate: Path, key: Path | None = None, relay: Relay | None = None) -> Enrolled:
    """
    The next certificate for the same key, over the one that is still good.

    :param relay: ``None``: where it was enrolled.
    :raises NotEnrolled: there is none, and nothing has changed.
    :raises AuthorityError: a file cannot be read or written.
    """
    key = key or certificate.with_suffix(".key")
    relay = relay or noted(certificate)
    request = request_for(
        read_key(key, "Name the key of the certificate with --key"), common_name(read_leaf(certificate).subject)
    )
    (leaf, *_) = relay.ask("simplereenroll", request, client=(certificate, key))
    files.write_file(certificate, _pem(leaf), files.PUBLIC)
    return Enrolled(certificate, key, certificate.with_name("ca.pem"), leaf)


def read_leaf(certificate: Path) -> x509.Certificate:
    """
    The certificate in a file.

    :raises NotEnrolled: there is none.
    """
    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes())
    except OSError as error:
        raise NotEnrolled(
            f"{certificate} cannot be read ({error.strerror}); name the file of the certificate"
        ) from None
    except ValueError:
        raise NotEnrolled(f"{certificate} holds no certificate in PEM form; name the file of the certificate") from None


def noted(certificate: Path) -> Relay:
    """
    Where a certificate is renewed, as ``enrol`` has noted it.

    :raises NotEnrolled: it was not enrolled here.
    """
    path = certificate.with_suffix(".json")
    try:
        note = json.loads(path.read_bytes())
        pin, ca = note.get("pin"), note.get("ca")
        return Relay(
            str(note["url"]), None if pin is None else bytes.fromhex(pin), None if ca is None else path.parent / str(ca)
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        told = f"{path} does not say where {certificate.name} is renewed; give --url, as it was enrolled with"
        raise NotEnrolled(told) from None


def _lasting(relay: Relay, ca: Path) -> Relay:
    """The same, known in a way that outlives its key: by its authority, or as any server in the web, if that holds."""
    for other in (Relay(relay.url, ca=ca), Relay(relay.url)):
        try:
            other.ask("cacerts")
        except NotEnrolled:
            continue
        return other
    return relay


def _note(certificate: Path, relay: Relay) -> None:
    note = {
        "url": relay.url,
        "pin": None if relay.pin is None else relay.pin.hex(),
        "ca": None if relay.ca is None else relay.ca.name,
    }
    files.write_file(certificate.with_suffix(".json"), json.dumps(note).encode() + b"\n", files.PUBLIC)


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)
