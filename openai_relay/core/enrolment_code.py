"""
The code that a device is invited with: one word, typed or pasted once.

It holds a secret of 128 bits and, unless the server's certificate is one that
everybody trusts, the SHA-256 of the server's public key (SPKI, as in RFC 7469),
so that the device knows whom it gives the secret to.  Two bytes more notice
what was mistyped.  Written in base32 (RFC 4648) in small letters, in which no
two digits look alike.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from typing import Final

SECRET_BYTES: Final = 16
PIN_BYTES: Final = 32
_CHECK_BYTES: Final = 2
_LENGTHS: Final = (SECRET_BYTES, SECRET_BYTES + PIN_BYTES)


class BadCode(ValueError):
    """This is no code; the text says what may be wrong with it."""


@dataclass(frozen=True, slots=True)
class Code:
    """What a code holds."""

    secret: bytes = field(repr=False)
    pin: bytes | None  #: ``None``: the server is verified as any other in the web

    def __str__(self) -> str:
        content = self.secret + (self.pin or b"")
        return base64.b32encode(content + _check(content)).decode("ascii").rstrip("=").lower()


def read_code(text: str) -> Code:
    """
    The code that somebody has typed; blanks, dashes and capitals do not matter.

    :raises BadCode: it is none, or has been damaged.
    """
    word = "".join(text.split()).replace("-", "").upper()
    try:
        content = base64.b32decode(word + "=" * (-len(word) % 8))
    except (binascii.Error, ValueError):
        raise BadCode("holds characters that no code has; copy it again") from None
    content, check = content[:-_CHECK_BYTES], content[-_CHECK_BYTES:]
    code = Code(content[:SECRET_BYTES], content[SECRET_BYTES:] or None)
    # Written again, since the last digit of a word has bits that stand for nothing.
    if len(content) not in _LENGTHS or check != _check(content) or str(code).upper() != word:
        raise BadCode("is not whole, or was mistyped; copy it again")
    return code


def digest_of(secret: bytes) -> str:
    """What an invitation is filed under: nobody who reads that can make the code of it."""
    return hashlib.sha256(b"openai-relay invitation\0" + secret).hexdigest()


def _check(content: bytes) -> bytes:
    return hashlib.sha256(b"openai-relay code\0" + content).digest()[:_CHECK_BYTES]
