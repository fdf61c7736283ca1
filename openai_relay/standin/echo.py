"""Tells a client what was received from it: head in order and case, and the body's length and hash."""

from __future__ import annotations

import base64
from typing import Final

from openai_relay.core.settings import Secret
from openai_relay.standin.answer import Answer, Call, Opaque, json_answer
from openai_relay.standin.credentials import KEY_PROTOCOL, matches
from openai_relay.standin.forms import Content

#: A body up to this is told as it is.
KEPT: Final = 65_536


class Echo:
    """Answers with what it was asked; credentials are masked, but compared."""

    def __init__(self, expected_key: Secret | None) -> None:
        self._expected_key = expected_key

    def answer(self, call: Call) -> Answer:
        """``/v1/standin/echo``, or any path with ``standin.echo``."""
        head, content = call.head, call.content
        assert head is not None and content is not None
        shown: list[tuple[str, str]] = []
        expected: bool | None = None
        for name, value in head.fields:
            if name.lower() == b"authorization":
                scheme, _, key = value.partition(b" ")
                expected = matches(key, self._expected_key)
                value = scheme + b" ***"
            elif KEY_PROTOCOL in value:
                value = value.partition(KEY_PROTOCOL)[0] + KEY_PROTOCOL + b"***"
            shown.append((name.decode("latin-1"), value.decode("latin-1")))
        return json_answer(
            {
                "object": "standin.echo",
                "method": head.method.decode("latin-1"),
                "target": head.target.decode("latin-1"),
                "version": head.version.decode("latin-1"),
                "fields": shown,
                "expected_key": expected,
                "content_length": head.length,
                "chunked": head.length is None,
                "trailers": [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.trailers],
                "body": _body(content),
            }
        )


def _body(content: Content) -> Opaque:
    told: Opaque = {"bytes": content.length, "sha256": content.sha256, "text": None, "base64": None}
    if content.kept is not None:
        try:
            told["text"] = content.kept.decode("utf-8")
        except UnicodeDecodeError:
            told["base64"] = base64.b64encode(content.kept).decode("ascii")
    return told
