"""A request of a program of this machine is served, and one that a web page makes is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.errors import RelayError
from openai_relay.core.local_requests import (
    HostRefused,
    LocalRequests,
    OriginRefused,
    is_loopback,
    without_credentials,
)

LOCAL = [
    "localhost",
    "localhost:8088",
    "LocalHost.:1",
    "x.localhost",
    "127.0.0.1",
    "127.8.8.8:80",
    "[::1]",
    "[::1]:8088",
]
FOREIGN = [
    "",
    "evil.example",
    "evil.example:8088",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example@localhost",
    "localhost@evil.example",
    "127.1",
    "2130706433",
    "0.0.0.0",
    "[::]",
    "::1",
    "192.0.2.7",
    "localhost:port",
    "localhost evil.example",
    "[localhost]",
    "localhost,evil.example",
]


class LocalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.requests = LocalRequests()

    def test_local_hosts(self) -> None:
        """Every name and address of this machine itself will do, with any port."""
        for host in LOCAL:
            self.requests.check([(b"HOST", host.encode())])

    def test_foreign_hosts(self) -> None:
        """No other does, however much it looks like one; the refusal says what to do."""
        for host in FOREIGN:
            error = self.assertRaises(HostRefused, self.requests.check, [(b"Host", host.encode())])
            self.assertEqual((error.status, error.code), (403, "host_not_allowed"))
            self.assertIn("--allow-host", error.told)

    def test_every_host_counts(self) -> None:
        """A request without a Host is refused, and one with a second that is foreign."""
        self.assertRaises(HostRefused, self.requests.check, [])
        self.assertRaises(HostRefused, self.requests.check, [(b"Host", b"localhost"), (b"host", b"evil.example")])

    @given(st.text(max_size=40))
    def test_any_host(self, host: str) -> None:
        """Whatever stands there is either one of this machine's or refused, and nothing else happens."""
        try:
            self.requests.check([(b"Host", host.encode())])
        except RelayError:
            return
        self.assertTrue(is_loopback(host.rpartition("]")[0].lstrip("[") or host.partition(":")[0]))

    def test_origins(self) -> None:
        """A page of this machine is served, at whatever port; one from elsewhere or from nowhere is not."""
        for host in LOCAL:
            self.requests.check([(b"Host", b"localhost"), (b"Origin", b"http://" + host.encode())])
        for origin in ["null", "", "localhost", "https://evil.example", "file://", *(f"https://{x}" for x in FOREIGN)]:
            fields = [(b"Host", b"localhost"), (b"origin", origin.encode())]
            error = self.assertRaises(OriginRefused, self.requests.check, fields)
            self.assertEqual((error.status, error.code), (403, "origin_not_allowed"))

    def test_requests_without_an_origin(self) -> None:
        """Where a browser tells no origin, such as for an image, it tells that the page is from elsewhere."""
        host = (b"Host", b"localhost")
        self.assertRaises(OriginRefused, self.requests.check, [host, (b"Sec-Fetch-Site", b"cross-site")])
        self.requests.check([host, (b"Sec-Fetch-Site", b"none")])
        # localhost and 127.0.0.1 are two sites to a browser, and one machine.
        page = (b"Origin", b"http://127.0.0.1:3000")
        self.requests.check([host, page, (b"Sec-Fetch-Site", b"cross-site")])


class AllowedTests(SynchronousTestCase):
    def test_names(self) -> None:
        """A host that was allowed is served, in any case and with any port, as Host and as Origin; no other is."""
        requests = LocalRequests(["Host.Docker.Internal", "192.0.2.7", "2001:DB8::7"])
        for host in (b"host.docker.internal:8088", b"HOST.docker.internal.", b"192.0.2.7:1", b"[2001:db8::7]:1"):
            requests.check([(b"Host", host), (b"Origin", b"http://" + host)])
        self.assertRaises(HostRefused, requests.check, [(b"Host", b"docker.internal")])
        self.assertRaises(HostRefused, requests.check, [(b"Host", b"192.0.2.8")])

    def test_any_address(self) -> None:
        """Where other machines connect, any address will do, and still no name."""
        requests = LocalRequests(any_address=True)
        for host in (b"192.0.2.8:8088", b"[2001:db8::8]", b"0.0.0.0"):
            requests.check([(b"Host", host)])
        self.assertRaises(HostRefused, requests.check, [(b"Host", b"evil.example")])


class CredentialTests(SynchronousTestCase):
    def test_taken_off(self) -> None:
        """A tool's key is taken off wherever it may stand, and all else is left as it was."""
        kept = [(b"Host", b"localhost"), (b"X-Api-Version", b"1"), (b"Cookie", b"a=b")]
        protocols = (b"Sec-WebSocket-Protocol", b"realtime, openai-beta.realtime-v1")
        fields = [
            *kept,
            (b"AUTHORIZATION", b"Bearer sk-canary"),
            (b"api-key", b"sk-canary"),
            (b"Sec-WebSocket-Protocol", b"realtime, OpenAI-insecure-api-key.sk-canary,openai-beta.realtime-v1"),
            (b"Sec-WebSocket-Protocol", b"openai-insecure-api-key.sk-canary"),
        ]
        self.assertEqual(without_credentials(fields), [*kept, protocols])
