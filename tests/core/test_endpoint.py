"""Which endpoint a path is counted under."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.endpoint import ENDPOINTS, OTHER, endpoint

segments = st.sampled_from(sorted({word for name in ENDPOINTS for word in name.split("/")})) | st.text(max_size=8)


class EndpointTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """A path without identifiers is its endpoint."""
        self.assertEqual(endpoint("/v1/chat/completions"), "chat/completions")
        self.assertEqual(endpoint("/v1/responses/input_tokens"), "responses/input_tokens")

    def test_identifiers_are_collapsed(self) -> None:
        """Whatever the identifiers are, the endpoint is the same."""
        self.assertEqual(endpoint("/v1/files/file-abc/content"), "files/{id}/content")
        self.assertEqual(endpoint("/v1/models/ft:gpt-5:acme::9x"), "models/{id}")
        self.assertEqual(endpoint("/v1/threads/t_1/runs/r_2/steps/s_3"), "threads/{id}/runs/{id}/steps/{id}")

    def test_prefix_of_other_servers(self) -> None:
        """What stands before the version is no part of the endpoint."""
        self.assertEqual(endpoint("/openai/v1/embeddings"), "embeddings")
        self.assertEqual(endpoint("/api/v1/files/file-abc"), "files/{id}")

    def test_unknown(self) -> None:
        """What is not an endpoint of the API is ``other``, however near it comes."""
        for path in (
            "",
            "/",
            "/v1",
            "/v1/",
            "/v1/chat",
            "/v1/chat/completions/",
            "/v1//completions",
            "/v1/files//content",
            "/v1/files/files",
            "/v2/embeddings",
            "embeddings",
            "/v1/nonsense",
            "/v1/*",
            "/v1/threads/t/runs/r/steps/s/more",
            "/v1" + "/x" * 30_000,
        ):
            self.assertEqual(endpoint(path), OTHER, path[:40])

    @given(st.text() | st.lists(segments, max_size=9).map(lambda parts: "/v1/" + "/".join(parts)))
    def test_bounded(self, path: str) -> None:
        """No path makes a new endpoint."""
        self.assertIn(endpoint(path), ENDPOINTS)

    @given(st.sampled_from(sorted(ENDPOINTS - {OTHER})), st.text("0123456789abcdef-:", min_size=1))
    def test_every_endpoint(self, name: str, identifier: str) -> None:
        """Every endpoint is found again from a path with identifiers in place."""
        self.assertEqual(endpoint("/v1/" + name.replace("{id}", identifier)), name)
