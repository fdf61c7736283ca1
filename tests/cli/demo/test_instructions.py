"""What is told once a demo serves."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.cli.demo.instructions import Running, instructions

RUNNING = Running(
    base_url="https://localhost:8443/v1",
    ca_file=Path(".demo/ca.pem"),
    certificate_file=Path(".demo/client.pem"),
    key_file=Path(".demo/client.key"),
    configuration_file=Path(".demo/relay.toml"),
    upstream="https://localhost:9443",
    standin=True,
    admin_url="http://127.0.0.1:9464",
)


class InstructionTests(SynchronousTestCase):
    def told(self, running: Running = RUNNING, python: str | None = None) -> str:
        return "\n".join(instructions(running, python))

    def test_lines_to_paste(self) -> None:
        """There is a line for curl and a program for the SDK, each as it can be pasted."""
        lines = self.told().splitlines()
        (curl,) = [line for line in lines if line.startswith("curl ")]
        self.assertTrue(
            curl.startswith(
                "curl -N --cacert .demo/ca.pem --cert .demo/client.pem --key .demo/client.key "
                "https://localhost:8443/v1/chat/completions -H 'content-type: application/json' -d '{"
            )
        )
        self.assertEqual(shlex.split(curl)[-2], "-d")
        program = lines[lines.index("python3 - <<'EOF'") + 1 : lines.index("EOF")]
        compile("\n".join(program), "pasted", "exec")

    def test_python(self) -> None:
        """Where the SDK is installed its interpreter is used; elsewhere its installation is mentioned."""
        self.assertIn("Python (pip install openai)", self.told())
        told = self.told(python=".venv/bin/python")
        self.assertIn("\n.venv/bin/python - <<'EOF'\n", told)
        self.assertNotIn("pip install", told)

    def test_where_requests_go(self) -> None:
        """It is said whether requests go to the stand-in or cost money."""
        self.assertIn("stand-in for the API (set OPENAI_API_KEY", self.told())
        told = self.told(replace(RUNNING, standin=False, upstream="https://api.openai.com"))
        self.assertIn("forwards to https://api.openai.com, with the key in OPENAI_API_KEY", told)
        self.assertNotIn("stand-in", told)

    def test_more(self) -> None:
        """Metrics, health, who used what and the way to end it are told."""
        told = self.told()
        usage = "openai-relay usage --config .demo/relay.toml"
        for part in ("curl http://127.0.0.1:9464/metrics", "http://127.0.0.1:9464/readyz", usage, "Ctrl-C"):
            self.assertIn(part, told)
        told = "\n".join(instructions(RUNNING, None, "my bin/openai-relay"))
        self.assertIn("  'my bin/openai-relay' usage --config .demo/relay.toml", told)
