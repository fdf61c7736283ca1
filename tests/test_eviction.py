"""Clients who may not go on: what they have open ends, and what they ask next is refused."""

from __future__ import annotations

from dataclasses import replace

from openai_relay.core.deny import deny_list
from openai_relay.core.identity import Identity, Link
from openai_relay.core.policy import ClientRules, PolicyBook, Rules
from openai_relay.core.prices import NO_PRICES
from openai_relay.core.standing import Standing
from openai_relay.eviction import Eviction
from tests import certificates
from tests.doubles import Wire
from tests.relay_case import STREAM_HEAD, RelayCase, answer, chunk, request
from tests.test_tunnel import SWITCH, asking

END = certificates.NOW.timestamp() + 100
PHONE = Identity("phone", "a1" * 32, "2a", END, (Link("CN=CA", 42, b"phone"), Link("CN=CA", 1, b"ca")))
LAPTOP = Identity("laptop", "b2" * 32, "2b", END + 50, (Link("CN=CA", 43, b"laptop"), Link("CN=CA", 1, b"ca")))


class EvictionCase(RelayCase):
    def setUp(self) -> None:
        super().setUp()
        self.put(Standing(anchors=frozenset({b"ca"})))
        self.eviction = Eviction(
            self.clock, lambda: self.wall, lambda: self.factory.connections, self.listener, self.admission, self.relay
        )
        self.addCleanup(self.eviction.stop)

    def put(self, standing: Standing) -> None:
        """Put this in force, without telling anybody."""
        self.listener.loaded = replace(self.listener.loaded, standing=standing)

    def come(self, client: Identity, data: bytes | None = None) -> Wire:
        """Somebody connects, and asks."""
        wire = self.client(client)
        self.eviction.arrived(client)
        wire.receive(request() if data is None else data)
        return wire

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.clock.pump([1.0] * round(seconds))
        self.clock.settle()

    REVOKED = Standing({"CN=CA": frozenset({42})}, frozenset({b"ca"}))


