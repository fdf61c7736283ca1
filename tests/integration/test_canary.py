"""
No secret and no content is in any output: canaries go in everywhere, and all that was written is searched for them.

Each relay is led through good exchanges, refusals, broken upstreams, a tunnel, a bug and a
signal, with each format of the access log.  A canary that is no secret, in the path, shows
that the search finds what is there.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.config.read import load
from openai_relay.core.headers import UpstreamFields
from openai_relay.core.settings import Secret, Settings
from tests.cli.commands import typed
from tests.integration.by_hand import ClientByHand
from tests.integration.canaries import Canary, Nest, forms_of, json_strings
from tests.integration.canary_case import VISIBLE, WAYS, Answering, CanaryCase
from tests.integration.running import BIN, TWISTD, Relay, Running, Site, Tables, wait_for

CONFIGURATION: Final[Tables] = {
    "upstream": {"organization": "org-x"},
    "listen": {"head_timeout": 1},
    "limits": {"requests_per_minute": 1, "burst": 100},
}
#: A `.tac` whose relay has a bug in one path; everything else is as in the relay's own.
BUGGY: Final = """
from twisted.application.service import Application
from twisted.internet import reactor
from openai_relay.config.read import load
from openai_relay.service import relay_service
import os
from pathlib import Path
service = relay_service(reactor, load(Path({configuration!r}), os.environ))
forward = service.relay.ways.upstream.forward
async def faulty(request, *rest):
    if request.target.startswith(b"/v1/bug"):
        raise ZeroDivisionError("provoked")
    return await forward(request, *rest)
