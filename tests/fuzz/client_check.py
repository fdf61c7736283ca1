"""
The client's role: bytes that an upstream answers with, against h11 reading the same bytes.

What the relay's own client reads at the end must be what h11 reads at the
upstream: or a refusal, or an answer that is visibly cut.  The rules named
``rule_…`` are where the relay takes what h11 does not, or in another way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from twisted.internet.error import ConnectionLost

from openai_relay.core.headers import for_client, interim_for_client, trailers_for_client
from openai_relay.http1.fields import Pair
from tests.fuzz.course import ID, REFUSED, Course, Handed
from tests.fuzz.cutting import cuttings
from tests.fuzz.reading import End, Message, Reading, read_response

#: The POST is answered before all of it has been sent.
REQUESTS: Final = {
    b"GET": b"GET /v1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD": b"HEAD /v1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST": b"POST /v1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel",
}
METHODS: Final = tuple(REQUESTS)
#: The fields with which the relay frames its own side.
_OURS: Final = ((b"Transfer-Encoding", b"chunked"), (b"Connection", b"close"))
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What became of some bytes.

    :ivar down: what the client reads; refused when it is cut.
    :ivar kept: the upstream's connection is there for another request.
    """

    end: End
    down: Message | None
    kept: bool


def check_client(data: bytes) -> str:
    """
    Answer a GET, a HEAD and a POST still being sent with these bytes, cut in several ways; then close, or reset.

    :returns: what became of them, in a word.
    :raises AssertionError: something that must hold for any bytes does not.
    """
    word = ""
    for method in METHODS:
        expected = rule_no_length_of_nothing(read_response(data, method, closed=True))
        outcomes = [ask(method, blocks, expected) for blocks in cuttings(data)]
        for outcome in outcomes[1:]:
            assert outcome == outcomes[0], f"cut in another way: {outcome} instead of {outcomes[0]}"
        reset = rule_no_length_of_nothing(read_response(data, method, closed=False))
        ask(method, cuttings(data)[0], reset, ConnectionLost())
        first = outcomes[0]
        word = word or ("declined" if first.down is not None and REFUSED in first.down.fields else first.end)
    return word


def rule_no_length_of_nothing(reading: Reading) -> Reading:
    """
    RFC 9110 §8.6, RFC 9112 §6.1: a 1xx or 204 has no field that frames a body; the relay takes it off, h11 leaves it.

    The connection of one that speaks of a body is not kept, as that may come after all.
    """
    message = reading.message
    if message is None:
        return reading
    spoilt = False
    interims = []
    for status, fields in message.interims:
        interims.append((status, _frameless(fields)))
        spoilt = spoilt or _speaks_of_a_body(fields)
    fields = message.fields
    if message.first[0] == b"204":
        spoilt = spoilt or _speaks_of_a_body(fields)
        fields = _frameless(fields)
    return replace(
        reading, last=reading.last or spoilt, message=replace(message, fields=fields, interims=tuple(interims))
    )


def rule_kept_1_0(message: Message) -> bool:
    """RFC 9112 §9.3: an HTTP/1.0 answer may keep its connection by saying so; h11 never keeps it."""
    return message.first[2] == b"1.0" and _says(message.fields, b"keep-alive") and not _says(message.fields, b"close")


def _frameless(fields: tuple[Pair, ...]) -> tuple[Pair, ...]:
    return tuple(pair for pair in fields if pair[0].lower() not in _FRAMING)


def _speaks_of_a_body(fields: tuple[Pair, ...]) -> bool:
    return any(name.lower() in _FRAMING and value != b"0" for name, value in fields)


def _says(fields: tuple[Pair, ...], option: bytes) -> bool:
    return any(name.lower() == b"connection" and option in value.lower() for name, value in fields)


def ask(method: bytes, blocks: list[bytes], expected: Reading, left: Exception | None = None) -> Outcome:
    """
    Ask, and answer with these blocks.

    :param expected: what another reader finds in them.
    :param left: how the upstream's connection is lost at last; cleanly if it is not said.
    :raises AssertionError: something that must hold does not.
    """
    course = Course()
    course.play([REQUESTS[method]], _not_yet)
    (handed,) = course.handed
    far = handed.far
    assert far is not None
    for block in blocks:
        far.wire.send(block, at_once=False)
    course.play([], _not_yet)
    kept = far.wire.ended == ""
    waits = not handed.endings
    held = len(far.connection._buffer)
    assert held <= sum(map(len, blocks)), f"{held} bytes are held"
    # The upstream closes before the client does: that may be how the body ends.
    far.wire.leave(left)
    course.received += course.client.taken()
    course.leave()
    down = read_response(course.received, method, closed=True)
    _compare(down, expected, method)
    if handed.endings == ["answered"]:
        assert down.end == "complete", "an answer that is said to be complete is not for the client"
    if kept and not waits:
        assert method != b"POST", "a connection is kept on which half a request was sent"
        assert expected.end == "complete" and not expected.rest, "a connection is kept with bytes that answer nothing"
        assert expected.message is not None
        assert not expected.last or rule_kept_1_0(expected.message), "a connection is kept that was to be closed"
    return Outcome(down.end, down.message, kept and not waits)


def _not_yet(handed: Handed, forwarded: Reading) -> None:
    """The answer does not wait for the request."""


def _compare(down: Reading, expected: Reading, method: bytes) -> None:
    got, wanted = down.message, expected.message
    assert got is not None, "the client gets no answer at all"
    if REFUSED in got.fields:
        return  # stricter, or the other reader finds no answer either
    assert wanted is not None, "the client gets an answer where another reader finds none"
    assert got.first == (*wanted.first[:2], b"1.1"), f"the client reads {got.first}"
    assert [pair for pair in got.fields if pair not in _OURS] == for_client(wanted.fields, ID), (
        f"the client reads {got.fields}"
    )
    assert got.interims == tuple((status, tuple(interim_for_client(fields))) for status, fields in wanted.interims), (
        f"the client reads {got.interims} before it"
    )
    if down.end == "complete":
        assert expected.end == "complete", "an ending is faked"
        assert got.body == wanted.body, "the client reads another body"
        trailers = trailers_for_client(wanted.trailers) if _is_chunked(got) and method != b"HEAD" else []
        assert list(got.trailers) == trailers, f"the client reads {got.trailers} behind it"
        assert not down.rest, "something stands behind the answer"
    else:
        assert wanted.body.startswith(got.body), "the client reads what the upstream has not sent"


def _is_chunked(message: Message) -> bool:
    return any(name.lower() == b"transfer-encoding" for name, _ in message.fields)
