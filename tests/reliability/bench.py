"""
Makes cases happen: a real relay, as a process, between a bare TLS client and the scripted upstream.

Relays are started when the first case needs them.  One case at a time, so that
whatever reaches the upstream meanwhile belongs to it.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from tests import certificates
from tests.integration.by_hand import UpstreamByHand
from tests.integration.running import TWISTD, Relay, Site, Tables
from tests.reliability.case import PLAIN, Case, Cut, Through, Tls, Until, head
from tests.reliability.messages import WITHIN, End, Message, Stream
from tests.reliability.scripted import Play, ScriptedUpstream, Seen

GOOD: Final = head(target=b"/v1/good")
#: The relays that have an upstream.
_SERVING: Final = (Through.PATIENT, Through.BRISK)
_BRISK: Final[Tables] = {
    "listen": {"head_timeout": 0.5, "stall_timeout": 2},
    "upstream": {
        "connect_timeout": 1.5,
        "first_byte_timeout": 1,
        "idle_timeout": 1,
        "max_idle_connections": 0,
    },
}


@dataclass(slots=True)
class Exchange:
    """What one run of a case showed, at both ends."""

    answers: list[Message] = field(default_factory=list)
    end: End | None = None  #: how the connection ended, if it did
    surplus: bytes = b""  #: what came behind the last answer
    goes_on: bool | None = None  #: the next request on the same connection was answered; ``None``: not tried
    next_good: bool | None = None  #: a good request on a new connection was answered; ``None``: not tried
    seen: list[Seen] = field(default_factory=list)


class Bench:
    """The site, the upstream and the relays; a context manager, as all of it has to end."""

    def __init__(self) -> None:
        self._ending = contextlib.ExitStack()
        try:
            self.site = Site.make()
            self._ending.callback(shutil.rmtree, self.site.directory)
            self.site.file("trusted.pem").write_bytes(certificates.authority().pem)
            self.upstream = ScriptedUpstream(self.site)
            self._ending.callback(self.upstream.close)
        except BaseException:
            self._ending.close()
            raise
        self._relays: dict[Through, Relay] = {}
        self._client_tls = self.site.client_tls()
        self._direct_tls = ssl.create_default_context(cafile=str(self.site.file("trusted.pem")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process and connection; fails when a relay has complained of something."""
        self._ending.close()

    def relay(self, through: Through) -> Relay:
        """The relay of that kind."""
        if through not in self._relays:
            tables: Tables = _BRISK if through in (Through.BRISK, Through.BLACKHOLE) else {}
            tables = {**tables, "upstream": {**tables.get("upstream", {}), "ca": "trusted.pem"}}
            path = self.site.write_configuration(self._url(through), tables, f"{through.name.lower()}.toml")
            relay = self._relays[through] = Relay(self.site, [*TWISTD, "--config", path])
            self._ending.callback(relay.close)
        return self._relays[through]

    def _url(self, through: Through) -> str:
        if through is Through.NO_NAME:
            return "https://upstream.invalid"
        if through is Through.BLACKHOLE:
            hole = UpstreamByHand(self.site, backlog=0)
            self._ending.callback(hole.close)
            for each in hole.fill():
                self._ending.callback(each.close)
            return hole.url
        if through is Through.REFUSED:
            bound = socket.socket()
            self._ending.callback(bound.close)
            bound.bind(("127.0.0.1", 0))  # and never listens
            return f"https://127.0.0.1:{bound.getsockname()[1]}"
        return self.upstream.url

    # Exchanges.

    def directly(self, case: Case) -> Exchange:
        """Make the exchange with the upstream itself."""
        play = self.upstream.play = Play(case.script, case.tls)
        return self._exchange(case, self._connect(self.upstream.port, self._direct_tls), play, None)

    def through(self, case: Case) -> Exchange:
        """Make the exchange through the relay, then try the connection again, and a new one."""
        relay = self.relay(case.through)
        play = self.upstream.play = Play(case.script, case.tls)
        exchange = self._exchange(case, self._connect(relay.port, self._client_tls), play, relay)
        if case.through in _SERVING:
            exchange.next_good = self._is_served(self._connect(relay.port, self._client_tls), close=True)
            # Whatever of the case came late, came before this or is not going to come.
            again = self.upstream.play
            exchange.seen += [seen for seen in again.seen if not seen.message.head.startswith(b"GET /v1/good ")]
        return exchange

    def _connect(self, port: int, tls: ssl.SSLContext) -> Stream:
        bare = socket.create_connection(("127.0.0.1", port), WITHIN)
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Stream(tls.wrap_socket(bare, server_hostname="localhost", suppress_ragged_eofs=False))

    def _exchange(self, case: Case, client: Stream, play: Play, relay: Relay | None) -> Exchange:
        exchange = Exchange()
        expected = case.client[-1]
        if isinstance(expected, Cut):
            client.on_data = lambda: play.client_began.set() if expected.body in client.received else None
        try:
            for step in case.sent:
                if isinstance(step, bytes):
                    client.send(step)
                else:
                    self._wait(step, client, case, play, exchange, relay)
            while len(exchange.answers) < len(case.client):
                self._read(client, case, exchange)
            play.client_answered.set()
            self._look_at_the_end(client, case, exchange, relay)
        finally:
            client.leave()
        if relay is not None:
            play.wait_until(lambda: all(seen.over for seen in play.seen))
        elif play.seen:
            play.wait_until(lambda: bool(play.seen[0].over))
        exchange.seen = list(play.seen)
        return exchange

    def _read(self, client: Stream, case: Case, exchange: Exchange) -> None:
        message, number = Message(), len(exchange.answers)
        exchange.answers.append(message)
        client.read_answer(case.method(number), message)

    def _wait(
        self, until: Until, client: Stream, case: Case, play: Play, exchange: Exchange, relay: Relay | None
    ) -> None:
        if until is Until.ANSWERED:
            self._read(client, case, exchange)
            play.client_answered.set()
        elif until is Until.UPSTREAM_HAS_HEAD:
            assert play.wait_until(lambda: any(seen.message.head for seen in play.seen)), f"{case.name}: no head came"
        elif until is Until.INTERIM:
            client.peek(b"\r\n\r\n")
        elif relay is not None:
            relay.wait_for_metric('openai_relay_upstream_connections{state="idle",upstream="127.0.0.1"}', 0)

    def _look_at_the_end(self, client: Stream, case: Case, exchange: Exchange, relay: Relay | None) -> None:
        last = exchange.answers[-1]
        said = {value.lower() for value in last.values(b"connection")}
        if relay is not None:
            self.upstream.play = Play((), Tls.GOOD)
            if not last.complete or client.end is not None or b"close" in said:
                exchange.surplus = client.read_to_end()
            elif case.through in _SERVING:
                exchange.goes_on = self._is_served(client, close=False)
        exchange.end = client.end

    @staticmethod
    def _is_served(client: Stream, *, close: bool) -> bool:
        """Whether a good request on this connection gets the plain answer, and no byte more or less."""
        client.send(GOOD)
        message = Message()
        client.read_answer(b"GET", message)
        if close:
            client.leave()
        return message.complete and message.lines[:3] == PLAIN.split(b"\r\n")[:3] and message.payload == b"hello"
