"""Lines that are pasted must be right as they are."""

from __future__ import annotations

import ast
import json
import shlex
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from openai_relay.cli import snippets

PLAIN = snippets.Access(
    "https://localhost:8443", Path(".demo/ca.pem"), Path(".demo/client.pem"), Path(".demo/client.key")
)
AWKWARD = snippets.Access("https://[::1]:443", Path("it's/c a.pem"), Path('x:y/"q\\.pem'), Path("$(reboot)/`k`.key"))


class SnippetTests(SynchronousTestCase):
    def test_curl(self) -> None:
        """The line streams a chat completion with certificate and key."""
        line = snippets.curl(PLAIN)
        self.assertTrue(
            line.startswith(
                "curl -N --cacert .demo/ca.pem --cert .demo/client.pem --key .demo/client.key "
                "https://localhost:8443/v1/chat/completions -H 'content-type: application/json' -d '{"
            )
        )
        body = json.loads(shlex.split(line)[-1])
        self.assertEqual((body["model"], body["stream"]), ("gpt-4o-mini", True))

    def test_curl_with_awkward_paths(self) -> None:
        """Paths with spaces, quotes and commands stay paths; a colon is no passphrase for curl."""
        words = shlex.split(snippets.curl(AWKWARD))
        self.assertEqual(words[3], "it's/c a.pem")
        self.assertEqual(words[5], 'x\\:y/"q\\\\.pem')
        self.assertEqual(words[7], "$(reboot)/`k`.key")

    def test_python(self) -> None:
        """The program is Python, and names the files and the address."""
        for access in (PLAIN, AWKWARD):
            program = ast.parse(snippets.python(access))
            constants = {node.value for node in ast.walk(program) if isinstance(node, ast.Constant)}
            files = {str(access.ca), str(access.certificate), str(access.key)}
            self.assertLessEqual(files | {access.base_url}, constants)

    def test_node(self) -> None:
        """The module names the files and the address as JavaScript strings."""
        for access in (PLAIN, AWKWARD):
            module = snippets.node(access)
            for value in (access.base_url, str(access.ca), str(access.certificate), str(access.key)):
                self.assertIn(json.dumps(value), module)

    def test_environment(self) -> None:
        """Each line exports a variable, with whole paths that are good in every directory."""
        lines = [shlex.split(line) for line in snippets.environment(AWKWARD).splitlines()]
        values = dict(words[1].split("=", 1) for words in lines)
        self.assertEqual({words[0] for words in lines}, {"export"})
        self.assertEqual(values["OPENAI_BASE_URL"], "https://[::1]:443/v1")
        self.assertEqual(values["OPENAI_MTLS_CERTIFICATE_CHAIN"], str(AWKWARD.certificate.absolute()))
        self.assertEqual(values["OPENAI_MTLS_PRIVATE_KEY"], str(AWKWARD.key.absolute()))
        self.assertEqual(values["OPENAI_MTLS_CA_BUNDLE"], str(AWKWARD.ca.absolute()))
        self.assertEqual(values["OPENAI_MTLS_CERT_PATH"], values["OPENAI_MTLS_CERTIFICATE_CHAIN"])
        self.assertEqual(values["OPENAI_MTLS_KEY_PATH"], values["OPENAI_MTLS_PRIVATE_KEY"])
        self.assertEqual(values["NODE_EXTRA_CA_CERTS"], values["OPENAI_MTLS_CA_BUNDLE"])

    def test_heredoc(self) -> None:
        """A program is pasted as one command that the shell does not read."""
        self.assertEqual(snippets.heredoc("python3 -", "print()\n"), "python3 - <<'EOF'\nprint()\nEOF\n")
