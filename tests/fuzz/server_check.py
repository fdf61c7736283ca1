"""
The server's role: bytes that a client sends, against h11 reading the same bytes.

Where the relay refuses what h11 takes, it is stricter, which is its right.
Where both take a message they read the same one, and what goes upstream is that
message.  The only places where the relay takes what h11 does not, or reads it
in another way, are the rules named ``rule_…`` below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from openai_relay.core.headers import for_upstream, trailers_for_upstream
from tests.fuzz.course import ID, MAX_HEAD, UPSTREAM, Course, Handed
from tests.fuzz.cutting import cuttings
from tests.fuzz.reading import Message, Reading, comparable, read_request

_ABSOLUTE: Final = re.compile(rb"https?://[^/?#]+(/[^#]*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What became of some bytes.

    :ivar requests: each with its end; what does not depend on how the bytes are cut.
    :ivar closed: no further request is taken.
    """

    requests: tuple[tuple[object, ...], ...]
    closed: bool


def check_server(data: bytes) -> str:
    """
    Send these bytes to a server, cut in several ways.

    :returns: what became of them, in a word.
    :raises AssertionError: something that must hold for any bytes does not.
    """
    expected = requests_of(data)
    outcomes = [serve(blocks, expected) for blocks in cuttings(data)]
    for outcome in outcomes[1:]:
        assert outcome == outcomes[0], f"cut in another way: {outcome} instead of {outcomes[0]}"
    ends = [str(request[-1]) for request in outcomes[0].requests]
    return ends[-1] if ends else "open"


def rule_empty_lines(data: bytes) -> bytes:
    """RFC 9112 §2.2: a server passes over empty lines before a request, which h11 refuses; half of one, too."""
    while data.startswith(b"\r\n"):
        data = data[2:]
    return b"" if data == b"\r" else data


def rule_absolute_form(message: Message) -> Message:
    """RFC 9112 §3.2.2: the URL of this very host stands for its path; h11 leaves that to its caller."""
    method, target, version = message.first
    absolute = _ABSOLUTE.fullmatch(target)
    return message if absolute is None else replace(message, first=(method, absolute[1] or b"/", version))


def rule_kept_1_0(message: Message) -> bool:
    """RFC 9112 §9.3: an HTTP/1.0 client may ask to keep its connection; h11 never keeps it."""
    options = [value.lower() for name, value in message.fields if name.lower() == b"connection"]
    named = {option.strip() for value in options for option in value.split(b",")}
    return message.first[2] == b"1.0" and b"keep-alive" in named and b"close" not in named


def requests_of(data: bytes) -> list[Reading]:
    """The requests that h11 finds, one behind the other; only the last may be open or refused."""
    found: list[Reading] = []
    while True:
        data = rule_empty_lines(data)
        reading = read_request(data)
        if reading.message is not None:
            message = rule_absolute_form(reading.message)
            reading = replace(reading, message=message, last=reading.last and not rule_kept_1_0(message))
        found.append(reading)
        if reading.end != "complete" or reading.last:
            return found
        data = reading.rest


def _answer(handed: Handed, forwarded: Reading) -> None:
    assert handed.far is not None
    handed.far.wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + b"ok" * (handed.request.method != b"HEAD"))


def serve(blocks: list[bytes], expected: list[Reading]) -> Outcome:
    """
    Send these blocks.

    :param expected: what another reader finds in them.
    :raises AssertionError: something that must hold does not.
    """
    course = Course()
    course.play(blocks, _answer)
    closed = course.client.ended != ""
    requests: list[tuple[object, ...]] = []
    for number, handed in enumerate(course.handed):
        assert not (requests and requests[-1][-1] != "complete"), "a request behind one that is not complete"
        assert number < len(expected), "a request where another reader finds none"
        requests.append(_compare(handed, expected[number]))
        if requests[-1][-1] == "refused":
            assert closed, "the connection stays open behind a malformed request"
    _compare_ends(requests, expected, closed)
    held = len(course.connection._buffer)
    assert held <= MAX_HEAD, f"{held} bytes are held"
    course.leave()
    return Outcome(tuple(requests), closed)


def _compare(handed: Handed, expected: Reading) -> tuple[object, ...]:
    request = handed.request
    if request.method == b"":
        assert handed.far is None, "something of a request that was refused has reached the upstream"
        return ("refused",)
    wanted = expected.message
    assert wanted is not None, f"a request where another reader finds none: {request.target!r}"
    first = (request.method, request.target, request.version)
    assert first == wanted.first, f"{first} is read as {wanted.first}"
    assert comparable(request.fields) == wanted.fields, f"{request.fields} is read as {wanted.fields}"
    forwarded = handed.forwarded()
    if forwarded is None:
        assert request.fault is not None, "a good request has not been forwarded"
        return (first, "refused")
    assert forwarded.end != "refused", "the upstream would refuse what it is sent"
    sent = forwarded.message
    if sent is None:
        assert handed.endings, "a head is held back"
        return (first, "refused")  # so soon that nothing had gone out
    _compare_head(sent, wanted)
    if forwarded.end == "complete":
        assert expected.end == "complete", "the upstream sees an end that the client has not sent"
        assert not forwarded.rest, "the upstream sees something behind the request"
        assert sent.body == wanted.body, "the upstream reads another body"
        assert list(sent.trailers) == trailers_for_upstream(wanted.trailers, UPSTREAM), "… other trailers"
        assert request.bytes_in == len(wanted.body)
        return (first, sent.body, sent.trailers, "complete")
    assert wanted.body.startswith(sent.body), "the upstream reads what the client has not sent"
    if handed.endings:
        assert handed.far is not None and handed.far.wire.ended == "reset", "a broken request's connection is kept"
        return (first, "refused")
    assert expected.end == "open", f"more is waited for, where another reader finds it {expected.end}"
    assert sent.body == wanted.body, "a part of the body is held back"
    return (first, sent.body, "open")


def _compare_head(sent: Message, wanted: Message) -> None:
    assert sent.first == (*wanted.first[:2], b"1.1"), f"the upstream reads {sent.first}"
    fields = for_upstream(wanted.fields, UPSTREAM, ID)
    if any(name.lower() == b"transfer-encoding" for name, _ in wanted.fields):
        fields.append((b"Transfer-Encoding", b"chunked"))
    assert list(sent.fields) == fields, f"the upstream reads {sent.fields}"


def _compare_ends(requests: list[tuple[object, ...]], expected: list[Reading], closed: bool) -> None:
    """Where the relay stopped reading, and whether it was right to."""
    last = requests[-1][-1] if requests else "complete"
    if last != "complete":
        return  # refused, or open as it is for the other
    if requests and expected[len(requests) - 1].last:
        assert closed, "the connection goes on behind its last request"
        return
    assert not closed, "the connection is closed, though nobody asked for that"
    behind = expected[len(requests)]
    assert behind.end == "open", f"more is waited for, where another reader finds it {behind.end}"
    assert behind.message is None, "a head has not been handed up"
