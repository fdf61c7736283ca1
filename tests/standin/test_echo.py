"""What a client is told that it sent."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.settings import Secret
from openai_relay.standin.answer import Call, Head
from openai_relay.standin.controls import Controls
from openai_relay.standin.echo import Echo
from openai_relay.standin.forms import Digest
from tests.standin.asking import unary

FIELDS = [(b"Host", b"h"), (b"x-B", b"1"), (b"X-b", b"\xe9"), (b"Authorization", b"Bearer sk-secret")]


class EchoTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.expected = Secret(b"sk-secret")

    def told(self, body: bytes = b"", length: int | None = 0) -> dict[str, object]:
        digest = Digest()
        digest.feed(body)
        head = Head(b"PATCH", b"/v1/x?a=%20", b"1.1", FIELDS, length, [(b"X-Sum", b"9")])
        call = Call(Controls(), 1, 1, head=head, content=digest.content())
        answer = Echo(self.expected).answer(call)
        self.assertNotIn(b"sk-secret", answer.body)
        told: dict[str, object] = unary(answer)
        return told

    def test_head(self) -> None:
        """Method, target and fields are told as they came: order, case, duplicates and all."""
        told = self.told()
        self.assertEqual((told["method"], told["target"], told["version"]), ("PATCH", "/v1/x?a=%20", "1.1"))
        shown = [["Host", "h"], ["x-B", "1"], ["X-b", "é"], ["Authorization", "Bearer ***"]]
        self.assertEqual((told["fields"], told["trailers"]), (shown, [["X-Sum", "9"]]))

    def test_key_is_compared_not_shown(self) -> None:
        """Of the key only whether it is the expected one is told."""
        self.assertIs(self.told()["expected_key"], True)
        self.expected = Secret(b"another")
        self.assertIs(self.told()["expected_key"], False)

    def test_key_among_the_subprotocols(self) -> None:
        """A key that is offered as a subprotocol is not shown either."""
        head = Head(b"GET", b"/", b"1.1", [(b"Sec-WebSocket-Protocol", b"a, openai-insecure-api-key.sk-1, b")], 0, [])
        answer = Echo(None).answer(Call(Controls(), 7, 0, head=head, content=Digest().content()))
        shown = [["Sec-WebSocket-Protocol", "a, openai-insecure-api-key.***"]]
        self.assertEqual(unary(answer)["fields"], shown)

    def test_body(self) -> None:
        """Length and hash are told of any body, and the body itself, as text where it is text."""
        sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        text = {"bytes": 5, "sha256": sha256, "text": "hello", "base64": None}
        self.assertEqual(self.told(b"hello", 5)["body"], text)
        body = self.told(b"\xff")["body"]
        assert isinstance(body, dict)
        self.assertEqual((body["text"], body["base64"]), (None, "/w=="))

    def test_framing(self) -> None:
        """Whether the body came with a length or in chunks is told."""
        self.assertEqual((self.told(length=3)["content_length"], self.told(length=3)["chunked"]), (3, False))
        self.assertEqual((self.told(length=None)["content_length"], self.told(length=None)["chunked"]), (None, True))
