"""How a WebSocket is agreed on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.handshake import Agreement, agree, protocols, upgrade_required, wants_websocket
from openai_relay.standin.problems import Problem
from tests.standin.caller import ACCEPTED, NONCE

Pair = tuple[bytes, bytes]

KEY = (b"Sec-WebSocket-Key", NONCE.encode())
VERSION = (b"Sec-WebSocket-Version", b"13")
EXTENSIONS = b"Sec-WebSocket-Extensions"


class HandshakeTests(SynchronousTestCase):
    def agreed(self, *fields: Pair, protocol: bytes | None = None, deflate: bool = False) -> Agreement:
        return agree([KEY, VERSION, *fields], protocol, deflate)

    def refused(self, *fields: Pair) -> Problem:
        problem: Problem = self.assertRaises(Problem, agree, fields, None, False)
        return problem

    def test_wanted(self) -> None:
        """A GET that offers websocket, in any case and among others, wants a WebSocket; nothing else does."""
        for upgrade in (b"websocket", b"WebSocket", b"h2c, websocket"):
            self.assertTrue(wants_websocket(b"GET", upgrade))
        self.assertFalse(wants_websocket(b"POST", b"websocket"))
        for other in (None, b"h2c", b"websocket/2", b""):
            self.assertFalse(wants_websocket(b"GET", other))

    def test_accept(self) -> None:
        """The answer has the token of the RFC's own example, whatever the case of the names."""
        wanted = ((b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", ACCEPTED.encode()))
        self.assertEqual(self.agreed().fields, wanted)
        self.assertEqual(agree([(name.upper(), value) for name, value in (KEY, VERSION)], None, False).fields, wanted)

    def test_incomplete(self) -> None:
        """No key, two of them, or one that is no nonce is 400."""
        name = KEY[0]
        for keys in ([], [KEY, KEY], [(name, b"short")], [(name, b"AAAA")], [(name, b"\xff" * 24)]):
            self.assertEqual(self.refused(VERSION, *keys).status, 400)

    def test_other_version(self) -> None:
        """Another version, or none, is 426 and says which one there is."""
        for versions in ([], [(VERSION[0], b"8")], [VERSION, VERSION]):
            problem = self.refused(KEY, *versions)
            self.assertEqual(problem.status, 426)
            self.assertIn((b"Sec-WebSocket-Version", b"13"), problem.fields)
        self.assertIn((b"Upgrade", b"websocket"), upgrade_required("x").fields)

    def test_protocol(self) -> None:
        """The subprotocol is selected when it is offered, wherever it stands, and never when it is not."""
        offered = (b"sec-websocket-protocol", b"a, realtime")
        selected = (b"Sec-WebSocket-Protocol", b"realtime")
        self.assertIn(selected, self.agreed(offered, protocol=b"realtime").fields)
        self.assertIn(selected, self.agreed((b"Sec-WebSocket-Protocol", b"b"), offered, protocol=b"realtime").fields)
        self.assertEqual(self.agreed(offered).fields, self.agreed().fields)
        self.assertEqual(
            self.agreed((b"Sec-WebSocket-Protocol", b"b"), protocol=b"realtime").fields, self.agreed().fields
        )
        self.assertEqual(protocols([b"a,b", b"", b" c "]), [b"a", b"b", b"c"])

    def test_deflate(self) -> None:
        """Compression is taken when it is both offered and asked for; the first offer that can be met is."""
        offer = (EXTENSIONS, b"permessage-deflate; client_max_window_bits")
        self.assertIsNone(self.agreed(offer).deflate)
        self.assertIsNone(self.agreed(deflate=True).deflate)
        agreed = self.agreed(offer, deflate=True)
        self.assertIn((EXTENSIONS, b"permessage-deflate; client_max_window_bits=15"), agreed.fields)
        assert agreed.deflate is not None and agreed.deflate.enabled()
        two = (EXTENSIONS, b"permessage-deflate; server_max_window_bits=8, x-other, permessage-deflate")
        self.assertIn((EXTENSIONS, b"permessage-deflate"), self.agreed(two, deflate=True).fields)

    def test_unfit_offer(self) -> None:
        """An offer that cannot be read is declined, and the WebSocket is made without it."""
        for value in (b"permessage-deflate; server_max_window_bits=x", b"\xff", b"x-webkit-deflate-frame", b",;,"):
            agreed = self.agreed((EXTENSIONS, value), deflate=True)
            self.assertEqual((agreed.deflate, len(agreed.fields)), (None, 2))

    @given(st.lists(st.tuples(st.sampled_from([KEY[0], VERSION[0], EXTENSIONS]), st.binary(max_size=40))))
    def test_any_fields(self, fields: list[Pair]) -> None:
        """Whatever the fields hold, there is an agreement or a refusal."""
        try:
            agree([KEY, VERSION, *fields], b"realtime", True)
        except Problem as problem:
            self.assertIn(problem.status, (400, 426))
