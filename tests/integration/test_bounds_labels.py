"""What strangers and clients choose - paths, methods, names - does not make the metrics grow without bound."""

from __future__ import annotations

import re
import ssl
from typing import ClassVar, Final

from openai_relay.core.tally import MAX_CLIENTS
from tests import certificates
from tests.integration.attackers import MIB, BoundsTestCase, quick_tls, send_and_read, status_of
from tests.integration.running import Tables

#: More than are counted by name.
CLIENTS: Final = MAX_CLIENTS + 60
METHODS: Final = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "PROPFIND",
    "REPORT",
    "BREW",
    "x",
)
SERIES: Final = re.compile(r"^(openai_relay_\w+)(?:\{(.*)\})? ", re.MULTILINE)


class RequestLabelTests(BoundsTestCase):
    def test_paths_and_methods(self) -> None:
        """Thousands of paths, queries and methods, forwarded or refused, add no more than a few series."""
        with self.bounded():
            first, second, third = (self.after(number) for number in range(3))
            self.assertLess(len(first), 400)
            self.assertEqual(second - first, set())
            self.assertEqual(third, second)
            self.assertNotIn("never-seen", str(third))

    def after(self, number: int) -> set[tuple[str, str]]:
        """The series there are once a thousand requests that nobody made before have been answered."""
        targets = [f"/v1/never-seen-{number}-{n}?never-seen={n}" for n in range(400)]
        targets += [f"/v1/models/never-seen-{number}-{n}" for n in range(200)]
        targets += [f"/never-seen-{number}-{n}/x" for n in range(400)]
        asked = "".join(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n" for target in targets)
        client = self.client()
        told = send_and_read(client, asked.encode() + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        client.leave()
        self.assertEqual(len(re.findall(rb"HTTP/1\.1 [24]\d\d ", told)), len(targets) + 1)
        for method in METHODS:
            client = self.client()
            send_and_read(client, f"{method} /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            client.leave()
        return set(SERIES.findall(self.relay.admin("/metrics")))


class ClientLabelTests(BoundsTestCase):
    """Clients of an authority that gives names to anybody."""

    more: ClassVar[Tables] = {"listen": {"client_ca": "many.pem", "crl": "many-crl.pem"}}

    @classmethod
    def prepare(cls) -> None:
        """Let the clients of both authorities in."""
        directory = cls.site.directory
        (directory / "many.pem").write_bytes(certificates.authority().pem + cls.site.ca.read_bytes())
        own = (directory / "authority" / "crl.pem").read_bytes()
        (directory / "many-crl.pem").write_bytes(certificates.revocation_list() + own)

    def test_clients(self) -> None:
        """After a thousand names the others are counted together, and answered as any."""
        with self.bounded(grows=24 * MIB):
            for number in range(CLIENTS):
                self.refused(self.tls_of(number))
            text = self.relay.admin("/metrics")
            named = set(re.findall(r'client="(client-\d+)"', text))
            self.assertLessEqual(len(named), MAX_CLIENTS)
            self.assertIn('openai_relay_requests_total{client="other",', text)
            self.assertLess(len(SERIES.findall(text)), 8 * MAX_CLIENTS)

    def refused(self, tls: ssl.SSLContext) -> None:
        """Ask for what the relay answers by itself: that is counted as well, and quicker."""
        connection = self.relay.connect(tls)
        try:
            self.assertEqual(status_of(connection, "/elsewhere"), 403)
        finally:
            connection.close()

    def tls_of(self, number: int) -> ssl.SSLContext:
        """What one of them connects with."""
        certificates.client(f"client-{number}").write(self.site.directory, "one-of-many")
        return quick_tls(self.site, "one-of-many")
