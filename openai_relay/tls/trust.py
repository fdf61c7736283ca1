"""
Whom a TLS server trusts: authorities and their revocation lists, held against each other and made into a store.

OpenSSL checks chain, dates, purpose and revocation.  Two of its findings are not
the last word on authorities as companies run them, and `Trust.clears` decides:

- A list may say where it is published (issuingDistributionPoint), and OpenSSL
  then wants every certificate to name the same place (RFC 5280 §6.3.3).  The
  certificates of step-ca name none.  For one that names no place, such a list
  counts all the same; one that names another place has a list elsewhere.
- Where an authority is trusted without the root above it, nothing is known, or
  asked, about that authority itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from OpenSSL import crypto

from openai_relay.tls.files import BadCertificateFile, ListRead

#: X509_V_ERR_UNABLE_TO_GET_CRL and X509_V_ERR_DIFFERENT_CRL_SCOPE.
NO_LIST: Final = 3
OTHER_SCOPE: Final = 44


@dataclass(frozen=True, slots=True)
class Places:
    """The file of the authorities and that of the lists, by their settings: for messages."""

    authorities: Path
    lists_key: str


@dataclass(frozen=True, slots=True)
class Placed:
    """An authority whose lists are all published in one place, and say so; of several the newest counts."""

    authority: x509.Certificate
    place: x509.IssuingDistributionPoint


@dataclass(frozen=True, slots=True)
class Trust:
    """
    Authorities and lists that fit each other.

    :ivar placed: whose lists count for certificates that name no place.
    :ivar alone: authorities at which a chain ends though they are no roots.
    :ivar complete: each authority has a list, so that authorities are checked, too, and not only clients.
    :ivar next_update: when the first of the lists in force is out of date; ``None``: there is none, or none says.
    :ivar warnings: what is in order, but hardly meant; a sentence each.
    """

    authorities: tuple[x509.Certificate, ...]
    lists: tuple[x509.CertificateRevocationList, ...]
    placed: tuple[Placed, ...]
    alone: frozenset[x509.Certificate]
    complete: bool
    next_update: float | None
    warnings: tuple[str, ...]

    def fill(self, store: crypto.X509Store) -> None:
        """Put everything into a new store, with the flags that it needs."""
        flags = 0
        for authority in self.authorities:
            if not self.alone or _is_authority(authority):
                store.add_cert(crypto.X509.from_cryptography(authority))
        if self.alone:
            flags |= crypto.X509StoreFlags.PARTIAL_CHAIN
        if self.lists:
            flags |= crypto.X509StoreFlags.CRL_CHECK
        if self.complete:
            flags |= crypto.X509StoreFlags.CRL_CHECK_ALL
        for one in self.lists:
            store.add_crl(one)
        store.set_flags(flags)

    def anchors(self) -> frozenset[bytes]:
        """The SHA-256 fingerprints of those at which a chain may end."""
        ends = (each for each in self.authorities if each in self.alone or each.subject == each.issuer)
        return frozenset(each.fingerprint(hashes.SHA256()) for each in ends)

    def this_update(self) -> float | None:
        """When the oldest of the lists in force was made; ``None``: there is none."""
        return min((one.last_update_utc.timestamp() for one in self._in_force()), default=None)

    def revoked(self) -> dict[str, frozenset[int]]:
        """The serial numbers on each authority's lists in force, by its name (RFC 4514)."""
        revoked: dict[str, frozenset[int]] = {}
        for one in self._in_force():
            issuer = one.issuer.rfc4514_string()
            revoked[issuer] = revoked.get(issuer, frozenset()) | {each.serial_number for each in one}
        return revoked

    def _in_force(self) -> Iterable[x509.CertificateRevocationList]:
        newest: dict[object, x509.CertificateRevocationList] = {}
        for one in self.lists:
            scope = _scope(self.authorities, one)
            if scope not in newest or newest[scope].last_update_utc < one.last_update_utc:
                newest[scope] = one
        return newest.values()

    def clears(self, error: int, certificate: x509.Certificate) -> bool:
        """
        Whether what OpenSSL found wrong with a certificate on the way is in order.

        After `OTHER_SCOPE` is cleared OpenSSL goes on with the newest list of that authority: its signature, its
        dates, and whether the certificate is on it.  Then it misses a list in its scope (`NO_LIST`), which belongs
        to the same finding.
        """
        if error == NO_LIST:
            return certificate in self.alone
        return error == OTHER_SCOPE and self._covers(certificate)

    def _covers(self, certificate: x509.Certificate) -> bool:
        if any(isinstance(each.value, x509.CRLDistributionPoints) for each in certificate.extensions):
            return False
        issuers = (each for each in self.placed if _issued(each.authority, certificate))
        return any(_speaks_of(each.place, authorities=_is_authority(certificate)) for each in issuers)


