"""
Read along in one direction of a WebSocket: count its messages, see its close, look at its texts.

The reader is passive: it gets copies of what has been passed on already, and
when it does not understand them it says so and is still, the tunnel goes on.
Frames are `wsproto`'s (RFC 6455); inflating (RFC 7692) is bounded here, because
a few bytes may stand for gigabytes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Final

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Frame, FrameDecoder, FrameProtocol, Opcode, RsvBits

#: Bytes of one text message that are kept to be looked at; of a longer one only the end is noticed.
LONGEST_TEXT: Final = 1 << 20
#: Bytes that one message may inflate to; beyond it reading along would cost too much time.
MOST_INFLATED: Final = 1 << 24
#: What a close frame without a code is said to have (RFC 6455 §7.1.5).
NO_CODE: Final = 1005

_PIECE: Final = 1 << 16
_DEFLATE: Final = re.compile(rb"(?:^|,)[ \t]*permessage-deflate([^,]*)", re.IGNORECASE)
_SERVER_RESETS: Final = re.compile(rb";[ \t]*server_no_context_takeover", re.IGNORECASE)


class MessageReader:
    """
    Follows the bytes behind a 101 in one direction, cut into blocks anywhere.

    :param from_client: whose bytes they are; a client's are masked.
    :param extensions: the value of Sec-WebSocket-Extensions in the 101.
    :param on_text: gets each text message up to `LONGEST_TEXT` bytes; ``None``: they are only counted.
    :ivar messages: complete text and binary messages.
    :ivar close_code: of the close frame, once there was one.
    :ivar missed: texts were too long to be looked at.
    :ivar lost: what came is no WebSocket, or inflates without measure; nothing is read any more.
    """

    __slots__ = ("_frames", "_is_text", "_on_text", "_size", "_text", "close_code", "lost", "messages", "missed")

    def __init__(
        self, *, from_client: bool, extensions: bytes = b"", on_text: Callable[[bytes], None] | None = None
    ) -> None:
        deflate = _DEFLATE.search(extensions)
        extension: list[Extension] = []
        if deflate is not None:
            extension.append(_Deflate(on_text is not None, _SERVER_RESETS.search(deflate[1])))
        self._frames = FrameDecoder(client=not from_client, extensions=extension)  # `client`: who reads
        self._on_text = on_text
        self._is_text = False
        self._text: list[bytes] = []
        self._size = 0
        self.messages = 0
        self.close_code: int | None = None
        self.missed = False
        self.lost = False

    def feed(self, block: bytes) -> None:
        """Take a copy of what was passed on; never raises."""
        if self.lost or self.close_code is not None:
            return
        frames = self._frames
        try:
            frames.receive_bytes(block)
            for frame in iter(frames.process_buffer, None):
                if self._is_close(frame):
                    return
        except Exception:  # noqa: BLE001 - whatever stands in these bytes, it is the tunnel that counts
            self.lost = True
            self._text = []

    @property
    def between_frames(self) -> bool:
        """Whether a frame of one's own could stand here: what was read ends with the end of a frame."""
        frames = self._frames
        return not self.lost and self.close_code is None and frames.header is None and not len(frames.buffer)

    def _is_close(self, frame: Frame) -> bool:
        opcode, payload = frame.opcode, frame.payload
        assert isinstance(payload, bytes)
        if opcode is Opcode.CLOSE:
            self.close_code = int.from_bytes(payload[:2]) if len(payload) >= 2 else NO_CODE
            return True
        if opcode.iscontrol():
            return False
        if opcode is not Opcode.CONTINUATION:
            self._is_text = opcode is Opcode.TEXT and self._on_text is not None
            self._size = 0
        if self._is_text:
            self._size += len(payload)
            if self._size <= LONGEST_TEXT:
                if payload:
                    self._text.append(payload)
            else:
                self._text = []
                self.missed = True
        if frame.frame_finished and frame.message_finished:
            self.messages += 1
            if self._is_text and self._size <= LONGEST_TEXT and self._on_text is not None:
                text, self._text = b"".join(self._text), []
                self._on_text(text)
        return False


class _Deflate(Extension):
    """Lets compressed messages pass, and inflates those that are to be looked at, within bounds."""

    name = "permessage-deflate"

    def __init__(self, inflates: bool, resets: object) -> None:
        self._inflates = inflates
        self._resets = resets is not None
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._compressed = False
        self._control = False
        self._produced = 0

    def offer(self) -> bool:
        """For `Extension`; nothing is negotiated here."""
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """The first reserved bit of a message's first frame says that it is compressed (RFC 7692 §6)."""
        self._control = opcode.iscontrol()
        if self._control or opcode is Opcode.CONTINUATION:
            return RsvBits(False, False, False)
        self._compressed = rsv.rsv1
        self._produced = 0
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """A piece of a frame's payload."""
        return self._inflate(data) if self._compressed and self._inflates and not self._control else data

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """The frame is complete: a message ends with what its sender has cut off (RFC 7692 §7.2.2)."""
        if self._control or not (fin and self._compressed and self._inflates):
            return None
        rest = self._inflate(b"\0\0\xff\xff")
        if self._resets:
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        return rest

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        """What is beyond the longest text is inflated too, for what follows may refer to it, but not kept."""
        kept = []
        while data:
            piece = self._inflater.decompress(data, _PIECE)
            if self._produced <= LONGEST_TEXT:
                kept.append(piece)
            self._produced += len(piece)
            if self._produced > MOST_INFLATED:
                return CloseReason.MESSAGE_TOO_BIG
            data = self._inflater.unconsumed_tail
            if self._inflater.eof:  # a final block, after which its sender began anew (RFC 7692 §7.2.3.4)
                data = self._inflater.unused_data
                self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        return b"".join(kept)


def close_frame(code: int, reason: str) -> bytes:
    """A server's close frame (RFC 6455 §5.5.1); the reason is cut to the 123 bytes that fit."""
    return bytes(FrameProtocol(client=False, extensions=[]).close(code, reason))
