"""
Issue certificates to whoever has a code, and again to whoever still has a good one.

Blocking: it locks the authority's directory and writes to the disk, so it is
called in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from openai_relay.authority.directory import Authority
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.invitations import Invitations, NotInvited
from openai_relay.authority.requests import SigningRequest, read_request
from openai_relay.core.enrolment_code import BadCode, read_code
from openai_relay.core.identity import Identity
from openai_relay.core.settings import Secret
from openai_relay.enrolment.est import BadBody, request_bytes

_WHY = {
    "unknown": "This code is not known here. Check that it was copied whole, and for this relay; or ask for another.",
    "used": "This code has been used, and each is good once. Ask for another with `openai-relay invite`.",
    "expired": "This code has expired. Ask for another with `openai-relay invite`.",
}

_ELSEWHERE = "Your certificate was not issued by this relay's own authority: renew it there."


class Refused(Exception):
    """Nothing is issued; ``status`` and text are for the one who asked."""

    def __init__(self, status: int, told: str, why: str) -> None:
        super().__init__(told)
        self.status = status
        self.told = told
        self.why = why  #: a word, for metrics and the log


class Desk:
    """
    The desk of one authority.

    :param directory: the authority's.
    :param passphrase: of its key; ``None``: that is not encrypted.
    :raises AuthorityError: there is no authority.
    """

    def __init__(
        self, directory: Path, passphrase: Secret | None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._clock = clock
        self._invitations = Invitations(directory)
        reveal = None if passphrase is None else passphrase.reveal
        self._authority = Authority.open(directory, clock, reveal)

    def authorities(self) -> x509.Certificate:
        """The authority's own certificate."""
        return self._authority.certificate

    def enrol(self, user: str, typed: str, body: bytes) -> x509.Certificate:
        """
        A first certificate, for a code; the code is used up by it, and by nothing less.

        :param user: empty, or the name that the code is for.
        :raises Refused: with the reason.
        """
        request = _request(body)
        try:
            taken = self._invitations.take(read_code(typed).secret, self._clock())
        except BadCode as bad:
            raise Refused(401, f"The code {bad}.", "unknown") from None
        except NotInvited as error:
            raise Refused(401, _WHY[error.why], error.why) from None
        try:
            invitation = taken.invitation
            if user and user != invitation.name:
                raise Refused(401, "This code is for another name; leave the user name empty.", "name")
            signed = self._authority.sign_request(request, invitation.name, days=invitation.days)
        except BaseException:
            taken.give_back()
            raise
        taken.used()
        return signed.certificate

    def renew(self, identity: Identity, body: bytes) -> x509.Certificate:
        """
        The next certificate of a client that shows a good one: same names, the key of the request.

        :raises Refused: with the reason.
        """
        request = _request(body)
        try:
            # By its fingerprint: another trusted authority may use the same serial number.
            issued = self._authority.issued()
            old = next((each for each in issued if each.fingerprint == identity.fingerprint), None)
            if old is None or old.kind != "client":
                raise Refused(403, _ELSEWHERE, "other")
            days = max(round((old.not_after - old.not_before).total_seconds() / 86_400), 1)
            return self._authority.renew_request(old.serial, request, days=days).certificate
        except AuthorityError as error:
            raise Refused(403, f"It cannot be renewed: {error.what}.", "refused") from None


def _request(body: bytes) -> SigningRequest:
    try:
        return read_request(request_bytes(body), "the request")
    except BadBody as bad:
        raise Refused(400, str(bad), "request") from None
    except AuthorityError as error:
        raise Refused(400, f"{error}", "request") from None