def trust(authorities: Sequence[x509.Certificate], lists: Sequence[ListRead], places: Places) -> Trust:
    """
    What these files come to; without any list, revocation is not checked.

    :raises BadCertificateFile: a list cannot be used, or nobody could connect.
    """
    signed = {each: [one.crl for one in lists if _has_signed(each, one.crl)] for each in authorities}
    if lists:
        _check_lists(authorities, lists, places)
    above = {each: [other for other in authorities if _issued(other, each)] for each in authorities}
    below = [each for each in authorities if _is_authority(each) and each.subject != each.issuer]
    alone = frozenset(each for each in below if not above[each])
    warnings = list(_without_list(signed, places)) if lists else []
    if len(alone) < len(below):  # with partial chains, what is revoked among the others would go unnoticed
        warnings += [
            f"{places.authorities} holds {_named(each)} without the authority above it, so its clients are refused: "
            "add the certificate of that one, or leave there only the authorities that issue clients' certificates"
            for each in below
            if each in alone
        ]
        alone = frozenset()
    return Trust(
        tuple(authorities),
        tuple(one.crl for one in lists),
        tuple(_placed(signed)),
        alone,
        bool(lists) and all(any(_speaks_of(_place(one), authorities=True) for one in ones) for ones in signed.values()),
        _next_update(authorities, lists),
        tuple(warnings),
    )


def _check_lists(authorities: Iterable[x509.Certificate], lists: Sequence[ListRead], places: Places) -> None:
    for one in lists:
        if problem := _unusable(one.crl):
            raise BadCertificateFile(places.lists_key, one.path, problem)
    if not {one.crl.issuer for one in lists} & {each.subject for each in authorities}:
        raise BadCertificateFile(
            places.lists_key,
            lists[0].path,
            f"was issued by none of the authorities in {places.authorities}: nobody could connect",
        )
    for one in lists:
        of_that_name = [each for each in authorities if each.subject == one.crl.issuer]
        if of_that_name and not any(_has_signed(each, one.crl) for each in of_that_name):
            raise BadCertificateFile(
                places.lists_key,
                one.path,
                f"was issued by an authority that has the name, but not the key, of one in {places.authorities}: "
                "nobody could connect",
            )


def _unusable(crl: x509.CertificateRevocationList) -> str:
    """Why OpenSSL would pass a list over, though not what is on it; empty: it would not."""
    try:
        delta = any(isinstance(each.value, x509.DeltaCRLIndicator) for each in crl.extensions)
        place = _place(crl)
    except (ValueError, x509.DuplicateExtension) as error:
        return f"is malformed ({error}); ask its authority for another"
    if delta:
        return "holds only what has changed since another list (a delta); give the complete one alone"
    if place is None:
        return ""
    if place.indirect_crl or place.only_some_reasons:
        what = "speaks for other authorities" if place.indirect_crl else "leaves out some reasons"
        return f"{what} (issuingDistributionPoint), which cannot be checked; give one list of each authority, complete"
    if place.only_contains_attribute_certs:
        return "is about attribute certificates (issuingDistributionPoint), which nobody shows here; give another list"
    return ""


def _without_list(
    signed: dict[x509.Certificate, list[x509.CertificateRevocationList]], places: Places
) -> Iterator[str]:
    listed = {each.subject for each, ones in signed.items() if ones}
    for each in signed:
        if _is_authority(each) and each.subject not in listed:
            yield (
                f"{places.lists_key} holds no list of {_named(each)}: whoever has a certificate directly from it is "
                "refused, and authorities are not checked for revocation, only clients"
            )


def _place(crl: x509.CertificateRevocationList) -> x509.IssuingDistributionPoint | None:
    try:
        return crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        return None


def _speaks_of(place: x509.IssuingDistributionPoint | None, *, authorities: bool) -> bool:
    """Whether a list is about authorities, or about everybody else."""
    if place is None:
        return True
    return not (place.only_contains_user_certs if authorities else place.only_contains_ca_certs)


def _placed(signed: dict[x509.Certificate, list[x509.CertificateRevocationList]]) -> Iterator[Placed]:
    for authority, lists in signed.items():
        places = {_place(one) for one in lists}
        # With several places, nobody can tell on which list a certificate without one would be.
        if len(places) == 1 and (place := places.pop()) is not None and (place.full_name or place.relative_name):
            yield Placed(authority, place)


def _next_update(authorities: Iterable[x509.Certificate], lists: Iterable[ListRead]) -> float | None:
    latest: dict[object, float] = {}
    for one in lists:
        crl = one.crl
        if crl.next_update_utc is not None:
            scope = _scope(authorities, crl)
            latest[scope] = max(latest.get(scope, 0.0), crl.next_update_utc.timestamp())
    return min(latest.values(), default=None)


def _scope(authorities: Iterable[x509.Certificate], crl: x509.CertificateRevocationList) -> object:
    """In which a newer list stands in the place of an older one."""
    signers = (each for each in authorities if _has_signed(each, crl))
    return next(signers, crl.issuer), _place(crl)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return certificate.subject == certificate.issuer  # roots from before there were extensions
    except (ValueError, x509.DuplicateExtension):
        return False


def _issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    if authority.subject != certificate.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, TypeError, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _has_signed(authority: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    if authority.subject != crl.issuer:
        return False
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError, UnsupportedAlgorithm):  # a key of a kind that signs nothing, or not in this way
        return False


def _named(authority: x509.Certificate) -> str:
    return repr(authority.subject.rfc4514_string())
