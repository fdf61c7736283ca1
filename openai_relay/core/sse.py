"""
Read server-sent events out of blocks cut anywhere, and take the one out of a stream that nobody asked for.

`EventReader` only looks: it follows the WHATWG event stream (every kind of line
end, comments, several data lines, a byte order mark), counts, and gives
the data of the few events that can say what an answer cost or how it ended.
`UsageFilter` is the one place where a stream is changed.  Both come to the same
result however the stream is cut, and both keep a bounded number of bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec

#: Bytes of one event that are looked at; of a longer one only as many, the last.
LONGEST_EVENT: Final = 1 << 16
#: The event that tells a chat stream's usage is never longer; what is, is passed on.
LONGEST_EXTRA: Final = 1 << 13

_BOM: Final = b"\xef\xbb\xbf"
_DATA_LINE: Final = re.compile(rb"^data(?=[:\n]|\Z)", re.MULTILINE)
_DATA: Final = re.compile(rb"^data(?:: ?([^\n]*))?$", re.MULTILINE)
#: An event that can say what the answer cost, that it is over, or that it failed.
_TELLS: Final = re.compile(
    rb'"usage"\s*:\s*[^\sn]|"error"|^data: ?\[DONE\]'
    rb'|"response\.(?:completed|incomplete|failed|cancelled)"'
    rb'|"(?:transcript\.text|speech\.audio)\.done"|"image_(?:generation|edit)\.completed"',
    re.MULTILINE,
)
#: A piece of the answer: in an event with choices, and in one whose type ends with ``.delta``.
_STRING: Final = rb'": ?"([^"\\\n]+(?:\\.[^"\\\n]*)*|(?:\\.[^"\\\n]*)+)'
_IN_CHOICES: Final = re.compile(rb'"(?:content|text|arguments|refusal|reasoning(?:_content)?)' + _STRING)
_IN_DELTA: Final = re.compile(rb'"delta' + _STRING)


@dataclass(frozen=True, slots=True)
class Event:
    """One that may matter: its data, or, when it is not ``whole``, the last bytes of it as they came."""

    data: bytes
    whole: bool


def pieces_of(message: bytes) -> list[bytes]:
    """The pieces of an answer's text in a message whose type ends with ``.delta``, as JSON writes them."""
    start = message.find(b'.delta"')
    return _IN_DELTA.findall(message) if start >= 0 else []


class EventReader:
    """
    Follows one stream of events.

    :ivar told: events that may matter, until whoever reads them takes them out.
    :ivar events: complete ones that had data.
    :ivar pieces: pieces of the answer's text in them: for one choice, about a token each.
    :ivar text_bytes: their length, as JSON writes it.
    """

    __slots__ = (
        "_after_cr",
        "_begun",
        "_dropped",
        "_longest",
        "_parts",
        "_stored",
        "events",
        "pieces",
        "text_bytes",
        "told",
    )

    def __init__(self, longest: int = LONGEST_EVENT) -> None:
        self._longest = longest
        self._parts: list[bytes] = []  # of the event that has not ended
        self._stored = 0  # bytes of it in the parts
        self._dropped = 0  # bytes of it that were given up before those
        self._after_cr = False
        self._begun = False
        self.events = 0
        self.pieces = 0
        self.text_bytes = 0
        self.told: list[Event] = []

    def feed(self, block: bytes) -> int:
        """Read the next block, and return how many events it completed."""
        if self._after_cr or b"\r" in block:
            block = self._with_lf(block)
        if self._parts:
            if b"\n\n" not in block and not (block[:1] == b"\n" and self._parts[-1].endswith(b"\n")):
                self._keep(block)
                return 0
            block = b"".join((*self._parts, block))
            self._parts.clear()
        if not self._begun and not self._dropped:
            block = self._without_bom(block)
        end = block.rfind(b"\n\n")
        dropped = self._dropped
        if end < 0:
            self._stored = 0
            self._keep(block if dropped else block.lstrip(b"\n"))
            return 0
        self._stored = self._dropped = 0
        if end + 2 < len(block):
            self._keep(block[end + 2 :])
        return self._completed(block[:end].rstrip(b"\n"), dropped)

    def _with_lf(self, block: bytes) -> bytes:
        """The same with every line end a LF; a LF that follows a CR of the last block is part of that one."""
        if self._after_cr and block:
            block = block.removeprefix(b"\n")
            self._after_cr = False
        if block:
            self._after_cr = block.endswith(b"\r")
        return block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _without_bom(self, block: bytes) -> bytes:
        """A first block without the mark that may stand before all; until it is known, it is not taken off."""
        if len(block) >= len(_BOM) or not _BOM.startswith(block):
            self._begun = True
            return block.removeprefix(_BOM)
        return block

    def _keep(self, block: bytes) -> None:
        if not block:
            return
        self._parts.append(block)
        self._stored += len(block)
        if self._stored > 2 * self._longest + 2:
            # Two more than the longest: a line end may follow that is no part of the event.
            rest = b"".join(self._parts)[-self._longest - 2 :]
            self._dropped += self._stored - len(rest)
            self._stored = len(rest)
            self._parts = [rest]

    def _completed(self, body: bytes, dropped: int) -> int:
        """Look at the events of ``body``, between which blank lines stand."""
        before = self.events
        for event in body.split(b"\n\n") if b"\n" in body else (body,):
            if event[:5] != b"data:" and not dropped:
                event = event.lstrip(b"\n")
                if len(event) <= self._longest and b"\ndata:" not in event and _DATA_LINE.search(event) is None:
                    continue
            self.events += 1
            if dropped or len(event) > self._longest:
                dropped = 0
                self.told.append(Event(event[-self._longest :], False))
            elif self._tells(event):
                self.told.append(Event(b"\n".join(_DATA.findall(event)), True))
        return self.events - before

    def _tells(self, event: bytes) -> bool:
        """Count the pieces of the answer in an event, and say whether it may matter beside."""
        # Each event for itself: what comes first may repeat what the client has sent, and settles nothing.
        start = event.find(b'.delta"')
        pieces = _IN_DELTA.findall(event, start) if start >= 0 else None
        if not pieces:
            start = event.find(b'"choices"')
            pieces = _IN_CHOICES.findall(event, start) if start >= 0 else None
        if pieces:
            self.pieces += len(pieces)
            self.text_bytes += len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
            # It neither ends nor fails, and quick looks are enough: nearly every event is of this kind.
            usage = event.find(b'"usage"')
            if usage < 0 or (event.startswith(b":null", usage + 7) and event.find(b'"usage"', usage + 12) < 0):
                return False
        return _TELLS.search(event) is not None


