"""The parsers by themselves, where far more inputs fit into a second: heads, and chunked bodies."""

from __future__ import annotations

from typing import Final

from openai_relay.core.errors import BadRequest, MethodNotAllowed, UpstreamMalformed
from openai_relay.http1.chunked import ChunkDecoder, MalformedChunks, encode_chunk, encode_end
from openai_relay.http1.message import looks_broken, parse_request, parse_response
from tests.fuzz.client_check import METHODS, rule_no_length_of_nothing
from tests.fuzz.cutting import cuttings
from tests.fuzz.reading import End, comparable, read_request, read_response
from tests.fuzz.server_check import rule_absolute_form

_CHUNKED_HEAD: Final = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
#: What a decoder may keep of a line that is not complete.
_MOST_HELD: Final = 16_384


def check_chunked(data: bytes) -> str:
    """
    Decode these bytes, cut in several ways.

    :raises AssertionError: something that must hold for any bytes does not.
    """
    outcomes = [_decode(blocks) for blocks in cuttings(data)]
    for outcome in outcomes[1:]:
        assert outcome == outcomes[0], f"cut in another way: {outcome} instead of {outcomes[0]}"
    end, payload, trailers, rest = outcomes[0]
    expected = read_request(_CHUNKED_HEAD + data)
    assert expected.message is not None
    if end == "refused":
        assert expected.message.body.startswith(payload), "what came before the fault is read in another way"
        return end
    assert (end, payload, trailers, rest) == (
        expected.end,
        expected.message.body,
        expected.message.trailers,
        expected.rest,
    ), f"read as {expected}"
    if end == "complete":
        again = (encode_chunk(payload) if payload else b"") + encode_end(list(trailers))
        assert _decode([again]) == (end, payload, trailers, b""), "what is written is not read back"
    return end


def _decode(blocks: list[bytes]) -> tuple[End, bytes, tuple[tuple[bytes, bytes], ...], bytes]:
    decoder = ChunkDecoder()
    payload = b""
    for number, block in enumerate(blocks):
        try:
            payload += decoder.feed(block)
        except MalformedChunks as error:
            return "refused", payload + error.payload, (), b""
        assert len(decoder._held) <= _MOST_HELD, "too much is held"
        if decoder.done:
            return "complete", payload, tuple(decoder.trailers), decoder.rest + b"".join(blocks[number + 1 :])
    return "open", payload, (), b""


def check_head(data: bytes) -> str:
    """
    Parse these bytes as the head of a request and as that of an answer.

    :raises AssertionError: something that must hold for any bytes does not.
    """
    taken = [name for name, accepted in (("request", _request(data)), ("response", _response(data))) if accepted]
    if taken:
        broken = [end for end in range(len(data)) if looks_broken(data[:end], max(end - 7, 0))]
        assert not broken, f"a good head looks broken after {broken[0]} bytes"
    return taken[0] if taken else "refused"


def _request(data: bytes) -> bool:
    try:
        head = parse_request(data)
    except (BadRequest, MethodNotAllowed):
        return False
    expected = read_request(data).message
    assert expected is not None, "a request where another reader finds none"
    expected = rule_absolute_form(expected)
    assert (head.method, head.target, head.version) == expected.first, f"the first line is read as {expected.first}"
    assert comparable(head.fields) == expected.fields, f"the fields are read as {expected.fields}"
    return True


def _response(data: bytes) -> bool:
    accepted = False
    for method in METHODS:
        try:
            head = parse_response(data, method)
        except UpstreamMalformed:
            continue
        accepted = True
        if head.status == 101:
            continue  # RFC 9110 §15.2.2: h11 takes none that it has not asked for, which here nobody can have
        # Behind an interim answer h11 waits for the real one: give it one.
        real = b"HTTP/1.1 299 real\r\n\r\n" if head.status < 200 else b""
        expected = rule_no_length_of_nothing(read_response(data + real, method, closed=True)).message
        assert expected is not None, "an answer where another reader finds none"
        if head.status < 200:
            assert expected.interims == ((head.status, comparable(head.fields)),), f"read as {expected.interims}"
        else:
            assert (b"%d" % head.status, head.reason, head.version) == expected.first, f"read as {expected.first}"
            assert comparable(head.fields) == expected.fields, f"the fields are read as {expected.fields}"
    return accepted
