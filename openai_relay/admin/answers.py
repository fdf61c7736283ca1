"""What the admin listener says: health, readiness and refusals, as JSON; all of it computed, nothing sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from openai_relay.core.readiness import Check, unmet
from openai_relay.metrics import Exposition

_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, ready to be sent."""

    code: int
    content_type: str
    body: bytes
    allow: bytes | None = None  #: the ``Allow`` field of a 405


def alive() -> Answer:
    """The event loop turns: that this is answered at all is the news."""
    return _json(200, {"status": "alive"})


def readiness(checks: Sequence[Check], *, verbose: bool) -> Answer:
    """200 when every check holds, else 503 with those that do not; each and every one when ``verbose``."""
    reasons = unmet(checks)
    said: dict[str, object] = {"status": "not ready" if reasons else "ready"}
    if reasons:
        said["reasons"] = [{"name": check.name, "detail": check.detail} for check in reasons]
    if verbose:
        said["checks"] = [asdict(check) for check in checks]
    return _json(503 if reasons else 200, said)


def scraped(exposition: Exposition) -> Answer:
    """The metrics, as the library worded them."""
    return Answer(200, exposition.content_type, exposition.body)


def reloaded() -> Answer:
    """Everything was read again, and is in force."""
    return _json(200, {"status": "reloaded"})


def not_reloaded(reasons: Sequence[str]) -> Answer:
    """409: nothing has changed, and why."""
    return _json(409, {"status": "not reloaded", "reasons": list(reasons)})


def not_from_there() -> Answer:
    """403: whoever asks for a change is on this machine, and no page in a browser."""
    return _json(403, {"error": "A reload is asked for on the relay's own machine: `openai-relay reload`."})


def not_found(paths: Sequence[str]) -> Answer:
    """404, and what there is instead."""
    return _json(404, {"error": f"There is nothing here. Try one of: {', '.join(paths)}."})


def method_not_allowed(allowed: str) -> Answer:
    """405, and which methods there are."""
    methods, verb = allowed.replace(", ", " and "), "are" if "," in allowed else "is"
    return _json(405, {"error": f"Only {methods} {verb} allowed here."}, allowed.encode())


def _json(code: int, said: dict[str, object], allow: bytes | None = None) -> Answer:
    return Answer(code, _JSON, json.dumps(said).encode() + b"\n", allow)
