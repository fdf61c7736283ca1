"""Forward: what treq would do beyond sending is not done, what fails is told apart, and nothing is sent twice."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from treq.client import HTTPClient
from twisted.internet import defer, error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent as TwistedAgent
from twisted.web.client import HTTPConnectionPool, ResponseDone
from twisted.web.iweb import IAgent, IAgentEndpointFactory
from zope.interface import implementer
from zope.interface.verify import verifyObject

from openai_relay.core.errors import (
    RelayError,
    UpstreamConnectTimeout,
    UpstreamUnreachable,
    UpstreamUntrusted,
)
from openai_relay.core.settings import Secret, UpstreamSettings
from openai_relay.http1.fields import FieldLines
from openai_relay.http1.pool import Agent, Pool
from openai_relay.tls.transport import TLSTruncated
from openai_relay.upstream import BadUpstream, StreamingClient, Upstream, client_context
from tests import certificates
from tests.doubles import TurningReactor, Wire
from tests.relay_case import CLIENT_KEY, KEY, STREAM_HEAD, FarEnd, RelayCase, answer, chunk, request

ORIGIN = b"https://api.example"
BODY = gzip.compress(b'{"hello":"world"}', mtime=0)


class Collector(Protocol):
    """Takes a body, and notes when what of it came."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.ended: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.blocks.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = reason


@implementer(IAgentEndpointFactory)
class OneEndpoint:
    """For Twisted's agent: every URI leads to the same far end."""

    def __init__(self, far_end: FarEnd) -> None:
        self._far_end = far_end

    def endpointForURI(self, uri: object) -> Any:
        return self._far_end


class HabitCase(SynchronousTestCase):
    """treq's own client, over Twisted's agent, and ours over ours: with the same upstream."""

    def setUp(self) -> None:
        self.clock = TurningReactor()
        self.far_end = FarEnd(self.clock)
        self.pool = Pool(self.clock, self.far_end.connect)
        self.over = False
        self.addCleanup(self.close)

    def close(self) -> None:
        self.over = True
        for wire in self.far_end.connections:
            wire.abortConnection()
        self.clock.settle()

    def plain(self) -> HTTPClient:
        """treq as it is."""
        kept = HTTPConnectionPool(self.clock)
        self.addCleanup(kept.closeCachedConnections)
        return HTTPClient(TwistedAgent.usingEndpointFactory(self.clock, OneEndpoint(self.far_end), kept))

    def ours(self) -> StreamingClient:
        return StreamingClient(Agent(ORIGIN, self.pool))

    def ask_plainly(self, client: HTTPClient) -> Deferred[Any]:
        clock: Any = self.clock
        asked: Deferred[Any] = client.request("GET", "https://api.example/v1/models", reactor=clock)
        asked.addErrback(self._at_the_end)
        return asked

    def ask(self, client: StreamingClient) -> Deferred[Any]:
        asked = client.request(b"GET", ORIGIN + b"/v1/models", headers=FieldLines([(b"Host", b"api.example")]))
        return asked.addErrback(self._at_the_end)

    def _at_the_end(self, failure: Failure) -> Failure | None:
        """What a test leaves unanswered fails as the test ends."""
        return None if self.over else failure

    @property
    def wire(self) -> Wire:
        return self.far_end.connections[-1]


class RedirectTests(HabitCase):
    """A redirect would take the key, and what the client sent, to wherever the answer says."""

    REDIRECT = answer(b"", "302 Found", "Location: https://api.example/elsewhere")

    def test_treq_follows(self) -> None:
        """treq by itself asks at the other place, and the client sees nothing of it."""
        asked = self.ask_plainly(self.plain())
        self.wire.taken()
        self.wire.receive(self.REDIRECT)
        self.assertNoResult(asked)
        self.assertIn(b"GET /elsewhere HTTP/1.1\r\n", self.wire.taken())

    def test_we_do_not(self) -> None:
        """Ours is the answer itself, and nothing more is sent."""
        asked = self.ask(self.ours())
        self.wire.taken()
        self.wire.receive(self.REDIRECT)
        self.assertEqual(self.successResultOf(asked).code, 302)
        self.assertEqual(self.wire.taken(), b"")


