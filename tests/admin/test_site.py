"""The admin listener, over the wire it speaks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource
from twisted.web.server import Site
from twisted.web.test.requesthelper import DummyChannel
from zope.interface.verify import verifyObject

from openai_relay.admin.site import AdminResource, admin_site
from openai_relay.core.readiness import Check
from openai_relay.core.restart import NotReloaded
from openai_relay.core.tally import Tally
from openai_relay.metrics import Build, Exposition, Metrics
from tests.admin.asking import Answered, Connection, ask, connect
from tests.core.exchanges import ALICE, done


class Threads:
    """Calls at once, or when told to."""

    def __init__(self) -> None:
        self.busy = False
        self.waiting: list[tuple[Callable[[], Exposition], Deferred[Exposition]]] = []

    def __call__(self, make: Callable[[], Exposition]) -> Deferred[Exposition]:
        if not self.busy:
            return succeed(make())
        made: Deferred[Exposition] = Deferred()
        self.waiting.append((make, made))
        return made


class AdminSiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.tally = Tally("api.openai.com")
        self.checks: Sequence[Check] = [Check("started", True), Check("crl", True, "until 2026-12-01")]
        self.threads = Threads()
        metrics = Metrics(self.tally, Build("0.1.0", "26.10.0", "OpenSSL 3"))
        self.reloads: list[Deferred[None]] = []
        self.resource = AdminResource(metrics, lambda: self.checks, self.threads, self.reload)
        self.site: Site = admin_site(Clock(), metrics, lambda: self.checks, self.threads, self.reload)

    def reload(self) -> Deferred[None]:
        self.reloads.append(Deferred())
        return self.reloads[-1]

    def ask(self, method: str, path: str, *fields: str, body: bytes = b"") -> Answered:
        return ask(self.site, method, path, *fields, body=body)

    def test_resource(self) -> None:
        """The tree is what Twisted takes for one."""
        verifyObject(IResource, self.resource)

    def test_livez(self) -> None:
        """A process whose event loop turns says so, by both names."""
        for path in ("/livez", "/healthz"):
            answer = self.ask("GET", path)
            self.assertEqual(answer.status, "HTTP/1.1 200 OK")
            self.assertEqual(answer.fields["content-type"], "application/json")
            self.assertEqual(json.loads(answer.body), {"status": "alive"})

    def test_alive_when_not_ready(self) -> None:
        """Not being ready is no reason to be killed."""
        self.checks = [Check("draining", False, "the relay is stopping")]
        self.assertEqual(self.ask("GET", "/livez").status, "HTTP/1.1 200 OK")

    def test_ready(self) -> None:
        """When all checks hold, the relay is ready; asked for more, it tells each of them."""
        self.assertEqual(json.loads(self.ask("GET", "/readyz").body), {"status": "ready"})
        for query in ("verbose", "verbose=1", "x=y&verbose"):
            answer = self.ask("GET", f"/readyz?{query}")
            self.assertEqual(answer.status, "HTTP/1.1 200 OK")
            self.assertEqual([check["name"] for check in json.loads(answer.body)["checks"]], ["started", "crl"])
        self.assertEqual(json.loads(self.ask("GET", "/readyz?verbosely=1").body), {"status": "ready"})

    def test_not_ready(self) -> None:
        """When a check fails, whoever balances the load reads 503, and people why; asked again, all is new."""
        self.checks = [Check("started", True), Check("crl", False, "too old since 2026-11-22")]
        answer = self.ask("GET", "/readyz")
        self.assertEqual(answer.status, "HTTP/1.1 503 Service Unavailable")
        self.assertEqual(
            json.loads(answer.body),
            {"status": "not ready", "reasons": [{"name": "crl", "detail": "too old since 2026-11-22"}]},
        )
        self.checks = []
        self.assertEqual(self.ask("GET", "/readyz").status, "HTTP/1.1 200 OK")

    def test_metrics(self) -> None:
        """A scrape gets the counts as they are, in the text format."""
        self.tally.exchange_opened(done())
        self.tally.exchange_closed(done())
        answer = self.ask("GET", "/metrics")
        self.assertEqual(answer.status, "HTTP/1.1 200 OK")
        self.assertEqual(answer.fields["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        self.assertIn(
            b'openai_relay_requests_total{client="alice",code="200",endpoint="chat/completions"} 1.0\n', answer.body
        )

    def test_openmetrics(self) -> None:
        """A scraper that prefers OpenMetrics gets it."""
        answer = self.ask("GET", "/metrics", "Accept: application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
        self.assertTrue(answer.fields["content-type"].startswith("application/openmetrics-text; version=1.0.0"))
        self.assertTrue(answer.body.endswith(b"# EOF\n"))

    def test_metrics_wait_for_a_thread(self) -> None:
        """While the metrics are written, in a thread, others are answered."""
        self.threads.busy = True
        connection = connect(self.site)
        connection.send("GET", "/metrics")
        self.assertEqual(connection.transport.value(), b"")
        self.assertEqual(self.ask("GET", "/livez").status, "HTTP/1.1 200 OK")
        [(make, made)] = self.threads.waiting
        made.callback(make())
        self.assertIn(b"openai_relay_build_info{", connection.answered().body)

    def test_scraper_leaves(self) -> None:
        """A scraper that does not wait for its answer leaves nothing behind."""
        self.threads.busy = True
        connection = connect(self.site)
        connection.send("GET", "/metrics")
        connection.protocol.connectionLost(Failure(ConnectionLost()))
        [(make, made)] = self.threads.waiting
        made.callback(make())
        self.assertEqual(connection.transport.value(), b"")

    def test_bug_in_a_reading(self) -> None:
        """A failure of ours is a logged 500 that shows nothing of the inside, and the next request is answered."""
        self.threads.busy = True
        connection = connect(self.site)
        connection.send("GET", "/metrics")
        [(_, made)] = self.threads.waiting
        made.errback(Failure(ZeroDivisionError("sk-secret")))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        answer = connection.answered()
        self.assertEqual(answer.status, "HTTP/1.1 500 Internal Server Error")
        self.assertNotIn(b"sk-secret", answer.body)
        self.assertEqual(self.ask("GET", "/livez").status, "HTTP/1.1 200 OK")

    def test_head(self) -> None:
        """HEAD has the head of GET, its length included, and no body."""
        for path in ("/livez", "/readyz", "/nothing"):
            got, asked = self.ask("GET", path), self.ask("HEAD", path)
            self.assertEqual(asked.status, got.status)
            self.assertEqual(asked.body, b"")
            self.assertEqual(asked.fields, {**got.fields, "date": asked.fields["date"]})
            self.assertEqual(asked.fields["content-length"], str(len(got.body)))

    def test_head_of_metrics(self) -> None:
        """HEAD of the metrics is answered too."""
        answer = self.ask("HEAD", "/metrics")
        self.assertEqual((answer.status, answer.body), ("HTTP/1.1 200 OK", b""))
        self.assertGreater(int(answer.fields["content-length"]), 1_000)

    def test_not_found(self) -> None:
        """What there is not gets 404 in JSON, and the way; near misses and odd paths included."""
        for path in ("/", "/metrics/", "/LIVEZ", "/livez/x", "/%6civez", "/../metrics"):
            answer = self.ask("GET", path)
            self.assertEqual(answer.status, "HTTP/1.1 404 Not Found", path)
            self.assertEqual(
                json.loads(answer.body),
                {"error": "There is nothing here. Try one of: /livez, /healthz, /readyz, /metrics, /reload."},
            )

    def test_method_not_allowed(self) -> None:
        """What is no question gets 405 in JSON, with the methods there are; its body is not kept."""
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"):
            answer = self.ask(method, "/metrics", "Content-Length: 3", body=b"a=b")
            self.assertEqual(answer.status, "HTTP/1.1 405 Method Not Allowed", method)
            self.assertEqual(answer.fields["allow"], "GET, HEAD")
            self.assertEqual(json.loads(answer.body), {"error": "Only GET and HEAD are allowed here."})

    def test_says_nothing_of_itself(self) -> None:
        """No answer names the server, and none is kept by a cache."""
        for method, path in (("GET", "/livez"), ("GET", "/metrics"), ("GET", "/nothing"), ("POST", "/livez")):
            fields = self.ask(method, path).fields
            self.assertNotIn("server", fields)
            self.assertEqual(fields["cache-control"], "no-store")

    def test_no_access_log(self) -> None:
        """Probes and scrapes leave no lines, so that the log is that of the relay's exchanges."""
        lines: list[str] = []

        class Log:
            def write(self, data: str) -> None:
                lines.append(data)

            def close(self) -> None:
                pass

        self.site.startFactory()
        self.site.logFile = Log()
        self.ask("GET", "/livez")
        self.site.stopFactory()
        self.assertEqual(lines, [])

    def test_keeps_no_body(self) -> None:
        """A body that nobody asked for takes no room."""
        request = self.site.requestFactory(DummyChannel(), False)
        request.gotLength(1_000_000)
        request.handleContentChunk(b"x" * 900_000)
        assert request.content is not None
        request.content.seek(0)
        self.assertEqual(request.content.read(), b"")

    def test_identity_is_no_secret_here(self) -> None:
        """A client is named in the metrics by its name alone: neither fingerprint nor serial is told."""
        self.tally.exchange_opened(done())
        self.tally.exchange_closed(done())
        body = self.ask("GET", "/metrics").body.decode()
        self.assertIn(f'client="{ALICE.name}"', body)
        self.assertNotIn(ALICE.fingerprint, body)
        self.assertNotIn(ALICE.serial, body)

    def reloading(self, *fields: str) -> Connection:
        connection = connect(self.site)
        connection.send("POST", "/reload", "Content-Length: 0", *fields)
        return connection

    def test_reload(self) -> None:
        """Who asks for a reload is told when it is done."""
        connection = self.reloading()
        self.assertEqual(connection.transport.value(), b"")
        self.reloads[0].callback(None)
        answered = connection.answered()
        self.assertEqual((answered.status, json.loads(answered.body)), ("HTTP/1.1 200 OK", {"status": "reloaded"}))

    def test_reload_refused(self) -> None:
        """Who asks for one that cannot be is told each reason."""
        connection = self.reloading()
        self.reloads[0].errback(NotReloaded(["listen.crl: is broken"]))
        answered = connection.answered()
        self.assertEqual(answered.status, "HTTP/1.1 409 Conflict")
        self.assertEqual(json.loads(answered.body)["reasons"], ["listen.crl: is broken"])

    def test_reload_asked_by_a_page(self) -> None:
        """A page in a browser on this machine cannot ask for one, nor can a link."""
        answered = self.reloading("Origin: https://evil.example").answered()
        self.assertEqual(answered.status, "HTTP/1.1 403 Forbidden")
        self.assertEqual(self.ask("GET", "/reload").status, "HTTP/1.1 405 Method Not Allowed")
        self.assertEqual(self.reloads, [])

    def test_reload_asked_from_elsewhere(self) -> None:
        """Nor can another machine, where the listener can be reached from one."""
        protocol = self.site.buildProtocol(IPv4Address("TCP", "192.0.2.7", 1))
        assert protocol is not None
        transport = StringTransport(peerAddress=IPv4Address("TCP", "192.0.2.7", 1))
        protocol.makeConnection(transport)
        connection = Connection(protocol, transport)
        connection.send("POST", "/reload", "Content-Length: 0")
        self.assertEqual((connection.answered().status, self.reloads), ("HTTP/1.1 403 Forbidden", []))

    def test_reload_asker_leaves(self) -> None:
        """A reload goes on when whoever asked for it has left."""
        connection = self.reloading()
        connection.protocol.connectionLost(Failure(ConnectionDone()))
        self.reloads[0].callback(None)
        self.assertEqual(connection.transport.value(), b"")
