"""What a request's fields say."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.settings import Secret
from openai_relay.standin.credentials import bearer, check_request_id, key_offered, matches, received, wrong_key
from openai_relay.standin.problems import Problem


class CredentialsTests(SynchronousTestCase):
    def test_sorted_out(self) -> None:
        """Names are compared without case, and controls lose their prefix."""
        found = received([(b"CONTENT-type", b"a/b"), (b"X-Standin-Delay-Ms", b"3"), (b"x-client-request-id", b"i")])
        self.assertEqual((found.content_type, found.client_request_id), (b"a/b", b"i"))
        self.assertEqual(found.controls, [(b"delay-ms", b"3")])

    def test_bearer(self) -> None:
        """The key stands after the scheme, whose case does not matter."""
        for value in (b"Bearer sk-1", b"bearer sk-1", b"BEARER  sk-1 "):
            self.assertEqual(bearer(received([(b"authorization", value)])), b"sk-1")

    def test_no_bearer(self) -> None:
        """None, another scheme, no key, and two fields are each 401."""
        one = (b"Authorization", b"Bearer sk-1")
        for fields in ([], [(b"Authorization", b"Basic eDp5")], [(b"Authorization", b"Bearer ")], [one, one]):
            problem = self.assertRaises(Problem, bearer, received(fields))
            self.assertEqual((problem.status, problem.type), (401, "invalid_request_error"))
            self.assertNotIn("sk-1", str(problem))

    def test_key_offered(self) -> None:
        """A key may be one of the subprotocols that are offered, in any of several fields."""
        name = b"Sec-WebSocket-Protocol"
        offered = [(name, b"realtime"), (name, b"a, openai-insecure-api-key.sk-1")]
        self.assertEqual(key_offered(received(offered)), b"sk-1")
        for fields in ([], [(name, b"realtime, sk-1")]):
            self.assertIsNone(key_offered(received(fields)))

    def test_matches(self) -> None:
        """A key is compared only where one is expected."""
        self.assertIsNone(matches(b"any", None))
        self.assertEqual((matches(b"a", Secret(b"a")), matches(b"b", Secret(b"a"))), (True, False))

    def test_wrong_key(self) -> None:
        """A wrong key is told with the API's code."""
        self.assertEqual((wrong_key().status, wrong_key().code), (401, "invalid_api_key"))

    def test_request_id(self) -> None:
        """The client's own id is ASCII and at most 512 characters."""
        check_request_id(received([(b"X-Client-Request-Id", b"x" * 512)]))
        for value in (b"x" * 513, b"\xff"):
            problem = self.assertRaises(Problem, check_request_id, received([(b"X-Client-Request-Id", value)]))
            self.assertEqual(problem.status, 400)
