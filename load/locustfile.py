"""
Load on a relay, as its users make it: short questions, and streams that are read event by event.

Every user holds the demo's client certificate.  Beside locust's own row for
each request there are two more for streams: ``first event``, the time until
the first event was read, and ``event gap``, the time between one event and the
next, which ought to be the pace that the stand-in was asked for.  The rate of
``event gap`` is events per second.

Run by ``make load``; by hand: ``locust -f load/locustfile.py --host https://localhost:8443``.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from locust import FastHttpUser, between, task

CERTIFICATES = Path(os.environ.get("RELAY_CERTIFICATES", ".demo"))
EVENTS = int(os.environ.get("LOAD_EVENTS", "40"))
INTERVAL_MS = int(os.environ.get("LOAD_INTERVAL_MS", "25"))
QUESTION = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "How is the load?"}]}


def client_tls() -> ssl.SSLContext:
    """Trust the demo's authority, and show its client certificate."""
    context = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
    context.load_cert_chain(CERTIFICATES / "client.pem", CERTIFICATES / "client.key")
    return context


class CertificateHolder(FastHttpUser):
    """A client of the relay."""

    abstract = True
    ssl_context_factory = staticmethod(client_tls)
    connection_timeout = 10.0
    network_timeout = 60.0

    def fire(self, name: str, milliseconds: float, length: int = 0) -> None:
        """Add one measurement of ours to locust's table."""
        self.environment.events.request.fire(
            request_type="SSE",
            name=name,
            response_time=milliseconds,
            response_length=length,
            exception=None,
            context={},
        )


class Asker(CertificateHolder):
    """Asks and waits for whole answers."""

    weight = 1
    wait_time = between(0.05, 0.2)

    @task(4)
    def chat(self) -> None:
        """One chat completion, not streamed."""
        self.client.post("/v1/chat/completions", json=QUESTION, name="chat")

    @task(1)
    def embed(self) -> None:
        """One embedding: a longer answer."""
        self.client.post("/v1/embeddings", json={"model": "text-embedding-3-small", "input": "load"}, name="embeddings")


class Reader(CertificateHolder):
    """Reads streams to their end."""

    weight = 2
    wait_time = between(0.05, 0.2)

    @task
    def stream(self) -> None:
        """One streamed chat completion, its events read as they come."""
        path = f"/v1/chat/completions?standin.events={EVENTS}&standin.interval_ms={INTERVAL_MS}"
        asked = time.perf_counter()
        with self.client.post(
            path, json=QUESTION | {"stream": True}, name="chat stream", stream=True, catch_response=True
        ) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
                return
            last, count, event = asked, 0, b""
            for event in events_of(response):
                now = time.perf_counter()
                if not count:
                    self.fire("first event", (now - asked) * 1_000)
                else:
                    self.fire("event gap", (now - last) * 1_000, len(event))
                last, count = now, count + 1
            if event != b"data: [DONE]":
                response.failure(f"the stream ended after {count} events without [DONE]")


def events_of(response: Any) -> Iterator[bytes]:
    """The events of an event stream as they arrive, without the empty lines that end them."""
    while event := response.stream.readline(b"\n\n"):
        yield bytes(event).removesuffix(b"\n\n")
