"""
Decides whether what was seen is what was promised, and says both in a few words.

The words are for the tables of ``docs/reliability.md``: equal observations give
equal words, whatever the ports, times and identifiers were.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from tests.reliability.bench import Exchange
from tests.reliability.case import (
    PLAIN,
    Case,
    Cut,
    Do,
    ExpectedAnswer,
    Given,
    Methods,
    NeverWhole,
    Nothing,
    Refused,
    Same,
    SameRequest,
    Script,
    Through,
    Tls,
    Torn,
    Until,
    answered,
)
from tests.reliability.documented import answer_head, interim_head, masked, request_head
from tests.reliability.messages import End, Message
from tests.reliability.scripted import Seen

_SHORT: Final = 96
_PIECES: Final = 6
#: An ending, in words: whether the kernel made FIN or RST of a cut says nothing about the relay.
_ENDS: Final = {End.CLOSED: "closed", End.CUT: "cut", End.RESET: "cut", End.SILENT: "and nothing more came"}
_ERROR_EVENT: Final = re.compile(rb"\n\nevent: error\ndata: (\{.*\})\n\n\Z")


@dataclass(frozen=True, slots=True)
class Wire:
    """What bytes have to be read with."""

    upstream_host: bytes
    api_key: str

    def masked(self, raw: bytes) -> bytes:
        return masked(raw, self.upstream_host, self.api_key)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row: the case, in words, and what is not as promised."""

    case: Case
    sent: str
    said: str  #: what the upstream did
    upstream: str
    client: str
    problems: tuple[str, ...]


def judge(case: Case, through: Exchange, direct: Exchange | None, wire: Wire) -> Outcome:
    """Compare what was seen with what the case expects."""
    problems: list[str] = []
    upstream = _judge_upstream(case, through, direct, wire, problems)
    client = _judge_client(case, through, direct, wire, problems)
    if through.surplus:
        problems.append(f"behind its last answer the client got {shown(through.surplus)}")
    if through.goes_on is False:
        problems.append("the next request on the same connection was not answered")
    if through.next_good is False:
        problems.append("the next good request on a new connection was not answered")
    if case.through in (Through.PATIENT, Through.BRISK) and through.next_good is None:
        problems.append("no further request was tried")
    return Outcome(case, _sent(case), _said(case), upstream, client, tuple(problems))


def shown(data: bytes, most: int = _SHORT) -> str:
    """Bytes in a few readable characters."""
    text = "".join(_shown(byte) for byte in data[: most * 4])
    if len(text) > most or len(data) > most * 4:
        text = f"{text[: most * 2 // 3]}… ({len(data)} bytes)"
    return text


def _shown(byte: int) -> str:
    special = {9: "\\t", 10: "\\n", 13: "\\r", 92: "\\\\"}
    return special.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}")


def _sent(case: Case) -> str:
    words = []
    pieces = [step for step in case.sent if isinstance(step, bytes)]
    if len(pieces) > _PIECES:
        return f"{shown(b''.join(pieces))} (in {len(pieces)} pieces)"
    for step in case.sent:
        if isinstance(step, Until):
            words.append(f"({step.value})")
            continue
        start, found, rest = step.partition(b" HTTP/1.1\r\nHost: relay.example\r\n")
        # What every case sends alike says nothing.
        words.append(shown(start + b" \xe2\x80\xa6 " + rest).replace("\\xe2\\x80\\xa6", "…") if found else shown(step))
    return " ".join(words)


def _said(case: Case) -> str:
    """What the upstream did, where that is not just to answer."""
    if case.through not in (Through.PATIENT, Through.BRISK):
        return str(case.through.value)
    if case.tls is not Tls.GOOD:
        return str(case.tls.value)
    if case.script == answered(PLAIN):
        return "answers"
    return "; then ".join(_steps(script) for script in case.script)


def _steps(script: Script) -> str:
    pieces = [step for step in script if isinstance(step, bytes)]
    if len(pieces) > _PIECES:
        return f"{shown(b''.join(pieces))} (in {len(pieces)} pieces)"
    # That a request is read before it is answered goes without saying.
    steps = script[1:] if script[0] is Do.READ_REQUEST else script
    return " ".join(
        "answers" if step == PLAIN else shown(step) if isinstance(step, bytes) else f"({step.value})" for step in steps
    )


# The upstream's end.


def _judge_upstream(case: Case, through: Exchange, direct: Exchange | None, wire: Wire, problems: list[str]) -> str:
    expected, seen = case.upstream, through.seen
    whole = [each for each in seen if each.message.complete]
    words = _requests(seen)
    if isinstance(expected, SameRequest):
        assert direct is not None
        if len(whole) != 1 or len(seen) != 1 or not direct.seen or not direct.seen[0].message.complete:
            problems.append(f"the upstream saw {words} instead of one request")
            return words
        before = len(problems)
        _same_request(seen[0].message, direct.seen[0].message, wire, problems)
        return "the same" if len(problems) == before else "another request"
    if isinstance(expected, Nothing):
        fits = not seen
    elif isinstance(expected, Torn):
        fits = len(seen) == 1 and not whole and seen[0].over
    elif isinstance(expected, NeverWhole):
        fits = len(seen) <= 1 and not whole and all(each.over for each in seen)
        words = "no whole request" if fits else words
    elif isinstance(expected, Methods):
        fits = [each.message.head.split(b" ", 1)[0] for each in whole] == list(expected.methods) and whole == seen
    else:
        got = [wire.masked(each.raw) for each in seen]
        fits = got == list(expected.messages)
        if fits:
            return f"{words}, byte for byte as expected"
    if not fits:
        problems.append(f"the upstream saw {words}: {'; '.join(shown(wire.masked(each.raw), 400) for each in seen)}")
    return words


