"""Reload: all is read again and built whole, then swapped; or refused with the reason, and what was there goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from OpenSSL import SSL
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from openai_relay.accounting.account import policies_of
from openai_relay.accounting.begin import Spent
from openai_relay.config.problems import BadConfiguration
from openai_relay.core.policy import BadPolicy, PolicyBook
from openai_relay.core.restart import NotReloaded, needs_restart
from openai_relay.core.settings import Settings
from openai_relay.enrolment.door import load_door
from openai_relay.tls.accepting import Loaded, load
from openai_relay.tls.files import BadCertificateFile
from openai_relay.upstream import BadUpstream, client_context
from openai_relay.upstreams import ca_of
from openai_relay.watching import Looks, look

_BUG: Final = "the relay failed to reload; its log has the traceback"


class Written(Protocol):
    """A configuration as it was written; ``config.read.Written`` is one."""

    def settings(self) -> Settings:
        """
        What it comes to, with what the files and variables that it names hold now.

        :raises BadConfiguration: with everything that is wrong.
        """

    def watched(self) -> tuple[Path, ...]:
        """The files of certificates that it names, and those that say who is revoked or denied."""


@dataclass(frozen=True, slots=True)
class Built:
    """All that a reload puts in force, whole."""

    settings: Settings
    looks: Looks  #: of the files that are watched, before they were read
    loaded: Loaded
    door: Loaded | None  #: of the port for enrolment, where there is one
    policies: PolicyBook
    spent: list[Spent]
    upstream_context: SSL.Context
    upstream_ca: bytes  #: what the file of trusted authorities holds; empty: they are the system's


class Reload:
    """
    Reloads one service, one at a time.

    :param read: reads the configuration itself again.
    :param in_thread: calls what reads files, and fires with what it returns.
    :param read_spent: asks the ledger what new budgets begin with.
    :param adopt: puts what was built in force; returns how many exchanges ended by it, and cannot fail.
    :ivar written: the configuration in force.
    """

    log = Logger()

    def __init__(
        self,
        settings: Settings,
        written: Written,
        read: Callable[[], Written],
        in_thread: Callable[[Callable[[], tuple[Written, Built]]], Deferred[tuple[Written, Built]]],
        read_spent: Callable[[], list[Spent]],
        adopt: Callable[[Built], int],
    ) -> None:
        self.written = written
        self._settings = settings
        self._read = read
        self._in_thread = in_thread
        self._read_spent = read_spent
        self._adopt = adopt
        self._one_by_one = DeferredLock()

    def all(self) -> Deferred[None]:
        """
        The configuration, and all that it names.

        Fails with `NotReloaded`.
        """
        return self._one_by_one.run(self._reload, self._read, "reloaded")

    def files(self, changed: list[Path]) -> Deferred[None]:
        """
        What the configuration in force names: some of these files have changed.

        Fails with `NotReloaded`.
        """
        said = f"taken up: {', '.join(str(path) for path in changed)}"
        return self._one_by_one.run(self._reload, lambda: self.written, said)

    def finished(self) -> Deferred[None]:
        """Fires when none is under way."""
        return self._one_by_one.run(lambda: None)

    def _reload(self, read: Callable[[], Written], said: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._swap(read, said))

    async def _swap(self, read: Callable[[], Written], said: str) -> None:
        try:
            written, built = await self._in_thread(lambda: self._build(read))
            ended = self._adopt(built)
        except Exception as error:  # noqa: BLE001 - what was there goes on, whatever it is
            reasons = _reasons(error)
            if not reasons:
                self.log.failure("bug in reloading")
                reasons = [_BUG]
            for reason in reasons:
                self.log.error("not reloaded, all goes on as before: {reason}", reason=reason)
            raise NotReloaded(reasons) from None
        self.written, self._settings = written, built.settings
        for warning in built.loaded.warnings:
            self.log.warn("{warning}", warning=warning)
        self.log.info("{said}{ended}", said=said, ended=f"; {ended} exchanges ended by it" if ended else "")

    def _build(self, read: Callable[[], Written]) -> tuple[Written, Built]:
        written = read()
        looks = look(written.watched())
        settings = written.settings()
        bound = needs_restart(self._settings, settings)
        if bound:
            raise NotReloaded(bound)
        return written, Built(
            settings,
            looks,
            load(settings.listen),
            None if settings.enrol.address is None else load_door(settings),
            policies_of(settings),
            self._read_spent(),
            client_context(settings.upstream.ca),
            ca_of(settings.upstream),
        )


def _reasons(error: Exception) -> list[str]:
    if isinstance(error, NotReloaded):
        return error.reasons
    if isinstance(error, BadConfiguration):
        return error.messages
    if isinstance(error, BadCertificateFile | BadUpstream | BadPolicy | OSError):
        return [str(error)]
    return []
