"""The table of endpoints: which function answers a method and a path, and how it wants the request's body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from openai_relay.core.settings import Secret
from openai_relay.standin import audio, images
from openai_relay.standin.answer import JSON, Answer, Call, Calls, json_answer
from openai_relay.standin.chat import chat
from openai_relay.standin.completions import completions
from openai_relay.standin.counters import Counters
from openai_relay.standin.echo import Echo
from openai_relay.standin.embeddings import embeddings
from openai_relay.standin.files import Files
from openai_relay.standin.generated import generated
from openai_relay.standin.handshake import upgrade_required
from openai_relay.standin.models import model, models
from openai_relay.standin.moderations import moderations
from openai_relay.standin.problems import Problem
from openai_relay.standin.realtime import PROTOCOL, Realtime
from openai_relay.standin.responses import responses
from openai_relay.standin.responses_websocket import ResponsesConversation
from openai_relay.standin.websocket import Endpoint
from openai_relay.standin.websocket_echo import Repeats

#: Bytes of ``/v1/standin/bytes`` when nobody asks for a number.
USUAL_BYTES: Final = 1 << 20
STATS: Final = "/standin/stats"


class Takes(Enum):
    """What becomes of a request's body."""

    WHOLE = "kept whole: JSON"
    FORM = "taken apart as multipart/form-data"
    DIGEST = "counted and hashed"


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint."""

    name: str  #: the path, with its variable part in braces
    answer: Callable[[Call], Answer]
    takes: Takes = Takes.WHOLE
    converse: Callable[[Calls], Endpoint] | None = None  #: instead, as a WebSocket
    protocol: bytes | None = None  #: the subprotocol that is selected when it is offered


class Routes:
    """Finds the endpoint of a request; holds what the endpoints remember."""

    def __init__(self, counters: Counters, expected_key: Secret | None) -> None:
        files = Files()
        self.echo = Route("/v1/standin/echo", Echo(expected_key).answer, Takes.DIGEST)
        self._stats = Route(STATS, lambda _: Answer(JSON, counters.to_json()))
        table = {
            ("POST", "/v1/chat/completions"): (chat, Takes.WHOLE),
            ("POST", "/v1/completions"): (completions, Takes.WHOLE),
            ("POST", "/v1/responses"): (responses, Takes.WHOLE),
            ("POST", "/v1/embeddings"): (embeddings, Takes.WHOLE),
            ("POST", "/v1/moderations"): (moderations, Takes.WHOLE),
            ("GET", "/v1/models"): (models, Takes.DIGEST),
            ("GET", "/v1/models/{model}"): (model, Takes.DIGEST),
            ("POST", "/v1/files"): (files.upload, Takes.FORM),
            ("GET", "/v1/files"): (files.list, Takes.DIGEST),
            ("GET", "/v1/files/{id}"): (files.retrieve, Takes.DIGEST),
            ("DELETE", "/v1/files/{id}"): (files.delete, Takes.DIGEST),
            ("GET", "/v1/files/{id}/content"): (files.content, Takes.DIGEST),
            ("POST", "/v1/audio/speech"): (audio.speech, Takes.WHOLE),
            ("POST", "/v1/audio/transcriptions"): (audio.transcriptions, Takes.FORM),
            ("POST", "/v1/audio/translations"): (audio.translations, Takes.FORM),
            ("POST", "/v1/images/generations"): (images.generations, Takes.WHOLE),
            ("POST", "/v1/images/edits"): (images.edits, Takes.FORM),
            ("POST", "/v1/images/variations"): (images.variations, Takes.FORM),
            ("GET", "/v1/standin/bytes"): (_bytes, Takes.DIGEST),
            ("POST", "/v1/standin/digest"): (_digest, Takes.DIGEST),
            ("PUT", "/v1/standin/digest"): (_digest, Takes.DIGEST),
            ("GET", "/v1/realtime"): (_upgrade_required, Takes.DIGEST),
            ("GET", "/v1/standin/websocket"): (_upgrade_required, Takes.DIGEST),
        }
        self._websockets = {
            route.name: route
            for route in (
                Route("/v1/realtime", _not_upgraded, converse=Realtime, protocol=PROTOCOL),
                Route("/v1/responses", _not_upgraded, converse=ResponsesConversation),
                Route("/v1/standin/websocket", _not_upgraded, converse=lambda _: Repeats()),
            )
        }
        self._exact: dict[tuple[str, str], Route] = {}
        self._variable: list[tuple[str, str, str, Route]] = []
        for (method, path), (answer, takes) in table.items():
            route = Route(path, answer, takes)
            before, brace, rest = path.partition("{")
            if brace:
                self._variable.append((method, before, rest.partition("}")[2], route))
            else:
                self._exact[method, path] = route
        self._exact["GET", STATS] = self._stats

    def find_websocket(self, path: str) -> Route | None:
        """The endpoint that a request for a WebSocket finds; at any other path it is an ordinary request."""
        return self._websockets.get(path)

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """
        The endpoint and the variable part of its path; HEAD is answered as GET.

        :raises Problem: 404, or 405 when the path is one for another method.
        """
        method = "GET" if method == "HEAD" else method
        route = self._exact.get((method, path))
        if route is not None:
            return route, ""
        if path == self.echo.name:
            return self.echo, ""
        others = [other for other, known in self._exact if known == path]
        for other, before, after, route in self._variable:
            if path.startswith(before) and path.endswith(after) and len(path) > len(before) + len(after):
                parameter = path[len(before) : len(path) - len(after)]
                if "/" in parameter:
                    continue
                if other == method:
                    return route, parameter
                others.append(other)
        raise _not_allowed(method, path, others) if others else _unknown(method, path)


def _bytes(call: Call) -> Answer:
    return generated(b"application/octet-stream", call.controls, USUAL_BYTES)


def _digest(call: Call) -> Answer:
    assert call.content is not None
    told = {"object": "standin.digest", "bytes": call.content.length, "sha256": call.content.sha256}
    return json_answer(told)


def _upgrade_required(call: Call) -> Answer:
    raise upgrade_required("This endpoint is a WebSocket: ask for it with Connection: Upgrade.")


def _not_upgraded(call: Call) -> Answer:
    """For a client that wants to see its WebSocket answered with a status such as 200."""
    return json_answer({"object": "standin.websocket", "upgraded": False})


def _unknown(method: str, path: str) -> Problem:
    return Problem(404, f"Invalid URL ({method} {path[:256]})", code="unknown_url")


def _not_allowed(method: str, path: str, others: list[str]) -> Problem:
    allowed = ", ".join(sorted(set(others)))
    problem = Problem(405, f"{method} is not allowed on {path[:256]}, only {allowed}.", code="method_not_supported")
    problem.fields.append((b"Allow", allowed.encode("ascii")))
    return problem
