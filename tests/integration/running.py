"""
Runs the relay and the stand-in as processes, for the tests that need real clients on real sockets.

A `Site` is a directory with everything a relay needs, made by the project's own
authority.  What runs listens on loopback at a port that the system chose, is
waited for with a bound, and is ended by its process id with the test class that
started it; if that is killed, it ends by itself.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.authority.directory import Authority
from openai_relay.config.example import toml_value
from openai_relay.standin.counters import Counters

ROOT: Final = Path(__file__).resolve().parents[2]
BIN: Final = Path(sys.executable).parent
#: Bounds, in seconds, and no expectations: of one answer, of a start, of an end (which includes finishing streams).
WITHIN: Final = 30.0
START_WITHIN: Final = 60.0
END_WITHIN: Final = 45.0
CLIENT: Final = "alice"

#: The tables of a ``relay.toml``.
Tables = Mapping[str, Mapping[str, object]]
T = TypeVar("T")

_TURN: Final = 0.02
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)


def wait_for(ask: Callable[[], T | None], wanted: str, within: float = WITHIN) -> T:
    """Ask until the answer is true and return it; fails when it does not become so."""
    pause = threading.Event()
    end = time.monotonic() + within
    while not (found := ask()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {within:g} s in vain for {wanted}; the last answer was {found!r}")
        pause.wait(_TURN)
    return found


@dataclass(frozen=True, slots=True)
class Site:
    """One directory with certificates, keys and the API key: ``server``, ``client`` and ``upstream`` are pairs."""

    directory: Path
    api_key: str

    @classmethod
    def make(cls) -> Site:
        """A new one; the upstream's certificate is of an authority of its own."""
        site = cls(Path(tempfile.mkdtemp(prefix="openai-relay-test-")), f"sk-canary-{secrets.token_hex(16)}")
        own = Authority.create(site.directory / "authority")
        own.issue_server(["localhost", "127.0.0.1"], into=site.directory, stem="server")
        own.issue_client(CLIENT, into=site.directory, stem="client")
        theirs = Authority.create(site.directory / "upstream-authority", "Upstream CA")
        theirs.issue_server(["localhost", "127.0.0.1"], into=site.directory, stem="upstream")
        (site.directory / "openai.key").write_text(f"{site.api_key}\n")
        return site

    def file(self, name: str) -> Path:
        return self.directory / name

    @property
    def ca(self) -> Path:
        """Whom clients trust, and who issued their certificates."""
        return self.directory / "authority" / "ca.pem"

    @property
    def upstream_ca(self) -> Path:
        return self.directory / "upstream-authority" / "ca.pem"

    def client_tls(self) -> ssl.SSLContext:
        """What a client of the relay connects with."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.file("client.pem"), self.file("client.key"))
        return context

    def write_configuration(self, upstream: str, more: Tables | None = None, name: str = "relay.toml") -> Path:
        """A ``relay.toml`` with what is needed, and ``more`` over it."""
        tables: dict[str, dict[str, object]] = {
            "listen": {
                "address": "127.0.0.1:0",
                "certificate": "server.pem",
                "key": "file:server.key",
                "client_ca": "authority/ca.pem",
                "crl": "authority/crl.pem",
            },
            "upstream": {
                "url": upstream,
                "ca": "upstream-authority/ca.pem",
                "api_key": "file:openai.key",
            },
            "admin": {"address": "127.0.0.1:0"},
        }
        for table, entries in (more or {}).items():
            tables.setdefault(table, {}).update(entries)
        lines = []
        for table, keys in tables.items():
            lines.append(f"[{table}]")
            lines += [f"{key} = {toml_value(value)}" for key, value in keys.items()]
        path = self.file(name)
        path.write_text("\n".join(lines) + "\n")
        return path


class Running:
    """One process of ours; its output goes to files, so that it is never held up by us."""

    def __init__(
        self, command: Sequence[str | Path], directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.out, self.err = (Path(tempfile.mkstemp(suffix=end, dir=directory)[1]) for end in (".out", ".err"))
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                cwd=directory,
                env=child_environment() | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                preexec_fn=partial(_libc.prctl, _PR_SET_PDEATHSIG, signal.SIGKILL),
            )

    @property
    def output(self) -> str:
        """Its standard output until now."""
        return self.out.read_text(errors="replace")

    @property
    def errors(self) -> str:
        """Its standard error until now."""
        return self.err.read_text(errors="replace")

    def announced(self, pattern: str) -> re.Match[str]:
        """Wait until it says on either output what matches; fails when it ends before."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.output) or re.search(pattern, self.errors)
            if found is None and self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode}: {self.output}{self.errors}")
            return found

        return wait_for(look, f"{pattern!r} to be announced", START_WITHIN)

    @property
    def resident(self) -> int:
        """Bytes of memory that it has now (VmRSS)."""
        return self._status("VmRSS")

    def _status(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{self.process.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1_024

    def ended(self) -> int:
        """Wait for its end; returns its exit code."""
        try:
            return self.process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it did not end: {self.output}{self.errors}") from None

    def stop(self) -> int:
        """Ask it to end, and wait until it has; returns its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.ended()


class StandIn(Running):
    """``openai-relay standin``, which takes no key but the site's."""

    def __init__(self, site: Site) -> None:
        super().__init__(
            [
                *(BIN / "openai-relay", "standin", "--listen", "127.0.0.1:0"),
                *("--certificate", "upstream.pem", "--key", "upstream.key", "--api-key-from", "file:openai.key"),
            ],
            site.directory,
        )
        self._site = site
        self.url, self.port = _url_and_port(self, r"stand-in for the OpenAI API: (https://\S+:(\d+))/v1")

    def stats(self) -> Counters:
        """What has reached it until now; asking does not count."""
        context = ssl.create_default_context(cafile=str(self._site.upstream_ca))
        asking = HTTPSConnection("127.0.0.1", self.port, timeout=WITHIN, context=context)
        try:
            asking.request("GET", "/standin/stats")
            return msgspec.json.decode(asking.getresponse().read(), type=Counters)
        finally:
            asking.close()


class Relay(Running):
    """The relay: by default ``twistd`` with a configuration."""

    def __init__(self, site: Site, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        super().__init__(command, site.directory, environment)
        self.site = site
        self.url, self.port = _url_and_port(self, r"serving on (127\.0\.0\.1:(\d+))")
        self.admin_port = int(self.announced(r"health and metrics: 127\.0\.0\.1:(\d+)")[1])

    @classmethod
    def configured(cls, site: Site, upstream: str, more: Tables | None = None) -> Relay:
        """``twistd -n --pidfile= openai-relay --config relay.toml``."""
        return cls(site, [*TWISTD, "--config", site.write_configuration(upstream, more)])

    def connect(self, tls: ssl.SSLContext | None = None) -> HTTPSConnection:
        """A connection with the client's certificate, made with its first request."""
        return HTTPSConnection("127.0.0.1", self.port, timeout=WITHIN, context=tls or self.site.client_tls())

    def lines(self) -> list[dict[str, Any]]:
        """The access log until now, a member for each whole line."""
        return [json.loads(line) for line in self.output.splitlines(keepends=True) if line.endswith("\n")]

    def lines_until_now(self) -> int:
        """How many lines there are once each exchange that has ended has its own: they are written in batches."""

        def count() -> tuple[int] | None:
            ended = re.findall(r"^openai_relay_exchanges_ended_total\S* (\S+)$", self.admin("/metrics"), re.MULTILINE)
            lines = len(self.lines())
            return (lines,) if lines == sum(map(float, ended)) else None

        return wait_for(count, "a line for each exchange that has ended")[0]

    def lines_after(self, start: int, wanted: int = 1) -> list[dict[str, Any]]:
        """The access log from a line on, once there are as many as wanted."""
        return wait_for(
            lambda: lines[start:] if len(lines := self.lines()) >= start + wanted else None,
            f"{wanted} lines in the access log after the first {start}",
        )

    def admin(self, path: str) -> str:
        """What the admin listener answers."""
        asking = HTTPConnection("127.0.0.1", self.admin_port, timeout=WITHIN)
        try:
            asking.request("GET", path)
            return asking.getresponse().read().decode()
        finally:
            asking.close()

    def metric(self, series: str) -> float:
        """One series of the metrics, such as ``openai_relay_connections``; 0 when it is not there (yet)."""
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.admin("/metrics"), re.MULTILINE)
        return 0.0 if found is None else float(found[1])

    def wait_for_metric(self, series: str, wanted: float) -> None:
        """Until a series has this value."""
        wait_for(lambda: self.metric(series) == wanted, f"{series} to be {wanted:g}")

    def active(self) -> float:
        """How many exchanges of the client are open."""
        return self.metric(f'openai_relay_streams_active{{client="{CLIENT}"}}')

    def close(self) -> None:
        """Stop it; fails when it did not end well, or had something to complain of."""
        code = self.stop()
        for sign in ("Traceback", "Unhandled", "bug in"):
            if code != 0 or sign in self.errors:
                raise AssertionError(f"the relay ended with {code} and said:\n{self.errors[-20_000:]}")


TWISTD: Final = (BIN / "twistd", "-n", "--pidfile=", "openai-relay")


class SiteTestCase(SynchronousTestCase):
    """A site, made for the class and removed with it."""

    site: ClassVar[Site]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.site = Site.make()
        cls.addClassCleanup(shutil.rmtree, cls.site.directory)


class RelayTestCase(SiteTestCase):
    """A relay in front of a stand-in, both started for the class and ended with it."""

    #: What stands in ``relay.toml`` beside what has to.
    configuration: ClassVar[Tables] = {}
    standin: ClassVar[StandIn]
    relay: ClassVar[Relay]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.standin = StandIn(cls.site)
        cls.addClassCleanup(cls.standin.stop)
        cls.relay = Relay.configured(cls.site, cls.standin.url, cls.configuration)
        cls.addClassCleanup(cls.relay.close)

    def connect(self) -> HTTPSConnection:
        """A client's connection that is closed with the test."""
        connection = self.relay.connect()
        self.addCleanup(connection.close)
        return connection

    def ask(self, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of one whole answer, on a connection of its own."""
        connection = self.connect()
        connection.request(method, target, body)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def assert_serving(self) -> None:
        """Whatever happened before, the next good request is answered."""
        status, body = self.ask("GET", "/v1/models")
        self.assertEqual(status, 200, body)
        self.assertEqual(json.loads(body)["object"], "list")


def child_environment() -> dict[str, str]:
    """What a child needs, and nothing that this machine happens to have set."""
    return {"PATH": f"{BIN}{os.pathsep}{os.defpath}", "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"}


def _url_and_port(running: Running, pattern: str) -> tuple[str, int]:
    try:
        found = running.announced(pattern)
    except AssertionError:
        running.stop()
        raise
    url = found[1] if "://" in found[1] else f"https://{found[1]}"
    return url, int(found[2])
