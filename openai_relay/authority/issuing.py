"""A certificate that is to be issued: what it will say, for how long, and which files come of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from openai_relay.authority import files, profile
from openai_relay.authority.bundle import Bundle, bundle_bytes
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.names import AlternativeNames, implied_names
from openai_relay.authority.place import Place
from openai_relay.authority.profile import Validity

#: Certificates start this far in the past, for machines whose clocks run behind.
BACKDATING: Final = timedelta(minutes=5)
LONGEST_DAYS: Final = 36_500


@dataclass(frozen=True, slots=True)
class Wanted:
    """A certificate to be issued."""

    kind: profile.Kind
    name: str
    alternative: Sequence[x509.GeneralName]
    days: int
    keep_names: bool = False  #: one that replaces a file takes the alternative names from there instead
    renews: str | None = None  #: the serial number of the one in whose place it comes

    def validity(self, now: datetime, authority: x509.Certificate) -> Validity:
        """From a little before now; never longer than the authority's own."""
        return Validity(
            max(now - BACKDATING, authority.not_valid_before_utc),
            min(self.asked(now), authority.not_valid_after_utc),
        )

    def asked(self, now: datetime) -> datetime:
        """When it would end if the authority lived for ever."""
        return now + timedelta(days=self.days)


@dataclass(frozen=True, slots=True)
class KeyMade:
    """A key that was made here, and how it is to be handed over."""

    key: profile.PrivateKey
    bundle: Bundle | None  #: as a ``.p12`` file, too

    def files(
        self, place: Place, name: str, certificate: x509.Certificate, authority: x509.Certificate
    ) -> Iterator[tuple[Path, bytes, int]]:
        """Path, content and mode of each file that holds it."""
        yield place.key, profile.key_pem(self.key), files.PRIVATE
        if self.bundle is not None:
            yield place.bundle, bundle_bytes(self.bundle, name, self.key, certificate, authority), files.PRIVATE


def given_names(name: str, alternative: AlternativeNames | None) -> list[x509.GeneralName]:
    """The alternative names that were given, else what the name implies."""
    return (implied_names(name) if alternative is None else alternative).general_names()


def check_days(days: int) -> None:
    """
    Refuse a duration that no date could follow from.

    :raises AuthorityError: it is one.
    """
    if not 1 <= days <= LONGEST_DAYS:
        raise AuthorityError("A certificate or list is good for 1 to 36500 days", "Give a number in between", days)
