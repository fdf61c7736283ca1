"""No session tickets: what OpenSSL is told; what a client is then sent is shown on sockets."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.tls.tickets import CONFIGURATION, VARIABLE, send_none


class TicketsTests(SynchronousTestCase):
    def test_chosen(self) -> None:
        """Our configuration stands where there is none; one that the operator chose stays."""
        environment: dict[str, str] = {}
        send_none(environment)
        self.assertEqual(environment, {VARIABLE: str(CONFIGURATION)})
        environment[VARIABLE] = "/etc/mine.cnf"
        send_none(environment)
        self.assertEqual(environment, {VARIABLE: "/etc/mine.cnf"})
        self.assertTrue(CONFIGURATION.is_file())
