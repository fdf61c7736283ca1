"""Which meter reads an answer, and what it says that the exchange cost."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.core.endpoint import ENDPOINTS, OTHER
from openai_relay.core.metering import Meter, meter_for, no_answer
from openai_relay.core.usage import LONGEST_BODY, Usage, estimate
from tests.core.test_decoding import brotlied, zstandard
from tests.core.transcripts import Transcript, pieces, transcripts

SSE: Final = b"text/event-stream"
JSON: Final = b"application/json"
CODINGS: Final[dict[bytes, Callable[[bytes], bytes]]] = {
    b"": bytes,
    b"identity": bytes,
    b"gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"br": brotlied,
    b"zstd": zstandard,
    b"gzip, zstd": lambda text: zstandard(gzip.compress(text)),
}
#: What tells no usage and costs nothing but its input: no text comes back.
MUTE: Final = ("audio/speech", "embeddings", "images/generations", "images/edits", "images/variations")
WRITING: Final = (
    "chat/completions",
    "completions",
    "responses",
    "responses/compact",
    "audio/transcriptions",
    "audio/translations",
)
CHAT: Final = b'{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":3,"completion_tokens":4}}'
SILENT: Final = b'{"choices":[{"message":{"content":"hi"}}]}'
PIECE: Final = b'data: {"choices":[{"delta":{"content":"hello"}}]}\n\n'


def begun(endpoint: str = "chat/completions", media_type: bytes = JSON, coding: bytes = b"") -> Meter:
    meter = meter_for(endpoint, b"POST", 200, media_type, coding)
    assert meter is not None
    return meter


def cost(meter: Meter, *blocks: bytes) -> Usage | None:
    for block in blocks:
        meter.feed(block)
    return meter.account(10)


class ChoiceTests(SynchronousTestCase):
    def test_what_costs_nothing(self) -> None:
        """An answer that costs nothing is not read at all: another endpoint, another method, no success."""
        for endpoint in ENDPOINTS - {*WRITING, *MUTE, OTHER}:
            self.assertIsNone(meter_for(endpoint, b"POST", 200, JSON, b""), endpoint)
        for method, status in ((b"GET", 200), (b"DELETE", 200), (b"POST", 199), (b"POST", 300), (b"POST", 429)):
            self.assertIsNone(meter_for("responses", method, status, JSON, b""), (method, status))

    def test_what_costs(self) -> None:
        """Whatever uses tokens is read, with any success, and an endpoint that nobody knows too."""
        for endpoint in (*WRITING, *MUTE, OTHER):
            for status in (200, 201, 299):
                self.assertIsNotNone(meter_for(endpoint, b"POST", status, JSON, b""), endpoint)

    def test_media_types(self) -> None:
        """JSON and events are read, by whatever name, in whatever letters, with parameters or without."""
        for media_type in (JSON, b"Application/JSON; charset=utf-8", b" application/json ", b"application/x+json"):
            self.assertEqual(cost(begun(media_type=media_type), CHAT), Usage(3, output_tokens=4), media_type)
        for media_type in (SSE, b"TEXT/Event-Stream ; charset=utf-8"):
            meter = begun(media_type=media_type)
            self.assertEqual(meter.feed(b"data: " + CHAT + b"\n\n" + PIECE), 2)
            self.assertEqual(meter.account(10), Usage(3, output_tokens=4))

    def test_other_media_types(self) -> None:
        """What is neither is counted by its bytes where it is text that the model wrote, else by the input alone."""
        for media_type in (b"", b"text/plain", b"audio/mpeg", b"application/jsonl"):
            meter = begun("audio/transcriptions", media_type)
            self.assertEqual(meter.feed(CHAT), 0)
            self.assertEqual(cost(meter, b"x" * 5), estimate(10, 0, len(CHAT) + 5))
            self.assertEqual(cost(begun("audio/speech", media_type), b"x" * 99), estimate(10, 0, 0))
            self.assertIsNone(meter_for(OTHER, b"POST", 200, media_type, b""))

    def test_codings(self) -> None:
        """Every coding that is known is undone; what has another is counted by its bytes."""
        for coding, encode in CODINGS.items():
            for name in (coding, coding.upper()):
                self.assertEqual(cost(begun(coding=name), encode(CHAT)), Usage(3, output_tokens=4), name)
        for coding in (b"compress", b"gzip, compress", b"gzip, gzip, gzip"):
            self.assertEqual(cost(begun(coding=coding), CHAT), estimate(10, 0, len(CHAT)), coding)
            self.assertIsNone(meter_for(OTHER, b"POST", 200, JSON, coding))


class AccountTests(SynchronousTestCase):
    def test_told(self) -> None:
        """What the upstream tells counts at every endpoint, and nothing of it is estimated."""
        for endpoint in (*WRITING, *MUTE, OTHER):
            self.assertEqual(cost(begun(endpoint), CHAT), Usage(3, output_tokens=4), endpoint)
            told = b"data: " + CHAT + b"\n\n"
            self.assertEqual(cost(begun(endpoint, SSE), told), Usage(3, output_tokens=4), endpoint)

    def test_untold(self) -> None:
        """Where nothing is told, text that came counts as output, and what is no text does not."""
        for endpoint in WRITING:
            self.assertEqual(cost(begun(endpoint), SILENT), estimate(10, 0, len(SILENT)), endpoint)
            self.assertEqual(cost(begun(endpoint, SSE), PIECE, PIECE, PIECE), estimate(10, 3, 15), endpoint)
        for endpoint in MUTE:
            self.assertEqual(cost(begun(endpoint), SILENT), Usage(10, estimated=True), endpoint)
            self.assertEqual(cost(begun(endpoint, SSE), PIECE), Usage(10, estimated=True), endpoint)
        self.assertIsNone(cost(begun(OTHER), SILENT))
        self.assertEqual(cost(begun(OTHER, SSE), PIECE), estimate(10, 1, 5))  # nobody but a model streams

    def test_nothing_came(self) -> None:
        """An answer that broke off behind its head has cost the input, for all that is known."""
        self.assertEqual(cost(begun()), Usage(10, estimated=True))
        self.assertEqual(cost(begun(coding=b"gzip")), Usage(10, estimated=True))

    def test_broken_coding(self) -> None:
        """What can be decoded no further counts by the bytes that still come, beside what was read before."""
        events = zlib.compressobj(wbits=31)
        block = events.compress(PIECE * 2) + events.flush(zlib.Z_SYNC_FLUSH)
        meter = begun("responses", SSE, b"gzip")
        self.assertEqual(meter.feed(block), 2)
        self.assertEqual(meter.feed(b"\xff" * 100), 0)
        self.assertEqual(meter.feed(b"\xff" * 20_000), 0)
        self.assertEqual(meter.account(10), estimate(10, 2, 2 * 5 + 20_100))

    def test_broken_behind_the_usage(self) -> None:
        """What was told before a coding broke still counts."""
        meter = begun(media_type=SSE, coding=b"gzip")
        self.assertEqual(cost(meter, gzip.compress(b"data: " + CHAT + b"\n\n"), b"junk"), Usage(3, output_tokens=4))

    def test_long_block(self) -> None:
        """A block that decodes to more than is allowed at once is decoded in steps, and nothing of it is lost."""
        numbers = b",".join(b"%d" % number for number in range(600_000))
        body = b'{"data":[' + numbers + b'],"usage":{"prompt_tokens":3,"completion_tokens":4}}'
        for coding in (b"gzip", b"deflate", b"zstd"):
            self.assertEqual(cost(begun(coding=coding), CODINGS[coding](body)), Usage(3, output_tokens=4), coding)

    def test_bomb(self) -> None:
        """An answer that decodes without measure is given up, and what follows counts by its bytes."""
        meter = begun(media_type=SSE, coding=b"gzip")
        bomb = gzip.compress(bytes(100 << 20))
        usage = cost(meter, bomb, b"x" * 50)
        assert usage is not None
        self.assertTrue(usage.estimated)
        self.assertLess(usage.output_tokens, len(bomb))

    def test_no_answer(self) -> None:
        """A request that went up has cost its input, if its endpoint is known to cost anything."""
        for endpoint in (*WRITING, *MUTE):
            self.assertEqual(no_answer(endpoint, b"POST", 7), Usage(7, estimated=True))
            self.assertIsNone(no_answer(endpoint, b"GET", 7))
        for endpoint in (OTHER, "models", "files", "moderations", "responses/{id}"):
            self.assertIsNone(no_answer(endpoint, b"POST", 7), endpoint)


class TranscriptTests(SynchronousTestCase):
    """Every recorded answer, as a meter reads it on its way."""

    def read(self, each: Transcript, coding: bytes, blocks: list[bytes]) -> None:
        stream = each.name.endswith(".sse")
        meter = begun(media_type=SSE if stream else JSON, coding=coding)
        events = sum(map(meter.feed, blocks))
        self.assertEqual(events, each.events, (each.name, coding))
        if each.usage is not None:
            expected = each.usage
        elif stream:
            expected = Usage(25, output_tokens=each.estimate or 0, estimated=True)
        else:
            expected = estimate(25, 0, len(each.text))
        self.assertEqual(meter.account(25), expected, (each.name, coding))

    def test_whole_and_in_bytes(self) -> None:
        """In each coding, whole and byte by byte, each says what it cost."""
        for each in (*transcripts(".sse"), *transcripts(".json")):
            for coding, encode in CODINGS.items():
                coded = encode(each.text)
                self.read(each, coding, [coded])
                self.read(each, coding, [coded[at : at + 1] for at in range(len(coded))])

    @given(
        st.sampled_from([*transcripts(".sse"), *transcripts(".json")]),
        st.sampled_from(list(CODINGS)),
        st.lists(st.integers(0, 1 << 16), max_size=20),
    )
    def test_any_cutting(self, each: Transcript, coding: bytes, cuts: list[int]) -> None:
        """However it is cut and compressed, an answer says the same."""
        self.read(each, coding, pieces(CODINGS[coding](each.text), cuts))

    def test_hang_up(self) -> None:
        """Of a stream that is left halfway, what is estimated is near to what was sent."""
        sent = b"".join(
            b'data: {"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n' for _ in range(100)
        )
        for coding, encode in CODINGS.items():
            flushed = sent[: len(sent) // 10]
            coded = encode(flushed)
            usage = cost(
                begun(media_type=SSE, coding=coding), *[coded[at : at + 50] for at in range(0, len(coded), 50)]
            )
            assert usage is not None
            self.assertTrue(usage.estimated)
            # Ten events of " word", 5 bytes each.
            self.assertTrue(8 <= usage.output_tokens <= 13, usage)


class AnyAnswerTests(SynchronousTestCase):
    @given(
        st.sampled_from(sorted(ENDPOINTS)),
        st.sampled_from([SSE, JSON, b"text/plain", b"", b"\xff;"]),
        st.sampled_from([*CODINGS, b"compress", b"\xff"]),
        st.lists(
            st.binary(max_size=300) | st.sampled_from([CHAT, PIECE, gzip.compress(CHAT), b"\r", b"\n\n"]), max_size=8
        ),
    )
    def test_any_bytes(self, endpoint: str, media_type: bytes, coding: bytes, blocks: list[bytes]) -> None:
        """Whatever comes from an upstream, reading it raises nothing, and no count is below nothing."""
        meter = meter_for(endpoint, b"POST", 200, media_type, coding)
        if meter is None:
            return
        for block in blocks:
            self.assertGreaterEqual(meter.feed(block), 0)
        usage = meter.account(10)
        if usage is not None:
            self.assertGreaterEqual(min(usage.input_tokens, usage.output_tokens, usage.cached_tokens), 0)

    def test_bounded(self) -> None:
        """However much comes without an end, in any coding, what is kept of it is bounded."""
        for media_type, text in (
            (SSE, b'data: {"choices":[' + b"x" * 65_000),
            (JSON, b"x" * 65_000),
            (SSE, b"\n" * 65_000),
        ):
            for coding in (b"", b"gzip"):
                meter = begun(media_type=media_type, coding=coding)
                compressor = zlib.compressobj(wbits=31)
                for _ in range(60):
                    if coding:
                        meter.feed(compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH))
                    else:
                        meter.feed(text)
                self.assertLessEqual(_kept(meter._reader), 4 * LONGEST_BODY, (media_type, coding))


def _kept(thing: object) -> int:
    """Bytes that an object keeps, in whatever it holds."""
    if isinstance(thing, bytes):
        return len(thing)
    if isinstance(thing, list):
        return sum(map(_kept, thing))
    return sum(_kept(getattr(thing, name)) for name in getattr(type(thing), "__slots__", ()))
