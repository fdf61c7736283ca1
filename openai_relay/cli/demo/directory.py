"""What lies in the demo's directory: an authority, certificates, a configuration; made, reused or renewed."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from openai_relay.authority.directory import Authority, Clock, Credential, utc_now
from openai_relay.authority.errors import AuthorityError
from openai_relay.authority.files import PRIVATE, PUBLIC, locked, make_directory, write_file
from openai_relay.authority.index import record
from openai_relay.authority.reading import read_certificate, read_key
from openai_relay.config.example import render

#: Only a directory with this file in it is ours to fill and to renew.
MARKER: Final = ".openai-relay-demo"
_MARKER_TEXT: Final = b"Made by `openai-relay demo`, which renews what is in here. It may be deleted at any time.\n"
_CONFIGURATION_NOTE: Final = "# Written anew by every `openai-relay demo`: what is changed here does not last.\n#\n"

CLIENT: Final = "demo"
HOSTS: Final = ("localhost", "127.0.0.1", "::1")
AUTHORITY_DAYS: Final = 3_650
LEAF_DAYS: Final = 90
#: A demo may run for a while: what ends sooner is renewed at its start.
LEFT_AT_LEAST: Final = timedelta(days=7)

OPENAI: Final = "https://api.openai.com"


@dataclass(frozen=True, slots=True)
class Addresses:
    """The ports on 127.0.0.1 that this demo uses."""

    relay: int
    admin: int
    standin: int | None  #: None: requests go to the real API

    @property
    def upstream(self) -> str:
        return OPENAI if self.standin is None else f"https://localhost:{self.standin}"


@dataclass(frozen=True, slots=True)
class DemoDirectory:
    """The files, by the names that the README promises."""

    path: Path

    @property
    def ca(self) -> Path:
        return self.path / "ca.pem"

    @property
    def configuration(self) -> Path:
        return self.path / "relay.toml"

    @property
    def api_key(self) -> Path:
        return self.path / "api.key"

    def certificate(self, stem: str) -> Path:
        return self.path / f"{stem}.pem"

    def key(self, stem: str) -> Path:
        return self.path / f"{stem}.key"

    def prepare(self, addresses: Addresses, clock: Clock = utc_now) -> None:
        """
        Everything is there and good for a week at least.

        :raises AuthorityError: the directory is somebody else's, or cannot be written.
        """
        self._claim()
        with locked(self.path / ".demo.lock"):
            authority = self._authority(clock)
            self._leaf(authority, "server", lambda: authority.issue_server(HOSTS, days=LEAF_DAYS, stem="server"))
            self._leaf(authority, "standin", lambda: authority.issue_server(HOSTS, days=LEAF_DAYS, stem="standin"))
            self._leaf(
                authority,
                "client",
                lambda: authority.issue_client(CLIENT, days=LEAF_DAYS, into=self.path, stem="client"),
            )
            if not self.api_key.exists():  # it opens the stand-in of this demo, and nothing else
                write_file(self.api_key, f"demo-{secrets.token_hex(16)}\n".encode(), PRIVATE)
            write_file(self.configuration, self._text(addresses).encode(), PUBLIC)

    def _claim(self) -> None:
        marker = self.path / MARKER
        if marker.exists():
            return
        if self.path.is_dir() and any(self.path.iterdir()):
            what = "This directory holds something else than a demo"
            raise AuthorityError(what, "Name another one with --dir, or an empty one", self.path)
        make_directory(self.path)
        write_file(marker, _MARKER_TEXT, PUBLIC)

    def _authority(self, clock: Clock) -> Authority:
        try:
            authority = Authority.open(self.path, clock)
            authority.refresh_crl()  # which proves key, index and list as well
            if authority.not_after - clock() > LEFT_AT_LEAST:
                return authority
        except AuthorityError:
            pass  # not there yet, or damaged: a demo's authority is made anew
        for name in ("ca.pem", "ca.key", "index.jsonl", "crl.pem"):
            self._remove(self.path / name)
        return Authority.create(self.path, f"openai-relay demo CA {secrets.token_hex(4)}", AUTHORITY_DAYS, clock)

    def _leaf(self, authority: Authority, stem: str, issue: Callable[[], Credential]) -> None:
        if not self._is_good(authority, stem):
            self._remove(self.certificate(stem))
            self._remove(self.key(stem))
            issue()

    def _is_good(self, authority: Authority, stem: str) -> bool:
        try:
            certificate = read_certificate(self.certificate(stem), "")
            key = read_key(self.key(stem), "")
        except AuthorityError:
            return False
        serial, now = record(certificate).serial, authority.clock()
        known = [each for each in authority.issued() if each.serial == serial]
        return (
            key.public_key() == certificate.public_key()
            and authority.has_issued(certificate)
            and bool(known)
            and known[0].state(now) == "valid"
            and known[0].not_after - now > LEFT_AT_LEAST
        )

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise AuthorityError(f"Cannot renew it ({error.strerror})", "Delete the directory", path) from error

    def _text(self, addresses: Addresses) -> str:
        to_standin = addresses.standin is not None
        return _CONFIGURATION_NOTE + render(
            certificate="server.pem",
            key="file:server.key",
            client_ca="ca.pem",
            crl="crl.pem",
            address=f"127.0.0.1:{addresses.relay}",
            upstream=addresses.upstream,
            upstream_ca="ca.pem" if to_standin else None,
            api_key="file:api.key" if to_standin else "env:OPENAI_API_KEY",
            admin=f"127.0.0.1:{addresses.admin}",
        )
