"""Reload: whole or not at all, one at a time, and never without a word."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.config.problems import BadConfiguration, Problem
from openai_relay.core.restart import NotReloaded
from openai_relay.core.settings import AdminSettings, ListenSettings, Secret, Settings, UpstreamSettings
from openai_relay.reload import Built, Reload, Written
from tests import certificates
from tests.certificates import DAY, authority, revocation_list
from tests.doubles import observe

Reading = tuple[Written, Built]


class Wrote:
    """A configuration that comes to what it is told, or fails with it."""

    def __init__(self, outcome: Settings | Exception) -> None:
        self.outcome = outcome

    def settings(self) -> Settings:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def watched(self) -> tuple[Path, ...]:
        return ()


class ReloadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.settings = Settings(
            certificates.listen_settings(self.directory, crl=revocation_list()),
            upstream=UpstreamSettings(api_key=Secret(b"sk-canary")),
        )
        self.events = observe(self)
        self.first, self.next = Wrote(self.settings), Wrote(self.settings)
        self.adopted: list[Built] = []
        self.ended = 0
        self.broken: Exception | None = None
        self.held: list[Callable[[], None]] | None = None
        self.reload = Reload(self.settings, self.first, lambda: self.next, self.in_thread, list, self.adopt)

    def in_thread(self, build: Callable[[], Reading]) -> Deferred[Reading]:
        if self.held is not None:
            waiting: Deferred[Reading] = Deferred()
            self.held.append(lambda: waiting.callback(build()))
            return waiting
        try:
            return succeed(build())
        except Exception as error:  # noqa: BLE001 - a thread hands over whatever it was
            return fail(error)

    def adopt(self, built: Built) -> int:
        if self.broken is not None:
            raise self.broken
        self.adopted.append(built)
        return self.ended

    @property
    def listen(self) -> ListenSettings:
        return self.settings.listen

    def told(self) -> list[tuple[str, str]]:
        """Level and text of each line."""
        return [(event["log_level"].name, event["log_format"].format(**event)) for event in self.events]

    def refused(self) -> list[str]:
        """Why nothing has changed, as it was answered and logged."""
        reasons: list[str] = self.failureResultOf(self.reload.all(), NotReloaded).value.reasons
        self.assertEqual(self.adopted, [])
        self.assertEqual(self.told(), [("error", f"not reloaded, all goes on as before: {each}") for each in reasons])
        self.events.clear()
        return [reason.replace(str(self.directory), "DIRECTORY") for reason in reasons]

    def test_whole(self) -> None:
        """All that is put in force is built of what is written now."""
        assert self.listen.crl is not None
        self.listen.crl.write_bytes(revocation_list([certificates.client()], next_update=9 * DAY))
        other = replace(self.settings, upstream=replace(self.settings.upstream, api_key=Secret(b"sk-other")))
        self.next = Wrote(other)
        self.successResultOf(self.reload.all())
        (built,) = self.adopted
        self.assertIs(built.settings, other)
        self.assertEqual(built.loaded.crl_next_update, (certificates.NOW + 9 * DAY).timestamp())
        self.assertEqual(self.told(), [("info", "reloaded")])

    def test_what_ended(self) -> None:
        """That exchanges ended by it is said."""
        self.ended = 3
        self.successResultOf(self.reload.all())
        self.assertEqual(self.told(), [("info", "reloaded; 3 exchanges ended by it")])

    def test_files(self) -> None:
        """When files have changed, the configuration itself is not read again: it may be half edited."""
        self.next = Wrote(replace(self.settings, upstream=UpstreamSettings(api_key=Secret(b"half-edited"))))
        self.successResultOf(self.reload.files([Path("crl.pem"), Path("ca.pem")]))
        self.assertIs(self.adopted[0].settings, self.settings)
        self.assertIs(self.reload.written, self.first)
        self.assertEqual(self.told(), [("info", "taken up: crl.pem, ca.pem")])
        self.successResultOf(self.reload.all())
        self.assertIs(self.reload.written, self.next)

    def test_each_broken_file(self) -> None:
        """A certificate, a key, an authority or a list that cannot be used is refused by name, and changes nothing."""
        assert self.listen.crl is not None
        key = replace(self.listen, key=Secret(authority().key_pem))
        self.next = Wrote(replace(self.settings, listen=key))
        self.assertIn("listen.key: does not belong to the certificate", self.refused()[0])
        self.next = Wrote(self.settings)
        for file, name in (
            (self.listen.certificate, "listen.certificate"),
            (self.listen.client_ca, "listen.client_ca"),
            (self.listen.crl, "listen.crl"),
        ):
            kept = file.read_bytes()
            file.write_bytes(kept[: len(kept) // 2])
            (reason,) = self.refused()
            self.assertTrue(reason.startswith(f"{name}: DIRECTORY/"), reason)
            file.write_bytes(kept)
        self.successResultOf(self.reload.all())

    def test_broken_configuration(self) -> None:
        """Everything that is wrong with the configuration is told, each with its place."""
        self.next = Wrote(
            BadConfiguration([Problem("relay.toml", "a.b", "is odd", 1), Problem("relay.toml", None, "c", 2)])
        )
        self.assertEqual(self.refused(), ["relay.toml:1: a.b: is odd", "relay.toml:2: c"])

    def test_upstream_authorities(self) -> None:
        """So is a file of authorities for the upstream that is gone."""
        missing = replace(self.settings.upstream, ca=self.directory / "no.pem")
        self.next = Wrote(replace(self.settings, upstream=missing))
        self.assertIn("upstream.ca: DIRECTORY/no.pem: cannot be read", self.refused()[0])

    def test_bound(self) -> None:
        """What takes a restart is refused, together with all the rest: half a configuration is in force nowhere."""
        self.next = Wrote(replace(self.settings, admin=AdminSettings(None)))
        self.assertIn("admin has changed, which takes a restart", self.refused()[0])

    def test_bug(self) -> None:
        """What nobody foresaw is a bug with a traceback, and all goes on as before."""
        self.broken = ZeroDivisionError("of all things")
        failure = self.failureResultOf(self.reload.all(), NotReloaded)
        self.assertEqual(failure.value.reasons, ["the relay failed to reload; its log has the traceback"])
        self.assertEqual(self.events[0]["log_format"], "bug in reloading")
        self.flushLoggedErrors(ZeroDivisionError)
        self.broken = None
        self.successResultOf(self.reload.all())

    def test_one_by_one(self) -> None:
        """A reload that is asked for while another runs begins when that is done, and finds what is there then."""
        self.held = []
        first, second = self.reload.all(), self.reload.all()
        self.assertEqual(len(self.held), 1)
        self.held[0]()
        self.successResultOf(first)
        self.assertNoResult(second)
        later = self.next = Wrote(replace(self.settings))
        self.held[1]()
        self.successResultOf(second)
        self.assertIs(self.reload.written, later)

    def test_next_after_a_refusal(self) -> None:
        """A refusal holds up nobody who comes behind it."""
        self.next = Wrote(OSError("the disk is gone"))
        self.assertEqual(self.refused(), ["the disk is gone"])
        self.next = Wrote(self.settings)
        self.successResultOf(self.reload.all())
