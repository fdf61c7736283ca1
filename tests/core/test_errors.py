"""What a client is told, seen through the SDK that most clients use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx2
import openai
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core import errors
from openai_relay.core.errors import (
    BadRequest,
    BudgetSpent,
    ClientDisabled,
    ModelHidden,
    ModelNotAllowed,
    PathNotAllowed,
    RateLimited,
    RelayBug,
    RelayError,
    ShuttingDown,
    TokensLimited,
    TooManyConcurrent,
    Unauthenticated,
    UpgradeRefused,
    UpstreamClosed,
    UpstreamTimeout,
    UpstreamUnreachable,
    error_body,
    error_event,
)

Answer = Callable[[httpx2.Request], httpx2.Response]

CHAT_CHUNK = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}\n\n'
)
RESPONSE_EVENT = (
    b"event: response.output_text.delta\n"
    b'data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"i","output_index":0,'
    b'"content_index":0,"delta":"Hel","logprobs":[]}\n\n'
)
COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
}


def causes() -> list[type[RelayError]]:
    """Every class of the tree."""
    return [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, RelayError)]


def made(cause: type[RelayError]) -> RelayError:
    """One failure of a class."""
    return cause(1_500_000_000, "Too fast.") if issubclass(cause, RateLimited) else cause("host db.internal: refused")


def answer(error: RelayError) -> httpx2.Response:
    """The refusal as a response."""
    fields = [(b"content-type", b"application/json"), *error.headers()]
    return httpx2.Response(error.status, headers=fields, content=error_body(error))


def client(serve: Answer, retries: int = 0) -> openai.OpenAI:
    """The SDK before a server that is a function; no socket is opened."""
    return openai.OpenAI(
        api_key="unused",
        base_url="https://relay.example/v1",
        max_retries=retries,
        http_client=httpx2.Client(transport=httpx2.MockTransport(serve)),
    )


def ask(sdk: openai.OpenAI) -> str | None:
    """One completion."""
    completion = sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    return completion.choices[0].message.content


def streaming(*blocks: bytes) -> Answer:
    """A server that answers with these blocks of events."""

    class Blocks(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            return iter(blocks)

    return lambda request: httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Blocks())


class CauseTests(SynchronousTestCase):
    """The tree of causes."""

    def test_each_has_a_code_of_its_own(self) -> None:
        """No two causes share a code, so that a code says which it was."""
        codes = [cause.code for cause in causes()]
        self.assertEqual(sorted(codes), sorted(set(codes)))

    def test_each_ends_and_answers_in_a_known_way(self) -> None:
        """Each cause has an error status, a code in words, a sentence, and one of the known endings."""
        for cause in causes():
            error = made(cause)
            self.assertTrue(400 <= error.status <= 599, cause)
            self.assertRegex(error.code, r"\A[a-z]+(_[a-z]+)*\Z")
            self.assertRegex(error.told, r"\A[A-Z][^\n]*\.\Z")
            self.assertIn(
                error.end, {"refused", "limited", "drained", "client_gone", "upstream_error", "timeout", "bug"}, cause
            )

    def test_details_are_for_the_log_alone(self) -> None:
        """What a cause says to us, hosts and libraries, is in neither body nor event."""
        for cause in causes():
            error = made(cause)
            if not isinstance(error, RateLimited):
                self.assertEqual(str(error), "host db.internal: refused")
            for sent in (error_body(error), error_event(error)):
                self.assertNotIn(b"db.internal", sent)

    def test_told_can_be_given(self) -> None:
        """A cause raised with a sentence of its own tells that one, and leaves the class as it was."""
        error = PathNotAllowed(told="Only /v1/.")
        self.assertEqual(json.loads(error_body(error))["error"]["message"], "Only /v1/.")
        self.assertEqual(PathNotAllowed().told, "The relay does not allow this path.")

    @given(st.text())
    def test_bodies_are_openais_error_object(self, told: str) -> None:
        """Whatever is told, the body is JSON in UTF-8 with exactly OpenAI's four members."""
        told = told.encode("utf-8", "ignore").decode()
        self.assertEqual(
            json.loads(error_body(BadRequest(told=told)).decode("utf-8")),
            {
                "error": {
                    "message": told,
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "malformed_request",
                }
            },
        )

    @given(st.text())
    def test_events_are_one_event(self, told: str) -> None:
        """Whatever is told, the event is one, on one line of data, with the flat members and the error object."""
        event = error_event(UpstreamClosed(told=told))
        lead, name, data, *end = event.split(b"\n", 3)[0:1] + event.lstrip(b"\n").split(b"\n")
        self.assertEqual((lead, name, end), (b"", b"event: error", [b"", b""]))
        payload = json.loads(data.removeprefix(b"data: "))
        self.assertEqual(
            payload["error"], {"message": told, "type": "upstream_error", "param": None, "code": "upstream_closed"}
        )
        flat = {name: payload[name] for name in ("type", "code", "message", "param", "sequence_number")}
        self.assertEqual(
            flat, {"type": "error", "code": "upstream_closed", "message": told, "param": None, "sequence_number": 0}
        )


