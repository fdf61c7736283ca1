"""Which endpoint a request finds."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.standin.counters import Counters
from openai_relay.standin.problems import Problem
from openai_relay.standin.routes import STATS, Routes, Takes
from tests.standin.asking import call

#: The members that some endpoint looks at, with values that may or may not be what it expects.
NAMES = [
    "model",
    "messages",
    "input",
    "prompt",
    "tools",
    "tool_choice",
    "function",
    "type",
    "name",
    "role",
    "content",
    "text",
    "stream",
    "stream_options",
    "n",
    "include_usage",
    "response_format",
    "json_schema",
    "schema",
    "format",
    "dimensions",
    "encoding_format",
    "voice",
    "parameters",
    "metadata",
]
WORDS = ["user", "tool", "function", "json_schema", "required", "none", "auto", "m", "call a tool", "url", "sse"]
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 20) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=15,
)
TOOLS = st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": ANYTHING}), max_size=2)
LIKELY = st.fixed_dictionaries(
    {"model": st.just("m"), "voice": st.just("v"), "prompt": st.just("p")},
    optional={
        "messages": st.lists(st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=4), max_size=3),
        "input": st.just("call") | ANYTHING,
        "tools": TOOLS | ANYTHING,
        "tool_choice": st.just("required") | ANYTHING,
        "response_format": st.fixed_dictionaries({"type": st.just("json_schema"), "json_schema": ANYTHING}) | ANYTHING,
        "text": st.fixed_dictionaries({"format": ANYTHING}),
        "stream": st.booleans(),
    },
)
JSON_PATHS = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/audio/speech",
    "/v1/images/generations",
]


class RoutesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.routes = Routes(Counters(), None)

    def test_exact(self) -> None:
        """A path without a variable part is found as it is."""
        route, parameter = self.routes.find("POST", "/v1/chat/completions")
        self.assertEqual((route.name, parameter, route.takes), ("/v1/chat/completions", "", Takes.WHOLE))

    def test_variable(self) -> None:
        """A path with a variable part is found with it, and the longer path is told from the shorter."""
        self.assertEqual(self.routes.find("GET", "/v1/files/file-1")[1], "file-1")
        route, parameter = self.routes.find("GET", "/v1/files/file-1/content")
        self.assertEqual((route.name, parameter), ("/v1/files/{id}/content", "file-1"))

    def test_head_is_get(self) -> None:
        """HEAD finds what GET finds."""
        self.assertEqual(self.routes.find("HEAD", "/v1/models"), self.routes.find("GET", "/v1/models"))

    def test_echo_takes_any_method(self) -> None:
        """The echo answers every method."""
        for method in ("GET", "POST", "PATCH", "OPTIONS"):
            self.assertIs(self.routes.find(method, "/v1/standin/echo")[0], self.routes.echo)

    def test_stats(self) -> None:
        """The numbers are outside of the API's paths, where a relay does not reach."""
        self.assertFalse(STATS.startswith("/v1/"))
        self.assertEqual(self.routes.find("GET", STATS)[0].name, STATS)

    def test_websockets(self) -> None:
        """What is a WebSocket is found as one by its path alone; elsewhere there is none."""
        for path in ("/v1/realtime", "/v1/responses", "/v1/standin/websocket"):
            route = self.routes.find_websocket(path)
            assert route is not None and route.converse is not None
            self.assertEqual(route.name, path)
        self.assertIsNone(self.routes.find_websocket("/v1/models"))

    def test_websocket_without_an_upgrade(self) -> None:
        """The path of a WebSocket that is nothing else says that it is one."""
        for path in ("/v1/realtime", "/v1/standin/websocket"):
            route, _ = self.routes.find("GET", path)
            problem = self.assertRaises(Problem, route.answer, call(None))
            self.assertEqual(problem.status, 426)

    def test_other_method(self) -> None:
        """A known path with another method is 405 and says which methods there are."""
        for path, allowed in (("/v1/files", b"GET, POST"), ("/v1/files/x", b"DELETE, GET")):
            problem = self.assertRaises(Problem, self.routes.find, "PATCH", path)
            self.assertEqual((problem.status, problem.fields), (405, [(b"Allow", allowed)]))

    @given(st.text(max_size=30).filter(lambda text: "/" not in text))
    def test_unknown(self, text: str) -> None:
        """A path that nobody knows is 404 in the API's shape."""
        for path in (f"/v2/{text}", f"/v1/files/{text}/more", "/v1/files/", "", "/"):
            problem = self.assertRaises(Problem, self.routes.find, "GET", path)
            self.assertEqual((problem.status, problem.code), (404, "unknown_url"))

    @given(st.sampled_from(JSON_PATHS), LIKELY | ANYTHING)
    def test_any_json(self, path: str, body: Any) -> None:
        """Whatever JSON an endpoint is sent, it answers, or says 400; it never fails by itself."""
        route, _ = self.routes.find("POST", path)
        try:
            answer = route.answer(call(body))
        except Problem as problem:
            self.assertEqual(problem.status, 400)
        else:
            for _ in answer.blocks or ():
                pass
