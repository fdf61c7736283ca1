"""What the admin listener says."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from openai_relay.admin import answers
from openai_relay.core.readiness import Check
from openai_relay.metrics import Exposition

STARTED = Check("started", True)
STALE = Check("crl", False, "its next update was due 2026-11-22T00:00:00Z; publish a new one")


def said(answer: answers.Answer) -> dict[str, Any]:
    assert answer.content_type == "application/json"
    found: dict[str, Any] = json.loads(answer.body)
    return found


class ReadinessTests(SynchronousTestCase):
    def test_ready(self) -> None:
        """All checks hold: 200, in one word."""
        answer = answers.readiness([STARTED], verbose=False)
        self.assertEqual((answer.code, said(answer)), (200, {"status": "ready"}))

    def test_not_ready(self) -> None:
        """A check fails: 503, and why."""
        answer = answers.readiness([STARTED, STALE], verbose=False)
        self.assertEqual(answer.code, 503)
        self.assertEqual(said(answer), {"status": "not ready", "reasons": [{"name": "crl", "detail": STALE.detail}]})

    def test_verbose(self) -> None:
        """Asked for more, each check is told, whether it holds or not."""
        answer = answers.readiness([STARTED, STALE], verbose=True)
        self.assertEqual(
            said(answer)["checks"],
            [
                {"name": "started", "ok": True, "detail": ""},
                {"name": "crl", "ok": False, "detail": STALE.detail},
            ],
        )

    @given(st.lists(st.builds(Check, name=st.text(), ok=st.booleans(), detail=st.text()), max_size=4), st.booleans())
    def test_ready_means_all(self, checks: list[Check], verbose: bool) -> None:
        """200 is said when every check holds, and only then."""
        answer = answers.readiness(checks, verbose=verbose)
        self.assertEqual(answer.code == 200, all(check.ok for check in checks))
        self.assertEqual(said(answer)["status"] == "ready", answer.code == 200)
        self.assertEqual(answer.body.count(b"\n"), 1)


class OtherAnswersTests(SynchronousTestCase):
    def test_alive(self) -> None:
        """Being alive is said in one word."""
        self.assertEqual((answers.alive().code, said(answers.alive())), (200, {"status": "alive"}))

    def test_not_found(self) -> None:
        """Who asks for nothing we have is told what we have."""
        answer = answers.not_found(["/livez", "/metrics"])
        self.assertEqual(answer.code, 404)
        self.assertEqual(said(answer)["error"], "There is nothing here. Try one of: /livez, /metrics.")

    def test_method_not_allowed(self) -> None:
        """Who wants to change something is told the methods there are."""
        for allowed, told in (
            ("GET, HEAD", "Only GET and HEAD are allowed here."),
            ("POST", "Only POST is allowed here."),
        ):
            answer = answers.method_not_allowed(allowed)
            self.assertEqual((answer.code, answer.allow), (405, allowed.encode()))
            self.assertEqual(said(answer)["error"], told)

    def test_reloads(self) -> None:
        """A reload is told to have happened; one that did not comes with its reasons; strangers get neither."""
        self.assertEqual((answers.reloaded().code, said(answers.reloaded())), (200, {"status": "reloaded"}))
        refused = answers.not_reloaded(["listen.crl: is broken", "log.format: is odd"])
        self.assertEqual(refused.code, 409)
        reasons = ["listen.crl: is broken", "log.format: is odd"]
        self.assertEqual(said(refused), {"status": "not reloaded", "reasons": reasons})
        self.assertEqual(answers.not_from_there().code, 403)

    def test_scraped(self) -> None:
        """Metrics are passed on as they were worded."""
        answer = answers.scraped(Exposition("text/plain", b"up 1\n"))
        self.assertEqual(answer, answers.Answer(200, "text/plain", b"up 1\n"))