def _requests(seen: list[Seen]) -> str:
    if not seen:
        return "nothing"
    words = []
    for each in seen:
        method = each.message.head.split(b" ", 1)[0].decode("latin-1")
        words.append(f"{method or '?'}{'' if each.message.complete else ', broken off'}")
    return f"{len(seen)} request{'s' if len(seen) > 1 else ''} ({'; '.join(words)})"


def _same_request(got: Message, direct: Message, wire: Wire, problems: list[str]) -> None:
    head, wanted = wire.masked(got.head), request_head(direct)
    if head != wanted:
        problems.append(f"the upstream got the head {shown(head, 400)} instead of {shown(wanted, 400)}")
    if got.payload != direct.payload:
        problems.append(f"the body has {len(got.payload)} bytes of {len(direct.payload)}, or others")
    if got.trailers != direct.trailers:
        problems.append(f"the trailers are {shown(got.trailers)} instead of {shown(direct.trailers)}")


# The client's end.


def _judge_client(case: Case, through: Exchange, direct: Exchange | None, wire: Wire, problems: list[str]) -> str:
    words = []
    for number, expected in enumerate(case.client):
        answer = through.answers[number]
        direct_answer = direct.answers[number] if direct is not None else None
        last = number == len(case.client) - 1
        words.append(_answer(case, expected, answer, direct_answer, through if last else None, wire, problems))
    return "; ".join(words)


def _answer(
    case: Case,
    expected: ExpectedAnswer,
    got: Message,
    direct: Message | None,
    end: Exchange | None,
    wire: Wire,
    problems: list[str],
) -> str:
    words = _in_words(got, end)
    if isinstance(expected, Same):
        assert direct is not None
        before = len(problems)
        _same_answer(case, got, direct, end, wire, problems)
        return f"{got.status}, the same" if len(problems) == before else words
    if isinstance(expected, Refused):
        fits = _is_refusal(expected, got, end)
    elif isinstance(expected, Cut):
        fits = _is_cut(expected, got, end)
    else:
        assert isinstance(expected, Given)
        fits = got.complete and (got.status, bytes(got.payload), tuple(got.interims)) == (
            expected.status,
            expected.body,
            expected.interims,
        )
    if not fits:
        problems.append(f"the client got {words}: {shown(got.head + bytes(got.payload), 300)}; expected: {expected}")
    return words


def _same_answer(
    case: Case, got: Message, direct: Message, end: Exchange | None, wire: Wire, problems: list[str]
) -> None:
    if not direct.complete:
        problems.append(f"the direct exchange went wrong: {_in_words(direct, None)}")
        return
    first, *lines = case.head_lines
    options = [line.lower() for line in lines if line.lower().startswith(b"connection:")]
    version = first[-3:]
    closes = b"connection: close" in options or (version == b"1.0" and b"connection: keep-alive" not in options)
    head = wire.masked(got.head)
    wanted = answer_head(direct, version, closes=closes, asked=case.method())
    if not got.complete:
        problems.append(f"the client got an answer that is not complete: {_in_words(got, end)}")
    if head != wanted:
        problems.append(f"the client got the head {shown(head, 400)} instead of {shown(wanted, 400)}")
    if got.payload != direct.payload:
        problems.append(f"the body has {len(got.payload)} bytes of {len(direct.payload)}, or others")
    if version == b"1.1" and got.trailers != direct.trailers:
        problems.append(f"the trailers are {shown(got.trailers)} instead of {shown(direct.trailers)}")
    interims = [interim_head(each) for each in direct.interims] if version == b"1.1" else []
    if got.interims != interims:
        problems.append(f"the interim answers are {got.interims} instead of {interims}")
    if end is not None and b"Connection: close" in wanted and end.end is not End.CLOSED:
        problems.append(f"the connection was not closed in an orderly way: {end.end}")


def _code(payload: bytes | bytearray) -> str:
    try:
        code = json.loads(payload)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return ""
    return code if isinstance(code, str) else ""


def _is_refusal(expected: Refused, got: Message, end: Exchange | None) -> bool:
    if not got.complete or (got.status, _code(got.payload)) != (expected.status, expected.code):
        return False
    if len(got.values(b"x-relay-request-id")) != 1 or len(got.interims) != expected.interims:
        return False
    closed = b"close" in got.values(b"connection")
    if closed and end is not None and end.end is not End.CLOSED:
        return False
    return expected.closes is None or expected.closes == closed


def _is_cut(expected: Cut, got: Message, end: Exchange | None) -> bool:
    body = bytes(got.payload)
    event = _ERROR_EVENT.search(body)
    code = _code(event[1]) if event is not None else None
    if event is not None:
        body = body[: event.start()]
    ended = end is not None and end.end in (End.CUT, End.RESET)
    return (
        ended
        and not got.complete
        and (got.status, body, code) == (expected.status, expected.body, expected.code)
        and b"[DONE]" not in body
    )


def _in_words(got: Message, end: Exchange | None) -> str:
    words = [f"{len(got.interims)} interim"] if got.interims else []
    words.append(str(got.status) if got.head else "no answer")
    code = _code(got.payload)
    event = _ERROR_EVENT.search(got.payload)
    if code:
        words.append(code)
    if not got.complete and got.head:
        words.append(f"{len(got.payload) - (len(event[0]) if event else 0)} bytes of the body")
        if event:
            words.append(f"an error event ({_code(event[1])})")
    if end is not None and end.end is not None:
        words.append(_ENDS[end.end])
    return ", ".join(words)
