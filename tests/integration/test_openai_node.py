"""The official ``openai`` package for Node as a client that holds nothing but a certificate."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any
from unittest import skipUnless

from openai_relay.standin.prose import INTRODUCTION
from tests.integration.running import END_WITHIN, RelayTestCase, wait_for

SCRIPTS = Path(__file__).parent / "node"
NODE = shutil.which("node")
MISSING = (
    "node is not installed"
    if NODE is None
    else "the SDK for Node is not installed: `make test` does it, or `npm ci` in tests/integration/node"
)
PRESENT = NODE is not None and (SCRIPTS / "node_modules" / "openai").is_dir()


class NodeTestCase(RelayTestCase):
    def run_script(self, name: str, *arguments: str) -> dict[str, Any]:
        """Run one of the scripts; returns what it tells."""
        assert NODE is not None
        done = subprocess.run(
            [NODE, SCRIPTS / name, *arguments],
            env={
                "RELAY_URL": self.relay.url,
                "RELAY_CA": str(self.site.ca),
                "RELAY_CERTIFICATE": str(self.site.file("client.pem")),
                "RELAY_KEY": str(self.site.file("client.key")),
            },
            capture_output=True,
            text=True,
            timeout=END_WITHIN,
            check=False,
        )
        self.assertEqual((done.stderr, done.returncode), ("", 0), done.stdout)
        told = json.loads(done.stdout)
        assert isinstance(told, dict)
        return told


@skipUnless(PRESENT, MISSING)
class StreamTests(NodeTestCase):
    def test_stream(self) -> None:
        """A streamed completion comes in its pieces, with the usage that was asked for."""
        before = self.standin.stats()
        told = self.run_script("stream.mjs")
        self.assertEqual(told["text"], f"{INTRODUCTION} You said: Name three rivers.")
        self.assertEqual(told["tokens"], told["pieces"])
        after = self.standin.stats()
        self.assertEqual((after.keys_matched - before.keys_matched, after.keys_wrong), (1, before.keys_wrong))

    def test_leaving(self) -> None:
        """Leaving a stream without an end gives what came until then, and ends the upstream's part."""
        before = self.standin.stats().aborted
        self.assertEqual(self.run_script("leave.mjs")["pieces"], 5)
        wait_for(lambda: self.standin.stats().aborted > before, "the stand-in to be left")

    def test_broken_stream(self) -> None:
        """A stream that the upstream cuts raises in the SDK, after the pieces that came."""
        told = self.run_script("broken.mjs")
        self.assertEqual((told["pieces"], told["raised"], told["code"]), (4, "APIError", "upstream_closed"))

    def test_upstreams_429_is_waited_out(self) -> None:
        """The SDK obeys the upstream's retry fields by itself, since they reach it unchanged."""
        query = {
            "standin.status": "429",
            "standin.fail_times": "2",
            "standin.retry_after_ms": "30",
            "standin.key": uuid.uuid4().hex,
        }
        answers = self.run_script("retry.mjs", json.dumps(query))["answers"]
        self.assertEqual([answer["status"] for answer in answers], [429, 429, 200])
        self.assertEqual(answers[0]["retryAfterMs"], "30")


@skipUnless(PRESENT, MISSING)
class LimitTests(NodeTestCase):
    configuration = {"limits": {"requests_per_minute": 60, "burst": 1}}

    def test_relays_429_is_waited_out(self) -> None:
        """The SDK waits as long as the relay tells it, and is let in at its next try."""
        before = self.standin.stats().requests
        answers = self.run_script("retry.mjs", "{}", "until-refused")["answers"]
        codes = [answer["status"] for answer in answers]
        # A try that came too early would have been refused too.
        self.assertEqual(codes[-2:], [429, 200])
        self.assertIn(int(answers[-2]["retryAfterMs"]), range(1, 1_001))
        self.assertEqual(self.standin.stats().requests - before, codes.count(200))
