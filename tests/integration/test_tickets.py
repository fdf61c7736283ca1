"""Nobody may resume what a certificate has begun: no session tickets are sent, and none would be taken."""

from __future__ import annotations

import ssl

from tests.integration.running import RelayTestCase


class TicketTests(RelayTestCase):
    def sent(self, port: int, tls: ssl.SSLContext) -> tuple[str | None, bool]:
        """The version spoken, and whether a ticket has come by the end of an answer."""
        connection = self.relay.connect(tls)
        self.addCleanup(connection.close)
        connection.port = port
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {self.site.api_key}"})
        connection.getresponse().read()
        sock = connection.sock
        assert isinstance(sock, ssl.SSLSocket) and sock.session is not None
        return sock.version(), sock.session.has_ticket

    def test_none(self) -> None:
        """With TLS 1.3 and 1.2 alike, no ticket comes with or after the handshake."""
        tls = self.site.client_tls()
        self.assertEqual(self.sent(self.relay.port, tls), ("TLSv1.3", False))
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        self.assertEqual(self.sent(self.relay.port, tls), ("TLSv1.2", False))

    def test_seen(self) -> None:
        """A server that sends some would be noticed: the stand-in, which is only for trying things out, does."""
        tls = ssl.create_default_context(cafile=str(self.site.upstream_ca))
        self.assertEqual(self.sent(self.standin.port, tls), ("TLSv1.3", True))