class CookieTests(HabitCase):
    """A cookie that one client's answer set would go out with the next client's request."""

    def test_treq_keeps(self) -> None:
        """treq by itself sends the cookie with the next request."""
        client = self.plain()
        asked = self.ask_plainly(client)
        self.wire.receive(answer(b"{}", "200 OK", "Set-Cookie: __cf_bm=of-alice; Path=/"))
        self.successResultOf(asked).deliverBody(Collector())
        self.wire.taken()
        self.ask_plainly(client)
        self.assertIn(b"__cf_bm=of-alice", self.wire.taken())

    def test_we_do_not(self) -> None:
        """With ours no request has a cookie."""
        client = self.ours()
        asked = self.ask(client)
        self.wire.receive(answer(b"{}", "200 OK", "Set-Cookie: __cf_bm=of-alice; Path=/"))
        self.successResultOf(asked).deliverBody(Collector())
        self.wire.taken()
        self.ask(client)
        self.assertNotIn(b"cookie", self.wire.taken().lower())


class CodingTests(HabitCase):
    """A body that was unpacked is not what the upstream sent, and its head is not true any more."""

    COMPRESSED = answer(BODY, "200 OK", "Content-Encoding: gzip")

    def test_treq_unpacks(self) -> None:
        """treq by itself asks for gzip, unpacks it, and takes the field off."""
        asked = self.ask_plainly(self.plain())
        self.assertIn(b"accept-encoding: gzip", self.wire.taken().lower())
        self.wire.receive(self.COMPRESSED)
        response = self.successResultOf(asked)
        body = Collector()
        response.deliverBody(body)
        self.assertEqual(b"".join(body.blocks), b'{"hello":"world"}')
        self.assertFalse(response.headers.getRawHeaders("Content-Encoding"))

    def test_we_do_not(self) -> None:
        """Ours asks for nothing, and gives head and bytes as they were."""
        asked = self.ask(self.ours())
        self.assertEqual(self.wire.taken(), b"GET /v1/models HTTP/1.1\r\nHost: api.example\r\n\r\n")
        self.wire.receive(self.COMPRESSED)
        response = self.successResultOf(asked)
        body = Collector()
        response.deliverBody(body)
        self.assertEqual(b"".join(body.blocks), BODY)
        self.assertEqual(response.headers.getRawHeaders("Content-Encoding"), ["gzip"])