_BLANK: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r(?!\Z))")
_BLANK_AT_END: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_ENDS: Final = re.compile(rb"[\r\n]*")
_EMPTY_CHOICES: Final = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_FIRST_LINE: Final = re.compile(rb"data:[ \t]*\{")
#: What the event cannot have: a choice, a usage that is no object, a second line.
_OTHER: Final = re.compile(rb'"choices"\s*:\s*(?:[^\s\[]|\[\s*[^\s\]])|"usage"\s*:\s*[^\s{]|[\r\n]++[^\r\n]')


class _Chunk(msgspec.Struct, gc=False):
    choices: list[msgspec.Raw]
    usage: dict[str, msgspec.Raw]


_decode_chunk: Final = msgspec.json.Decoder(_Chunk).decode


class UsageFilter:
    """
    Takes the event out of a chat stream that ``stream_options.include_usage`` adds: no choices, and the usage.

    For a client that did not ask.  An event is that one when it is a single line ``data: {...}`` whose JSON has
    ``choices`` empty and ``usage`` an object.  All else passes byte for byte, and at once: held back is only an
    event that has begun, in a block that ends within it, while it reads as that one could; a choice in it, or
    ``"usage":null``, lets it go.  As half an event is of no use to who reads it, no event comes later than it would.

    The ``"usage":null`` which the same option puts into every other chunk stays: the field is declared as nullable,
    SDKs read it as absent, and to remove it would mean to rewrite each event instead of passing it on.
    """

    __slots__ = ("_held", "_passed", "removed")

    def __init__(self) -> None:
        self._held = b""  # of the event that has not ended; when it is passed already: its last line end
        self._passed = False
        self.removed = 0

    def feed(self, block: bytes) -> bytes:
        """Return what is to be sent of all that has come."""
        whole = not self._held and not self._passed and block.endswith((b"\n\n", b"\r\n\r\n"))
        if whole and _EMPTY_CHOICES.search(block) is None:
            return block
        text = self._held + block
        sent = len(self._held) if self._passed else 0  # up to where it is out already
        if b"\r" in text or _EMPTY_CHOICES.search(text) is not None:
            return self._sift(text, sent)
        blank = text.rfind(b"\n\n")
        if blank >= 0:
            self._passed = False
            return self._rest(text, sent, blank + 2)
        return self._rest(text, sent, 0 if self._passed else _line_ends(text, 0))

    def end(self) -> bytes:
        """Return what was held when the stream ended: an event that broke off, or nothing."""
        rest = b"" if self._passed else self._held
        self._held, self._passed = b"", False
        whole = _BLANK_AT_END.search(rest)
        if whole is not None and _is_extra(rest[: whole.end()]):
            self.removed += 1
            return rest[whole.end() :]
        return rest

    def _sift(self, text: bytes, sent: int) -> bytes:
        """Take it out of the events that are whole."""
        out = []
        begun = 0 if self._passed else _line_ends(text, 0)
        while (found := _BLANK.search(text, begun)) is not None:
            end = found.end()
            if not self._passed and _is_extra(text[begun:end]):
                self.removed += 1
                out.append(text[sent:begun])
                sent = end
            self._passed = False
            begun = _line_ends(text, end)
        out.append(self._rest(text, sent, begun))
        return b"".join(out)

    def _rest(self, text: bytes, sent: int, begun: int) -> bytes:
        """Pass all from ``sent`` on, but hold the event that begins at ``begun`` while it may be the extra one."""
        if not self._passed and _may_be_extra(text[begun:]):
            self._held = text[begun:]
            return text[sent:begun]
        self._passed = self._passed or begun < len(text)
        last = text[max(begun, len(text) - 3) :]
        self._held = last[len(last.rstrip(b"\r\n")) :]
        return text[sent:]


def _line_ends(text: bytes, start: int) -> int:
    """Where the line ends are over that stand at ``start``."""
    found = _LINE_ENDS.match(text, start)
    return found.end() if found else start


def _may_be_extra(begun: bytes) -> bool:
    """Whether an event that begins so can become the extra one."""
    if len(begun) > LONGEST_EXTRA:
        return False
    if not begun.startswith(b"data:"):
        return begun != b"" and b"data:".startswith(begun)
    head = begun[5:].lstrip(b" \t")
    return (head == b"" or head.startswith(b"{")) and _OTHER.search(begun) is None


def _is_extra(event: bytes) -> bool:
    """Whether this whole event, with the blank line after it, is the extra one."""
    if _EMPTY_CHOICES.search(event) is None or _FIRST_LINE.match(event) is None or not _may_be_extra(event):
        return False
    try:
        chunk = _decode_chunk(event[5:])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False
    return not chunk.choices and bool(chunk.usage)