class WaitTests(SynchronousTestCase):
    """``RateLimited.headers``."""

    @given(st.integers(-1, 10**16))
    def test_every_wait_is_one_that_sdks_obey(self, wait_ns: int) -> None:
        """Any wait is told as above 0 and at most 60 s, in ms and in seconds, and never as shorter than it is."""
        fields = dict(RateLimited(wait_ns, "Too fast.").headers())
        ms, seconds = int(fields[b"retry-after-ms"]), int(fields[b"retry-after"])
        self.assertTrue(1 <= ms <= 60_000)
        self.assertTrue(1 <= seconds <= 60)
        self.assertEqual(seconds, -(-ms // 1_000))
        if wait_ns <= 60_000_000_000:
            self.assertGreaterEqual(ms * 1_000_000, wait_ns)

    def test_further_fields_follow(self) -> None:
        """Fields that the limit adds come after the waits."""
        error = RateLimited(1, "Too fast.", [(b"x-ratelimit-limit-requests", b"1")])
        self.assertEqual(error.headers()[2:], [(b"x-ratelimit-limit-requests", b"1")])


class SdkTests(SynchronousTestCase):
    """Refusals and broken streams as openai-python raises them."""

    def served(self, *answers: RelayError | None) -> tuple[Answer, list[httpx2.Request]]:
        """A server that gives these answers, None being a completion, and the requests that it got."""
        left = list(answers)
        requests: list[httpx2.Request] = []

        def serve(request: httpx2.Request) -> httpx2.Response:
            requests.append(request)
            error = left.pop(0)
            return httpx2.Response(200, json=COMPLETION) if error is None else answer(error)

        return serve, requests

    def test_each_status_raises_the_class_that_users_catch(self) -> None:
        """A refusal raises the SDK's exception for its status, with message, type and code in their places."""
        for error, raised in (
            (BadRequest(), openai.BadRequestError),
            (Unauthenticated(), openai.AuthenticationError),
            (PathNotAllowed(), openai.PermissionDeniedError),
            (RateLimited(1, "Too fast."), openai.RateLimitError),
            (TooManyConcurrent(1, "Too many."), openai.RateLimitError),
            (BudgetSpent(), openai.RateLimitError),
            (ModelNotAllowed(), openai.PermissionDeniedError),
            (RelayBug(), openai.InternalServerError),
            (UpstreamUnreachable(), openai.InternalServerError),
            (ShuttingDown(), openai.InternalServerError),
            (UpstreamTimeout(), openai.InternalServerError),
        ):
            caught = self.assertRaises(raised, ask, client(self.served(error)[0]))
            self.assertEqual(caught.status_code, error.status)
            self.assertEqual((caught.type, caught.code, caught.param), (error.type, error.code, None))
            self.assertIn(error.told, caught.message)

    def test_every_cause_is_an_api_error(self) -> None:
        """Every cause there is raises the SDK's status error with the cause's code."""
        for cause in causes():
            caught = self.assertRaises(openai.APIStatusError, ask, client(self.served(made(cause))[0]))
            self.assertEqual(caught.code, cause.code)

    def test_limits_are_waited_out(self) -> None:
        """The SDK waits as it is told and succeeds, without its user noticing."""
        for limited in (
            RateLimited(1_000_000, "Too fast."),
            TokensLimited(1_000_000, "Too much."),
            TooManyConcurrent(1_000_000, "Too many."),
        ):
            serve, requests = self.served(limited, None)
            self.assertEqual(ask(client(serve, retries=1)), "Hello")
            self.assertEqual(len(requests), 2)

    def test_what_no_repetition_helps_is_not_repeated(self) -> None:
        """Refusals that would be the same again are asked for once."""
        for error in (
            BadRequest(),
            Unauthenticated(),
            PathNotAllowed(),
            UpgradeRefused(),
            BudgetSpent(),
            ClientDisabled(),
            ModelHidden(),
            ModelNotAllowed(),
        ):
            serve, requests = self.served(error)
            self.assertRaises(openai.APIStatusError, ask, client(serve, retries=2))
            self.assertEqual(len(requests), 1, error)

    def test_a_broken_chat_stream_raises(self) -> None:
        """A chat stream that breaks between two events gives what came and raises the cause."""
        sdk = client(streaming(CHAT_CHUNK, error_event(UpstreamClosed())))
        chunks = iter(sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True))
        self.assertEqual(next(chunks).choices[0].delta.content, "Hel")
        self.assert_raised(self.assertRaises(openai.APIError, next, chunks))

    def test_a_broken_responses_stream_raises(self) -> None:
        """A Responses stream that breaks between two events gives what came and raises the cause."""
        sdk = client(streaming(RESPONSE_EVENT, error_event(UpstreamClosed())))
        events = iter(sdk.responses.create(model="m", input="Hi", stream=True))
        self.assertEqual(next(events).type, "response.output_text.delta")
        self.assert_raised(self.assertRaises(openai.APIError, next, events))

    def assert_raised(self, caught: openai.APIError) -> None:
        """The SDK raised the cause as the relay told it."""
        self.assertEqual(caught.message, UpstreamClosed.told)
        self.assertEqual((caught.code, caught.type), ("upstream_closed", "upstream_error"))

    @given(st.integers(0, len(CHAT_CHUNK)), st.integers(1, 200))
    def test_a_stream_cut_anywhere_never_ends_well(self, cut: int, size: int) -> None:
        """Wherever a stream breaks, in the middle of an event too, the SDK raises instead of ending."""
        whole = CHAT_CHUNK + CHAT_CHUNK[:cut] + error_event(UpstreamClosed())
        sdk = client(streaming(*(whole[at : at + size] for at in range(0, len(whole), size))))
        stream = sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True)
        # In mid-event the SDK meets half an object first, which is a ValueError.
        self.assertRaises((openai.APIError, ValueError), list, stream)