service.relay.ways.upstream.forward = faulty
application = Application("buggy")
service.setServiceParent(application)
"""


class OutputTests(CanaryCase):
    """What a running relay writes."""

    def everything(self, log_format: str) -> None:
        """Lead a relay through all of it, and search all that came of it."""
        upstream = Answering(self.site, self.nest)
        self.addCleanup(upstream.close)
        relay = self.buggy(upstream.url, {**CONFIGURATION, "log": {"format": log_format}})
        for way in WAYS:
            got = self.ask(relay, way)
            if way in ("unary", "stream", "error"):
                self.assertIn(self.nest["answer"].encode(), got)  # a client does get what the upstream says
        self.assertIn(self.nest["answer"].encode(), self.tunnel(relay))
        for request in self.refusals():
            self.exchange(relay, partial(ClientByHand.send, data=request), relays_own=True)
        bug = self.target("unary", "/v1/bug/")
        self.exchange(relay, lambda client: client.request("GET", bug, fields=self.fields()), relays_own=True)
        self.never_finished(relay)
        self.strangers(relay)
        self.beyond_the_limit(relay)
        for path in ("/metrics", "/readyz?verbose", "/livez", f"/{self.nest['query']}"):
            self.heard.append((path.partition("?")[0][:8], relay.admin(path).encode()))
        upstream.close()
        self.ask(relay, "unary")  # nobody is there any more
        wait_for(lambda: relay.metric("openai_relay_connections") == 0, "all exchanges to end")
        for end in ("done", "refused", "limited", "upstream_error", "timeout", "bug"):  # all of it did happen
            self.assertGreater(relay.metric(f'openai_relay_exchanges_ended_total{{end="{end}"}}'), 0, end)
        self.assertIn("ZeroDivisionError: provoked", relay.output)  # of a tac, the log is there as well
        self.end_by_signal(relay)
        self.assertTrue(any(self.nest["upstream key"] in head for head in upstream.seen))  # it did go upstream
        self.assertTrue(any(self.nest["query"] in head for head in upstream.seen))
        self.assertFalse(any(self.nest["Authorization"] in head for head in upstream.seen))
        self.assertFalse(any(self.nest["subprotocol"] in head for head in upstream.seen))
        self.assertIn(self.nest[VISIBLE], relay.output)  # the search would find what is there
        self.assertSilent(("its log, unescaped", json_strings(relay.output).encode()))

    def buggy(self, upstream: str, more: Tables) -> Relay:
        """A relay with a bug, as a process."""
        configuration = str(self.site.write_configuration(upstream, more))
        tac = self.site.file("buggy.tac")
        tac.write_text(
            BUGGY.format(configuration=Path(configuration)).replace("PosixPath", "__import__('pathlib').Path")
        )
        relay = Relay(self.site, (BIN / "twistd", "--pidfile=", "-ny", tac))
        self.addCleanup(relay.stop)
        return relay

    def never_finished(self, relay: Relay) -> None:
        """A head, and a body, that do not come to their end."""
        secret = self.nest["malformed"].encode()
        begin = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        for data in (b"GET /v1/models HTTP/1.1\r\nX-Slow: " + secret, begin + b"\r\n" + secret):
            self.exchange(relay, partial(ClientByHand.send, data=data), relays_own=True)

    def strangers(self, relay: Relay) -> None:
        """Whoever speaks no TLS, or has no certificate."""
        secret = self.nest["stranger"].encode()
        with socket.create_connection(("127.0.0.1", relay.port)) as bare:
            bare.sendall(b"GET /" + secret + b" HTTP/1.1\r\n\r\n")
            bare.settimeout(2.0)
            try:
                self.heard.append(("what a stranger gets", bare.recv(65_536)))
            except OSError:
                pass
        tls = ssl.create_default_context(cafile=str(self.site.ca))
        name = f"{secret.decode()[:20]}.localhost"
        try:
            with (
                socket.create_connection(("127.0.0.1", relay.port)) as bare,
                tls.wrap_socket(bare, server_hostname=name),
            ):
                pass
        except OSError:
            pass

    def beyond_the_limit(self, relay: Relay) -> None:
        """Requests until the limit answers."""
        client = ClientByHand(relay)
        self.addCleanup(client.leave)
        for _ in range(200):
            client.request("GET", self.target("unary", "/v1/bug/"), fields=self.fields())
            answer = client.answer()
            self.heard.append(("an answer", f"{answer.getheaders()} {answer.read()!r}".encode()))
            if answer.status == 429:
                client.leave()
                return
        self.fail("never limited")

    def end_by_signal(self, relay: Relay) -> None:
        """Whatever a SIGHUP does to it, it says nothing; then it is told to end."""
        os.kill(relay.process.pid, signal.SIGHUP)
        relay.stop()

    def test_json(self) -> None:
        """A relay that logs JSON writes no secret and no content anywhere, whatever happens to it."""
        self.everything("json")

    def test_combined(self) -> None:
        """Nor does one with the combined format."""
        self.everything("combined")

    def test_text(self) -> None:
        """Nor does one that logs for reading."""
        self.everything("text")


class ConfigurationTests(CanaryCase):
    """What is said of a configuration with a secret in the wrong place."""

    def misplaced(self) -> Iterator[tuple[str, Tables]]:
        """Configurations with a secret where none belongs, or with a secret that cannot be used; and what is wrong."""
        key = self.nest.add(Canary.make("misplaced key", "sk-proj-{}")).text
        pem = self.site.file("client.key").read_text()
        spaced = self.site.file("openai.key").with_name("spaced.key")
        spaced.write_text(f"{key} {key}\n")
        for secret in (key, f"file:{key}", f"env:{key}", f"credential:{key}", f"Bearer {key}", pem, f"file:{pem}"):
            yield "api_key", {"upstream": {"api_key": secret}}
            yield "key", {"listen": {"key": secret}}
        yield "a key that cannot be sent", {"upstream": {"api_key": "file:spaced.key"}}
        yield "another file", {"upstream": {"api_key": "file:client.key"}}
        yield "no private key", {"listen": {"key": "file:openai.key"}}
        yield "no certificate", {"listen": {"certificate": "server.key"}}
        yield "no authority", {"listen": {"client_ca": "client.key"}}
        yield "no list", {"listen": {"crl": "openai.key"}}
        yield "an unknown key", {"upstream": {key: "x"}}
        yield "an unknown table", {key: {"x": 1}}
        for place in (f"https://{key}@127.0.0.1:9", f"https://127.0.0.1:9/?{key}", key):
            yield "the url", {"upstream": {"url": place}}
        for table, name in (
            ("upstream", "authorization"),
            ("upstream", "organization"),
            ("upstream", "ca"),
            ("upstream", "connect_timeout"),
            ("listen", "address"),
            ("listen", "certificate"),
            ("listen", "client_auth"),
            ("admin", "address"),
            ("log", "format"),
            ("limits", "burst"),
        ):
            yield name, {table: {name: key}}
        yield "paths", {"upstream": {"allow_paths": (key,), "deny_paths": (f"v1/{key}",)}}

    def test_check_config(self) -> None:
        """``check-config`` names the mistake and repeats no secret, for people and as JSON."""
        failed = 0
        for number, (what, tables) in enumerate(self.misplaced()):
            path = self.site.write_configuration("https://127.0.0.1:9", tables, f"bad-{number}.toml")
            for words in (("check-config", path), ("check-config", "--json", path)):
                result = typed(*words)
                failed += result.exit_code == 78
                self.heard.append((f"check-config of {what}", result.output.encode()))
                self.assertIsNone(result.exception if not isinstance(result.exception, SystemExit) else None)
            path.unlink()
        self.assertGreater(failed, 60)
        self.site.file("spaced.key").unlink()
        self.assertSilent()

    def test_no_toml(self) -> None:
        """A line that is no TOML is named by its number, not by what stands in it."""
        key = self.nest.add(Canary.make("unquoted key", "sk-proj-{}")).text
        good = self.site.write_configuration("https://127.0.0.1:9").read_text()
        path = self.site.file("bad.toml")
        for line in (f"api_key = {key}", f'api_key = "{key}', f"{key}", f'"{key}" = ', f"[{key}", f'x = "\\{key}"'):
            path.write_text(good + line + "\n")
            result = typed("check-config", path)
            self.assertEqual(result.exit_code, 78)
            self.heard.append((f"check-config of {line[:9]}", result.output.encode()))
        path.unlink()
        self.assertSilent()

    def test_doors(self) -> None:
        """No door repeats a secret when it refuses to start: not one from a file, an option or a variable."""
        key = self.nest.add(Canary.make("key of a door", "sk-proj-{}")).text
        path = self.site.write_configuration("https://127.0.0.1:9", {"upstream": {"api_key": key}}, "bad.toml")
        pair = ("--certificate", "server.pem", "--key", "server.key", "--client-ca", "authority/ca.pem")
        relay: tuple[str | Path, ...]
        ended = []
        for relay in (
            (*TWISTD, "--config", path),
            (BIN / "openai-relay", "serve", "--config", path),
            (*TWISTD, *pair, "--api-key-from", key),
            (*TWISTD, *pair, "--api-key-from", f"file:{key}"),
            (*TWISTD, *pair, "--api-key-from", "env:THE_KEY"),
            (*TWISTD, *pair, "--upstream", f"https://{key}@localhost"),
            (*TWISTD, "--certificate", "server.pem", "--key", key, "--client-ca", "authority/ca.pem"),
            (BIN / "openai-relay", "standin", "--api-key-from", key),
        ):
            running = Running(relay, self.site.directory, {"THE_KEY": f"{key} {key}"})
            self.addCleanup(running.stop)
            ended.append(running.ended())
        self.assertNotIn(0, ended)
        path.unlink()
        self.assertSilent()

    def test_readable_key(self) -> None:
        """Key files that everybody may read are not shown either, whatever is said of them."""
        for name in ("openai.key", "server.key"):
            self.site.file(name).chmod(0o644)
            self.addCleanup(self.site.file(name).chmod, 0o600)
        result = typed("check-config", self.site.write_configuration("https://127.0.0.1:9"))
        self.heard.append(("check-config", result.output.encode()))
        self.assertIn("certificate", result.output)
        self.assertSilent()

    def settings(self) -> Settings:
        return load(self.site.write_configuration("https://127.0.0.1:9"), os.environ)

    def test_representations(self) -> None:
        """What holds a secret does not show it: not to repr, str or format, nor in a traceback with all values."""
        settings = self.settings()
        fields = UpstreamFields.of(settings.upstream)
        secret: Secret | None = settings.upstream.api_key
        for each in (settings, settings.upstream, settings.listen, secret, asdict(settings), fields, vars(Failure)):
            self.heard.append((f"repr of {type(each).__name__}", f"{each!r} {each!s} {each}".encode()))
        try:
            raise ValueError(settings, secret, fields)
        except ValueError as error:
            told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
            self.heard.append(("a traceback", told.encode()))
            self.heard.append(("a failure", Failure(error, captureVars=True).getTraceback(detail="verbose").encode()))
        self.assertIn("settings", told)
        self.assertSilent()


class SearchTests(SynchronousTestCase):
    """The search itself."""

    def test_every_form(self) -> None:
        """A canary is found in each form, in any case where case does not matter, and named; elsewhere nothing is."""
        nest = Nest()
        secret = nest["cookie"]
        self.assertEqual(nest.found("here", b"nothing"), [])
        forms = list(nest.canaries["cookie"].forms())
        for form, looked_for in forms:
            found = nest.found("here", b"before " + looked_for + b" after")
            self.assertIn(f"cookie ({form}) in here", found[0] if len(found) == 1 else "".join(found))
        self.assertEqual(len(nest.found("here", forms_of(nest))), len(forms))
        self.assertTrue(nest.found("here", secret.upper().encode()))
        self.assertTrue(nest.found("here", secret[:20].encode()))
        self.assertEqual(nest.found("here", secret.encode(), but="cookie"), [])

    def test_base64(self) -> None:
        """It is found in base64 whatever stands before and after it."""
        import base64

        nest = Nest()
        secret = nest["cookie"].encode()
        for before in range(5):
            self.assertTrue(nest.found("here", base64.b64encode(b"x" * before + secret + b"yy")), before)

    def test_key_material(self) -> None:
        """A private key is found as it stands in its file, in one line or escaped, and not in its certificate."""
        site = Site.make()
        self.addCleanup(shutil.rmtree, site.directory)
        nest = Nest()
        pem = site.file("client.key").read_bytes()
        nest.add_key("client.key", pem)
        for shown in (pem, pem.replace(b"\n", b" "), repr(pem).encode()):
            self.assertEqual(nest.found("here", b"... " + shown), ["key material of client.key in here"])
        self.assertEqual(nest.found("here", site.file("client.pem").read_bytes()), [])