class HoldTests(EvictionCase):
    """Something else is in force."""

    def test_nobody(self) -> None:
        """Whoever may stay is not disturbed."""
        wire = self.come(PHONE)
        self.assertEqual(self.eviction.hold_all(), 0)
        self.upstream_wire().receive(answer(b'{"fine":1}'))
        self.assertEqual(self.answered(wire).body, b'{"fine":1}')

    def test_stream(self) -> None:
        """A running stream of the one who is revoked ends with an error event and a cut, and no other does."""
        phone = self.come(PHONE)
        self.upstream_wire().receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        phones = self.upstream_wire()
        laptop = self.come(LAPTOP)
        self.upstream_wire().receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        self.put(self.REVOKED)
        self.assertEqual(self.eviction.hold_all(), 1)
        self.clock.settle()
        said = self.took(phone)
        self.assertIn(b'event: error\ndata: {"type": "error", "code": "client_certificate_revoked"', said)
        self.assertFalse(said.endswith(b"0\r\n\r\n"), "it must not look like an end")
        self.assertTrue(phone.disconnected and phones.disconnected)
        self.assertEqual((self.closed[-1].end, self.closed[-1].identity), ("revoked", PHONE))
        self.upstream_wire().receive(chunk(b"data: 2\n\n") + chunk(b""))
        self.assertTrue(self.took(laptop).endswith(b"data: 2\n\n\r\n0\r\n\r\n"))

    def test_before_an_answer(self) -> None:
        """A request that waits for its answer is answered 401 with the reason, and its upstream request is ended."""
        wire = self.come(PHONE)
        self.put(self.REVOKED)
        self.eviction.hold_all()
        self.clock.settle()
        answered = self.answered(wire)
        self.assertEqual((answered.status, answered.error["code"]), (401, "client_certificate_revoked"))
        self.assertTrue(self.upstream_wire().disconnected)

    def test_tunnel(self) -> None:
        """A WebSocket is closed with a close frame that says why."""
        wire = self.come(PHONE, asking())
        self.upstream_wire().receive(SWITCH % b"")
        self.took(wire)
        self.put(self.REVOKED)
        self.eviction.hold_all()
        self.clock.settle()
        self.assertIn((1008).to_bytes(2, "big") + b"The client certificate has been revoked.", self.took(wire))

    def test_kept_connection(self) -> None:
        """On a kept connection the next request is refused, and nothing of it reaches the upstream."""
        for standing, code in (
            (Standing(anchors=frozenset({b"other"})), "client_certificate_untrusted"),
            (Standing(anchors=frozenset({b"ca"}), deny=deny_list(["name:phone"])), "client_certificate_denied"),
            (self.REVOKED, "client_certificate_revoked"),
        ):
            self.put(Standing(anchors=frozenset({b"ca"})))
            wire = self.come(PHONE)
            self.upstream_wire().receive(answer())
            self.answered(wire)
            self.upstream_wire().taken()
            self.put(standing)
            self.assertEqual(self.eviction.hold_all(), 0)
            wire.receive(request())
            answered = self.answered(wire)
            self.assertEqual((answered.status, answered.error["code"]), (401, code))
            self.assertEqual(self.upstream_wire().taken(), b"")
            self.assertEqual((self.closed[-1].identity, self.closed[-1].end), (PHONE, "revoked"))

    def test_reinstated(self) -> None:
        """Who is taken off the deny list goes on, on the same connection."""
        wire = self.client(PHONE)
        self.put(Standing(anchors=frozenset({b"ca"}), deny=deny_list(["name:phone"])))
        self.eviction.hold_all()
        self.put(Standing(anchors=frozenset({b"ca"})))
        self.eviction.hold_all()
        wire.receive(request())
        self.upstream_wire().receive(answer())
        self.assertEqual(self.answered(wire).status, 200)

    def test_disabled(self) -> None:
        """What runs for a client that is disabled by name ends, too."""
        wire = self.come(PHONE)
        rules = PolicyBook(clients={"phone": ClientRules(Rules(disabled=True))})
        self.admission.renew(rules, NO_PRICES, expected_output=1, include_usage=True)
        self.assertEqual(self.eviction.hold_all(), 1)
        self.clock.settle()
        answered = self.answered(wire)
        self.assertEqual((answered.status, answered.error["code"]), (403, "client_disabled"))


class ExpiryTests(EvictionCase):
    """Somebody's time is up."""

    def test_expiry(self) -> None:
        """A stream ends in the second in which its certificate does, and the others go on until theirs."""
        phone = self.come(PHONE)
        self.upstream_wire().receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        laptop = self.come(LAPTOP)
        self.upstream_wire().receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        for _ in range(9):
            self.wait(11)
            self.upstream_wire(0).receive(chunk(b"data: 2\n\n"))
            self.upstream_wire(1).receive(chunk(b"data: 2\n\n"))
        self.assertNotIn(b"error", self.took(phone))
        self.wait(1)
        self.assertIn(b'"code": "client_certificate_expired"', self.took(phone))
        self.assertNotIn(b"error", self.took(laptop))
        self.wait(10)
        self.upstream_wire(1).receive(chunk(b"data: 2\n\n"))
        self.wait(40)
        self.assertIn(b'"code": "client_certificate_expired"', self.took(laptop))

    def test_end_of_access(self) -> None:
        """So does one of a client whose own rules end its access earlier."""
        rules = PolicyBook(clients={"phone": ClientRules(Rules(not_after=END - 95))})
        self.admission.renew(rules, NO_PRICES, expected_output=1, include_usage=True)
        wire = self.come(PHONE)
        self.wait(4)
        self.assertEqual(self.took(wire), b"")
        self.wait(1)
        self.assertEqual(self.answered(wire).error["code"], "client_certificate_expired")

    def test_nobody_left(self) -> None:
        """When nobody is connected any more, nothing is left to wait for."""
        self.come(PHONE).lose()
        self.wait(200)
        self.assertNotIn("Eviction._look", repr(self.clock.getDelayedCalls()))