class BufferTests(HabitCase):
    """A body that somebody keeps takes as much memory as it is long."""

    def test_treq_buffers(self) -> None:
        """treq by itself keeps every block, to deliver the body to whoever asks for it again."""
        asked = self.ask_plainly(self.plain())
        self.wire.receive(STREAM_HEAD)
        response = self.successResultOf(asked)
        response.deliverBody(Collector())
        for number in range(3):
            self.wire.receive(chunk(b"data: %d\n\n" % number))
        self.wire.receive(chunk(b""))
        again = Collector()
        response.deliverBody(again)
        self.assertEqual(again.blocks, [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"])

    def test_we_do_not(self) -> None:
        """Ours delivers each block within the call that brought it, once, and keeps none."""
        asked = self.ask(self.ours())
        self.wire.receive(STREAM_HEAD)
        response = self.successResultOf(asked)
        body = Collector()
        response.deliverBody(body)
        for number in range(3):
            self.wire.receive(chunk(b"data: %d\n\n" % number))
            self.assertEqual(body.blocks, [b"data: %d\n\n" % number])
            body.blocks.clear()
        self.wire.receive(chunk(b""))
        assert body.ended is not None
        self.assertIsInstance(body.ended.value, ResponseDone)
        self.assertRaises(AssertionError, response.deliverBody, Collector())


class StreamingClientTests(HabitCase):
    """Our client has treq's interface, but for what a relay must not do."""

    def test_it_is_a_treq_client(self) -> None:
        """It stands where treq's client stands; ``get``, ``post`` and the like are there."""
        client = self.ours()
        self.assertIsInstance(client, HTTPClient)
        verifyObject(IAgent, Agent(ORIGIN, self.pool))

    def test_habits_cannot_be_switched_on(self) -> None:
        """Asking for a buffer, for redirects, or for work of treq's on the body is an error."""
        wishes: list[dict[str, Any]] = [
            {"unbuffered": False},
            {"allow_redirects": True},
            {"json": {}},
            {"params": {"a": "b"}},
            {"auth": ("user", "password")},
            {"cookies": {"a": "b"}},
            {"timeout": 5},
        ]
        for wish in wishes:
            self.assertRaises(TypeError, self.ours().request, b"GET", ORIGIN + b"/v1/models", **wish)
        self.assertEqual(self.far_end.connections, [])

    def test_other_origins(self) -> None:
        """A URL of another origin is refused: the key is for one."""
        for url in (b"https://evil.example/v1/models", b"https://api.example.evil.example/", b"http://api.example/"):
            self.failureResultOf(self.ours().request(b"GET", url), ValueError)
        self.assertEqual(self.far_end.connections, [])

    def test_url_as_it_is(self) -> None:
        """What stands in the URL goes out byte for byte."""
        target = b"/v1//models/../a%2Fb;c?q=%7e&&x=[1]"
        asked = self.ours().request(b"GET", ORIGIN + target, headers=FieldLines([]))
        asked.addErrback(self._at_the_end)
        self.assertEqual(self.wire.taken(), b"GET " + target + b" HTTP/1.1\r\n\r\n")


class FieldsTests(RelayCase):
    """What a request carries to the upstream."""

    def sent(self, *fields: str) -> list[bytes]:
        self.asked(request("GET", "/v1/models", *fields))
        return self.upstream_wire().taken().split(b"\r\n")

    def test_key(self) -> None:
        """The client's key is taken off and ours put in its place, as are keys by other names."""
        lines = self.sent(f"api-key: {CLIENT_KEY.decode()}", "OpenAI-Organization: org-of-the-client")
        self.assertIn(b"Authorization: Bearer " + KEY, lines)
        self.assertNotIn(CLIENT_KEY, b"".join(lines))
        self.assertNotIn(b"org-of-the-client", b"".join(lines))

    def test_nothing_is_added(self) -> None:
        """No Accept, no Accept-Encoding, no User-Agent and no Connection of our own goes up."""
        names = [line.partition(b":")[0] for line in self.sent()[1:-2]]
        self.assertEqual(names, [b"Host", b"Authorization", b"X-Client-Request-Id"])

    def test_order_and_case(self) -> None:
        """Fields keep their order, case and repetition."""
        lines = self.sent("x-B: 1", "X-a: 2", "x-b: 3", "Accept-Encoding: br;q=1.0, gzip", "X-Client-Request-Id: mine")
        self.assertEqual(
            lines[3:-2],
            [b"x-B: 1", b"X-a: 2", b"x-b: 3", b"Accept-Encoding: br;q=1.0, gzip", b"X-Client-Request-Id: mine"],
        )


class BesideTheHeadTests(RelayCase):
    """Fields that do not stand in a head follow its rules."""

    def test_trailers(self) -> None:
        """A trailer cannot bring what the head may not: no claim of who is asking, and no key."""
        self.asked(
            request("POST", "/v1/files", "Transfer-Encoding: chunked")
            + b"0\r\nX-Checksum: abc\r\nX-Forwarded-For: 192.0.2.1\r\napi-key: mine\r\n\r\n"
        )
        self.assertTrue(self.upstream_wire().taken().endswith(b"\r\n\r\n0\r\nX-Checksum: abc\r\n\r\n"))

    def test_interim_answers(self) -> None:
        """Of an interim answer the client gets what it would get of a head."""
        wire = self.asked()
        self.upstream_wire().receive(
            b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nSet-Cookie: a=b\r\n"
            b"Connection: X-Hop\r\nX-Hop: 1\r\n\r\n"
        )
        self.assertEqual(self.took(wire), b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")


class PassthroughTests(RelayCase):
    """Where clients bring their own keys."""

    upstream_settings = UpstreamSettings(
        url="https://api.example:8443", authorization="passthrough", organization="org-1", project="proj-1"
    )

    def test_client_key(self) -> None:
        """The client's key passes, and Host, organization and project are ours."""
        self.asked(request("GET", "/v1/models", "OpenAI-Project: proj-of-the-client"))
        lines = self.upstream_wire().taken().split(b"\r\n")
        self.assertEqual(
            lines[1:5],
            [
                b"Host: api.example:8443",
                b"Authorization: Bearer " + CLIENT_KEY,
                b"OpenAI-Project: proj-1",
                b"OpenAI-Organization: org-1",
            ],
        )


class ExplanationTests(RelayCase):
    """What goes wrong below has one meaning for the client, and its details are for the log."""

    def error_for(self, cause: BaseException) -> RelayError:
        self.far_end.held = []
        wire = self.asked()
        self.far_end.held.pop()[1].errback(cause)
        self.assertEqual(self.answered(wire).status, self.closed[-1].status)
        found = self.closed[-1].error
        assert found is not None
        return found

    def test_causes(self) -> None:
        """Each failure to connect, of whatever library, is told apart; none is taken for a bug."""
        untrusted = SSL.Error([("SSL routines", "", "certificate verify failed")])
        wrong_version = SSL.Error([("SSL routines", "", "wrong version number")])
        causes: list[tuple[BaseException, type[RelayError]]] = [
            (error.ConnectionRefusedError(), UpstreamUnreachable),
            (error.NoRouteError(), UpstreamUnreachable),
            (error.ConnectError(), UpstreamUnreachable),
            (error.DNSLookupError("no such name"), UpstreamUnreachable),
            (error.UserError(), UpstreamUnreachable),
            (error.ConnectionLost(), UpstreamUnreachable),
            (error.ConnectionDone(), UpstreamUnreachable),
            (TLSTruncated(), UpstreamUnreachable),
            (ConnectionResetError(), UpstreamUnreachable),
            (OSError(101, "Network is unreachable"), UpstreamUnreachable),
            (wrong_version, UpstreamUnreachable),
            (error.TimeoutError(), UpstreamConnectTimeout),
            (error.TCPTimedOutError(), UpstreamConnectTimeout),
            (defer.TimeoutError(), UpstreamConnectTimeout),
            (untrusted, UpstreamUntrusted),
            (VerificationError(errors=[]), UpstreamUntrusted),
            (CertificateError("no name in it"), UpstreamUntrusted),
        ]
        for cause, expected in causes:
            self.assertIs(type(self.error_for(cause)), expected, repr(cause))

    def test_details(self) -> None:
        """The record names the library's exception and its message."""
        self.assertEqual(
            str(self.error_for(error.DNSLookupError("no such name"))),
            "DNSLookupError: DNS lookup failed: no such name.",
        )


class RetryTests(RelayCase):
    """A kept connection may be closed just as a request goes out on it."""

    def keep_connection(self) -> Wire:
        """A connection that an exchange has been completed on."""
        wire = self.asked()
        self.upstream_wire().receive(answer())
        self.took(wire)
        self.upstream_wire().taken()
        return self.upstream_wire()

    def test_safe_request(self) -> None:
        """A safe request goes out once more, on a new connection, and the client notices nothing."""
        for method in ("GET", "HEAD", "OPTIONS"):
            kept = self.keep_connection()
            wire = self.asked(request(method, "/v1/again"))
            self.assertIn(b"/v1/again", kept.taken())
            kept.lose()
            self.assertIsNot(self.upstream_wire(), kept)
            self.assertIn(f"{method} /v1/again".encode(), self.upstream_wire().taken())
            self.upstream_wire().receive(answer(b""))
            self.assertEqual(self.answered(wire, method).status, 200)
            self.assertRecorded(200, "done")

    def test_once(self) -> None:
        """It goes out once more and not twice."""
        kept = self.keep_connection()
        wire = self.asked()
        kept.lose()
        self.upstream_wire().lose()
        self.assertEqual(self.answered(wire).status, 502)
        self.assertEqual(len(self.far_end.connections), 2)
        self.assertRecorded(502, "upstream_error", "upstream_closed")

    def test_others_are_as_old(self) -> None:
        """The second attempt is made on a new connection, however many kept ones there are."""
        wires = [self.asked() for _ in range(3)]
        for number, wire in enumerate(wires):
            self.upstream_wire(number).receive(answer())
            self.took(wire)
        wire = self.asked()
        self.upstream_wire(2).lose()
        self.assertEqual(len(self.far_end.connections), 4)
        self.upstream_wire(3).receive(answer(b"new"))
        self.assertEqual(self.answered(wire).body, b"new")
        self.clock.settle()
        self.assertEqual([self.upstream_wire(number).ending for number in (0, 1)], ["aborted", "aborted"])

    def test_unsafe_requests(self) -> None:
        """Whatever may have been acted upon is never sent twice, with a body or without."""
        for method, body in (("POST", b'{"n":1}'), ("POST", b""), ("PUT", b"x"), ("PATCH", b"x"), ("DELETE", None)):
            kept = self.keep_connection()
            wire = self.asked(request(method, "/v1/files", body=body))
            count = len(self.far_end.connections)
            kept.lose()
            self.assertEqual(self.answered(wire).status, 502)
            self.assertEqual(len(self.far_end.connections), count)
            self.assertRecorded(502, "upstream_error", "upstream_closed")

    def test_safe_method_with_a_body(self) -> None:
        """A body that has been sent is gone, so a GET with one is not sent again either."""
        kept = self.keep_connection()
        wire = self.asked(request("GET", "/v1/models", body=b"{}"))
        kept.lose()
        self.assertEqual(self.answered(wire).status, 502)
        self.assertEqual(len(self.far_end.connections), 1)

    def test_after_a_byte_of_an_answer(self) -> None:
        """An answer that has begun shows that the request was acted upon."""
        kept = self.keep_connection()
        wire = self.asked()
        kept.receive(b"HTTP/1.1 2")
        kept.lose()
        self.assertEqual(self.answered(wire).status, 502)
        self.assertEqual(len(self.far_end.connections), 1)

    def test_new_connection(self) -> None:
        """A connection that was never used was not closed for its age."""
        wire = self.asked()
        self.upstream_wire().lose()
        self.assertEqual(self.answered(wire).status, 502)
        self.assertEqual(len(self.far_end.connections), 1)


@implementer(IHostnameResolver)
class SilentResolver:
    """A resolver that never answers."""

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        resolution: Any = None
        return cast(IHostResolution, resolution)


class ConnectingTests(SynchronousTestCase):
    """The real endpoint, over a resolver that never answers."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        resolver: Any = SilentResolver()
        self.reactor.installNameResolver(resolver)
        self.upstream = Upstream(self.reactor, UpstreamSettings(url="https://api.example", api_key=Secret(KEY)))

    def test_time_out(self) -> None:
        """A connection that does not stand in time is a time-out, in whatever phase it was."""
        connecting = self.upstream.pool.connect()
        self.reactor.advance(9.9)
        self.assertNoResult(connecting)
        self.reactor.advance(0.1)
        self.failureResultOf(connecting, defer.TimeoutError)

    def test_cancelled(self) -> None:
        """Cancelling is told as that, so that a client that leaves is not taken for a name that does not resolve."""
        connecting = self.upstream.pool.connect()
        connecting.cancel()
        self.failureResultOf(connecting, defer.CancelledError)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class SettingsTests(SynchronousTestCase):
    """Settings that cannot be used are found before anything listens."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.settings = UpstreamSettings(api_key=Secret(KEY))

    def complaint(self, **others: Any) -> str:
        bad = self.assertRaises(BadUpstream, Upstream, MemoryReactorClock(), replace(self.settings, **others))
        return str(bad).replace(str(self.directory), "DIRECTORY")

    def test_name(self) -> None:
        """An upstream is called by its host."""
        self.assertEqual(Upstream(MemoryReactorClock(), self.settings).name, "api.openai.com")

    def test_bad_authorities(self) -> None:
        """A file of authorities that is missing, empty or garbage is named with what to look at."""
        garbage, empty = self.directory / "garbage.pem", self.directory / "empty.pem"
        garbage.write_bytes(b"hello")
        empty.touch()
        for path in (garbage, empty, self.directory / "missing.pem", self.directory):
            self.assertEqual(
                self.complaint(ca=path),
                f"upstream.ca: {str(path).replace(str(self.directory), 'DIRECTORY')}: "
                "cannot be read, or holds no certificate in PEM form",
            )

    def test_bad_values(self) -> None:
        """A key that fits no field is refused without being shown, and no key at all, and a host that is none."""
        self.assertIn("api_key must be printable ASCII", self.complaint(api_key=Secret(KEY + b"\n")))
        self.assertNotIn(KEY.decode(), self.complaint(api_key=Secret(KEY + b"\n")))
        self.assertIn("there is no api_key", self.complaint(api_key=None))
        self.assertIn("names no host", self.complaint(url="https:///v1"))

    def test_contexts(self) -> None:
        """The system's authorities are trusted unless a file of others is named."""
        ca = self.directory / "ca.pem"
        ca.write_bytes(certificates.authority().pem)
        for context in (client_context(None), client_context(ca)):
            self.assertIsInstance(context, SSL.Context)
            self.assertEqual(context.get_verify_mode(), SSL.VERIFY_PEER)
