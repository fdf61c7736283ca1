"""Clients that ask for models, and what is asked of them and answered."""

from __future__ import annotations

import json
from datetime import date
from typing import Any, Final

from openai_relay.core.globs import GlobTable
from openai_relay.core.prices import Price, PriceTable
from tests.doubles import Wire
from tests.relay_case import ALICE, RelayCase, answer, request

JSON: Final = "Content-Type: application/json"
CHAT: Final = "/v1/chat/completions"
USED: Final = b'{"usage":{"prompt_tokens":30,"completion_tokens":20,"total_tokens":50}}'
#: A dollar for a million tokens, in and out.
PLAIN: Final = PriceTable(date(2026, 11, 1), Price(), GlobTable([("gpt-*", Price(1_000_000, output=1_000_000))]))


def chat(model: str | None = "gpt-5", **more: Any) -> bytes:
    return json.dumps({**({} if model is None else {"model": model}), "messages": [], **more}).encode()


def post(body: bytes, *fields: str, target: str = CHAT) -> bytes:
    return request("POST", target, *(fields or (JSON,)), body=body)


class AdmissionCase(RelayCase):
    def ask(self, data: bytes, client: object = ALICE) -> Wire:
        return self.asked(data, client)

    def serve(self, wire: Wire, body: bytes = USED) -> int:
        """Let the upstream answer, and the client have it."""
        self.upstream_wire().taken()
        self.upstream_wire().receive(answer(body))
        return self.answered(wire, "POST").status

    def refused(self, data: bytes, client: object = ALICE) -> tuple[int, str]:
        """With what status and code it is refused; nothing reached the upstream."""
        before = [len(each.value()) for each in self.far_end.connections]
        answered = self.answered(self.asked(data, client), "POST")
        self.assertEqual([len(each.value()) for each in self.far_end.connections], before)
        return answered.status, str(answered.error["code"])
