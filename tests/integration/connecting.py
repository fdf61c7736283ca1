"""Runs ``openai-relay connect`` as a process, in front of a relay that is one too."""

from __future__ import annotations

import socket
from http.client import HTTPConnection
from typing import ClassVar, Final

from tests.integration.by_hand import ClientByHand, Conversation, UpstreamByHand
from tests.integration.running import BIN, WITHIN, Relay, RelayTestCase, Running, Site, SiteTestCase

CREDENTIAL: Final = ("--certificate", "client.pem", "--key", "file:client.key", "--ca", "authority/ca.pem")


class Connect(Running):
    """The command with the site's certificate; ``more`` are further words of its command line."""

    def __init__(self, site: Site, relay: str, *more: str) -> None:
        super().__init__(
            [BIN / "openai-relay", "connect", relay, *CREDENTIAL, "--listen", "127.0.0.1:0", *more], site.directory
        )
        self.site = site
        try:
            self.base_url = self.announced(r"export OPENAI_BASE_URL=(http://127\.0\.0\.1:\d+/v1)\n")[1]
        except AssertionError:
            self.stop()
            raise
        self.port = int(self.base_url.rpartition(":")[2].removesuffix("/v1"))

    def tool(self) -> HTTPConnection:
        """A connection without any TLS, made with its first request."""
        return HTTPConnection("127.0.0.1", self.port, timeout=WITHIN)

    def close(self) -> None:
        """Stop it; fails when it did not end well, or had something to complain of."""
        code = self.stop()
        for sign in ("Traceback", "Unhandled", "bug in"):
            if code != 0 or sign in self.errors:
                raise AssertionError(f"connect ended with {code} and said:\n{self.errors[-20_000:]}")


class ToolByHand(ClientByHand):
    """A local tool that says exactly what it is told, in plain HTTP."""

    def __init__(self, connect: Connect) -> None:
        bare = socket.socket()
        bare.settimeout(WITHIN)
        bare.connect(("127.0.0.1", connect.port))
        self.socket = bare  # type: ignore[assignment]  # without TLS, of which nothing else here needs to know
        self._buffer = b""
        self._relay = connect  # type: ignore[assignment]  # whose port is all that is asked for
        self.port = int(bare.getsockname()[1])


class ConnectTestCase(RelayTestCase):
    """``connect``, in front of a relay, in front of a stand-in; all for the class."""

    connecting: ClassVar[Connect]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.connecting = Connect(cls.site, cls.relay.url)
        cls.addClassCleanup(cls.connecting.close)


class BetweenTestCase(SiteTestCase):
    """``connect`` and a relay, with a tool and an upstream that the test holds."""

    upstream: ClassVar[UpstreamByHand]
    relay: ClassVar[Relay]
    connecting: ClassVar[Connect]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.upstream = UpstreamByHand(cls.site)
        cls.addClassCleanup(cls.upstream.close)
        cls.relay = Relay.configured(cls.site, cls.upstream.url)
        cls.addClassCleanup(cls.relay.close)
        cls.connecting = Connect(cls.site, cls.relay.url)
        cls.addClassCleanup(cls.connecting.close)

    def tool(self) -> ToolByHand:
        tool = ToolByHand(self.connecting)
        self.addCleanup(tool.leave)
        return tool

    def accept(self) -> Conversation:
        conversation = self.upstream.accept()
        self.addCleanup(conversation.leave)
        return conversation
