"""Lines to paste that make real clients show their certificate to the relay."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MODEL: Final = "gpt-4o-mini"
PROMPT: Final = "Count from one to ten, in words."


@dataclass(frozen=True, slots=True)
class Access:
    """What a client needs to know: where the relay is, whom to trust, what to show."""

    url: str  #: without ``/v1`` and without a slash at its end
    ca: Path
    certificate: Path
    key: Path

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"


def curl(access: Access) -> str:
    """One line that streams a chat completion."""
    body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
    words = (
        *("curl", "-N", "--cacert", str(access.ca), "--cert", _curl_path(access.certificate), "--key", str(access.key)),
        *(f"{access.base_url}/chat/completions", "-H", "content-type: application/json"),
        *("-d", json.dumps(body, separators=(",", ":"))),
    )
    return " ".join(map(shlex.quote, words))


def python(access: Access) -> str:
    """A program for the ``openai`` package that streams a chat completion."""
    return f"""\
import ssl

from openai import DefaultHttpxClient, OpenAI

tls = ssl.create_default_context(cafile={_quoted(access.ca)})
tls.load_cert_chain({_quoted(access.certificate)}, {_quoted(access.key)})
client = OpenAI(
    base_url={_quoted(access.base_url)},
    api_key="unused",  # the relay puts in its own
    http_client=DefaultHttpxClient(verify=tls, follow_redirects=False),
)
stream = client.chat.completions.create(
    model={_quoted(MODEL)},
    messages=[{{"role": "user", "content": {_quoted(PROMPT)}}}],
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
"""


def node(access: Access) -> str:
    """A module for the ``openai`` and ``undici`` packages that streams a chat completion."""
    return f"""\
import {{ readFileSync }} from "node:fs";
import OpenAI from "openai";
import {{ Agent, fetch }} from "undici";

const client = new OpenAI({{
  baseURL: {_quoted(access.base_url)},
  apiKey: "unused", // the relay puts in its own
  fetch,
  fetchOptions: {{
    dispatcher: new Agent({{
      connect: {{
        ca: readFileSync({_quoted(access.ca)}),
        cert: readFileSync({_quoted(access.certificate)}),
        key: readFileSync({_quoted(access.key)}),
      }},
    }}),
  }},
}});
const stream = await client.chat.completions.create({{
  model: {_quoted(MODEL)},
  messages: [{{ role: "user", content: {_quoted(PROMPT)} }}],
  stream: true,
}});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
console.log();
"""


def environment(access: Access) -> str:
    """The variables that the recipes of OpenAI's own SDKs read; files by their absolute paths."""
    variables = {
        "OPENAI_BASE_URL": access.base_url,
        "OPENAI_API_KEY": "unused",
        "OPENAI_MTLS_CA_BUNDLE": str(access.ca.absolute()),
        "OPENAI_MTLS_CERTIFICATE_CHAIN": str(access.certificate.absolute()),
        "OPENAI_MTLS_PRIVATE_KEY": str(access.key.absolute()),
        # The same by the names of the recipe for Node.
        "OPENAI_MTLS_CERT_PATH": str(access.certificate.absolute()),
        "OPENAI_MTLS_KEY_PATH": str(access.key.absolute()),
        "NODE_EXTRA_CA_CERTS": str(access.ca.absolute()),
    }
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()) + "\n"


def heredoc(command: str, program: str) -> str:
    """A program as one thing to paste into a shell."""
    return f"{command} <<'EOF'\n{program}EOF\n"


def _quoted(value: object) -> str:
    # A JSON string is a string in Python and JavaScript alike.
    return json.dumps(str(value))


def _curl_path(path: Path) -> str:
    """curl takes what follows a colon in ``--cert`` for a passphrase, unless it is escaped."""
    return str(path).replace("\\", "\\\\").replace(":", "\\:")
